"""When the device hears of it: REMAPs without a batch, batches that fail, batches nobody closed (LU12 to 15, LU28).

The table of vhost-vdpa and the device's copy of it are two things. A push makes them equal: one at the end of a batch,
or one for each message outside of it. The posted series push before they store, so outside a batch the device is always
one REMAP behind. And a push can fail: BATCH_END of mainline, which they inherit, tells nobody.
"""

import errno
from typing import Literal

from vdpasim.scenario import perhaps_refused, refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.live_disk import attempt, disk, two_spaces, works
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm, remap

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"

Order = Literal["forward", "reverse"]
Variant = Literal["resume", "reset"]
Way = Literal["exec", "transfer"]

STALE = ("dma.stale-va", "iotlb.divergence")
UNHEARD = (*STALE, "set-map.ignored-error")


async def repush(vmm: LiveVmm, asid: int = 0) -> None:
    """BEGIN and END with nothing in between: the device gets the table as it is."""
    await vmm.device.batch_begin(asid=asid)
    await vmm.device.batch_end(asid=asid)


REGIONS = {"regions": range(1, 65), "asid": range(2)}
"""How many, and the address space they are in with the queue."""


@scenario(
    kernel={V1: STALE, V2: STALE, FIXED: ()},
    tags="LU12",
    domain={**REGIONS, "order": ("forward", "reverse"), "way": ("exec", "transfer")},
)
async def lu12_unbatched_remaps(
    sim: Simulator, *, regions: int = 3, order: Order = "forward", asid: int = 0, way: Way = "exec"
) -> None:
    """One message for each region, all of them accepted: the device keeps the old address of the last one sent."""
    vmm = await disk(sim, blocks=regions, asid=asid)
    vmm = await LiveUpdate(vmm, way=way, order=order, batched=False).run()
    last = regions - 1 if order == "forward" else 0
    if await attempt(vmm, last) == blk.VIRTIO_BLK_S_OK:  # else the ring may be gone with it
        await works(vmm)


@scenario(
    kernel=(V1, V2, FIXED),
    tags="LU12:twin",
    domain={**REGIONS, "order": ("forward", "reverse"), "way": ("exec", "transfer")},
)
async def lu12_fixed(
    sim: Simulator, *, regions: int = 3, order: Order = "forward", asid: int = 0, way: Way = "exec"
) -> None:
    """The same messages between BEGIN and END."""
    vmm = await disk(sim, blocks=regions, asid=asid)
    await works(await LiveUpdate(vmm, way=way, order=order).run())


@scenario(
    kernel=(V1, V2, FIXED),
    tags="LU12:twin",
    domain={**REGIONS, "order": ("forward", "reverse"), "again": (False, True)},
)
async def lu12_repaired(
    sim: Simulator, *, regions: int = 3, order: Order = "forward", asid: int = 0, again: bool = False
) -> None:
    """Without a batch, and then any other push before the device runs: the last REMAP once more, or an empty batch."""
    vmm = await disk(sim, blocks=regions, asid=asid)

    async def push(update: LiveUpdate) -> None:
        last = update.vmm.blocks[-1 if order == "forward" else 0]
        if again:
            await update.vmm.device.iotlb_remap(last.iova, last.size, last.region.addr, asid=asid)
        else:
            await repush(update.vmm, asid)

    await works(await LiveUpdate(vmm, order=order, batched=False).after("remap", push).run())


# -- a push that fails


async def refused_push(sim: Simulator, blocks: int) -> LiveVmm:
    """The device does not take the map at BATCH_END."""
    vmm = await disk(sim, blocks=blocks)

    async def failing(update: LiveUpdate) -> None:
        sim.inject("set_map:1")
        with perhaps_refused(errno.EFAULT, inside=errno.EIO) as push:
            await remap(update)
        if push.refused:
            await remap(update)  # it was told, so it tries again

    return await LiveUpdate(vmm).replace("remap", failing).run()


@scenario(kernel={V1: UNHEARD, V2: UNHEARD, FIXED: ()}, tags="LU13", domain={"blocks": range(1, 5)})
async def lu13_batch_end_fails(sim: Simulator, *, blocks: int = 3) -> None:
    """The device refuses the map: write() returns 72, the VMM lets it run, and it runs on the old addresses."""
    vmm = await refused_push(sim, blocks)
    if await attempt(vmm) == blk.VIRTIO_BLK_S_OK:
        await works(vmm)


@scenario(
    kernel=(V1, V2, FIXED),
    tags="LU13:twin",
    domain={"blocks": range(1, 5), "failing": range(1, 4)},
)
async def lu13_fixed(sim: Simulator, *, blocks: int = 3, failing: int = 1) -> None:
    """Without a batch each message is pushed and a push that fails is told: sent again, and an empty batch for LU12."""
    vmm = await disk(sim, blocks=blocks)

    async def one_by_one(update: LiveUpdate) -> None:
        device = update.vmm.device
        failed = min(failing, blocks)
        sim.inject(f"set_map:{failed}")
        for number, block in enumerate(update.vmm.blocks, 1):
            if number == failed:
                with refused(errno.EFAULT, inside=errno.EIO):
                    await device.iotlb_remap(block.iova, block.size, block.region.addr)
            await device.iotlb_remap(block.iova, block.size, block.region.addr)
        await repush(update.vmm)

    await works(await LiveUpdate(vmm).replace("remap", one_by_one).run())


# -- a batch that stays open


async def open_batch(update: LiveUpdate) -> None:
    """The old image begins a batch, for whatever reason, and does not end it."""
    await update.vmm.device.batch_begin()


@scenario(
    kernel={V1: STALE, V2: STALE, FIXED: STALE},
    tags="LU14",
    domain={"blocks": range(1, 5), "variant": ("resume", "reset"), "way": ("exec", "transfer")},
)
async def lu14_batch_left_open(
    sim: Simulator, *, blocks: int = 3, variant: Variant = "resume", way: Way = "exec"
) -> None:
    """An open batch survives exec and SET_STATUS(0): the REMAPs of the new image go into it, and none is pushed."""
    vmm = await disk(sim, blocks=blocks)
    update = LiveUpdate(vmm, variant, way, batched=False).replace("end-batch", open_batch)
    assert await attempt(await update.run()) != 0, "the device has heard of it"


@scenario(
    kernel=(V1, V2, FIXED),
    tags="LU14:twin",
    domain={"blocks": range(1, 5), "variant": ("resume", "reset"), "new_image": (False, True)},
)
async def lu14_fixed(
    sim: Simulator, *, blocks: int = 3, variant: Variant = "resume", new_image: bool = False
) -> None:
    """Whoever ends it: the old image before exec, or the new one, which sends its REMAPs in a batch in any case."""
    vmm = await disk(sim, blocks=blocks)

    async def begin_and_end(update: LiveUpdate) -> None:
        await open_batch(update)
        if not new_image:
            await update.vmm.device.batch_end()

    await works(await LiveUpdate(vmm, variant).replace("end-batch", begin_and_end).run())


async def open_elsewhere(sim: Simulator, *, ended: bool) -> None:
    """The old image leaves a batch open for space 1; the new one begins with space 0."""
    vmm = await two_spaces(sim)

    async def begin(update: LiveUpdate) -> None:
        await update.vmm.device.batch_begin(asid=1)

    async def stuck(update: LiveUpdate) -> None:
        device, block = update.vmm.device, update.vmm.blocks[1]
        with refused(errno.EFAULT, inside=errno.EINVAL):
            await device.batch_begin()
        with refused(errno.EFAULT, inside=errno.EINVAL):
            await device.iotlb_remap(block.iova, block.size, block.region.addr)
        with refused(errno.EFAULT, inside=errno.EINVAL):
            await device.iotlb_invalidate(block.iova, block.size)
        with refused(errno.EFAULT, inside=errno.EINVAL):
            await device.batch_end()
        await device.batch_end(asid=1)

    async def end(update: LiveUpdate) -> None:
        await update.vmm.device.batch_end(asid=1)

    update = LiveUpdate(vmm).replace("end-batch", begin).before("remap", end if ended else stuck)
    await works(await update.run(), 0, 1, 2)


@scenario(kernel=(V1, V2, FIXED), tags="LU15")
async def lu15_batch_open_in_another_space(sim: Simulator) -> None:
    """Every message for space 0 is EINVAL until somebody ends the batch of space 1, which nobody told the new image."""
    await open_elsewhere(sim, ended=False)


@scenario(kernel=(V1, V2, FIXED), tags="LU15:twin")
async def lu15_fixed(sim: Simulator) -> None:
    """The new image ends a batch in every space before it begins its own."""
    await open_elsewhere(sim, ended=True)


# -- a batch of more than one kind


async def mixed(sim: Simulator, blocks: int, failing: int, *, gives_up: bool) -> LiveVmm:
    """REMAPs with an UPDATE between them, which is refused because that region is mapped."""
    vmm = await disk(sim, blocks=blocks)

    async def messages(update: LiveUpdate) -> None:
        device = update.vmm.device
        await device.batch_begin()
        for number, block in enumerate(update.vmm.blocks):
            if number == failing:
                with refused(errno.EFAULT, inside=errno.EEXIST):
                    await device.iotlb_update(block.iova, block.size, block.region.addr)
                if gives_up:
                    break
            await device.iotlb_remap(block.iova, block.size, block.region.addr)
        await device.batch_end()

    return await LiveUpdate(vmm).replace("remap", messages).run()


@scenario(
    kernel={V1: "dma.stale-va", V2: "dma.stale-va", FIXED: "dma.stale-va"},
    tags="LU28",
    domain={"blocks": range(3, 6), "failing": range(1, 3)},
)
async def lu28_half_a_batch(sim: Simulator, *, blocks: int = 3, failing: int = 1) -> None:
    """An UPDATE fails half-way and the VMM ends the batch there: what was remapped is pushed, the rest is stale."""
    vmm = await mixed(sim, blocks, failing, gives_up=True)
    await works(vmm, *range(failing))
    assert await attempt(vmm, failing) != 0, "a batch is not all or nothing"


@scenario(kernel=(V1, V2, FIXED), tags="LU28:twin", domain={"blocks": range(3, 6), "failing": range(1, 3)})
async def lu28_fixed(sim: Simulator, *, blocks: int = 3, failing: int = 1) -> None:
    """The VMM goes on behind the refused UPDATE, which has spoilt nothing."""
    await works(await mixed(sim, blocks, failing, gives_up=False))
