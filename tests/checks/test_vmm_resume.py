"""``vmm.resume-without-suspend``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_resume import VmmResume
from vdpasim.core.events import Kind

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


@pytest.mark.parametrize(("old", "new", "wanted"), [(0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 1, 0)])
def test_only_what_is_suspended_can_be_resumed(old: int, new: int, wanted: int) -> None:
    check = VmmResume()
    feed(check, Kind.SUSPEND, device="d", old=old, new=new)
    assert len(check.findings) == wanted


async def suspend_too_early(sim: Simulator) -> None:
    vmm = await stories.create(sim)
    await vmm.map_ram()
    await vmm.device.suspend()
    await vmm.start()
    await vmm.device.resume()


async def in_order(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.suspend()
    await vmm.device.resume()


def test_a_suspend_that_did_nothing_is_caught() -> None:
    assert stories.ids(suspend_too_early) == {"vmm.resume-without-suspend"}
    assert stories.watch(in_order) == []
