"""``vmm.unmapped-queue``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_unmapped_queue import VmmUnmappedQueue
from vdpasim.core.events import Kind

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

DEV = "vhost-vdpa-0"


@pytest.mark.parametrize(("inside", "wanted"), [(0, ["vmm.unmapped-queue"]), (1, [])])
def test_an_address_of_the_program_is_the_other_mistake(inside: int, wanted: list[str]) -> None:
    check = VmmUnmappedQueue()
    feed(check, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    feed(check, Kind.RING, device=DEV, queue=0, what="addr", value=(0x7000, 0x8000, 0x9000, inside))
    feed(check, Kind.RING, device=DEV, queue=0, what="ready", value=1)
    feed(check, Kind.STATUS, device=DEV, old=0xB, new=0xF)
    assert [finding.id for finding in check.findings] == wanted


async def nothing_mapped(sim: Simulator) -> None:
    await (await stories.create(sim)).start()


async def mapped_last(sim: Simulator) -> None:
    vmm = await stories.create(sim)
    await vmm.set_up_ring()
    await vmm.device.set_vring_enable(0)
    await vmm.map_ram()
    await vmm.device.set_status(0xF)


def test_a_start_over_nothing_is_caught_and_mapping_late_is_not() -> None:
    assert stories.ids(nothing_mapped) == {"vmm.unmapped-queue"}
    assert stories.watch(mapped_last) == []
