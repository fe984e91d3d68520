"""A kick that is under way when the device is suspended is lost (LU05).

vdpa_sim remembers a kick that comes while it is suspended, and replays it at RESUME. One that came just before has only
queued the worker: if SUSPEND is faster, the worker finds a device that does not run, does nothing, and nobody remembers
that there was something to do. A VMM that suspends while its guest runs must kick every queue after RESUME.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import SECTOR, BlkVmm


async def handover(sim: Simulator, *, kick_after_resume: bool) -> None:
    """A guest's request against a suspend and resume."""
    with sim.calm():
        vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    guest = sim.spawn(vmm.kick_device, name="guest")
    await vmm.device.suspend()
    await guest.join()
    with sim.calm():
        await vmm.device.resume()
        if kick_after_resume:
            await vmm.kick_device()
        await sim.settle()


@scenario(kernel=("6.12", "tip"), tags=("LU05", "explore", "objection:kick-races-suspend"))
async def kick_suspend(sim: Simulator) -> None:
    """The VMM trusts the device to remember."""
    await handover(sim, kick_after_resume=False)


@scenario(kernel=("6.12", "tip"), tags=("LU05:twin", "objection:kick-races-suspend"))
async def kick_suspend_fixed(sim: Simulator) -> None:
    """The VMM kicks once more after RESUME."""
    await handover(sim, kick_after_resume=True)
