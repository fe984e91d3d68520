"""A forked child has the descriptor and is still a stranger: its messages fail, its memory is its own."""

import errno

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import DATA_AT, IOVA, RAM, BlkVmm
from vdpasim.vmm.handles import VhostVdpa


@scenario(kernel=("6.12", "tip"))
async def forked_child_writes(sim: Simulator) -> None:
    """EPERM inside, EFAULT outside; what the child unmaps or remaps does not reach the device."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    child = vmm.process.fork("child")
    device = VhostVdpa(child.file(vmm.file.fd))
    try:
        await device.iotlb_invalidate(IOVA, RAM)
    except OSError as error:
        assert error.errno == errno.EFAULT
        assert error.handler_errno == errno.EPERM  # type: ignore[attr-defined]
    else:
        raise AssertionError("a child was taken for the owner")
    child.munmap(vmm.ram.addr, RAM)
    await vmm.write_sector(3, b"x" * 512)
    vmm.ram.write(DATA_AT, bytes(512))
    assert await vmm.read_sector(3) == b"x" * 512
