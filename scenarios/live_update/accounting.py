"""Whose pages they are: NEW_OWNER counts against the limit of the new owner and moves the count (LU29, LU31-LU36).

A device that works with physical addresses pins what it is given, for the owner's address space and against the
caller's RLIMIT_MEMLOCK. Both series add what the device pins to what the caller pins. The current owner has the
device's pages in both numbers, so it meets a limit of twice what it needs. Pages of an owner that is gone stay pinned
until the descriptor is closed, counted for an address space in which nobody lives.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Process, Simulator
from vdpasim.vmm.blk import DATA_AT, IOVA, RAM, SECTOR
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
SERIES = (V1, V2, FIXED)
PINNED: dict[str, int | bool] = {"use_va": False}
PAGE = 4096
PAGES = RAM // PAGE
TEXT = b"in the guest's memory".ljust(SECTOR, b".")


async def boot(sim: Simulator, *, memlock: int = 8 << 20) -> LiveVmm:
    """A VMM with a disk that pins one block of guest memory, and a sector written."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await LiveVmm.boot(sim.process("vmm", memlock=memlock), path)
    await vmm.write_sector(0, TEXT)
    assert vmm.process.mm.pinned_vm == PAGES
    return vmm


def pins(*processes: Process) -> list[int]:
    """VmPin of each, in pages."""
    return [process.mm.pinned_vm for process in processes]


# -- LU29: counted twice


REFUSALS = {errno.ENOMEM, errno.EBUSY}


async def takes_over_again(vmm: LiveVmm) -> int:
    """NEW_OWNER by the owner itself; the errno."""
    try:
        await vmm.device.new_owner()
    except OSError as error:
        return error.errno or 0
    return 0


@scenario(kernel=SERIES, options=PINNED, tags="LU29", domain={"limit": (PAGES, PAGES + 1, 300, 2 * PAGES - 1)})
async def lu29_counted_twice(sim: Simulator, *, limit: int = 2 * PAGES - 1) -> None:
    """The owner itself gets ENOMEM below twice its pages, where it should hear EBUSY; in the fixed series it does."""
    vmm = await boot(sim, memlock=limit * PAGE)
    posted = sim.kernel.on("live-update-v1") or sim.kernel.on("live-update-v2")
    known = {errno.ENOMEM} if posted else {errno.EBUSY} if sim.kernel.on("live-update-fixed") else REFUSALS
    assert await takes_over_again(vmm) in known
    assert pins(vmm.process) == [PAGES]
    assert await vmm.read_sector(0) == TEXT


@scenario(kernel=SERIES, options=PINNED, tags="LU29:twin", domain={"limit": (2 * PAGES, 2 * PAGES + 1, 2048)})
async def lu29_room_for_twice(sim: Simulator, *, limit: int = 2 * PAGES) -> None:
    """With room for twice its pages it hears EBUSY everywhere."""
    vmm = await boot(sim, memlock=limit * PAGE)
    with refused(errno.EBUSY):
        await vmm.device.new_owner()
    assert pins(vmm.process) == [PAGES]
    assert await vmm.read_sector(0) == TEXT


# -- LU31, LU32: the limit of the new image


@scenario(
    kernel=dict.fromkeys(SERIES, "dma.after-handover"),
    options=PINNED,
    tags=("LU31", "objection:pins-of-an-absentee"),
    domain={"memlock": (0, 1, PAGE, RAM - PAGE, RAM - 1), "way": ("exec",)},
)
async def lu31_small_limit(sim: Simulator, *, memlock: int = RAM - PAGE, way: str = "exec") -> None:
    """The new image may lock less than the device pins: ENOMEM, nothing has moved, only close gives pages back."""
    vmm = await boot(sim)
    old = vmm.process.mm
    update = LiveUpdate(vmm, memlock=memlock, way="exec" if way == "exec" else "transfer")
    vmm = await update.run(until="map-memory")
    with refused(errno.ENOMEM):
        await update.run(until="new-owner")
    with refused(errno.EFAULT, inside=errno.EPERM):  # still a stranger, so it cannot even unmap
        await vmm.device.iotlb_invalidate(IOVA, RAM)
    assert (old.pinned_vm, vmm.process.mm.pinned_vm) == (PAGES, 0)
    if update.old is not None:
        await update.old.process.exit()
    await vmm.device.resume()  # needs no owner: the disk goes on with the pages of an address space that is gone
    vmm.ram.write(DATA_AT, bytes(SECTOR))
    assert await vmm.read_sector(0) == TEXT
    await vmm.file.aclose()
    assert (old.pinned_vm, vmm.process.mm.pinned_vm) == (0, 0)


@scenario(
    kernel=SERIES,
    options=PINNED,
    tags=("LU31:twin", "LU32"),
    domain={"memlock": (RAM, RAM + 1, RAM + PAGE, 8 << 20), "way": ("exec", "transfer")},
)
async def lu32_exact_limit(sim: Simulator, *, memlock: int = RAM, way: str = "exec") -> None:
    """A limit of exactly what the device pins is enough, and the count moves over whole."""
    vmm = await boot(sim)
    old = vmm.process.mm
    vmm = await LiveUpdate(vmm, memlock=memlock, way="exec" if way == "exec" else "transfer").run()
    assert (old.pinned_vm, vmm.process.mm.pinned_vm) == (0, PAGES)
    assert await vmm.read_sector(0) == TEXT


@scenario(kernel=SERIES, tags="LU32:twin", domain={"memlock": (0, 1, PAGE)})
async def lu32_no_limit_for_user_addresses(sim: Simulator, *, memlock: int = 0) -> None:
    """A device that works with user addresses pins nothing, so any limit will do."""
    vmm = await LiveVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, TEXT)
    vmm = await LiveUpdate(vmm, memlock=memlock).run()
    assert vmm.process.mm.pinned_vm == 0
    assert await vmm.read_sector(0) == TEXT


@scenario(kernel=SERIES, options=PINNED, tags="LU32", domain={"own": (1, 16, PAGES)})
async def lu32_pins_of_its_own(sim: Simulator, *, own: int = 1) -> None:
    """What the new owner pins for another device counts as well: one page is one too many."""
    vmm = await boot(sim)
    new = sim.process("new", memlock=RAM + (own - 1) * PAGE)
    other = VhostVdpa(await new.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
    await other.set_owner()
    await other.iotlb_update(0, own * PAGE, new.mmap(own * PAGE, new.memfd("own", own * PAGE)).addr)
    device = VhostVdpa(new.receive(vmm.file))
    with refused(errno.ENOMEM):
        await device.new_owner()
    assert pins(vmm.process, new) == [PAGES, own]
    await other.iotlb_invalidate(0, own * PAGE)
    await device.new_owner()
    assert pins(vmm.process, new) == [0, PAGES]


# -- LU33: the wrong address space


@scenario(kernel=(*SERIES, "6.12", "tip"), options=PINNED, tags="LU33", domain={"way": ("exec", "transfer")})
async def lu33_unmap_without_new_owner(sim: Simulator, *, way: str = "exec") -> None:
    """NEW_OWNER forgotten, then INVALIDATE: it is refused, so no count can go below zero; close counts where it was."""
    vmm = await boot(sim)
    old = vmm.process.mm
    update = LiveUpdate(vmm, way="exec" if way == "exec" else "transfer").skip("check")
    vmm = await update.run(until="map-memory")
    with refused(errno.EFAULT, inside=errno.EPERM):
        await vmm.device.iotlb_invalidate(IOVA, RAM)
    assert (old.pinned_vm, vmm.process.mm.pinned_vm) == (PAGES, 0)
    if update.old is not None:
        await update.old.file.aclose()
    await vmm.file.aclose()
    assert (old.pinned_vm, vmm.process.mm.pinned_vm) == (0, 0)


@scenario(kernel=SERIES, options=PINNED, tags="LU33:twin", domain={"way": ("exec", "transfer")})
async def lu33_unmap_after_new_owner(sim: Simulator, *, way: str = "exec") -> None:
    """With NEW_OWNER the same INVALIDATE takes the pages off the count they are in now."""
    vmm = await boot(sim)
    old = vmm.process.mm
    vmm = await LiveUpdate(vmm, way="exec" if way == "exec" else "transfer").run(until="new-owner")
    assert (old.pinned_vm, vmm.process.mm.pinned_vm) == (0, PAGES)
    await vmm.device.iotlb_invalidate(IOVA, RAM)
    assert (old.pinned_vm, vmm.process.mm.pinned_vm) == (0, 0)


# -- LU34: an address space that was freed


AS_POSTED = tuple(f"{one}+lu-drops-old-mm" for one in SERIES)
"""The first series did this; put on the others, it does the same to them."""


@scenario(
    kernel={**dict.fromkeys(AS_POSTED, "uaf.old-mm"), **dict.fromkeys(SERIES, ())},
    options=PINNED,
    tags="LU34",
    domain={"way": ("exec", "exit")},
)
async def lu34_old_owner_gone(sim: Simulator, *, way: str = "exec") -> None:
    """The first series as posted counts pages on the old owner's address space without holding it."""
    vmm = await boot(sim)
    if way == "exec":
        await LiveUpdate(vmm).run(until="new-owner")
        return
    update = LiveUpdate(vmm, way="transfer")
    await update.run(until="map-memory")
    await vmm.process.exit()
    await update.run(until="new-owner")


@scenario(kernel=(*AS_POSTED, *SERIES), options=PINNED, tags="LU34:twin")
async def lu34_old_owner_waits(sim: Simulator) -> None:
    """An old process that stays until NEW_OWNER was answered keeps its address space for the kernel."""
    vmm = await boot(sim)
    update = LiveUpdate(vmm, way="transfer")
    await update.run(until="new-owner")
    await vmm.process.exit()
    assert await (await update.run()).read_sector(0) == TEXT


# -- LU36: the pages of an absentee


@scenario(
    kernel=dict.fromkeys(SERIES, "acct.pinned-by-absentee"),
    options=PINNED,
    tags=("LU36", "objection:pins-of-an-absentee"),
)
async def lu36_new_owner_leaves(sim: Simulator) -> None:
    """A new owner exits while a helper holds the descriptor: its pages stay pinned, and the helper cannot unmap."""
    vmm = await boot(sim)
    helper = sim.process("helper")
    held = helper.receive(vmm.file)
    update = LiveUpdate(vmm, way="transfer")
    new = (await update.run(until="new-owner")).process
    await vmm.process.exit()
    absentee = new.mm
    await new.exit()
    assert absentee.pinned_vm == PAGES
    with refused(errno.EFAULT, inside=errno.EPERM):
        await VhostVdpa(held).iotlb_invalidate(IOVA, RAM)


@scenario(kernel=SERIES, options=PINNED, tags=("LU36:twin", "objection:pins-of-an-absentee"))
async def lu36_helper_cleans_up(sim: Simulator) -> None:
    """The helper takes over in its turn: then the pages are its own, and it can give them back."""
    vmm = await boot(sim)
    helper = sim.process("helper")
    held = VhostVdpa(helper.receive(vmm.file))
    new = (await LiveUpdate(vmm, way="transfer").run(until="new-owner")).process
    await vmm.process.exit()
    absentee = new.mm
    await new.exit()
    await held.new_owner()
    assert (absentee.pinned_vm, helper.mm.pinned_vm) == (0, PAGES)
    await held.iotlb_invalidate(IOVA, RAM)
    assert helper.mm.pinned_vm == 0
