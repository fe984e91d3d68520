"""What an un-batched REMAP costs: the guest's data is read from memory that is no longer the guest's.

As in the story of the un-batched REMAP, but the new image has something else of its own at the old address. The device
reads the ring and the request there and finds a chain that the guest never posted.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm

NEW_ADDRESS = 0x6000_0000_0000


@scenario(kernel="6.12+live-update-v1", expect=("iotlb.divergence", "dma.wrong-object"), demo=True)
async def stale_write(sim: Simulator) -> None:
    """The device's next DMA lands on the new image's own memory."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    old = vmm.ram.addr
    await vmm.device.suspend()
    await vmm.exec(NEW_ADDRESS)
    vmm.process.mmap(RAM, vmm.process.memfd("heap-of-the-new-image", RAM), addr=old)
    await vmm.device.new_owner()
    await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
    await vmm.device.resume()
    vmm.post(blk.VIRTIO_BLK_T_FLUSH, 0, 0)
    await vmm.kick_device()
    await sim.settle()
    assert not vmm.vq.used(), "the device must not have seen the request"
