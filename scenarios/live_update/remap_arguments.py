"""What REMAP is told: permissions, ranges, addresses, address spaces (LU06 to LU11, LU26).

REMAP names one entry, by exactly its range, and gives it another user address. The entry keeps its permission, so none
may be named. About the range the kernel is strict, and every refusal reaches the writer as EFAULT. About the address it
believes everything: that it shows the same memory is "user's responsibility", as the series says, and a VMM that counts
its blocks wrongly has a guest with swapped memory. ``lu-guard-same-object`` is what a check would do.

Each refusal is made in the middle of a live update, after BATCH_BEGIN, and the live update then goes on: nothing may
have changed.
"""

import errno
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

from vdpasim.core.series import active
from vdpasim.scenario import perhaps_refused, refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_NEW_OWNER, VHOST_IOTLB_REMAP
from vdpasim.vmm.blk import DATA_AT, IOVA, RAM, SECTOR
from vdpasim.vmm.live_disk import attempt, disk, text, two_spaces, works
from vdpasim.vmm.live_update import BLOCK, NEW_ADDRESS, Block, LiveUpdate, LiveVmm

MAINLINE, V1, V2 = "6.12", "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise"
FIXED, SAME_OBJECT = "6.12+live-update-fixed", "6.12+live-update-fixed+lu-guard-same-object"

PAGE = 4096
U64 = 1 << 64

Wrong = Callable[[LiveVmm], Awaitable[None]]


async def changes_owners(vmm: LiveVmm) -> bool:
    """Whether the device says that it does; where no series is, or no driver offers its bits, it does not."""
    return bool(await vmm.device.get_backend_features() >> VHOST_BACKEND_F_NEW_OWNER & 1)


async def refused_in_between(vmm: LiveVmm, wrong: Wrong) -> None:
    """A wrong REMAP before the right ones; on mainline, where there are none, by the first owner."""
    if await changes_owners(vmm):
        vmm = await LiveUpdate(vmm).before("remap", lambda update: wrong(update.vmm)).run()
    else:
        await wrong(vmm)
    await works(vmm)


@contextmanager
def refused_by_remap(sim: Simulator, code: int | None) -> Generator[None]:
    """A REMAP whose handler says this; mainline's, whatever it is told, that it knows no such message.

    A series nobody offers says first that it is not offered, unless the arguments alone are wrong; None: one of ENOENT
    and EINVAL, for who knows what another series looks at first.
    """
    if not active(sim.kernel.switches):
        code = errno.EINVAL
    with perhaps_refused(errno.EFAULT) as answer:
        yield
    assert answer.error is not None, "not refused"
    said = getattr(answer.error, "handler_errno", 0)
    assert said in ((code,) if code else (errno.ENOENT, errno.EINVAL)) or answer.rule == "vdpa.remap.unsupported", said


# -- the address


async def swapped(sim: Simulator, place: Callable[[LiveVmm, int], int]) -> None:
    """Each block behind the first gets a wrong address."""
    vmm = await disk(sim, blocks=4)
    seen_through: list[int] = []

    async def wrong(update: LiveUpdate) -> None:
        new = update.vmm
        await new.device.batch_begin()
        for number, block in enumerate(new.blocks):
            addr = place(new, number) if number else block.region.addr
            with perhaps_refused(errno.EFAULT, inside=errno.EINVAL) as answer:
                await new.device.iotlb_remap(block.iova, block.size, addr)
            if answer.refused:
                seen_through.append(number)
                await new.device.iotlb_remap(block.iova, block.size, block.region.addr)
        await new.device.batch_end()

    vmm = await LiveUpdate(vmm).replace("remap", wrong).run()
    if seen_through:
        assert seen_through == list(range(1, len(vmm.blocks))), "each of them is wrong"
        await works(vmm)
        return
    assert await attempt(vmm, 1) == blk.VIRTIO_BLK_S_OK, "the device must not notice"
    assert vmm.blocks[1].region.read(DATA_AT, SECTOR) != text(1), "the guest has what it asked for"


@scenario(
    kernel={V1: "dma.wrong-object", V2: "dma.wrong-object", FIXED: "dma.wrong-object", SAME_OBJECT: ()},
    tags=("LU06", "objection:same-pages"),
    domain={"by": (1, 2)},
)
async def lu06_the_next_block(sim: Simulator, *, by: int = 1) -> None:
    """A VMM that is off by one in its list of blocks: success, and the guest's data are in the neighbour's memory."""
    await swapped(sim, lambda vmm, number: vmm.blocks[1 + (number - 1 + by) % (len(vmm.blocks) - 1)].region.addr)


@scenario(
    kernel={V1: "dma.wrong-object", V2: "dma.wrong-object", FIXED: "dma.wrong-object", SAME_OBJECT: ()},
    tags=("LU06", "objection:same-pages"),
    domain={"pages": range(1, 5)},
)
async def lu06_another_offset(sim: Simulator, *, pages: int = 1) -> None:
    """The right object from a wrong offset: success, and the data are some pages further on."""
    await swapped(sim, lambda vmm, number: vmm.blocks[number].region.addr + pages * PAGE)


@scenario(
    kernel=(V1, V2, FIXED, SAME_OBJECT),
    tags=("LU06:twin", "LU07:twin", "LU08:twin", "LU09:twin", "LU10:twin", "LU11:twin", "objection:same-pages"),
    domain={"blocks": range(1, 6)},
)
async def remap_of_each_block(sim: Simulator, *, blocks: int = 4) -> None:
    """Exactly the ranges of the UPDATEs, no permission, and the memory that was there: accepted, and right."""
    await works(await LiveUpdate(await disk(sim, blocks=blocks)).run())


# -- the range


@scenario(
    kernel=(MAINLINE, V1, V2, FIXED),
    tags="LU07",
    domain={"first": range(4), "pages": range(1, 13)},
)
async def lu07_part_of_an_entry(sim: Simulator, *, first: int = 0, pages: int = 8) -> None:
    """Some pages of an entry: EINVAL, for an entry is remapped whole or not at all."""
    vmm = await disk(sim)

    async def wrong(vmm: LiveVmm) -> None:
        block = vmm.blocks[1]
        with refused_by_remap(sim, errno.EINVAL):
            at = first * PAGE
            await vmm.device.iotlb_remap(block.iova + at, pages * PAGE, block.region.addr + at)

    await refused_in_between(vmm, wrong)


@scenario(kernel=(MAINLINE, V1, V2, FIXED), tags="LU08", domain={"pages": range(1, 17)})
async def lu08_two_entries_at_once(sim: Simulator, *, pages: int = 16) -> None:
    """One REMAP for an entry and for pages of the next, though both lie side by side in the new image: EINVAL."""
    vmm = await disk(sim)
    process, before = vmm.process, vmm.blocks[1]
    memfd = process.memfd("next", BLOCK)
    neighbour = Block(before.iova + BLOCK, BLOCK, memfd, process.mmap(BLOCK, memfd))
    await vmm.device.iotlb_update(neighbour.iova, BLOCK, neighbour.region.addr)
    vmm.blocks.append(neighbour)
    await vmm.write_sector(3, text(3))

    async def wrong(vmm: LiveVmm) -> None:
        with refused_by_remap(sim, errno.EINVAL):
            await vmm.device.iotlb_remap(before.iova, BLOCK + pages * PAGE, vmm.blocks[1].region.addr)

    if not await changes_owners(vmm):
        await wrong(vmm)
        return
    places = [NEW_ADDRESS, NEW_ADDRESS + RAM, NEW_ADDRESS + 2 * RAM, NEW_ADDRESS + RAM + BLOCK]
    update = LiveUpdate(vmm, addresses=places).before("remap", lambda update: wrong(update.vmm))
    await works(await update.run())


@scenario(
    kernel=(MAINLINE, V1, V2, FIXED),
    tags="LU09",
    domain={"iova": (0, IOVA - 16 * PAGE, IOVA + RAM, IOVA + RAM + 3 * BLOCK, 1 << 40), "pages": (1, 16)},
)
async def lu09_nothing_mapped_there(sim: Simulator, *, iova: int = IOVA + RAM, pages: int = 1) -> None:
    """A range without an entry: ENOENT inside, which the writer cannot tell from the others."""

    async def wrong(vmm: LiveVmm) -> None:
        with refused_by_remap(sim, errno.ENOENT):
            await vmm.device.iotlb_remap(iova, pages * PAGE, vmm.blocks[1].region.addr)

    await refused_in_between(await disk(sim), wrong)


@scenario(
    kernel=(MAINLINE, V1, V2, FIXED),
    tags="LU10",
    domain={"perm": (1, 2, 3, 4, 0x80, 0xFF), "empty": (False, True)},
)
async def lu10_permission_or_no_size(sim: Simulator, *, perm: int = 3, empty: bool = False) -> None:
    """The permission copied from the UPDATE, or a size of 0: EINVAL."""

    async def wrong(vmm: LiveVmm) -> None:
        block = vmm.blocks[1]
        with refused(errno.EFAULT, inside=errno.EINVAL):
            await vmm.device.iotlb(
                VHOST_IOTLB_REMAP,
                iova=block.iova,
                size=0 if empty else block.size,
                uaddr=block.region.addr,
                perm=0 if empty else perm,
            )

    await refused_in_between(await disk(sim), wrong)


@scenario(
    kernel=(MAINLINE, V1, V2, FIXED),
    tags="LU11",
    domain={"before": (1, 4, 16), "behind": (1, 4, 16)},
)
async def lu11_a_range_that_wraps(sim: Simulator, *, before: int = 1, behind: int = 1) -> None:
    """A range over the end of the address space: v1 and v2 find no entry there, where UPDATE and a check say EINVAL."""
    posted = sim.kernel.on("live-update-v1") or sim.kernel.on("live-update-v2")
    said = errno.ENOENT if posted else errno.EINVAL if sim.kernel.on("live-update-fixed") else None

    async def wrong(vmm: LiveVmm) -> None:
        start, size = U64 - before * PAGE, (before + behind) * PAGE
        with refused_by_remap(sim, said):
            await vmm.device.iotlb_remap(start, size, vmm.blocks[1].region.addr)
        with refused(errno.EFAULT, inside=errno.EINVAL):
            await vmm.device.iotlb_update(start, size, vmm.blocks[1].region.addr)

    await refused_in_between(await disk(sim), wrong)


# -- the address space


@scenario(
    kernel={V1: "dma.wrong-object", V2: "dma.wrong-object", FIXED: "dma.wrong-object", SAME_OBJECT: ()},
    tags="LU26",
    domain={"block": range(1, 3)},
)
async def lu26_the_other_space(sim: Simulator, *, block: int = 1) -> None:
    """REMAPs of space 1 that name space 0: success, and the queue's own data go to the memory of space 1."""
    vmm = await two_spaces(sim, second=True)
    seen_through: list[Block] = []

    async def wrong(update: LiveUpdate) -> None:
        new = update.vmm
        await new.device.batch_begin()
        for one in new.blocks:
            with perhaps_refused(errno.EFAULT, inside=errno.EINVAL) as answer:
                await new.device.iotlb_remap(one.iova, one.size, one.region.addr)
            seen_through.extend([one] * answer.refused)
        await new.device.batch_end()

    vmm = await LiveUpdate(vmm).replace("remap", wrong).run()
    if seen_through:
        assert all(one.asid for one in seen_through), "what is right was refused"
        await works(vmm, 0, 1, 2)
        return
    assert await attempt(vmm, block) == blk.VIRTIO_BLK_S_OK, "the device must not notice"
    assert vmm.blocks[block].region.read(DATA_AT, SECTOR) != text(block), "the guest has what it asked for"


@scenario(kernel=(V1, V2, FIXED), tags="LU26", domain={"asid": (1, 2, 9)})
async def lu26_a_space_without_entries(sim: Simulator, *, asid: int = 1) -> None:
    """A space that never was used, or does not exist: EINVAL."""

    async def wrong(vmm: LiveVmm) -> None:
        block = vmm.blocks[1]
        with refused(errno.EFAULT, inside=errno.EINVAL):
            await vmm.device.iotlb_remap(block.iova, block.size, block.region.addr, asid=asid)

    await refused_in_between(await two_spaces(sim, second=False), wrong)


@scenario(kernel=(V1, V2, FIXED, SAME_OBJECT), tags="LU26:twin")
async def lu26_fixed(sim: Simulator) -> None:
    """Each space has a batch of its own, with its own REMAPs."""
    await works(await LiveUpdate(await two_spaces(sim, second=True)).run(), 0, 1, 2)
