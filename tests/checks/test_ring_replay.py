"""``ring.replay``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.ring_replay import RingReplay
from vdpasim.core.events import Kind

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


@pytest.mark.parametrize(
    ("old", "found", "taken", "wanted"),
    [
        (4, 4, 5, 0),
        (4, None, 5, 0),
        (0xFFFF, 0xFFFF, 0, 0),
        (0, 4, 1, 1),
        (0xFFFF, 2, 0, 1),
        (4, 1, 5, 0),
        (4, 4, 4, 1),
        (4, None, 1, 1),
    ],
)
def test_a_used_index_is_where_memory_says_and_not_beyond_what_was_taken(
    old: int, found: int | None, taken: int, wanted: int
) -> None:
    check = RingReplay()
    base = feed(check, Kind.RING, device="d", queue=0, what="base", value=old)
    feed(check, Kind.USED, device="d", queue=0, old=old, new=old + 1 & 0xFFFF, found=found, taken=taken)
    assert [finding.id for finding in check.findings] == ["ring.replay"] * wanted
    assert all(finding.steps[0] == base for finding in check.findings)


async def started_again(sim: Simulator, *, save: bool = True) -> None:
    vmm = await stories.boot(sim)
    for sector in range(3):
        await vmm.write_sector(sector, bytes(512))
    await vmm.device.suspend()
    base = await vmm.device.get_vring_base(0)
    await stories.restart(vmm, base if save else 0)
    vmm.post(0, 0, 512)
    await vmm.kick_device()
    await sim.settle()


async def started_again_from_0(sim: Simulator) -> None:
    await started_again(sim, save=False)


def test_a_base_that_was_not_saved_is_caught() -> None:
    assert stories.watch(started_again) == []
    assert stories.ids(started_again_from_0) == {"ring.replay"}
