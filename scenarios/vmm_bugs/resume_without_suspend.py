"""RESUME of a device that was never suspended.

Source: cloud-hypervisor #6510, #6516 and #6536: every device of a machine was resumed, and the vDPA ones had not been
paused. Newer kernels take a RESUME too many without a word; 6.1 does not know the request, so the same VMM cannot
resume its machine there at all.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import SECTOR, BlkVmm

NEWER = ("6.12", "7.1", "tip")


@scenario(kernel={"6.1": (), **dict.fromkeys(NEWER, "vmm.resume-without-suspend")})
async def resume_without_suspend(sim: Simulator) -> None:
    """The machine was paused, its disk was not, and resume is for both."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    if sim.kernel.on("resume"):
        await vmm.device.resume()
    else:
        with refused(errno.EFAULT):
            await vmm.device.resume()
    await vmm.write_sector(0, bytes(SECTOR))


@scenario(kernel=NEWER)
async def resume_without_suspend_fixed(sim: Simulator) -> None:
    """Each RESUME has its SUSPEND."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.suspend()
    await vmm.device.resume()
    await vmm.write_sector(0, bytes(SECTOR))
