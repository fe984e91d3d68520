"""The same handover with the REMAP inside a batch is clean: BATCH_END pushes what was stored."""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm

NEW_ADDRESS = 0x6000_0000_0000


@scenario(kernel=("6.12+live-update-v1", "6.12+live-update-v2+lu-advertise"), demo=True, tags="LU12:twin")
async def batched_remap(sim: Simulator) -> None:
    """Suspend, exec, NEW_OWNER, BEGIN, REMAP, END, RESUME: I/O goes on with the right memory."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    text = b"written before the handover".ljust(512, b"\0")
    await vmm.write_sector(0, text)
    await vmm.device.suspend()
    await vmm.exec(NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.device.batch_begin()
    await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
    await vmm.device.batch_end()
    await vmm.device.resume()
    assert await vmm.read_sector(0) == text
