"""Other ways to tell the device the new addresses: UPDATE, INVALIDATE and UPDATE, another buffer (LU21, 22, 27).

UPDATE over an entry is refused, so a VMM without REMAP must take the entry away first. That works, and it is what the
series were written to avoid: a device that pins gives every page back and takes it again, and in between it has no
map. Buffers that are no guest memory, those of a shadow virtqueue, are made anew by the new image: there it is right.
"""

import errno

from vdpasim.scenario import perhaps_refused, refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import DATA_AT, SECTOR
from vdpasim.vmm.live_disk import UNANSWERED, attempt, disk, text, works
from vdpasim.vmm.live_update import BLOCK, LiveUpdate, LiveVmm

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
SAME_OBJECT = "6.12+live-update-fixed+lu-guard-same-object"

PAGE = 4096


@scenario(kernel=(V1, V2, FIXED), tags="LU21", domain={"blocks": range(1, 5), "use_va": (False, True)})
async def lu21_update_instead(sim: Simulator, *, blocks: int = 3, use_va: bool = True) -> None:
    """UPDATE over what is mapped: EEXIST, and the entry is what it was."""
    vmm = await disk(sim, blocks=blocks, use_va=use_va)

    async def update_each(update: LiveUpdate) -> None:
        for block in update.vmm.blocks:
            with refused(errno.EFAULT, inside=errno.EEXIST):
                await update.vmm.device.iotlb_update(block.iova, block.size, block.region.addr)

    await works(await LiveUpdate(vmm).before("remap", update_each).run())


async def exchange(vmm: LiveVmm) -> int:
    """INVALIDATE and UPDATE for each block; how many pages were pinned again."""
    pages = 0
    for block in vmm.blocks:
        await vmm.device.iotlb_invalidate(block.iova, block.size)
        without = vmm.process.mm.pinned_vm
        await vmm.device.iotlb_update(block.iova, block.size, block.region.addr)
        pages += vmm.process.mm.pinned_vm - without
    return pages


@scenario(
    kernel=(V1, V2, FIXED),
    tags=("LU21:twin", "LU22", "objection:reset-instead"),
    domain={"blocks": range(1, 5), "use_va": (False, True)},
)
async def lu22_invalidate_and_update(sim: Simulator, *, blocks: int = 3, use_va: bool = True) -> None:
    """It works; where the device pins, every page is unpinned and pinned while the guest waits."""
    vmm = await disk(sim, blocks=blocks, use_va=use_va)
    cost = 0

    async def instead(update: LiveUpdate) -> None:
        nonlocal cost
        cost = await exchange(update.vmm)

    vmm = await LiveUpdate(vmm).replace("remap", instead).run()
    assert cost * PAGE == (0 if use_va else sum(block.size for block in vmm.blocks))
    await works(vmm)


@scenario(
    kernel=(V1, V2, FIXED),
    tags=("LU22:twin", "objection:reset-instead"),
    domain={"blocks": range(1, 5)},
)
async def lu22_fixed(sim: Simulator, *, blocks: int = 3) -> None:
    """NEW_OWNER alone, where the device pins: the count of pages moves to the new image, and no page does."""
    vmm = await disk(sim, blocks=blocks, use_va=False)
    old, pages = vmm.process.mm, sum(block.size for block in vmm.blocks) // PAGE
    assert old.pinned_vm == pages
    vmm = await LiveUpdate(vmm).run()
    assert (old.pinned_vm, vmm.process.mm.pinned_vm) == (0, pages)
    await works(vmm)


async def kick_in_between(sim: Simulator, *, suspended: bool) -> None:
    """The guest posts and kicks when the device has no map of the ring."""
    vmm = await disk(sim, blocks=1)

    async def window(update: LiveUpdate) -> None:
        new = update.vmm
        ring = new.blocks[0]
        await new.device.iotlb_invalidate(ring.iova, ring.size)
        assert await attempt(new) == UNANSWERED
        await new.device.iotlb_update(ring.iova, ring.size, ring.region.addr)

    update = LiveUpdate(vmm).replace("remap", window).skip("kick")
    if not suspended:
        update.skip("suspend", "run")
    vmm = await update.run()
    await sim.settle()
    assert bool(vmm.vq.used()) == suspended, "whether the guest's request is answered"


@scenario(kernel={V1: "queue.stalled", V2: "queue.stalled", FIXED: "queue.stalled"}, tags="LU22")
async def lu22_the_window(sim: Simulator) -> None:
    """Without SUSPEND the guest sees the moment in which nothing is mapped: its kick finds no ring, and is gone."""
    await kick_in_between(sim, suspended=False)


@scenario(kernel=(V1, V2, FIXED), tags="LU22:twin")
async def lu22_the_window_fixed(sim: Simulator) -> None:
    """A suspended device remembers the kick until RESUME."""
    await kick_in_between(sim, suspended=True)


# -- memory of the VMM's own


async def shadow(sim: Simulator, *, dropped: bool) -> LiveUpdate:
    """A VMM whose last block are buffers of its own, which the new image has made anew; the old one may unmap them."""
    vmm = await disk(sim, blocks=2)

    async def drop(update: LiveUpdate) -> None:
        mine = update.vmm.blocks[1]
        await update.vmm.device.iotlb_invalidate(mine.iova, mine.size)

    async def another(update: LiveUpdate) -> None:
        process, mine = update.vmm.process, update.vmm.blocks[1]
        mine.memfd = process.memfd("shadow", BLOCK)
        mine.region = process.mmap(BLOCK, mine.memfd)

    update = LiveUpdate(vmm).after("map-memory", another)
    return update.after("save", drop) if dropped else update


async def only_guest_memory(update: LiveUpdate) -> None:
    """REMAP of the first block."""
    ram = update.vmm.blocks[0]
    await update.vmm.device.batch_begin()
    await update.vmm.device.iotlb_remap(ram.iova, ram.size, ram.region.addr)
    await update.vmm.device.batch_end()


@scenario(
    kernel={V1: "dma.wrong-object", V2: "dma.wrong-object", FIXED: "dma.wrong-object", SAME_OBJECT: ()},
    tags="LU27",
)
async def lu27_shadow_buffers_remapped(sim: Simulator) -> None:
    """Treated as guest memory: the entry made for the old image's buffers now shows other ones."""
    update = await shadow(sim, dropped=False)
    vmm = await update.replace("remap", only_guest_memory).run(until="remap")
    mine = vmm.blocks[1]
    await vmm.device.batch_begin()
    with perhaps_refused(errno.EFAULT, inside=errno.EINVAL) as answer:
        await vmm.device.iotlb_remap(mine.iova, mine.size, mine.region.addr)
    await vmm.device.batch_end()
    vmm = await update.run()
    if answer.refused:
        await works(vmm, 0)
        return
    assert await attempt(vmm, 1) == blk.VIRTIO_BLK_S_OK
    assert mine.region.read(DATA_AT, SECTOR) == text(1)


@scenario(kernel=(V1, V2, FIXED, SAME_OBJECT), tags="LU27")
async def lu27_shadow_buffers_gone(sim: Simulator) -> None:
    """The old image has taken them away, as a shadow virtqueue that is stopped does: ENOENT."""
    update = await shadow(sim, dropped=True)
    await update.replace("remap", only_guest_memory).run(until="remap")
    mine = update.vmm.blocks[1]
    with refused(errno.EFAULT, inside=errno.ENOENT):
        await update.vmm.device.iotlb_remap(mine.iova, mine.size, mine.region.addr)
    await works(await update.run(), 0)


@scenario(kernel=(V1, V2, FIXED, SAME_OBJECT), tags="LU27:twin", domain={"dropped": (False, True)})
async def lu27_fixed(sim: Simulator, *, dropped: bool = True) -> None:
    """INVALIDATE, by the old image or the new one, and UPDATE: an entry of its own for memory of its own."""

    async def anew(update: LiveUpdate) -> None:
        device, mine = update.vmm.device, update.vmm.blocks[1]
        await only_guest_memory(update)
        if not dropped:
            await device.iotlb_invalidate(mine.iova, mine.size)
        await device.iotlb_update(mine.iova, mine.size, mine.region.addr)

    await works(await (await shadow(sim, dropped=dropped)).replace("remap", anew).run())
