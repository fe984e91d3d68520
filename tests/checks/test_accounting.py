"""``acct.negative`` and ``acct.pinned-by-absentee``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.accounting import Accounting
from vdpasim.core.events import Kind
from vdpasim.core.vhost.vdpa import VhostVdpa
from vdpasim.vmm.blk import IOVA, RAM

if TYPE_CHECKING:
    import pytest

    from vdpasim.core.ports import Mm
    from vdpasim.sim import Simulator


def pin(check: Accounting, pages: int, total: int) -> None:
    feed(check, Kind.PIN, device="d", mm="mm:a", pages=pages, total=total)


def found(check: Accounting) -> list[str]:
    check.finish()
    return [finding.id for finding in check.findings]


def test_what_is_taken_off_again_is_fine() -> None:
    check = Accounting()
    pin(check, 5, 5)
    pin(check, -5, 0)
    feed(check, Kind.GONE, what="mm", name="mm:a")
    assert found(check) == []


def test_more_than_there_was_is_not() -> None:
    check = Accounting()
    pin(check, -5, -5)
    assert found(check) == ["acct.negative"]


def test_nor_is_what_stays_with_one_who_is_gone() -> None:
    check = Accounting()
    pin(check, 5, 5)
    assert found(check) == []
    feed(check, Kind.GONE, what="mm", name="mm:a")
    assert found(check) == ["acct.pinned-by-absentee"]


async def handed_over(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.suspend()
    await vmm.exec(stories.NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.device.iotlb_invalidate(IOVA, RAM)


async def not_taken_over(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.suspend()
    await vmm.exec(stories.NEW_ADDRESS)


def test_a_handover_that_does_not_move_the_count_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stories.ids(handed_over, stories.SERIES, options=stories.PA) == set()
    change = VhostVdpa.change_owner

    def and_nothing_else(v: VhostVdpa, mm: Mm | None) -> None:
        if v.mm is not None and mm is not None:
            v.mm.pinned_vm += v.spaces.pinned_pages
            mm.pinned_vm -= v.spaces.pinned_pages
        change(v, mm)

    monkeypatch.setattr(VhostVdpa, "change_owner", and_nothing_else)
    assert "acct.negative" in stories.ids(handed_over, stories.SERIES, options=stories.PA)


def test_pins_of_an_owner_who_is_gone_are_caught() -> None:
    assert stories.ids(not_taken_over, stories.SERIES, options=stories.PA) == {"acct.pinned-by-absentee"}
    assert stories.ids(not_taken_over, stories.SERIES) == set(), "user addresses pin nothing"
