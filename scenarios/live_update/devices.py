"""Devices that REMAP is not made for: one that pins and lies about it, one that takes single entries (LU18, LU19).

Bit 10 says that the device keeps user addresses and must be told the new ones. The kernel believes it. A device that
pins has physical addresses in its entries, and REMAP writes a user address over one. A device without set_map can be
told nothing by the posted series: v1 calls the operation all the same, v2 refuses, and bit 10 goes on saying that REMAP
is required. ``live-update-fixed`` looks at what the entries are, and gives a single entry anew.
"""

import errno

from vdpasim.scenario import perhaps_refused, refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.live_disk import attempt, disk, text, works
from vdpasim.vmm.live_update import BLOCK, Block, LiveUpdate, LiveVmm

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"

BOGUS = ("dma.bogus-pa", "unpin.wrong-frame")

FAR = 1 << 32
BOTH = "NEW_OWNER,IOTLB_REMAP"


# -- a device that pins


async def pinned(sim: Simulator, advertise: str) -> LiveVmm:
    """A device that pins, with a block whose frames are neighbours: one entry, so that REMAP can name it."""
    vmm = await disk(sim, blocks=1, use_va=False, advertise=advertise)
    memfd = vmm.process.memfd("neighbours", BLOCK, folio_pages=BLOCK // 4096)
    block = Block(FAR, BLOCK, memfd, vmm.process.mmap(BLOCK, memfd))
    await vmm.device.iotlb_update(block.iova, block.size, block.region.addr)
    vmm.blocks.append(block)
    await vmm.write_sector(1, text(1))
    return vmm


@scenario(
    kernel={V1: BOGUS, V2: BOGUS, FIXED: ()},
    tags=("LU18", "objection:same-pages"),
    domain={"batched": (False, True)},
)
async def lu18_a_device_that_pins_and_lies(sim: Simulator, *, batched: bool = True) -> None:
    """A user address in the place of a physical one: the device takes it for one, and unmapping unpins wrong frames."""
    vmm = await pinned(sim, BOTH)
    seen_through = False

    async def obedient(update: LiveUpdate) -> None:
        nonlocal seen_through
        device, block = update.vmm.device, update.vmm.blocks[1]
        if batched:
            await device.batch_begin()
        with perhaps_refused(errno.EFAULT, inside=errno.EOPNOTSUPP) as answer:
            await device.iotlb_remap(block.iova, block.size, block.region.addr)
        seen_through = answer.refused
        if batched:
            await device.batch_end()
        elif not seen_through:
            await device.iotlb_remap(block.iova, block.size, block.region.addr)  # LU12: the second pushes the first

    vmm = await LiveUpdate(vmm).replace("remap", obedient).run()
    await works(vmm, 0)
    if seen_through:
        await works(vmm, 1)
    else:
        assert await attempt(vmm, 1) != blk.VIRTIO_BLK_S_OK, "there are frames at a user address"
    await vmm.device.iotlb_invalidate(FAR, BLOCK)


@scenario(kernel=(V1, V2, FIXED), tags=("LU18:twin", "objection:same-pages"))
async def lu18_fixed(sim: Simulator) -> None:
    """A device that pins offers NEW_OWNER alone: the frames stay where they are, and nothing needs to be told."""
    vmm = await LiveUpdate(await pinned(sim, "NEW_OWNER")).run()
    block = vmm.blocks[1]
    with refused(errno.EFAULT, inside=errno.EOPNOTSUPP):
        await vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)
    await works(vmm)
    await vmm.device.iotlb_invalidate(FAR, BLOCK)


# -- a device without set_map


NO_WHOLE_MAPS = "vdpa.remap.no-set-map"


def told(sim: Simulator, *, v1: str, v2: str, default: str) -> str:
    """What a series is known to refuse by: the posted ones, and ``live-update-fixed``, which does not refuse."""
    known = {"live-update-v1": v1, "live-update-v2": v2, "live-update-fixed": ""}
    return next((rule for series, rule in known.items() if sim.kernel.on(series)), default)


@scenario(
    kernel={V1: "kernel.oops", V2: (), FIXED: ()},
    options={"batch_mapping": False},
    tags=("LU19", "objection:dma-map-only"),
    domain={"blocks": range(1, 5)},
)
async def lu19_single_entries(sim: Simulator, *, blocks: int = 3) -> None:
    """One REMAP for a device that has dma_map only: v1 jumps to address 0, v2 says EINVAL and that is all."""
    vmm = await disk(sim, blocks=blocks)
    update = LiveUpdate(vmm, batched=False)
    with perhaps_refused(errno.EFAULT, inside=None if sim.kernel.on("live-update-v1") else errno.EINVAL) as answer:
        await update.run()
    assert answer.rule == told(sim, v1="vdpa.remap.null-call", v2=NO_WHOLE_MAPS, default=answer.rule)
    if not answer.refused:
        await works(update.vmm)


@scenario(
    kernel={V1: ("dma.stale-va", "iotlb.divergence"), V2: (), FIXED: ()},
    options={"batch_mapping": False},
    tags=("LU19", "objection:dma-map-only"),
    domain={"blocks": range(1, 5)},
)
async def lu19_single_entries_in_a_batch(sim: Simulator, *, blocks: int = 3) -> None:
    """The same in a batch: v1 accepts every REMAP and never tells the device, v2 refuses as before."""
    vmm = await disk(sim, blocks=blocks)
    update = LiveUpdate(vmm)
    with perhaps_refused(errno.EFAULT, inside=errno.EINVAL) as answer:
        await update.run()
    assert answer.rule == told(sim, v1="", v2=NO_WHOLE_MAPS, default=answer.rule)
    if not answer.refused and await attempt(update.vmm) == blk.VIRTIO_BLK_S_OK:
        await works(update.vmm)


@scenario(
    kernel=(V1, V2, FIXED),
    options={"batch_mapping": False},
    tags=("LU19:twin", "objection:dma-map-only"),
    domain={"blocks": range(1, 5)},
)
async def lu19_fixed(sim: Simulator, *, blocks: int = 3) -> None:
    """What is left: every entry taken away and given anew, which needs no REMAP."""
    vmm = await disk(sim, blocks=blocks)

    async def anew(update: LiveUpdate) -> None:
        for block in update.vmm.blocks:
            await update.vmm.device.iotlb_invalidate(block.iova, block.size)
        await update.vmm.map_ram()

    await works(await LiveUpdate(vmm).replace("remap", anew).run())
