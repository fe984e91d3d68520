"""The facts of a run, gathered in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.checks.diagnosis.support import boot, made
from vdpasim.checks.diagnosis.facts import END, gather
from vdpasim.core.events import Kind
from vdpasim.sim import Simulator
from vdpasim.trace.fields import Buffer
from vdpasim.uapi import vhost
from vdpasim.uapi.abi import X86_64
from vdpasim.uapi.ioctl import Ioctl
from vdpasim.uapi.message import Message, encode_message
from vdpasim.uapi.vhost_types import VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_MSG_V2, VHOST_IOTLB_REMAP
from vdpasim.vmm.live_update import LiveUpdate

if TYPE_CHECKING:
    from vdpasim.core.events import Event


def events() -> list[Event]:
    sim = Simulator("6.12+live-update-v1")
    seen: list[Event] = []
    sim.listen(seen.append)

    async def story(sim: Simulator) -> None:
        await LiveUpdate(await boot(sim, 2)).run()

    sim.run(story)
    return seen


def test_a_device_has_its_life() -> None:
    facts = gather(events())
    (device,) = facts.devices.values()
    assert device.name == "vhost-vdpa-0"
    names = ["SUSPEND", "NEW_OWNER", "RESUME"]
    assert [call.name for call in device.granted(*names)] == names
    (taken,) = device.takeovers
    assert device.suspended(taken.seq)
    assert not device.running(taken.seq)
    assert device.owner(taken.seq) != device.owner(END) != ""
    assert facts.space("vmm", END) == device.owner(END)
    assert device.handed_over(0, taken.seq)
    assert device.offers_remap
    assert not facts.pinned(device)


def test_entries_have_lives() -> None:
    facts = gather(events())
    (device,) = facts.devices.values()
    (taken,) = device.takeovers
    assert len(device.at(END - 1)) == 2
    for entry in device.entries:
        assert entry.by is not None
        assert entry.exactly(entry.by)
        assert entry.remapped(taken.end)
        assert not entry.remapped(0, taken.end)


def test_a_promise_moves_with_memory_that_was_there() -> None:
    mapped = "vmm", Kind.MAP, "vhost-vdpa-0", 0
    a_to_b, b_to_c, other = (("main", Kind.MOVED, *pair) for pair in (("a", "b"), ("b", "c"), ("x", "y")))
    first = (*mapped, 1, 0x1000, 0x1FFF, 0, 3, (("a", 16, 4096),))
    second = (*mapped, 2, 0x2000, 0x2FFF, 0, 3, (("a", 0, 4096),))
    facts = gather(made(a_to_b, first, a_to_b, other, second, b_to_c))
    one, two = facts.entries[1], facts.entries[2]
    assert [facts.promise(one, seq) for seq in (3, 4, 6, 7)] == [
        ((("a", 16, 4096),), []),
        ((("b", 16, 4096),), [3]),
        ((("b", 16, 4096),), [3]),
        ((("c", 16, 4096),), [3, 6]),
    ]
    assert facts.promise(two, 7) == ((("a", 0, 4096),), []), "made behind the move: it means what it says"


def test_a_batch_is_open_or_not() -> None:
    facts = gather(events())
    (device,) = facts.devices.values()
    begun, remap = device.granted("BATCH_BEGIN")[0], device.granted("REMAP")[0]
    assert device.batch(remap.seq) is begun
    assert device.batch(END) is None


def test_a_batch_end_that_was_refused_closes_the_batch() -> None:
    sim = Simulator("6.12+live-update-fixed", faults=["set_map:3"])
    seen: list[Event] = []
    sim.listen(seen.append)

    async def story(sim: Simulator) -> None:
        with pytest.raises(OSError):
            await LiveUpdate(await boot(sim, 2)).run()

    sim.run(story)
    (device,) = gather(seen).devices.values()
    assert device.granted("BATCH_BEGIN")
    assert not device.granted("BATCH_END")
    assert device.batch(END) is None


def test_a_run_that_was_cut_short_is_read() -> None:
    seen = events()
    for number in range(0, len(seen), 7):
        gather(seen[:number])
        gather(seen[number:])


OPENED = ("vmm", Kind.OPEN, "vhost-vdpa-0", "disk", "vhost-vdpa")
FILE = "/dev/vhost-vdpa-0"


def call(unit: str, request: Ioctl | bytes, ret: int = 0, rule: str | None = None) -> list[tuple[Any, ...]]:
    args: tuple[Any, ...] = (request.request(),) if isinstance(request, Ioctl) else (Buffer(request, request),)
    op = "ioctl" if isinstance(request, Ioctl) else "write"
    return [(unit, Kind.ENTER, op, FILE, args), (unit, Kind.EXIT, op, FILE, ret, 0, rule)]


def test_suspend_did_what_its_event_says() -> None:
    asked = call("vmm", vhost.VHOST_VDPA_SUSPEND)
    (logged,) = gather(made(*asked)).devices.values()
    assert logged.suspended(END), "a log has its outcome only"
    (traced,) = gather(made(OPENED, *asked)).devices.values()
    assert not traced.suspended(END), "before DRIVER_OK nothing happens"
    done = [asked[0], ("vmm", Kind.SUSPEND, "vhost-vdpa-0", 0, 1), asked[1]]
    assert gather(made(OPENED, *done)).devices["vhost-vdpa-0"].suspended(END)


def test_who_only_asks_takes_nothing_over() -> None:
    first, asks = call("vmm", vhost.VHOST_SET_OWNER), call("helper", vhost.VHOST_VDPA_GET_STATUS)
    assert gather(made(*first, *asks)).devices["vhost-vdpa-0"].handovers == []
    takes = call("helper", vhost.VHOST_NEW_OWNER)
    assert gather(made(*first, *asks, *takes)).devices["vhost-vdpa-0"].handovers == [5]


def test_a_device_that_was_given_back_has_no_users() -> None:
    first, then = call("vmm", vhost.VHOST_SET_OWNER), call("other", vhost.VHOST_SET_OWNER)
    device = gather(made(*first, ("vmm", Kind.GONE, "file", "vhost-vdpa-0"), *then)).devices["vhost-vdpa-0"]
    assert (device.handovers, device.released) == ([], [3])


def test_of_two_calls_of_one_process_the_rule_says_which_was_refused() -> None:
    remap, other = (
        call("vmm", encode_message(X86_64, Message(VHOST_IOTLB_MSG_V2, 0, 0, 4096, 0, 0, kind)))
        for kind in (VHOST_IOTLB_REMAP, VHOST_IOTLB_INVALIDATE)
    )
    refused = ("vmm", Kind.EXIT, "write", FILE, -14, 2, "vdpa.remap.absent")
    for ends in ([other[1], refused], [refused, other[1]]):
        device = gather(made(remap[0], other[0], *ends)).devices["vhost-vdpa-0"]
        assert [(one.name, one.refused) for one in device.calls] == [("REMAP", 2), ("INVALIDATE", 0)]


def test_an_argument_is_what_the_call_found() -> None:
    args = (vhost.VHOST_GET_VRING_BASE.request(), Buffer(b"\1\0\0\0\7\0\0\0", b"\1\0\0\0\0\0\0\0"))
    (one,) = gather(made(("vmm", Kind.ENTER, "ioctl", FILE, args))).devices["vhost-vdpa-0"].calls
    assert (one.word(0), one.word(4)) == (1, 0)
