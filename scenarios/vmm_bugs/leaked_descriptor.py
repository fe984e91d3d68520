"""A device that is unplugged and plugged in again, and whose descriptor was not closed in between.

Source: cloud-hypervisor #3903. vdpa_sim_blk was EBUSY at random when it was opened again, and the test was weakened
until it passed. A vhost-vdpa device is open once; a copy of the descriptor anywhere, in a thread that has not ended or
in a child that inherited it, keeps it so.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import SECTOR, BlkVmm

KERNELS = ("6.1", "6.12", "7.1", "tip")


@scenario(kernel=dict.fromkeys(KERNELS, "vmm.open-after-removal"), domain={"keeper": ("thread", "child")})
async def leaked_descriptor(sim: Simulator, *, keeper: str = "child") -> None:
    """The VMM closes its descriptor, and somebody still has it: it can neither be removed nor opened."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.boot(sim.process("vmm"), path)
    if keeper == "child":
        vmm.process.fork("helper")
    else:
        vmm.process.dup(vmm.file)
    await vmm.file.aclose()
    with refused(errno.EBUSY):
        sim.vdpa.dev_del("disk")
    with refused(errno.EBUSY):
        await vmm.process.open(path)


@scenario(kernel=KERNELS, domain={"keeper": ("thread", "child")})
async def leaked_descriptor_fixed(sim: Simulator, *, keeper: str = "child") -> None:
    """Every copy is closed before the device counts as unplugged."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.boot(sim.process("vmm"), path)
    if keeper == "child":
        child = vmm.process.fork("helper")
        await child.file(vmm.file.fd).aclose()
    else:
        await vmm.process.dup(vmm.file).aclose()
    await vmm.file.aclose()
    sim.vdpa.dev_del("disk")
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    again = await BlkVmm.boot(vmm.process, path)
    await again.write_sector(0, bytes(SECTOR))
