"""``vmm.stale-ring-base``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_ring_base import VmmRingBase
from vdpasim.core.events import Kind
from vdpasim.vmm.blk import IOVA, QUEUE_NUM
from vdpasim.vmm.guest import Virtqueue

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

DEV = "vhost-vdpa-0"


@pytest.fixture
def check() -> VmmRingBase:
    """A device that ran; 5 requests were answered."""
    one = VmmRingBase()
    feed(one, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    status(one, 0xB, 0xF)
    feed(one, Kind.USED, device="disk", queue=0, old=4, new=5, found=4, taken=5)
    return one


def status(check: VmmRingBase, old: int, new: int) -> None:
    feed(check, Kind.STATUS, device=DEV, old=old, new=new)


def ring(check: VmmRingBase, what: str, value: int) -> None:
    feed(check, Kind.RING, device=DEV, queue=0, what=what, value=value)


def used(check: VmmRingBase, old: int, new: int, found: int | None = None) -> None:
    feed(check, Kind.USED, device="disk", queue=0, old=old, new=new, found=found, taken=new)


def restart(check: VmmRingBase, base: int) -> None:
    status(check, 0xF, 0)
    ring(check, "base", base)
    status(check, 0xB, 0xF)


@pytest.mark.parametrize(("base", "wanted"), [(0, 0), (5, 0), (7, 0), (6, 1), (0x8000_8000, 0)])
def test_behind_a_reset_a_base_is_0_or_was_saved(check: VmmRingBase, base: int, wanted: int) -> None:
    ring(check, "get-base", 7)
    status(check, 0xF, 0)
    ring(check, "base", base)
    assert check.findings == [], "it has not run yet"
    status(check, 0xB, 0xF)
    check.finish()
    assert [finding.id for finding in check.findings] == ["vmm.stale-ring-base"] * wanted


def test_what_was_saved_in_an_earlier_life_is_stale(check: VmmRingBase) -> None:
    ring(check, "get-base", 7)
    restart(check, 0)
    restart(check, 7)
    status(check, 0xF, 0)
    assert check.findings == [], "perhaps its memory went back as well, and nothing moved since"
    restart(check, 7)
    used(check, 7, 8, 0)
    assert len(check.findings) == 1


def test_what_was_never_saved_is_told_when_that_life_is_over(check: VmmRingBase) -> None:
    restart(check, 9)
    assert check.findings == []
    status(check, 0xF, 0)
    assert len(check.findings) == 1


def test_a_base_is_over_with_the_reset_behind_it(check: VmmRingBase) -> None:
    restart(check, 9)
    found = len(check.findings)
    status(check, 0xF, 0)
    status(check, 0xB, 0xF)
    used(check, 0, 1, 0)
    restart(check, 9)
    check.finish()
    assert len(check.findings) == found + 2, "in between it began at 0"


def test_a_base_that_is_set_as_it_runs_is_where_the_queue_is(check: VmmRingBase) -> None:
    status(check, 0xF, 0)
    status(check, 0xB, 0xF)
    ring(check, "base", 7)
    restart(check, 7)
    check.finish()
    assert check.findings == []


def test_two_devices_have_bases_of_their_own(check: VmmRingBase) -> None:
    other = "vhost-vdpa-1"
    feed(check, Kind.OPEN, device=other, below="net", family="vhost-vdpa")
    restart(check, 9)
    feed(check, Kind.STATUS, device=other, old=0xB, new=0xF)
    feed(check, Kind.STATUS, device=other, old=0xF, new=0)
    assert check.findings == [], "the other one is still running"
    feed(check, Kind.RING, device=other, queue=0, what="base", value=5)
    feed(check, Kind.STATUS, device=other, old=0xB, new=0xF)
    check.finish()
    assert sorted(finding.text.split()[0] for finding in check.findings) == [DEV, other]


def test_what_was_saved_before_more_was_answered_is_stale(check: VmmRingBase) -> None:
    ring(check, "get-base", 5)
    used(check, 5, 6)
    restart(check, 5)
    used(check, 5, 6, 6)
    assert len(check.findings) == 1


def test_where_nothing_moved_the_base_before_is_good(check: VmmRingBase) -> None:
    for _ in range(3):
        restart(check, 5)
    check.finish()
    assert check.findings == []


@pytest.mark.parametrize(("found", "wanted"), [(3, 0), (0, 1), (9, 1), (None, 1)])
def test_an_old_base_over_old_memory_is_a_snapshot(check: VmmRingBase, found: int | None, wanted: int) -> None:
    restart(check, 3)
    used(check, 3, 4, found)
    check.finish()
    assert [finding.id for finding in check.findings] == ["vmm.stale-ring-base"] * wanted


def test_a_base_that_is_corrected_is_none(check: VmmRingBase) -> None:
    status(check, 0xF, 0)
    ring(check, "base", 9)
    ring(check, "base", 5)
    status(check, 0xB, 0xF)
    check.finish()
    assert check.findings == []


def test_a_queue_that_was_never_started_goes_on_from_nowhere(check: VmmRingBase) -> None:
    status(check, 0xF, 0)
    ring(check, "base", 9)
    feed(check, Kind.GONE, what="file", name=DEV)
    check.finish()
    assert check.findings == []


@pytest.mark.parametrize(("saved", "wanted"), [((), 0), ((7,), 1)])
def test_in_a_log_without_the_device_a_base_is_judged_by_what_was_saved(saved: tuple[int, ...], wanted: int) -> None:
    check = VmmRingBase()
    feed(check, Kind.OPEN, device=DEV, below="", family="vhost-vdpa")
    status(check, 0xB, 0xF)
    for value in saved:
        ring(check, "get-base", value)
    status(check, 0xF, 0)
    ring(check, "base", 6)
    status(check, 0xB, 0xF)
    check.finish()
    assert len(check.findings) == wanted


def test_nor_is_where_it_began_where_it_is() -> None:
    check = VmmRingBase()
    feed(check, Kind.OPEN, device=DEV, below="", family="vhost-vdpa")
    ring(check, "base", 2)
    status(check, 0xB, 0xF)
    restart(check, 6)
    check.finish()
    assert check.findings == [], "the index came from memory, of which a log says nothing"


def test_a_device_that_never_ran_may_have_been_saved_elsewhere() -> None:
    check = VmmRingBase()
    feed(check, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    status(check, 3, 0)
    ring(check, "base", 7)
    status(check, 0xB, 0xF)
    check.finish()
    assert check.findings == []


def test_an_index_in_memory_that_is_behind_is_stale(check: VmmRingBase) -> None:
    feed(check, Kind.USED, device="disk", queue=0, old=5, new=6, found=0, taken=6)
    assert len(check.findings) == 1


async def rebooted(sim: Simulator, *, base: int) -> None:
    # the guest of the second start makes its ring anew
    vmm = await stories.boot(sim)
    await vmm.write_sector(0, bytes(512))
    saved = await vmm.device.get_vring_base(0) if base < 0 else base
    vmm.vq = Virtqueue(vmm.ram, IOVA, QUEUE_NUM)
    vmm.ram.write(0, bytes(0x8000))
    await stories.restart(vmm, saved)


async def from_0(sim: Simulator) -> None:
    await rebooted(sim, base=0)


async def from_nowhere(sim: Simulator) -> None:
    await rebooted(sim, base=9)


def test_a_base_that_comes_from_nowhere_is_caught() -> None:
    assert stories.watch(from_0) == []
    assert stories.ids(from_nowhere) == {"vmm.stale-ring-base"}
