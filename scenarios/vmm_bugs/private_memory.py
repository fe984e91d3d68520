"""Guest memory that is not shared, given to a device that works with user addresses.

Source: no public report. In VA mode an UPDATE takes what is a shared file and leaves out the rest, without an error.
What pins pages takes any memory, so the same VMM works on an older kernel.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import SECTOR, BlkVmm

VA = ("6.12", "7.1", "tip")


async def start(sim: Simulator, *, shared: bool) -> bool:
    """A disk over guest memory of a kind; whether it answers."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.create(sim.process("vmm"), path, shared=shared)
    await vmm.device.set_owner()
    await vmm.negotiate()
    await vmm.map_ram()
    await vmm.start()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    return bool(await vmm.call.poll(POLLIN, timeout_ns=1_000_000))


@scenario(kernel={"6.1": (), **dict.fromkeys(VA, "vmm.empty-update")})
async def private_memory(sim: Simulator) -> None:
    """The UPDATE succeeds, the device has no map, and the disk never answers; where pages are pinned it does."""
    assert await start(sim, shared=False) is not sim.kernel.on("va-mode")


@scenario(kernel=("6.1", *VA))
async def private_memory_fixed(sim: Simulator) -> None:
    """Shared memory works on all of them."""
    assert await start(sim, shared=True)
