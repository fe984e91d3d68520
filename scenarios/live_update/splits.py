"""Entries are not UPDATEs: what one message mapped may be many entries, or none (LU16, LU17).

A device with user addresses gets an entry for each mapping of the owner's that the range touches, and only where that
is a shared mapping of a file; a device that pins gets one for each run of neighbouring frames. The program sees neither
and is told neither: UPDATE returns its 72 bytes. REMAP of the posted series wants exactly one entry. The documented
rule, that it must have the arguments of the UPDATE, is then a rule nobody can follow; ``live-update-fixed`` keeps it.
"""

import errno
from typing import Literal

from vdpasim.scenario import perhaps_refused, refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.mman import PROT_EXEC, PROT_READ, PROT_WRITE
from vdpasim.vmm.blk import IOVA, RAM
from vdpasim.vmm.live_disk import attempt, disk, text, works
from vdpasim.vmm.live_update import BLOCK, GAP, NEW_ADDRESS, Block, LiveUpdate, LiveVmm

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"

OLD_ADDRESS = 0x5000_0000_0000
BEHIND = IOVA + 4 * RAM
"""Where the pieces begin for the device."""

Border = Literal["object", "protection"]


async def split(sim: Simulator, pieces: int, border: Border) -> LiveVmm:
    """A VMM with the pieces as blocks behind the first, all of them given to the device by one UPDATE."""
    vmm = await disk(sim, blocks=1)
    process = vmm.process
    whole = process.memfd("whole", pieces * BLOCK)
    for number in range(pieces):
        memfd = whole if border == "protection" else process.memfd(f"piece{number}", BLOCK)
        at, offset = OLD_ADDRESS + number * BLOCK, number * BLOCK if memfd is whole else 0
        region = process.mmap(BLOCK, memfd, addr=at, offset=offset)
        if memfd is whole and number % 2:
            process.mprotect(at, BLOCK, PROT_READ | PROT_WRITE | PROT_EXEC)
        vmm.blocks.append(Block(BEHIND + number * BLOCK, BLOCK, memfd, region))
        await vmm.write_sector(number + 1, text(number + 1))
    await vmm.device.iotlb_update(BEHIND, pieces * BLOCK, OLD_ADDRESS)
    return vmm


def update_of(vmm: LiveVmm, border: Border) -> LiveUpdate:
    """A live update whose new image has the pieces side by side again."""
    addresses = [NEW_ADDRESS, *(NEW_ADDRESS + GAP + number * BLOCK for number in range(len(vmm.blocks) - 1))]

    async def map_memory(update: LiveUpdate) -> None:
        for number, block in enumerate(update.vmm.blocks):
            offset = (number - 1) * BLOCK if number and border == "protection" else 0
            block.region = vmm.process.mmap(block.size, block.memfd, addr=update.place(number), offset=offset)
        vmm.moved(vmm.blocks[0].region)

    return LiveUpdate(vmm, addresses=addresses).replace("map-memory", map_memory)


async def remap_whole(vmm: LiveVmm) -> bool:
    """REMAP of the pieces with the arguments of the UPDATE; whether it was taken."""
    with perhaps_refused(errno.EFAULT, inside=errno.EINVAL) as answer:
        await vmm.device.iotlb_remap(BEHIND, (len(vmm.blocks) - 1) * BLOCK, vmm.blocks[1].region.addr)
    return not answer.refused


async def remap_pieces(vmm: LiveVmm, *, but: int = 0) -> bool:
    """REMAP of each piece, but perhaps one; whether they were taken, of which the first decides."""
    for number, block in enumerate(vmm.blocks[1:], 1):
        if number == but:
            continue
        with perhaps_refused(errno.EFAULT, inside=errno.EINVAL) as answer:
            await vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)
        if answer.refused:
            return False
    return True


def knows_updates(sim: Simulator, *, otherwise: bool) -> bool:
    """Whether REMAP wants what was UPDATEd: the posted series do not, ours does, another may."""
    if sim.kernel.on("live-update-v1") or sim.kernel.on("live-update-v2"):
        return False
    return sim.kernel.on("live-update-fixed") or otherwise


DOMAIN = {"pieces": range(2, 5), "border": ("object", "protection")}


@scenario(kernel=(V1, V2, FIXED), tags=("LU16", "objection:same-pages"), domain=DOMAIN)
async def lu16_arguments_of_the_update(sim: Simulator, *, pieces: int = 3, border: Border = "object") -> None:
    """The documented way, REMAP as one UPDATEd: EINVAL where the old image had it in several mappings."""
    update = update_of(await split(sim, pieces, border), border)

    async def documented(update: LiveUpdate) -> None:
        new = update.vmm
        await new.device.batch_begin()
        await new.device.iotlb_remap(IOVA, RAM, new.ram.addr)
        taken = await remap_whole(new)
        assert taken == knows_updates(sim, otherwise=taken)
        assert taken or await remap_pieces(new), "neither the whole nor the pieces"
        await new.device.batch_end()

    await works(await update.replace("remap", documented).run())


async def piecewise(update: LiveUpdate) -> None:
    """A REMAP for each piece; where the kernel keeps to what was UPDATEd, one for all of them."""
    vmm = update.vmm
    await vmm.device.batch_begin()
    await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
    assert await remap_pieces(vmm) or await remap_whole(vmm), "neither the pieces nor the whole"
    await vmm.device.batch_end()


@scenario(kernel=(V1, V2, FIXED), tags="LU16:twin", domain=DOMAIN)
async def lu16_fixed(sim: Simulator, *, pieces: int = 3, border: Border = "object") -> None:
    """A VMM that knows what the kernel does with mappings remembers its own, and sends a REMAP for each."""
    update = update_of(await split(sim, pieces, border), border)
    await works(await update.replace("remap", piecewise).run())


@scenario(
    kernel=(V1, V2, FIXED),
    tags=("LU16", "objection:same-pages"),
    domain={"blocks": range(1, 4)},
)
async def lu16_physical_pieces(sim: Simulator, *, blocks: int = 2) -> None:
    """A device that pins, and says that it needs REMAP: its entries are runs of frames, which no program ever sees."""
    vmm = await disk(sim, blocks=blocks, use_va=False, advertise="NEW_OWNER,IOTLB_REMAP")
    posted = sim.kernel.on("live-update-v1") or sim.kernel.on("live-update-v2")
    said = errno.EINVAL if posted else errno.EOPNOTSUPP if sim.kernel.on("live-update-fixed") else None

    async def hopeless(update: LiveUpdate) -> None:
        for block in update.vmm.blocks:
            with refused(errno.EFAULT, inside=said):
                await update.vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)

    await works(await LiveUpdate(vmm).replace("remap", hopeless).run())


# -- memory that is skipped


async def with_a_hole(sim: Simulator, *, before: int, behind: int, shared: bool) -> LiveVmm:
    """One UPDATE over shared blocks with one between them that is private, unless it is ``shared`` too."""
    vmm = await disk(sim, blocks=1)
    process = vmm.process
    for number in range(before + 1 + behind):
        memfd = process.memfd(f"piece{number}", BLOCK)
        at = OLD_ADDRESS + number * BLOCK
        region = process.mmap(BLOCK, memfd, addr=at, shared=shared or number != before)
        vmm.blocks.append(Block(BEHIND + number * BLOCK, BLOCK, memfd, region))
        await vmm.write_sector(number + 1, text(number + 1))
    await vmm.device.iotlb_update(BEHIND, (before + 1 + behind) * BLOCK, OLD_ADDRESS)
    return vmm


@scenario(kernel=(V1, V2, FIXED), tags="LU17", domain={"before": range(3), "behind": range(3)})
async def lu17_private_memory(sim: Simulator, *, before: int = 1, behind: int = 1) -> None:
    """UPDATE over a private mapping maps nothing there and says nothing: no DMA reaches it, and REMAP is ENOENT."""
    vmm = await with_a_hole(sim, before=before, behind=behind, shared=False)
    hole = 1 + before
    assert await attempt(vmm, hole) == blk.VIRTIO_BLK_S_IOERR, "before the live update"

    async def piece_by_piece(update: LiveUpdate) -> None:
        new = update.vmm
        private = new.blocks[hole]
        await new.device.batch_begin()
        await new.device.iotlb_remap(IOVA, RAM, new.ram.addr)
        with refused(errno.EFAULT, inside=errno.ENOENT):
            await new.device.iotlb_remap(private.iova, private.size, private.region.addr)
        assert await remap_pieces(new, but=hole) or await remap_whole(new), "neither the pieces nor the whole"
        await new.device.batch_end()

    vmm = await update_of(vmm, "object").replace("remap", piece_by_piece).run()
    await works(vmm, *(number for number in range(len(vmm.blocks)) if number != hole))
    assert await attempt(vmm, hole) == blk.VIRTIO_BLK_S_IOERR, "after it"


@scenario(kernel=(V1, V2, FIXED), tags="LU17:twin", domain={"before": range(3), "behind": range(3)})
async def lu17_fixed(sim: Simulator, *, before: int = 1, behind: int = 1) -> None:
    """The same with guest memory that is shared everywhere."""
    update = update_of(await with_a_hole(sim, before=before, behind=behind, shared=True), "object")
    await works(await update.replace("remap", piecewise).run())
