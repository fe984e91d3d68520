"""A device that goes by file and offset: what REMAP does not tell it (LU24).

vhost-vdpa keeps the file behind every entry of user addresses, and a device in user space (VDUSE) maps that file
itself: addresses of another process are of no use to it. REMAP stores an address and leaves the file as the UPDATE
found it. As long as guest memory stays in its files that is right, and REMAP is not even needed. A new image that
copies guest memory into another file, huge pages say, and tells the device by REMAP is believed by everyone but this
device, which goes on with the old file. What it needs is an UPDATE, and that takes an INVALIDATE.
"""

import errno

from vdpasim.scenario import perhaps_refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import DATA_AT, SECTOR
from vdpasim.vmm.live_disk import attempt, by_file, disk, in_another_file, text, works
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
SAME_OBJECT = "6.12+live-update-fixed+lu-guard-same-object"


async def anew(vmm: LiveVmm, block: int) -> None:
    """Take an entry away and give it again."""
    one = vmm.blocks[block]
    await vmm.device.iotlb_invalidate(one.iova, one.size)
    await vmm.device.iotlb_update(one.iova, one.size, one.region.addr)


@scenario(
    kernel={V1: "dma.wrong-object", V2: "dma.wrong-object", FIXED: "dma.wrong-object", SAME_OBJECT: ()},
    tags=("LU24", "objection:same-pages"),
    domain={"block": range(3)},
)
async def lu24_guest_memory_in_another_file(sim: Simulator, *, block: int = 1) -> None:
    """A block of guest memory is copied into another file and remapped: the device works on in the old one."""
    vmm = await by_file(sim)
    seen_through: list[int] = []

    async def remap(update: LiveUpdate) -> None:
        await update.vmm.begin_batch()
        for number, one in enumerate(update.vmm.blocks):
            with perhaps_refused(errno.EFAULT, inside=errno.EINVAL) as answer:
                await update.vmm.device.iotlb_remap(one.iova, one.size, one.region.addr)
            if answer.refused:
                seen_through.append(number)
                await anew(update.vmm, number)
        await update.vmm.close_batch()

    update = LiveUpdate(vmm).after("map-memory", in_another_file(block)).replace("remap", remap)
    vmm = await update.run()
    if seen_through:
        assert seen_through == [block]
        await works(vmm)
    elif await attempt(vmm, block) == blk.VIRTIO_BLK_S_OK:
        assert vmm.blocks[block].region.read(DATA_AT, SECTOR) != text(block), "the guest has what it asked for"


@scenario(kernel=(V1, V2, FIXED), tags=("LU24:twin", "objection:same-pages"), domain={"block": range(3)})
async def lu24_fixed(sim: Simulator, *, block: int = 1) -> None:
    """The same with INVALIDATE and UPDATE for the block: the entry is a new one, and has the new file."""
    update = LiveUpdate(await by_file(sim)).after("map-memory", in_another_file(block))

    async def once_more(update: LiveUpdate) -> None:
        await update.vmm.begin_batch()
        for number, one in enumerate(update.vmm.blocks):
            if number == block:
                await anew(update.vmm, number)
            else:
                await update.vmm.device.iotlb_remap(one.iova, one.size, one.region.addr)
        await update.vmm.close_batch()

    await works(await update.replace("remap", once_more).run())


@scenario(kernel=(V1, V2, FIXED), tags=("LU24:twin", "objection:same-pages"), domain={"block": range(3)})
async def lu24_by_address(sim: Simulator, *, block: int = 1) -> None:
    """The same of a device that goes by addresses: REMAP tells it all there is to know."""
    update = LiveUpdate(await disk(sim)).after("map-memory", in_another_file(block))
    await works(await update.run())


@scenario(kernel=(V1, V2, FIXED), tags=("LU24:twin", "objection:same-pages"))
async def lu24_nothing_to_tell(sim: Simulator) -> None:
    """Guest memory stays in its files: no REMAP at all, and the device goes on all the same."""
    await works(await LiveUpdate(await by_file(sim)).skip("remap").run())
