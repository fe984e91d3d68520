"""A forked child has the descriptor and is still a stranger: its messages fail, its mappings are its own.

The owner of a device is an address space. The child got a copy, and what it does to that copy the device never sees;
what it writes into memory that both share, the device reads like everybody else.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import DATA_AT, IOVA, RAM, SECTOR, BlkVmm
from vdpasim.vmm.handles import VhostVdpa


async def boot(sim: Simulator) -> BlkVmm:
    """A VMM with a disk."""
    return await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def forked_child_writes(sim: Simulator) -> None:
    """Every message is EPERM inside and EFAULT outside; requests that need no owner work."""
    vmm = await boot(sim)
    child = vmm.process.fork("child")
    device = VhostVdpa(child.file(vmm.file.fd))
    with refused(errno.EFAULT, inside=errno.EPERM):
        await device.iotlb_invalidate(IOVA, RAM)
    with refused(errno.EFAULT, inside=errno.EPERM):
        await device.iotlb_update(IOVA + RAM, RAM, vmm.ram.addr)
    with refused(errno.EPERM):
        await device.set_vring_enable(0, enable=False)
    assert await device.get_status() == 0xF
    await vmm.write_sector(3, b"x" * SECTOR)
    assert await vmm.read_sector(3) == b"x" * SECTOR


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def forked_child_memory(sim: Simulator) -> None:
    """The child's munmap changes nothing, its store into the shared page is what the disk gets."""
    vmm = await boot(sim)
    child = vmm.process.fork("child")
    vmm.post(blk.VIRTIO_BLK_T_OUT, 0, b"the parent's".ljust(SECTOR, b"."))
    child.write(vmm.ram.addr + DATA_AT, b"the child's.")
    child.munmap(vmm.ram.addr, RAM)
    await vmm.kick_device()
    assert await vmm.wait() == blk.VIRTIO_BLK_S_OK
    assert (await vmm.read_sector(0))[:12] == b"the child's."
