"""``vmm.call-lost``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_call import VmmCall
from vdpasim.core.events import Kind
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

DEV = "vhost-vdpa-0"


@pytest.mark.parametrize(
    ("again", "why", "wanted"),
    [
        ("no", "no-callback", 1),
        ("no", "driver", 0),
        ("eventfd-1", "no-callback", 0),
        (None, "no-callback", 0),
        ("close", "no-callback", 0),
    ],
)
def test_a_reset_takes_it(again: str | None, why: str, wanted: int) -> None:
    check = VmmCall()
    feed(check, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    feed(check, Kind.RING, device=DEV, queue=0, what="call", value="eventfd-0")
    feed(check, Kind.STATUS, device=DEV, old=0xF, new=0)
    if again == "close":
        feed(check, Kind.GONE, what="file", name=DEV)
    elif again != "no":
        feed(check, Kind.RING, device=DEV, queue=0, what="call", value=again)
    feed(check, Kind.QUIET, device="disk", queue=0, why=why)
    assert [finding.id for finding in check.findings] == ["vmm.call-lost"] * wanted


async def started_again(sim: Simulator, *, call: bool) -> None:
    vmm = await stories.boot(sim)
    await vmm.write_sector(0, bytes(512))
    base = await saved(vmm)
    await vmm.device.set_status(0)
    await vmm.negotiate()
    await vmm.device.iotlb_invalidate(IOVA, RAM)
    await vmm.map_ram()
    await vmm.device.set_vring_addr(0, *vmm.vq.addresses())
    await vmm.device.set_vring_base(0, base)
    if call:
        await vmm.device.set_vring_call(0, vmm.call.fd)
    await vmm.device.set_vring_enable(0)
    await vmm.device.set_status(0xF)
    vmm.post(0, 0, 512)
    await vmm.kick_device()
    await sim.settle()


async def saved(vmm: BlkVmm) -> int:
    await vmm.device.suspend()
    return await vmm.device.get_vring_base(0)


async def without_a_call(sim: Simulator) -> None:
    await started_again(sim, call=False)


async def with_one(sim: Simulator) -> None:
    await started_again(sim, call=True)


def test_a_start_without_a_call_eventfd_is_caught_and_so_is_the_interrupt() -> None:
    assert stories.ids(without_a_call) == {"vmm.call-lost", "irq.lost"}
    assert stories.watch(with_one) == []
