"""A log of QEMU's trace events becomes a trace; what the log lacks is marked."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.trace.qemu_log import UADDR, VERSIONS, Nic, simple, stamped
from vdpasim.checks.diagnosis import diagnose
from vdpasim.cli.check import judge
from vdpasim.core.events import OpenCalls
from vdpasim.trace.export_strace import lines
from vdpasim.trace.file import Reader
from vdpasim.trace.import_qemu import EXAMPLES_MAX, UNKNOWN, Count, convert

DEV, VDPA = "dev: 0x55d0", "vdpa:0x55e0 fd: 12 msg_type: 2"
START = [
    "vhost_vdpa_init dev: 0x55d0 vdpa: 0x55e0",
    f"vhost_vdpa_set_owner {DEV}",
    f"vhost_vdpa_get_device_id {DEV} device_id 1",
    f"vhost_vdpa_get_features {DEV} features: 0x300018028",
    f"vhost_vdpa_get_iova_range {DEV} first: 0x0 last: 0xffffffffffffffff",
    f"vhost_vdpa_set_features {DEV} features: 0x300018000",
    f"vhost_vdpa_add_status {DEV} status: 0xb",
    f"vhost_vdpa_set_vring_num {DEV} index: 0 num: 256",
    f"vhost_vdpa_set_vring_base {DEV} index: 0 num: 0",
    (
        f"vhost_vdpa_set_vring_addr {DEV} index: 0 flags: 0x0 desc_user_addr: 0x1000 used_user_addr: 0x3000 "
        "avail_user_addr: 0x2000 log_guest_addr: 0x3000"
    ),
    f"vhost_vdpa_set_vring_kick {DEV} index: 0 fd: 14",
    f"vhost_vdpa_set_vring_call {DEV} index: 0 fd: -1",
    f"vhost_vdpa_set_config_call {DEV} fd: 15",
    f"vhost_vdpa_set_vring_ready {DEV}",
    f"vhost_vdpa_listener_begin_batch {VDPA} type: 5",
    f"vhost_vdpa_dma_map {VDPA} asid: 0 iova: 0x0 size: 0x8000 uaddr: 0x7f0000000000 perm: 0x3 type: 2",
    f"vhost_vdpa_listener_commit {VDPA} type: 6",
    f"vhost_vdpa_add_status {DEV} status: 0x4",
    f"vhost_vdpa_set_config {DEV} offset: 0 size: 6 flags: 0x0",
    f"vhost_vdpa_get_config {DEV} config: 0x7ffe config_len: 8",
]
STOP = [
    f"vhost_vdpa_suspend {DEV}",
    f"vhost_vdpa_reset_device {DEV} status: 0x0",
    f"vhost_vdpa_dma_unmap {VDPA} asid: 0 iova: 0x0 size: 0x8000 type: 3",
    f"vhost_vdpa_get_vring_base {DEV} index: 0 num: 7",
]


def imported(*log: str) -> tuple[list[str], Count, list[dict[str, Any]]]:
    stream = io.StringIO()
    count = convert((line + "\n" for line in log), stream, "test")
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    shown = [line for line in lines(Reader(io.StringIO(stream.getvalue()))) if not line.startswith("#")]
    return shown, count, rows


def test_every_request_becomes_a_call() -> None:
    shown, count, rows = imported(*START, *STOP)
    assert (count.requests, count.kept, count.unread, count.others) == (len(START) + len(STOP) - 1, 1, 0, 0)
    calls = [line for line in shown if line.endswith("# unknown")]
    assert len(calls) == count.requests
    assert all("/dev/vhost-vdpa-fd12" in line for line in calls)
    assert "UPDATE size=0x8000 uaddr=0x7f0000000000 perm=0x3" in " ".join(shown)
    assert rows[0]["imported"] == "qemu-trace"
    assert rows[-1]["end"]


def test_what_the_log_lacks_is_marked() -> None:
    _, _, rows = imported(*START, *STOP)
    for row in rows:
        if row.get("kind") == "EXIT":
            assert row["rule"] == UNKNOWN
            assert {"ret", "handler_errno"} <= set(row["unknown"])
        if row.get("kind") == "MAP":
            assert (row["unknown"], row["space"], row["asid"]) == (["asid", "promise"], 0, -1)


def test_what_is_no_request_is_kept() -> None:
    _, count, rows = imported(f"vhost_vdpa_dev_start {DEV} started: 1")
    assert count.kept == 1
    assert rows[1]["qemu"] == "vhost_vdpa_dev_start"


def test_the_status_is_added_up_and_the_table_followed() -> None:
    shown, _, _ = imported(*START, *STOP)
    changes = [line.split(": ", 1)[1] for line in shown if "status device" in line or "unmap device" in line]
    assert changes == [
        "status device=vhost-vdpa-fd12 old=0x0 new=0xb",
        "status device=vhost-vdpa-fd12 old=0xb new=0xf",
        "status device=vhost-vdpa-fd12 old=0xf new=0x0",
        "unmap device=vhost-vdpa-fd12 asid=-1 serial=1 start=0x0 last=0x7fff",
    ]


def test_prefixes_give_process_and_time() -> None:
    shown, _, rows = imported(
        f"4242@1700000000.100000:vhost_vdpa_set_owner {DEV}",
        f"4243@1700000001.100002:vhost_vdpa_suspend {DEV}",
        f"4242@1700000001.100001:vhost_vdpa_set_owner {DEV}",
    )
    calls = [line.split("(")[0] for line in shown if "ioctl" in line]
    assert calls == ["[2] 0 qemu-4242: ioctl", "[5] 1000002000 qemu-4242: ioctl", "[7] 1000002000 qemu-4242: ioctl"]
    assert [row.get("thread") for row in rows[1:-1]] == [None, None, "4243", "4243", "4243", None, None]


def test_older_and_newer_formats_are_read() -> None:
    shown, count, rows = imported(
        "vhost_vdpa_dma_map vdpa:0x1 fd: 3 msg_type: 2 iova: 0x0 size: 0x1000 uaddr: 0x5000 perm: 0x1 type: 2",
        "vhost_vdpa_map_batch_begin vdpa_shared:0x1 fd: 3 msg_type: 2 type: 5 asid: 1",
    )
    assert count.unread == 0
    assert "asid=0x1" in shown[-1]
    assert next(row for row in rows if row.get("kind") == "MAP")["unknown"] == ["asid", "promise", "space"]


def test_two_devices_are_told_apart() -> None:
    shown, _, _ = imported(
        "vhost_vdpa_init dev: 0x1 vdpa: 0x2", "vhost_vdpa_init dev: 0x3 vdpa: 0x4",
        "vhost_vdpa_listener_commit vdpa:0x2 fd: 5 msg_type: 2 type: 6",
        "vhost_vdpa_listener_commit vdpa:0x4 fd: 6 msg_type: 2 type: 6",
        "vhost_vdpa_set_owner dev: 0x3", "vhost_vdpa_set_owner dev: 0x9",
    )  # fmt: skip
    assert [line.split("/dev/")[1].split(",")[0] for line in shown[2:]] == ["vhost-vdpa-fd6", "vhost-vdpa-0x9"]


def test_what_cannot_be_read_is_counted_and_said() -> None:
    garbled = [f"vhost_vdpa_dma_map vdpa:0x1 fd: {n} garbled" for n in range(EXAMPLES_MAX + 2)]
    wide = f"vhost_vdpa_dma_map {VDPA} iova: 0x0 size: 0x1 uaddr: 0x{'f' * 40} perm: 0x1 type: 2"
    _, count, _ = imported("qemu: hello", "", *garbled, wide, "vhost_vdpa_reset_device status: 0x99999")
    assert (count.requests, count.unread, count.others) == (1, EXAMPLES_MAX + 3, 1)
    assert len(count.examples) == EXAMPLES_MAX
    assert count.told()[-2:] == ["  ... and 3 more", "messages are missing: what was mapped is unknown"]


def test_a_clean_log_shows_no_mistake_and_a_wrong_one_does() -> None:
    def told(*log: str) -> list[int]:
        stream = io.StringIO()
        convert(log, stream)
        stream.seek(0)
        return [one.number for one in diagnose(item.event for item in Reader(stream) if item.event)]

    assert told(*START, *STOP) == []
    assert told(*(line.replace("desc_user_addr: 0x1000", "desc_user_addr: 0x7f0000001000") for line in START)) == [43]
    assert told(*START, f"vhost_vdpa_set_vring_base {DEV} index: 0 num: 7") == [42]


@pytest.mark.parametrize(("iova", "size"), [("0xfffffffffffff000", "0x2000"), ("0x0", "0x0"), ("0x1000", "0x0")])
def test_a_range_that_is_none_is_asked_for_and_maps_nothing(iova: str, size: str) -> None:
    line = f"vhost_vdpa_dma_map {VDPA} iova: {iova} size: {size} uaddr: 0x5000 perm: 0x3 type: 2"
    shown, count, rows = imported(line)
    assert (count.requests, count.unread) == (1, 0)
    assert "UPDATE" in shown[0]
    assert not [row for row in rows if row.get("kind") == "MAP"]


def test_the_last_byte_can_be_mapped() -> None:
    line = f"vhost_vdpa_dma_map {VDPA} iova: 0xfffffffffffff000 size: 0x1000 uaddr: 0x5000 perm: 0x3 type: 2"
    _, _, rows = imported(line)
    assert [row["last"] for row in rows if row.get("kind") == "MAP"] == [(1 << 64) - 1]


def happened(kind: str, log: list[str]) -> list[tuple[Any, ...]]:
    """The events of a kind, without the time and the device."""
    _, _, rows = imported(*log)
    common = ("seq", "time", "unit", "kind", "device")
    return [tuple(value for key, value in row.items() if key not in common) for row in rows if row.get("kind") == kind]


def test_what_requests_do_is_told() -> None:
    assert happened("RING", START) == [
        (0, "num", 256),
        (0, "base", 0),
        (0, "addr", [0x1000, 0x2000, 0x3000, 0]),
        (0, "kick", "eventfd-fd14"),
        (0, "call", None),
        (-1, "config", "eventfd-fd15"),
        (0, "ready", 1),
    ]
    assert happened("FEATURES", START) == [("virtio", 0x3_0001_8000)]
    assert happened("OPEN", START) == [("", "vhost-vdpa", ["below"])]
    assert happened("SUSPEND", [*START, STOP[0], STOP[0], STOP[1], STOP[0]]) == [(0, 1), (1, 1), (0, 1)]
    assert happened("RING", [*START, *STOP])[-1] == (0, "get-base", 7)


def test_an_answer_of_0_may_be_none() -> None:
    assert "get-base" not in str(happened("RING", [*START, f"vhost_vdpa_get_vring_base {DEV} index: 0 num: 0"]))


def test_of_a_shadow_queue_nobody_asks_the_kernel() -> None:
    shown, count, _ = imported(f"vhost_vdpa_get_vring_base {DEV} index: 0 num: 7 svq: 1")
    assert (shown, count.kept) == ([], 1)


def test_bits_that_are_set_are_not_set_again() -> None:
    shown, count, _ = imported(*START, f"vhost_vdpa_add_status {DEV} status: 0x8")
    assert count.kept == 2
    assert "SET_CONFIG" in shown[-2]


def test_a_result_that_the_log_has_is_the_calls() -> None:
    enable = "vhost_vdpa_set_vring_enable_one dev: 0x55d0, idx: 0, enable: 1, r:"
    shown, _, rows = imported(*START[:3], f"{enable} 0", f"{enable} -22")
    assert [line.split(") = ")[1] for line in shown[-2:]] == ["0", "-1 EINVAL  # unknown"]
    assert [row["queue"] for row in rows if row.get("kind") == "RING"] == [0]
    assert "unknown" not in [row for row in rows if row.get("kind") == "EXIT"][-1]


@pytest.mark.parametrize("ret", [-(1 << 31), (1 << 31) - 1, -(1 << 63), 1 << 40, 10**20 - 1])
def test_a_result_that_no_call_has_is_a_line_that_cannot_be_read(ret: int) -> None:
    enable = f"vhost_vdpa_set_vring_enable_one dev: 0x55d0, idx: 0, enable: 1, r: {ret}"
    shown, _, _ = imported(*START[:3], enable)
    assert ("SET_VRING_ENABLE" in shown[-1]) is (-(1 << 31) <= ret < 1 << 31)


def test_older_versions_enable_all_queues_of_an_object_at_once() -> None:
    nic = Nic("7.2", pairs=2, cvq=True).boot().start()
    assert [row for row in happened("RING", nic.log) if row[1] == "ready"] == [(n, "ready", 1) for n in range(5)]
    _, _, rows = imported(f"vhost_vdpa_set_vring_ready {DEV}")
    assert rows[-2]["unknown"] == ["ret", "handler_errno", "args"]


def test_a_group_is_bound_before_it_is_used() -> None:
    shown, _, _ = imported(*Nic("9.2", cvq=True, shadow=frozenset({2})).boot().start().log)
    assert any("VHOST_VDPA_SET_GROUP_ASID, 0100000001000000" in line for line in shown)
    assert any("UPDATE asid=0x1" in line for line in shown)


def test_in_a_log_that_begins_later_the_status_is_unknown() -> None:
    log = [f"vhost_vdpa_add_status {DEV} status: 0x4", f"vhost_vdpa_reset_device {DEV}"]
    assert happened("STATUS", log) == [(0, 4, ["old", "new"]), (0, 0, ["old"])]
    assert happened("STATUS", [*log, log[0]])[-1] == (0, 4, ["old"])


def verdict(log: list[str]) -> tuple[list[str], list[int]]:
    """What the oracles say of a log, and which mistakes it shows."""
    stream = io.StringIO()
    convert(log, stream)
    stream.seek(0)
    found, _ = judge(Reader(stream))
    stream.seek(0)
    events = [item.event for item in Reader(stream) if item.event]
    return [mark.id for mark in found], [one.number for one in diagnose(events)]


RIGHT = {
    "stop and go on": lambda nic: nic.stop(q0=17, q1=3).start().stop(q0=30, q1=4).start(),
    "an answer of 0": lambda nic: nic.stop(q0=0).start(),
    "another guest": lambda nic: nic.stop(q0=17).reset().start(),
    "unplugged": lambda nic: nic.stop(q0=17).unplug().boot().start(),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("story", RIGHT)
@pytest.mark.parametrize("written", [list, lambda log: stamped(log, 42), lambda log: simple(log, 42)])
@pytest.mark.parametrize("pairs", [1, 2])
def test_a_correct_log_is_clean(version: str, story: str, written: Any, pairs: int) -> None:
    nic = RIGHT[story](Nic(version, pairs=pairs, cvq=pairs > 1).boot().start())
    found, numbers = verdict(written(nic.log))
    # see the next test
    wrong = {"vmm.base-while-running"} if version < "8" and pairs > 1 else set[str]()
    assert set(found) <= wrong
    assert numbers == []
    assert imported(*written(nic.log))[1].unread == 0


def test_with_several_pairs_old_versions_ask_before_they_reset() -> None:
    assert verdict(Nic("7.2", pairs=2).boot().start().stop(q0=17).log)[0] == ["vmm.base-while-running"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_destination_of_a_migration_goes_on_where_the_source_was(version: str) -> None:
    nic = Nic(version, ids={0: 99, 1: 5}).boot().start()
    assert verdict(nic.log) == ([], [])


def test_what_is_plugged_in_later_may_come_from_elsewhere() -> None:
    nic = Nic().boot().start().stop(q0=17).unplug()
    nic.ids = {0: 99}
    assert verdict(nic.boot().start().log) == ([], [])


@pytest.mark.parametrize("version", ["8.2", "9.2"])
def test_a_migration_that_is_called_off_goes_through_shadow_queues(version: str) -> None:
    nic = Nic(version).boot().start().stop(q0=17, q1=3)
    nic.shadow = frozenset({0, 1})
    nic.start().stop(q0=25, q1=9)
    nic.shadow = frozenset()
    assert verdict(nic.start().log) == ([], [])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_log_that_begins_later_is_judged_by_what_is_there(version: str) -> None:
    nic = Nic(version).boot().start()
    late = len(nic.log)
    assert verdict(nic.stop(q0=17).start().log[late:]) == ([], [])
    # what is known of the queue is known
    nic = Nic("9.2").boot().start()
    nic.stop(q0=17).start()
    nic.stop(q0=20).ids[0] = 99
    assert verdict(nic.start().log[late:])[0] == ["vmm.stale-ring-base"]


@pytest.mark.parametrize("version", VERSIONS)
def test_guests_may_differ_and_threads_take_turns(version: str) -> None:
    nic = Nic(version).boot().start()
    log, late = stamped(nic.log, 42), len(nic.log)
    nic.stop().start()
    other = [line.replace("0x300830020", "0x300010020") for line in nic.log[late:]]
    assert verdict(log + stamped(other, 43, 1_700_000_001)) == ([], [])


@pytest.mark.parametrize("version", VERSIONS)
def test_an_index_that_nobody_saved_is_stale(version: str) -> None:
    nic = Nic(version).boot().start().stop(q0=17, q1=3)
    nic.ids[0] = 99
    assert verdict(nic.start().log)[0] == ["vmm.stale-ring-base"]


@pytest.mark.parametrize("version", VERSIONS)
def test_rings_by_user_addresses_are_told_by_both(version: str) -> None:
    found, numbers = verdict(Nic(version, ring=UADDR + 0x10_0000).boot().start().log)
    assert (set(found), set(numbers)) == ({"vmm.hva-ring-address"}, {43})


@pytest.mark.parametrize("version", VERSIONS)
def test_rings_that_are_mapped_nowhere_are_told(version: str) -> None:
    assert verdict(Nic(version, ring=0xA_0000).boot().start().log) == (["vmm.unmapped-queue"] * 2, [])


@pytest.mark.parametrize("version", ["8.2", "9.2"])
def test_who_asks_before_the_suspend_asks_too_early(version: str) -> None:
    nic = Nic(version).boot().start().stop(q0=17)
    log = [line for line in nic.log if "suspend" not in line]
    assert set(verdict(log)[0]) == {"vmm.base-while-running"}


def test_every_call_of_any_log_ends() -> None:
    log = Nic(pairs=2, cvq=True, shadow=frozenset({4})).boot().start().stop().unplug().log
    stream = io.StringIO()
    convert(["\0", *log, log[5][:30], "vhost_vdpa_dma_map " + "9" * 100_000], stream)
    stream.seek(0)
    calls = OpenCalls()
    for item in Reader(stream):
        if item.event and item.event[3] == 1:
            calls.enter(item.event, item.event)
        elif item.event and item.event[3] == 2:
            assert calls.exit(item.event)
    assert calls.rest() == []
