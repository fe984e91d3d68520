"""What depends on who is first: a request in flight at exec, a kick beside SUSPEND, a region that is unplugged
(LU02, LU05, LU23).

Run as they are, these stories have one order of events. ``vdpasim explore`` tries the others, and finds what is wrong
in them; of the twins it finds that there is no such order.
"""

import errno

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import KICK, SECTOR
from vdpasim.vmm.live_disk import disk
from vdpasim.vmm.live_update import LiveUpdate

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"


# -- LU02


async def in_flight(sim: Simulator, *, suspended: bool) -> None:
    """The guest's request is on its way while the VMM becomes a new image."""
    with sim.calm():
        vmm = await disk(sim, blocks=1)
        update = LiveUpdate(vmm)
        if not suspended:
            update.skip("suspend", "run")
        vmm.post_into(0, blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    guest = sim.spawn(vmm.kick_device, name="guest")
    await update.run(until="hand-over")
    with sim.calm():
        await update.run(until="map-memory")
    await guest.join()
    await sim.settle()
    with sim.calm():
        await update.run()
        await sim.settle()
        assert vmm.vq.used(), "the request is lost"


@scenario(kernel=(V1, V2, FIXED), tags=("LU02", "explore"))
async def lu02_in_flight_at_exec(sim: Simulator) -> None:
    """No SUSPEND: the device may be in the middle of the request when the image goes, and goes on."""
    await in_flight(sim, suspended=False)


@scenario(kernel=(V1, V2, FIXED), tags="LU02:twin")
async def lu02_fixed(sim: Simulator) -> None:
    """SUSPEND waits for it: what is in flight is done, and nothing moves any more."""
    await in_flight(sim, suspended=True)


# -- LU05


async def kick_and_suspend(sim: Simulator, *, kick_after: bool) -> None:
    """The guest kicks when the VMM suspends; everything behind that is one order of events."""
    with sim.calm():
        vmm = await disk(sim, blocks=1)
        update = LiveUpdate(vmm)
        if not kick_after:
            update.skip("kick")
        vmm.post_into(0, blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    guest = sim.spawn(vmm.kick_device, name="guest")
    await update.run(until="suspend")
    await guest.join()
    await sim.settle()
    with sim.calm():
        await update.run()
        await sim.settle()


@scenario(kernel=(V1, V2, FIXED), tags=("LU05", "explore", "objection:kick-races-suspend"))
async def lu05_kick_beside_suspend(sim: Simulator) -> None:
    """The kick has queued the worker, SUSPEND is faster, and neither image hears of the request again."""
    await kick_and_suspend(sim, kick_after=False)


@scenario(kernel=(V1, V2, FIXED), tags=("LU05:twin", "objection:kick-races-suspend"))
async def lu05_fixed(sim: Simulator) -> None:
    """The new image kicks every queue once behind RESUME."""
    await kick_and_suspend(sim, kick_after=True)


# -- LU23


async def unplug(sim: Simulator, *, locked: bool) -> None:
    """A thread of the new image remaps its blocks, another takes one of them away."""
    with sim.calm():
        vmm = await disk(sim, blocks=2)
        update = LiveUpdate(vmm)
        await update.run(until="config-call")
    device, gone = vmm.device, vmm.blocks[1]
    lock = vmm.process.eventfd(1, 0)

    async def hotplug() -> None:
        for _ in range(4):
            await device.get_status()  # the guest's driver is asked first
        if locked:
            await lock.read(8)
        await device.iotlb_invalidate(gone.iova, gone.size)
        vmm.blocks.remove(gone)
        if locked:
            await lock.write(KICK)

    unplugging = sim.spawn(hotplug)
    if locked:
        await lock.read(8)
    try:
        await update.run(until="remap")
    except OSError as error:
        assert getattr(error, "handler_errno", 0) == errno.ENOENT
        sim.violation("vmm.remap-refused", "the block was unplugged between the list of blocks and its REMAP")
        await device.batch_end()
    if locked:
        await lock.write(KICK)
    await unplugging.join()


@scenario(kernel=(V1, V2, FIXED), tags=("LU23", "explore"))
async def lu23_unplugged_meanwhile(sim: Simulator) -> None:
    """The list of blocks says that it is there, the table does not any more: ENOENT, or it vanishes a moment later."""
    await unplug(sim, locked=False)


@scenario(kernel=(V1, V2, FIXED), tags="LU23:twin")
async def lu23_fixed(sim: Simulator) -> None:
    """One lock around the list and the messages, for both."""
    await unplug(sim, locked=True)
