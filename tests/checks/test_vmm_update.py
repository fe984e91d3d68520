"""``vmm.empty-update``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_update import VmmUpdate
from vdpasim.core.events import Kind

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


@pytest.mark.parametrize(("what", "wanted"), [("update", 1), ("asid", 0)])
def test_the_kernel_says_so(what: str, wanted: int) -> None:
    check = VmmUpdate()
    feed(check, Kind.IGNORED, device="d", what=what, value=0x1000)
    assert len(check.findings) == wanted


async def private_memory(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.iotlb_update(0x100_0000, 4096, vmm.process.mmap(4096).addr)


async def half_of_it(sim: Simulator) -> None:
    # a private page behind a shared one: half of the UPDATE took effect
    vmm = await stories.boot(sim)
    last = vmm.ram.addr + vmm.ram.size - 4096
    vmm.process.mmap(4096, addr=last + 4096)
    await vmm.device.iotlb_update(0x100_0000, 8192, last)


def test_private_memory_is_caught_on_a_device_with_user_addresses() -> None:
    assert stories.ids(private_memory) == {"vmm.empty-update"}
    assert stories.watch(private_memory, options=stories.PA) == []
    assert stories.watch(half_of_it) == []
