"""``vmm.hva-ring-address``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_ring_address import VmmRingAddress
from vdpasim.core.events import Kind
from vdpasim.vmm.blk import RAM

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

DEV = "vhost-vdpa-0"


@pytest.mark.parametrize(("inside", "wanted"), [(3, ["vmm.hva-ring-address"]), (0, [])])
def test_an_unmapped_address_is_the_programs_or_not(inside: int, wanted: list[str]) -> None:
    check = VmmRingAddress()
    feed(check, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    feed(check, Kind.RING, device=DEV, queue=0, what="addr", value=(0x7000, 0x8000, 0x9000, inside))
    feed(check, Kind.RING, device=DEV, queue=0, what="ready", value=1)
    feed(check, Kind.STATUS, device=DEV, old=0xB, new=0xF)
    assert [finding.id for finding in check.findings] == wanted


async def started(sim: Simulator, *, hva: bool) -> None:
    vmm = await stories.create(sim)
    await vmm.map_ram()
    await vmm.set_up_ring()
    if hva:
        at = vmm.ram.addr - vmm.vq.iova(0)
        await vmm.device.set_vring_addr(0, *(address + at for address in vmm.vq.addresses()))
    await vmm.device.set_vring_enable(0)
    await vmm.device.set_status(0xF)


async def by_its_own_address(sim: Simulator) -> None:
    await started(sim, hva=True)


async def by_its_iova(sim: Simulator) -> None:
    await started(sim, hva=False)


async def iova_is_va(sim: Simulator) -> None:
    vmm = await stories.create(sim)
    await vmm.device.iotlb_update(vmm.ram.addr, RAM, vmm.ram.addr)
    at = vmm.ram.addr - vmm.vq.iova(0)
    await vmm.set_up_ring()
    await vmm.device.set_vring_addr(0, *(address + at for address in vmm.vq.addresses()))
    await vmm.device.set_vring_enable(0)
    await vmm.device.set_status(0xF)


def test_the_address_in_the_program_is_caught() -> None:
    assert stories.ids(by_its_own_address) == {"vmm.hva-ring-address"}


def test_an_iova_is_not_nor_one_that_is_the_same() -> None:
    assert stories.watch(by_its_iova) == stories.watch(iova_is_va) == []
