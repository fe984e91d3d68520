"""The order of the steps: what each of them costs that comes too early, too late or not at all (LU01, 03, 04, 25).

A device with user addresses works in the owner's address space, with the addresses of its map. NEW_OWNER exchanges the
first at once, REMAP the second, entry by entry. In between every entry names a place in an image that is gone: nothing
lies there, or something of the new image that no guest should see. The kernel does not look. Only
``lu-guard-resume``, which nobody posted, keeps a device from running then.
"""

import errno
from typing import Literal

from vdpasim.core.series import active
from vdpasim.scenario import perhaps_refused, refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_NEW_OWNER
from vdpasim.vmm.live_disk import UNANSWERED, attempt, disk, occupy, works
from vdpasim.vmm.live_update import LiveUpdate

MAINLINE, V1, V2 = "6.12", "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise"
FIXED, GUARDED = "6.12+live-update-fixed", "6.12+live-update-fixed+lu-guard-resume"

RUINED = ("dma.stale-va", "irq.lost")
"""What it takes for a request it completes, without an interrupt, since it is malformed."""

Variant = Literal["resume", "reset"]
Way = Literal["exec", "transfer"]


@scenario(
    kernel=(V1, V2, FIXED, GUARDED),
    tags=("LU01:twin", "LU03:twin", "LU04:twin", "LU25:twin", "objection:same-pages", "objection:resume"),
    domain={
        "blocks": range(1, 6),
        "variant": ("resume", "reset"),
        "way": ("exec", "transfer"),
        "order": ("forward", "reverse"),
    },
)
async def in_order(
    sim: Simulator,
    *,
    blocks: int = 3,
    variant: Variant = "resume",
    way: Way = "exec",
    order: Literal["forward", "reverse"] = "forward",
) -> None:
    """Every step in its place: the new image has the device, and the device has the guest's memory."""
    vmm = await disk(sim, blocks=blocks)
    await works(await LiveUpdate(vmm, variant, way, order=order).run())


async def remap_last(sim: Simulator, blocks: int, variant: Variant, *, heap: bool) -> None:
    """The device runs and is kicked, and only then told the new addresses."""
    vmm = await disk(sim, blocks=blocks)
    update = LiveUpdate(vmm, variant).move("remap", before="start-vcpus")
    if heap:
        old = [block.region.addr for block in vmm.blocks]

        async def grow(update: LiveUpdate) -> None:
            for addr, block in zip(old, update.vmm.blocks, strict=True):
                occupy(update.vmm.process, addr, block.size)

        update.after("map-memory", grow)
    with perhaps_refused(errno.EBUSY) as early:
        await update.run()
    if early.refused:
        update.move("run", before="start-vcpus")  # told that this is the wrong order, it has another
        await update.run()
    if heap and not early.refused:
        # it took the heap for a ring that has been turned back, and waits for requests that nobody will post
        assert await attempt(update.vmm) == UNANSWERED
    else:
        await works(update.vmm)


@scenario(
    kernel={V1: "dma.stale-va", V2: "dma.stale-va", FIXED: "dma.stale-va", GUARDED: ()},
    tags=("LU01", "objection:resume"),
    domain={"blocks": range(1, 5), "variant": ("resume", "reset")},
)
async def lu01_run_before_remap(sim: Simulator, *, blocks: int = 3, variant: Variant = "resume") -> None:
    """The device looks for its ring where the old image had it: nothing is there."""
    await remap_last(sim, blocks, variant, heap=False)


@scenario(
    kernel={V1: RUINED, V2: RUINED, FIXED: RUINED, GUARDED: ()},
    tags=("LU01", "objection:security"),
    domain={"blocks": range(1, 5), "variant": ("resume", "reset")},
)
async def lu01_run_before_remap_over_a_heap(
    sim: Simulator, *, blocks: int = 3, variant: Variant = "resume"
) -> None:
    """As above, and the new image has its heap there: the device takes that for its ring, and REMAP comes too late."""
    await remap_last(sim, blocks, variant, heap=True)


@scenario(
    kernel=(MAINLINE, V1, V2, FIXED),
    tags="LU03",
    domain={"blocks": range(1, 5), "way": ("exec", "transfer")},
)
async def lu03_remap_before_new_owner(sim: Simulator, *, blocks: int = 3, way: Way = "exec") -> None:
    """Who is not the owner cannot REMAP: EPERM inside, EFAULT from write(), and nothing has changed."""
    vmm = await disk(sim, blocks=blocks)
    update = LiveUpdate(vmm, way=way).skip("check")
    vmm = await update.run(until="map-memory")
    for block in vmm.blocks:
        with refused(errno.EFAULT, inside=errno.EPERM):
            await vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)
    with refused(errno.EFAULT, inside=errno.EPERM):
        await vmm.device.batch_begin()
    if await vmm.device.get_backend_features() >> VHOST_BACKEND_F_NEW_OWNER & 1:
        await works(await update.run())
        return
    with refused(errno.EOPNOTSUPP if active(sim.kernel.switches) else errno.EPERM):
        await vmm.device.new_owner()  # it will never be the owner


@scenario(
    kernel={V1: "dma.stale-va", V2: "dma.stale-va", FIXED: "dma.stale-va", GUARDED: ()},
    tags=("LU04", "objection:same-pages"),
    domain={"blocks": range(1, 5), "variant": ("resume", "reset"), "way": ("exec", "transfer")},
)
async def lu04_no_remap(
    sim: Simulator, *, blocks: int = 3, variant: Variant = "resume", way: Way = "exec"
) -> None:
    """NEW_OWNER alone: the first kick sends the device to addresses of the old image."""
    vmm = await disk(sim, blocks=blocks)
    update = LiveUpdate(vmm, variant, way).skip("remap")
    with perhaps_refused(errno.EBUSY) as run:
        await update.run()
    if not run.refused:
        assert await attempt(update.vmm) == UNANSWERED, "answered by way of an image that is gone"


@scenario(
    kernel={V1: "dma.stale-va", V2: "dma.stale-va", FIXED: "dma.stale-va", GUARDED: ()},
    tags=("LU25", "objection:same-pages"),
    domain={"blocks": range(3, 6), "forgotten": range(1, 3)},
)
async def lu25_one_block_forgotten(sim: Simulator, *, blocks: int = 3, forgotten: int = 1) -> None:
    """One of many REMAPs is missing: everything works but the requests whose data lie there."""
    vmm = await disk(sim, blocks=blocks)

    async def most_of_it(update: LiveUpdate) -> None:
        await update.vmm.device.batch_begin()
        for number, block in enumerate(update.vmm.blocks):
            if number != forgotten:
                await update.vmm.device.iotlb_remap(block.iova, block.size, block.region.addr)
        await update.vmm.device.batch_end()

    update = LiveUpdate(vmm).replace("remap", most_of_it)
    with perhaps_refused(errno.EBUSY) as run:
        await update.run()
    if run.refused:
        return
    await works(update.vmm, *(number for number in range(blocks) if number != forgotten))
    assert await attempt(update.vmm, forgotten) == blk.VIRTIO_BLK_S_IOERR
