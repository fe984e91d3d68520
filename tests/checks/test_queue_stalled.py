"""``queue.stalled``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.queue_stalled import QueueStalled
from vdpasim.core.events import Kind
from vdpasim.core.vdpa.vdpa_sim import VdpaSim
from vdpasim.vmm.blk import IOVA, RAM

if TYPE_CHECKING:
    from vdpasim.core.kernel import Steps
    from vdpasim.sim import Simulator

DEV = "vhost-vdpa-0"


@pytest.fixture
def check() -> QueueStalled:
    """A running device with one queue."""
    one = QueueStalled()
    feed(one, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    feed(one, Kind.RING, device=DEV, queue=0, what="kick", value="eventfd-0")
    feed(one, Kind.RING, device=DEV, queue=0, what="ready", value=1)
    feed(one, Kind.STATUS, device=DEV, old=0xB, new=0xF)
    return one


def kick(check: QueueStalled) -> None:
    feed(check, Kind.KICK, device=DEV, queue=0)


def idle(check: QueueStalled, why: str, queue: int = -1) -> None:
    feed(check, Kind.IDLE, device="disk", queue=queue, why=why)


def looked(check: QueueStalled, queue: int = 0) -> None:
    where = {"device": "disk", "queue": queue, "iova": 0, "length": 2}
    feed(check, Kind.DMA, **where, access=1, serial=1, target="va", place=())


def suspend(check: QueueStalled, new: int) -> None:
    feed(check, Kind.SUSPEND, device=DEV, old=1 - new, new=new)


def found(check: QueueStalled) -> list[str]:
    feed(check, Kind.STILL)
    return [finding.id for finding in check.findings]


def test_a_kick_that_is_followed_is_fine(check: QueueStalled) -> None:
    kick(check)
    idle(check, "not-running")
    looked(check)
    assert found(check) == []


@pytest.mark.parametrize("why", ["dead-mm", "not-running", "not-ready", "remembered"])
def test_one_that_is_declined_for_good_is_not(check: QueueStalled, why: str) -> None:
    kick(check)
    idle(check, why)
    assert found(check) == ["queue.stalled"]


def test_a_suspended_device_may_decline(check: QueueStalled) -> None:
    suspend(check, 1)
    kick(check)
    idle(check, "remembered", 0)
    assert found(check) == []
    suspend(check, 0)
    assert found(check) == ["queue.stalled"]


@pytest.mark.parametrize("event", ["ready", "status", "file"])
def test_what_was_stopped_does_not_stall(check: QueueStalled, event: str) -> None:
    kick(check)
    idle(check, "dead-mm")
    if event == "ready":
        feed(check, Kind.RING, device=DEV, queue=0, what="ready", value=0)
    elif event == "status":
        feed(check, Kind.STATUS, device=DEV, old=0xF, new=0)
    else:
        feed(check, Kind.GONE, what="file", name=DEV)
    assert found(check) == []


def test_a_queue_that_waits_for_a_translation_was_looked_at(check: QueueStalled) -> None:
    kick(check)
    idle(check, "not-running")
    feed(check, Kind.MISS, device=DEV, queue=0, iova=0, perm=1)
    assert found(check) == []


def test_a_kick_that_meets_silence_is_stalled(check: QueueStalled) -> None:
    looked(check)
    kick(check)
    assert found(check) == ["queue.stalled"]


def test_a_device_that_never_worked_may_be_silent(check: QueueStalled) -> None:
    kick(check)
    assert found(check) == []


def test_so_may_one_of_whose_queues_another_is_disabled(check: QueueStalled) -> None:
    looked(check)
    looked(check, queue=1)
    kick(check)
    assert found(check) == []
    feed(check, Kind.RING, device=DEV, queue=1, what="ready", value=1)
    assert found(check) == ["queue.stalled"]


def test_an_access_that_a_plan_has_struck_was_one(check: QueueStalled) -> None:
    looked(check)
    kick(check)
    feed(check, Kind.FAULT, device="disk", what="dma.read:EFAULT", errno=14)
    assert found(check) == []


@pytest.mark.parametrize(("base", "wanted"), [(3, ["queue.stalled"]), (0, [])])
def test_a_ring_that_goes_on_behind_a_reset_keeps_its_kick(check: QueueStalled, base: int, wanted: list[str]) -> None:
    suspend(check, 1)
    kick(check)
    idle(check, "remembered", 0)
    feed(check, Kind.STATUS, device=DEV, old=0xF, new=0)
    feed(check, Kind.RING, device=DEV, queue=0, what="base", value=base)
    feed(check, Kind.RING, device=DEV, queue=0, what="ready", value=1)
    feed(check, Kind.STATUS, device=DEV, old=0xB, new=0xF)
    assert found(check) == wanted


def test_a_run_that_was_cut_off_says_nothing_yet(check: QueueStalled) -> None:
    kick(check)
    idle(check, "not-running")
    check.finish()
    assert check.findings == []
    check.now = 1
    check.finish()
    assert len(check.findings) == 1


async def kicked_while_suspended(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.suspend()
    vmm.post(0, 0, 512)
    await vmm.kick_device()
    await sim.settle()
    await vmm.device.resume()


async def nobody_took_over(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.exec(stories.NEW_ADDRESS)
    vmm.post(0, 0, 512)
    await vmm.kick_device()
    await sim.settle()


async def kicked_in_the_window(sim: Simulator, *, again: bool = False) -> None:
    vmm = await stories.boot(sim)
    await vmm.write_sector(0, bytes(512))
    await vmm.device.iotlb_invalidate(IOVA, RAM)
    vmm.post(0, 0, 512)
    await vmm.kick_device()
    await sim.settle()
    await vmm.map_ram()
    if again:
        await vmm.kick_device()


async def kicked_again(sim: Simulator) -> None:
    await kicked_in_the_window(sim, again=True)


async def kicked_and_reset(sim: Simulator, *, again: bool = False) -> None:
    vmm = await stories.boot(sim)
    await vmm.write_sector(0, bytes(512))
    await vmm.device.suspend()
    vmm.post(0, 0, 512)
    await vmm.kick_device()
    await stories.restart(vmm, await vmm.device.get_vring_base(0))
    if again:
        await vmm.kick_device()


async def reset_and_kicked_again(sim: Simulator) -> None:
    await kicked_and_reset(sim, again=True)


@pytest.mark.parametrize("story", [kicked_in_the_window, kicked_and_reset])
def test_a_kick_that_finds_no_ring_or_a_reset_is_caught(story: stories.Story) -> None:
    assert stories.ids(story) == {"queue.stalled"}


@pytest.mark.parametrize("story", [kicked_again, reset_and_kicked_again])
def test_one_more_kick_makes_it_good(story: stories.Story) -> None:
    assert stories.watch(story) == []


async def written_twice(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.write_sector(0, bytes(512))
    vmm.post(0, 0, 512)
    await vmm.kick_device()
    await sim.settle()


def passes_once(device: VdpaSim) -> Steps:
    device.passes += 1
    if device.passes == 1:
        yield from device.behaviour.work(device)


def test_a_worker_that_does_not_look_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stories.watch(written_twice) == [], "without the bug"
    monkeypatch.setattr(VdpaSim, "_pass", passes_once)
    assert stories.ids(written_twice) == {"queue.stalled"}


def test_a_kick_that_suspend_loses_is_caught() -> None:
    assert stories.watch(kicked_while_suspended) == []
    assert stories.ids(kicked_while_suspended, "tip-pending-kick") == {"queue.stalled"}


def test_a_device_that_stands_still_for_one_who_is_gone_is_caught() -> None:
    assert stories.ids(nobody_took_over) == {"queue.stalled"}
