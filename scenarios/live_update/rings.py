"""Rings across a live update: index, addresses and kick eventfd that the successor gives back (LU41-LU43, LU45).

What the device knows of a ring and the guest's memory does not say is one number, the next avail index. RESUME keeps
it; a reset forgets it, so the old image must have asked for it. Addresses of rings are I/O addresses, in the old image
as in the new one. A kick is a write to an eventfd that the device was told of: another one kicks nobody.
"""

import errno

from vdpasim.scenario import perhaps_refused, refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import DATA_AT, HEADER, HEADER_AT, RAM, SECTOR, STATUS_AT, BlkVmm
from vdpasim.vmm.guest import Buffer
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
SERIES = (V1, V2, FIXED)
RING = 16
TEXT = b"written before the update".ljust(SECTOR, b".")
OTHER = b"what the buffer holds later".ljust(SECTOR, b".")


async def boot(sim: Simulator, *, requests: int = 1) -> LiveVmm:
    """A VMM with a disk that has answered some requests."""
    vmm = await LiveVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    for _ in range(requests):
        await vmm.write_sector(0, TEXT)
    return vmm


async def forget_base(update: LiveUpdate) -> None:
    """GET_VRING_BASE left out; what is set later is 0."""
    update.base = 0


def flush(vmm: BlkVmm) -> int:
    """Post a request without data."""
    vmm.ram.write(HEADER_AT, HEADER.pack(blk.VIRTIO_BLK_T_FLUSH, 0, 0))
    vmm.ram.write(STATUS_AT, b"\xff")
    return vmm.vq.add(Buffer(vmm.vq.iova(HEADER_AT), HEADER.size), Buffer(vmm.vq.iova(STATUS_AT), 1, writable=True))


# -- LU41: the index


@scenario(kernel=dict.fromkeys(SERIES, "ring.replay"), tags="LU41", domain={"requests": range(1, 6)})
async def lu41_base_forgotten(sim: Simulator, *, requests: int = 3) -> None:
    """Nobody asked for the index before the reset: what the ring still holds is done again, with today's buffers."""
    vmm = await boot(sim, requests=requests)
    vmm.ram.write(DATA_AT, OTHER)  # the guest has its answer and uses the buffer for something else
    vmm = await LiveUpdate(vmm, variant="reset").replace("save", forget_base).run()
    await sim.settle()
    assert await vmm.read_sector(0) == OTHER, "nothing was done again"


@scenario(
    kernel=SERIES, tags="LU41:twin", domain={"requests": (1, 3, RING, RING + 1, 40), "variant": ("resume", "reset")}
)
async def lu41_base_saved(sim: Simulator, *, requests: int = 3, variant: str = "reset") -> None:
    """With GET_VRING_BASE nothing is done twice and nothing is left out, however much there was before."""
    vmm = await boot(sim, requests=requests)
    vmm = await LiveUpdate(vmm, variant="reset" if variant == "reset" else "resume").run()
    await sim.settle()
    assert not vmm.vq.used()
    assert await vmm.read_sector(0) == TEXT


# -- LU42: while it runs


@scenario(kernel=("6.12", "7.1", "tip", *SERIES), tags="LU42", domain={"request": ("address", "base")})
async def lu42_ring_of_a_running_device(sim: Simulator, *, request: str = "base") -> None:
    """SET_VRING_ADDR and SET_VRING_BASE under DRIVER_OK are EINVAL without SUSPEND; the disk goes on as it was."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, TEXT)
    with refused(errno.EINVAL):
        if request == "base":
            await vmm.device.set_vring_base(0, 7)
        else:
            await vmm.device.set_vring_addr(0, 0x1000, 0x2000, 0x3000)
    assert await vmm.read_sector(0) == TEXT


@scenario(kernel={"6.1": "ring.replay"}, tags="LU42", domain={"requests": range(1, 6)})
async def lu42_old_kernel_lets_it_happen(sim: Simulator, *, requests: int = 1) -> None:
    """6.1 takes the index of a running device, which then does again what it did; others refuse it."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    for _ in range(requests):
        await vmm.write_sector(0, TEXT)
    with perhaps_refused(errno.EINVAL) as answer:
        await vmm.device.set_vring_base(0, 0)
    if answer.refused:
        return
    vmm.ram.write(DATA_AT, OTHER)
    await vmm.kick_device()
    await sim.settle()
    assert len(vmm.vq.used()) >= requests, "nothing was answered a second time"


@scenario(kernel=("6.12", "7.1", "tip", *SERIES), tags="LU42:twin")
async def lu42_ring_of_a_suspended_device(sim: Simulator) -> None:
    """Suspended, the same requests are taken, with what is true."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, TEXT)
    await vmm.device.suspend()
    await vmm.device.set_vring_base(0, await vmm.device.get_vring_base(0))
    await vmm.device.set_vring_addr(0, *vmm.vq.addresses())
    await vmm.device.resume()
    assert await vmm.read_sector(0) == TEXT


# -- LU43: whose addresses


async def rings_by_user_address(update: LiveUpdate) -> None:
    """Ring addresses as the VMM itself sees them."""
    vmm = update.vmm
    there = vmm.ram.addr
    await vmm.device.set_vring_num(0, vmm.vq.num)
    await vmm.device.set_vring_addr(0, there + vmm.vq.desc_at, there + vmm.vq.avail_at, there + vmm.vq.used_at)
    await vmm.device.set_vring_base(0, update.base)
    await vmm.device.set_vring_call(0, vmm.call.fd)
    await vmm.device.set_vring_kick(0, vmm.kick.fd)


@scenario(kernel=dict.fromkeys(SERIES, ("queue.stalled", "vmm.hva-ring-address")), tags="LU43")
async def lu43_ring_by_user_address(sim: Simulator) -> None:
    """The new image gives the ring where it has it itself: nothing refuses that, and the disk never sees a request."""
    vmm = await boot(sim)
    vmm = await LiveUpdate(vmm, variant="reset").replace("rings", rings_by_user_address).run()
    flush(vmm)
    await vmm.kick_device()
    assert await vmm.call.poll(POLLIN, timeout_ns=1_000_000) == 0
    assert not vmm.vq.used()


@scenario(kernel=SERIES, tags="LU43:twin", domain={"address": (0x5000_0000_0000, 0x6000_0000_0000, RAM)})
async def lu43_ring_by_iova(sim: Simulator, *, address: int = 0x6000_0000_0000) -> None:
    """Where the new image has guest memory makes no difference to a ring that is given by its I/O address."""
    vmm = await LiveUpdate(await boot(sim), variant="reset", addresses=[address]).run()
    assert await vmm.read_sector(0) == TEXT


# -- LU45: the kick


async def new_kick(update: LiveUpdate) -> None:
    """The new image makes its own eventfd."""
    update.vmm.kick = update.vmm.process.eventfd()


@scenario(kernel=dict.fromkeys(SERIES, "guest.kick-lost"), tags="LU45")
async def lu45_kick_not_set_again(sim: Simulator) -> None:
    """A new eventfd, and no SET_VRING_KICK: the guest kicks, and nobody listens."""
    update = LiveUpdate(await boot(sim)).after("map-memory", new_kick).skip("rings")
    vmm = await update.run()
    flush(vmm)
    await vmm.kick_device()
    if not await vmm.call.poll(POLLIN, timeout_ns=1_000_000) and not vmm.vq.used():
        sim.violation("guest.kick-lost", "the kick went to an eventfd that the disk was not told of")


@scenario(kernel=SERIES, tags="LU45:twin")
async def lu45_kick_set_again(sim: Simulator) -> None:
    """The same with SET_VRING_KICK."""
    vmm = await LiveUpdate(await boot(sim)).after("map-memory", new_kick).run()
    assert await vmm.read_sector(0) == TEXT


async def guest_kicks(update: LiveUpdate) -> None:
    """A request comes when the device stands still already."""
    flush(update.vmm)
    await update.vmm.kick_device()


FORGETS = tuple(f"{one}-pending-kick" for one in SERIES)
"""A device that keeps no kick while it is suspended, as that of 6.1 does not."""


@scenario(
    kernel={**dict.fromkeys(FORGETS, "queue.stalled"), **dict.fromkeys(SERIES, ())},
    tags=("LU45", "objection:kick-races-suspend"),
)
async def lu45_kicked_while_suspended(sim: Simulator) -> None:
    """A kick while the disk is suspended, and none after RESUME: it depends on the device whether it is remembered."""
    update = LiveUpdate(await boot(sim)).after("suspend", guest_kicks).skip("kick")
    await update.run()
    await sim.settle()


@scenario(kernel=dict.fromkeys(SERIES, "queue.stalled"), tags=("LU45", "objection:reset-instead", "objection:resume"))
async def lu45_kicked_before_reset(sim: Simulator) -> None:
    """With a reset instead of RESUME no device remembers: the request is in the ring and nobody looks."""
    update = LiveUpdate(await boot(sim), variant="reset").after("suspend", guest_kicks).skip("kick")
    vmm = await update.run()
    await sim.settle()
    assert not vmm.vq.used(), "the request is not lost"


@scenario(
    kernel=(*FORGETS, *SERIES),
    tags=("LU45:twin", "objection:kick-races-suspend"),
    domain={"variant": ("resume", "reset")},
)
async def lu45_every_queue_kicked(sim: Simulator, *, variant: str = "resume") -> None:
    """A VMM that kicks every queue once when the device runs again loses nothing on any of them."""
    update = LiveUpdate(await boot(sim), variant="reset" if variant == "reset" else "resume")
    vmm = await update.after("suspend", guest_kicks).run()
    await sim.settle()
    assert len(vmm.vq.used()) == 1
