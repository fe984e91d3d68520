"""A log of QEMU's trace events becomes a trace; what the log lacks is marked."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from vdpasim.checks.diagnosis import diagnose
from vdpasim.trace.export_strace import lines
from vdpasim.trace.file import Reader
from vdpasim.trace.import_qemu import EXAMPLES_MAX, UNKNOWN, Count, convert, parse

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
    (f"vhost_vdpa_set_vring_addr {DEV} index: 0 flags: 0x0 desc_user_addr: 0x1000 used_user_addr: 0x3000 "
    "avail_user_addr: 0x2000 log_guest_addr: 0x3000"),
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
    shown, _, _ = imported(
        f"4242@1700000000.100000:vhost_vdpa_set_owner {DEV}", f"4242@1700000001.100002:vhost_vdpa_suspend {DEV}"
    )
    assert [line.split("(")[0] for line in shown] == ["[2] 0 qemu-4242: ioctl", "[4] 1000002000 qemu-4242: ioctl"]


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
    assert count.told()[-1] == "  ... and 3 more"


@pytest.mark.parametrize("text", ["", "vhost_vdpa", "vhost_user_read req:1", "\0\x1b[2J"])
def test_other_lines_are_no_events(text: str) -> None:
    assert parse(text) is None


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
