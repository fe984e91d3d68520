"""``queue.stalled``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.queue_stalled import QueueStalled
from vdpasim.core.events import Kind

if TYPE_CHECKING:
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


def looked(check: QueueStalled) -> None:
    where = {"device": "disk", "queue": 0, "iova": 0, "length": 2}
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


def test_a_kick_that_suspend_loses_is_caught() -> None:
    assert stories.watch(kicked_while_suspended) == []
    assert stories.ids(kicked_while_suspended, "tip-pending-kick") == {"queue.stalled"}


def test_a_device_that_stands_still_for_one_who_is_gone_is_caught() -> None:
    assert stories.ids(nobody_took_over) == {"queue.stalled"}
