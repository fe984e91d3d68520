"""What an un-batched REMAP costs: a sector that the guest reads lands in the heap of the new image.

Guest memory is two entries, the rings and the buffers. The new image gives both their new addresses, one message each
and no batch: the first is pushed by the second message, the second by none. So the ring works and nothing looks
wrong, and the buffers are still where they were in the old image, where the new one has something of its own.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import DATA_AT, IOVA, RAM, SECTOR, BlkVmm
from vdpasim.vmm.live_disk import UNANSWERED

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
STALE = ("iotlb.divergence", "dma.stale-va")

NEW_ADDRESS = 0x6000_0000_0000
TEXT = b"the guest's sector".ljust(SECTOR, b".")


@scenario(
    kernel={V1: STALE, V2: STALE, FIXED: ()},
    demo=True,
    tags=("LU12", "objection:security"),
)
async def stale_write(sim: Simulator) -> None:
    """The disk writes into the new image's heap, and the guest's buffer stays as it was."""
    vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    old = vmm.ram.addr
    pieces = ((0, DATA_AT), (DATA_AT, RAM - DATA_AT))
    await vmm.device.set_owner()
    await vmm.ack()
    await vmm.negotiate()
    for at, size in pieces:
        await vmm.device.iotlb_update(IOVA + at, size, old + at)
    await vmm.start()
    await vmm.write_sector(0, TEXT)

    await vmm.device.suspend()
    await vmm.exec(NEW_ADDRESS)
    heap = vmm.process.mmap(RAM, vmm.process.memfd("heap", RAM), addr=old)
    await vmm.device.new_owner()
    for at, size in pieces:
        await vmm.device.iotlb_remap(IOVA + at, size, vmm.ram.addr + at)
    await vmm.device.resume()

    vmm.ram.write(DATA_AT, bytes(SECTOR))
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    guest, other = (heap, vmm.ram) if await vmm.wait() == UNANSWERED else (vmm.ram, heap)
    assert guest.read(DATA_AT, SECTOR) == TEXT, "the sector is not where the status is"
    assert other.read(DATA_AT, SECTOR) == bytes(SECTOR)
