"""A migration that fails behind SUSPEND, and a VMM that lets the guest go on without its device.

Source: cloud-hypervisor #7743. Every way that leaves a migration without success must undo what was done for it: RESUME
where the kernel has it, else a reset and the whole set-up with the index that was saved.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import IOVA, RAM, SECTOR, BlkVmm

KERNELS = ("6.1", "6.12", "7.1", "tip")
RESUME = 1 << 5
TEXT = b"before the migration".ljust(SECTOR, b".")


async def failed(sim: Simulator) -> tuple[BlkVmm, int]:
    """A migration up to where the other side does not answer; the VMM, and the index it has saved."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, TEXT)
    await vmm.device.suspend()
    return vmm, await vmm.device.get_vring_base(0)


@scenario(kernel=dict.fromkeys(KERNELS, "vmm.left-suspended"))
async def resume_missing(sim: Simulator) -> None:
    """The guest's processors are started again, and that is all."""
    vmm, _ = await failed(sim)
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    assert not await vmm.call.poll(POLLIN, timeout_ns=10**9), "the disk works"


@scenario(kernel=KERNELS)
async def resume_missing_fixed(sim: Simulator) -> None:
    """RESUME, or on a kernel without it the long way; either way the guest finds its disk as it was."""
    vmm, base = await failed(sim)
    if await vmm.device.get_backend_features() & RESUME:
        await vmm.device.resume()
    else:
        await vmm.device.set_status(0)
        await vmm.negotiate()
        await vmm.device.iotlb_invalidate(IOVA, RAM)
        await vmm.map_ram()
        await vmm.set_up_ring(base)
        await vmm.device.set_vring_enable(0)
        await vmm.device.set_status(await vmm.device.get_status() | 4)
    assert await vmm.read_sector(0) == TEXT
