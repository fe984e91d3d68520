"""When the update itself goes wrong, or the guest does meanwhile (LU47, LU48, LU57-LU60, LU64).

A descriptor that is closed on the way takes the device's state along. A device that was suspended must be made to go
on by whoever gives up. What the guest did to its machine while its processors were being stopped is known to the old
image alone, and lost unless it is handed over with the rest.
"""

import errno
from typing import Literal

import attrs

from vdpasim.devices import profile
from vdpasim.scenario import perhaps_refused, refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK
from vdpasim.vmm.blk import DATA_AT, SECTOR, BlkVmm
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm, SystemEvent

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
SERIES = (V1, V2, FIXED)
MAINLINE = ("6.1", "6.12", "7.1", "tip")
TEXT = b"written before the update".ljust(SECTOR, b".")
Variant = Literal["resume", "reset"]


async def boot(sim: Simulator, *, blocks: int = 1) -> LiveVmm:
    """A VMM with a disk and a sector written."""
    vmm = await LiveVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path, blocks=blocks)
    await vmm.write_sector(0, TEXT)
    return vmm


async def is_silent(vmm: BlkVmm) -> bool:
    """Whether a request is not answered."""
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    return await vmm.call.poll(POLLIN, timeout_ns=1_000_000) == 0


# -- LU47, LU48: the descriptor


@scenario(kernel=(*MAINLINE, *SERIES), options={"use_va": False}, tags="LU47")
async def lu47_closed_at_exec(sim: Simulator) -> None:
    """Close-on-exec was left set: the device is reset and unpinned, and opening it again finds a fresh one."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.boot(sim.process("vmm"), path)
    await vmm.write_sector(0, TEXT)
    old, number = vmm.process.mm, vmm.file.fd
    vmm.process.set_cloexec(number, cloexec=True)
    await vmm.process.exec()
    assert old.pinned_vm == 0
    with refused(errno.EBADF):
        await vmm.device.get_status()
    again = VhostVdpa(await vmm.process.open(path))  # no error tells that anything was lost
    assert await again.get_status() == 0
    assert await again.get_vring_num() == 256
    await again.set_owner()  # it is nobody's
    assert await again.get_vring_base(0) == 0


@scenario(kernel=(*MAINLINE, *SERIES), tags="LU47:twin")
async def lu47_kept_at_exec(sim: Simulator) -> None:
    """With the flag cleared the descriptor is there after exec, and the device is in the state it was in."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    vmm.process.set_cloexec(vmm.file.fd, cloexec=True)
    vmm.process.set_cloexec(vmm.file.fd, cloexec=False)
    await vmm.process.exec()
    assert await vmm.device.get_status() == 0xF
    await vmm.file.aclose()


@scenario(kernel=(*MAINLINE, *SERIES), tags="LU48", domain={"way": ("exec", "transfer")})
async def lu48_opened_again(sim: Simulator, *, way: str = "exec") -> None:
    """The new image opens the path while the old descriptor is still there: EBUSY, whoever holds it."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.boot(sim.process("vmm"), path)
    process = vmm.process
    if way == "exec":
        await process.exec()
    else:
        process = sim.process("new")
    with refused(errno.EBUSY):
        await process.open(path)
    assert await vmm.device.get_status() == 0xF
    await vmm.file.aclose()


@scenario(kernel=(*MAINLINE, *SERIES), tags="LU48:twin")
async def lu48_opened_after_close(sim: Simulator) -> None:
    """A cold start closes first; then the path opens, and the disk has what was written."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.boot(sim.process("vmm"), path)
    await vmm.write_sector(0, TEXT)
    await vmm.file.aclose()  # before exec: a running device may look at its ring once more when the program is gone
    await vmm.process.exec()
    assert await (await BlkVmm.boot(vmm.process, path)).read_sector(0) == TEXT


# -- LU57, LU58: what the guest did last


NEXT_GUEST = b"what the guest that boots now has there".ljust(SECTOR, b".")


async def reset_while_suspended(update: LiveUpdate) -> None:
    """A read is posted, the machine is reset, its memory is used anew; the VMM hears of it behind SUSPEND."""
    vmm = update.vmm
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    vmm.ram.write(DATA_AT, NEXT_GUEST)
    vmm.events.append("reset")


async def forget_events(update: LiveUpdate) -> None:
    """What the device knows is saved, what the guest did is not."""
    update.base = await update.vmm.device.get_vring_base(0)


@scenario(kernel=dict.fromkeys(SERIES, "guest.corrupted"), tags="LU57", domain={"variant": ("resume", "reset")})
async def lu57_rings_of_a_dead_guest(sim: Simulator, *, variant: Variant = "resume") -> None:
    """The guest was reset, and the new VMM restores its rings: the disk goes on with its requests."""
    update = LiveUpdate(await boot(sim), variant=variant)
    vmm = await update.after("suspend", reset_while_suspended).replace("save", forget_events).run()
    await sim.settle()
    if vmm.ram.read(DATA_AT, SECTOR) != NEXT_GUEST:
        sim.violation("guest.corrupted", "the disk answered a request of the guest that was, in memory of the next")


@scenario(kernel=SERIES, tags="LU57:twin", domain={"variant": ("resume", "reset")})
async def lu57_bases_dropped(sim: Simulator, *, variant: Variant = "resume") -> None:
    """The event is handed over, the device is reset before it runs, and the guest's driver begins at 0."""
    update = LiveUpdate(await boot(sim), variant=variant).after("suspend", reset_while_suspended)
    seen: list[bytes] = []

    async def look(update: LiveUpdate) -> None:
        await sim.settle()
        seen.append(update.vmm.ram.read(DATA_AT, SECTOR))

    vmm = await update.before("start-vcpus", look).run()
    assert seen == [NEXT_GUEST]
    assert await vmm.device.get_status() == 0xF
    assert await vmm.read_sector(0) == TEXT


@scenario(
    kernel=dict.fromkeys(SERIES, "guest.event-lost"),
    tags="LU58",
    domain={"what": ("crash", "shutdown"), "way": ("exec", "transfer")},
)
async def lu58_crash_forgotten(sim: Simulator, *, what: SystemEvent = "crash", way: str = "exec") -> None:
    """The guest crashes as its processors stop; the exit is queued, exec drops it, and the machine runs for ever."""

    async def end(update: LiveUpdate) -> None:
        update.vmm.events.append(what)

    update = LiveUpdate(await boot(sim), way="exec" if way == "exec" else "transfer")
    vmm = await update.after("stop-vcpus", end).replace("save", forget_events).run()
    if await vmm.device.get_status():  # whoever ends a machine resets its devices
        sim.violation("guest.event-lost", f"the guest's {what} was never acted upon, its disk still runs for it")


@scenario(kernel=SERIES, tags="LU58:twin", domain={"what": ("crash", "shutdown"), "way": ("exec", "transfer")})
async def lu58_crash_handed_over(sim: Simulator, *, what: SystemEvent = "crash", way: str = "exec") -> None:
    """What was queued is handed over with the rest, and the new image ends the machine."""

    async def end(update: LiveUpdate) -> None:
        update.vmm.events.append(what)

    update = LiveUpdate(await boot(sim), way="exec" if way == "exec" else "transfer")
    vmm = await update.after("stop-vcpus", end).run()
    assert vmm.guest == "stopped"
    assert await vmm.device.get_status() == 0


# -- LU59: given up before exec


def cannot_resume(sim: Simulator) -> str:
    """A disk that can be suspended and not resumed."""
    stock = profile.load("vdpasim_blk-6.12")
    return sim.vdpa.dev_add("disk", profile=attrs.evolve(stock, resume=False)).path


@scenario(kernel=dict.fromkeys(("6.12", "tip", *SERIES), "vmm.left-suspended"), tags=("LU59", "objection:resume"))
async def lu59_exec_fails(sim: Simulator) -> None:
    """The exec fails behind SUSPEND and the old image goes on as if nothing were: its disk does not."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.suspend()
    assert await is_silent(vmm)


@scenario(kernel=dict.fromkeys(("6.12", "tip", *SERIES), "vmm.left-suspended"), tags=("LU59", "objection:resume"))
async def lu59_no_way_back(sim: Simulator) -> None:
    """A device without RESUME: the old image asks for it, is refused, and has nothing else prepared."""
    vmm = await BlkVmm.boot(sim.process("vmm"), cannot_resume(sim))
    await vmm.device.suspend()
    with refused(errno.EOPNOTSUPP):
        await vmm.device.resume()
    assert await is_silent(vmm)


@scenario(kernel=("6.12", "tip", *SERIES), tags=("LU59:twin", "objection:resume"))
async def lu59_resumed(sim: Simulator) -> None:
    """RESUME in the old image undoes SUSPEND, as often as one likes."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, TEXT)
    for _ in range(3):
        await vmm.device.suspend()
        await vmm.device.resume()
        assert await vmm.read_sector(0) == TEXT


@scenario(kernel=("6.12", "tip", *SERIES), tags=("LU59:twin", "objection:reset-instead"))
async def lu59_set_up_again(sim: Simulator) -> None:
    """Where RESUME is absent the old image saves the index before it gives up, resets, and sets the rings up again."""
    vmm = await BlkVmm.boot(sim.process("vmm"), cannot_resume(sim), backend_features=0x102)
    await vmm.write_sector(0, TEXT)
    await vmm.device.suspend()
    base = await vmm.device.get_vring_base(0)
    await vmm.device.set_status(0)
    await vmm.negotiate()
    await vmm.set_up_ring(base)
    await vmm.device.set_vring_enable(0)
    await vmm.device.set_status(await vmm.device.get_status() | VIRTIO_CONFIG_S_DRIVER_OK)
    assert await vmm.read_sector(0) == TEXT


# -- LU60: which descriptor


@scenario(kernel=SERIES, tags="LU60")
async def lu60_other_descriptor(sim: Simulator) -> None:
    """A descriptor on the command line wins over the saved one, "reused" stays true: NEW_OWNER on nobody's device."""
    vmm = await boot(sim)
    vmm = await LiveUpdate(vmm).run(until="map-memory")
    given = VhostVdpa(await vmm.process.open(sim.vdpa.dev_add("other", mgmtdev="vdpasim_blk").path))
    with refused(errno.EINVAL):
        await given.new_owner()
    with refused(errno.EPERM):
        await given.get_vring_base(0)
    await vmm.device.new_owner()  # the saved one is as it was


@scenario(kernel=SERIES, tags="LU60:twin")
async def lu60_owner_of_either(sim: Simulator) -> None:
    """Whether a device is taken over or owned for the first time belongs to the descriptor, not to the program."""
    vmm = await boot(sim)
    update = LiveUpdate(vmm)
    vmm = await update.run(until="map-memory")
    given = VhostVdpa(await vmm.process.open(sim.vdpa.dev_add("other", mgmtdev="vdpasim_blk").path))
    await given.set_owner()
    assert await (await update.run()).read_sector(0) == TEXT


# -- LU64: the second update


async def remap_but_last(update: LiveUpdate) -> None:
    """The last block is forgotten."""
    device = update.vmm.device
    await device.batch_begin()
    for block in update.vmm.blocks[:-1]:
        await device.iotlb_remap(block.iova, block.size, block.region.addr)
    await device.batch_end()


def addresses(update: int, blocks: int) -> list[int]:
    """Where an image has its blocks; each somewhere else."""
    return [0x6000_0000_0000 + (update << 40) + (number << 32) for number in range(blocks)]


@scenario(kernel=dict.fromkeys(SERIES, "dma.stale-va"), tags="LU64", domain={"blocks": (2, 3), "updates": (1, 2, 3)})
async def lu64_forgotten_every_time(sim: Simulator, *, blocks: int = 2, updates: int = 2) -> None:
    """A block that no update remaps: none of them is refused, and the first I/O there finds an image long gone."""
    vmm = await boot(sim, blocks=blocks)
    for number in range(updates):
        update = LiveUpdate(vmm, addresses=addresses(number, blocks)).replace("remap", remap_but_last)
        vmm = await update.run()
        assert await vmm.read_sector(0) == TEXT
    vmm.post_into(blocks - 1, blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    assert await vmm.wait() == blk.VIRTIO_BLK_S_IOERR


GUARDED = FIXED + "+lu-guard-resume"


@scenario(kernel=GUARDED, tags="LU64")
async def lu64_guard(sim: Simulator) -> None:
    """A kernel that guards RESUME tells at the first update: EBUSY, until the last block has its address.

    One that does not lets the device run, and the VMM has to know itself, before the guest asks for that block.
    """
    vmm = await boot(sim, blocks=2)
    update = LiveUpdate(vmm).replace("remap", remap_but_last)
    with perhaps_refused(errno.EBUSY) as run:
        await update.run(until="run")
    if sim.kernel.on("live-update-fixed"):
        assert run.refused == sim.kernel.on("lu-guard-resume")
    last = update.vmm.blocks[-1]
    await update.vmm.device.batch_begin()
    await update.vmm.device.iotlb_remap(last.iova, last.size, last.region.addr)
    await update.vmm.device.batch_end()
    vmm = await update.run()
    assert await vmm.read_into(1, 0) == TEXT


@scenario(kernel=(*SERIES, GUARDED), tags="LU64:twin", domain={"blocks": (1, 2, 3), "updates": (1, 2, 3)})
async def lu64_everything_every_time(sim: Simulator, *, blocks: int = 2, updates: int = 3) -> None:
    """Updates that remap everything can follow each other for ever."""
    vmm = await boot(sim, blocks=blocks)
    for number in range(updates):
        vmm = await LiveUpdate(vmm, addresses=addresses(number, blocks)).run()
    assert await vmm.read_into(blocks - 1, 0) == TEXT


@scenario(kernel=SERIES, tags="LU64:twin")
async def lu64_second_update_repairs(sim: Simulator) -> None:
    """A second update that remaps everything makes good what the first forgot: REMAP ignores the old address."""
    vmm = await boot(sim, blocks=2)
    vmm = await LiveUpdate(vmm, addresses=addresses(0, 2)).replace("remap", remap_but_last).run()
    vmm = await LiveUpdate(vmm, addresses=addresses(1, 2)).run()
    assert await vmm.read_into(1, 0) == TEXT
