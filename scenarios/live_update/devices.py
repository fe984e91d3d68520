"""Devices that REMAP is not made for: one that pins and lies about it, one that takes single entries (LU18, LU19).

Bit 10 says that the device keeps user addresses and must be told the new ones. The kernel believes it. A device that
pins has physical addresses in its entries, and REMAP writes a user address over one. A device without set_map can be
told nothing by the posted series: v1 calls the operation all the same, v2 refuses, and bit 10 goes on saying that REMAP
is required. ``live-update-fixed`` looks at what the entries are, and gives a single entry anew.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
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

    async def obedient(update: LiveUpdate) -> None:
        device, block = update.vmm.device, update.vmm.blocks[1]
        if sim.kernel.switches.spec == FIXED:
            with refused(errno.EFAULT, inside=errno.EOPNOTSUPP):
                await device.iotlb_remap(block.iova, block.size, block.region.addr)
            return
        if batched:
            await device.batch_begin()
        await device.iotlb_remap(block.iova, block.size, block.region.addr)
        if batched:
            await device.batch_end()
        else:
            await device.iotlb_remap(block.iova, block.size, block.region.addr)  # LU12: the second pushes the first

    vmm = await LiveUpdate(vmm).replace("remap", obedient).run()
    if sim.kernel.switches.spec == FIXED:
        await works(vmm)
    else:
        await works(vmm, 0)
        assert await attempt(vmm, 1) != 0, "there are frames at a user address"
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


@scenario(
    kernel={V1: "kernel.oops", V2: (), FIXED: ()},
    options={"batch_mapping": False},
    tags=("LU19", "objection:dma-map-only"),
    domain={"blocks": range(1, 5)},
)
async def lu19_single_entries(sim: Simulator, *, blocks: int = 3) -> None:
    """One REMAP for a device that has dma_map only: v1 jumps to address 0, v2 says EINVAL and that is all."""
    vmm = await disk(sim, blocks=blocks)
    if sim.kernel.switches.spec == FIXED:
        await works(await LiveUpdate(vmm, batched=False).run())
        return
    with refused(errno.EFAULT):
        await LiveUpdate(vmm, batched=False).run()


@scenario(
    kernel={V1: ("dma.stale-va", "iotlb.divergence"), V2: (), FIXED: ()},
    options={"batch_mapping": False},
    tags=("LU19", "objection:dma-map-only"),
    domain={"blocks": range(1, 5)},
)
async def lu19_single_entries_in_a_batch(sim: Simulator, *, blocks: int = 3) -> None:
    """The same in a batch: v1 accepts every REMAP and never tells the device, v2 refuses as before."""
    vmm = await disk(sim, blocks=blocks)
    if sim.kernel.switches.spec == V2:
        with refused(errno.EFAULT, inside=errno.EINVAL):
            await LiveUpdate(vmm).run()
        return
    vmm = await LiveUpdate(vmm).run()
    if sim.kernel.switches.spec == FIXED:
        await works(vmm)
    else:
        assert await attempt(vmm) != 0, "the device was told"


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
