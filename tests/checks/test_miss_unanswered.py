"""``miss.unanswered``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.miss_unanswered import MissUnanswered
from vdpasim.core.events import NO_COPY, Kind
from vdpasim.core.vhost import vhost_msg
from vdpasim.vmm.blk import IOVA, RAM
from vdpasim.vmm.vhost_net import VhostNetVmm

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

DEV = "vhost-net-0"


@pytest.fixture
def check() -> MissUnanswered:
    """A queue that waits for 0x1000."""
    one = MissUnanswered()
    feed(one, Kind.OWNER, device=DEV, old=None, new="mm:vmm")
    feed(one, Kind.MISS, device=DEV, queue=1, iova=0x1000, perm=1)
    return one


def mapped(check: MissUnanswered) -> None:
    entry = {"start": 0x1000, "last": 0x1FFF, "addr": 0, "perm": 3, "promise": ()}
    feed(check, Kind.MAP, device=DEV, asid=NO_COPY, serial=1, **entry)


def found(check: MissUnanswered) -> list[str]:
    check.finish()
    return [finding.id for finding in check.findings]


def test_a_run_may_end_before_the_answer(check: MissUnanswered) -> None:
    assert found(check) == []


def test_an_answer_that_wakes_nobody_is_none(check: MissUnanswered) -> None:
    mapped(check)
    assert found(check) == ["miss.unanswered"]
    assert "the queue was not woken" in check.findings[0].text


def test_an_answer_that_wakes_is_one(check: MissUnanswered) -> None:
    mapped(check)
    feed(check, Kind.WAKE, device=DEV, queue=1, iova=0x1000)
    assert found(check) == []


def test_nobody_may_be_left_to_answer(check: MissUnanswered) -> None:
    feed(check, Kind.GONE, what="mm", name="mm:vmm")
    assert found(check) == ["miss.unanswered"]


def test_time_passes_for_nobody(check: MissUnanswered) -> None:
    check.now = 5
    assert found(check) == ["miss.unanswered"]


def test_dropped_misses_wait_for_nothing(check: MissUnanswered) -> None:
    mapped(check)
    feed(check, Kind.CLEAR, device=DEV, count=1)
    assert found(check) == []


def test_a_queue_that_got_there_waits_no_more(check: MissUnanswered) -> None:
    mapped(check)
    access = {"length": 16, "access": 1, "serial": 1, "target": "va", "place": ()}
    feed(check, Kind.DMA, device=DEV, queue=1, iova=0xFF8, **access)
    assert found(check) == []


async def answered(sim: Simulator) -> None:
    vmm = await VhostNetVmm.create(sim)
    await vmm.negotiate()
    await vmm.map_ram()
    await vmm.set_up_ring()
    await vmm.attach()
    await sim.settle()
    await vmm.net.iotlb_invalidate(IOVA, RAM)
    vmm.post(b"frame")
    await vmm.kick_device()
    await vmm.net.read_miss()
    await vmm.map_ram()
    await sim.settle()


def test_an_update_that_wakes_nobody_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "miss.unanswered" not in stories.ids(answered)

    def sleeps_on(*_: Any) -> None:
        pass

    monkeypatch.setattr(vhost_msg, "vhost_iotlb_notify_vq", sleeps_on)
    assert "miss.unanswered" in stories.ids(answered)
