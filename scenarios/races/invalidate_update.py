"""Two threads that move the same page: the INVALIDATE of one between the INVALIDATE and the UPDATE of the other.

vhost-vdpa has no message that moves a mapping, so a VMM sends two. Each is atomic, the pair is not: when two memory
listeners move the same page, one finds it mapped again by the other and is refused, or takes away what the other has
just mapped. The fixed one takes a lock around the pair.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import File, Simulator
from vdpasim.vmm.blk import IOVA, KICK, BlkVmm

PAGE = 4096


async def move(vmm: BlkVmm, offset: int, lock: File | None) -> bool:
    """INVALIDATE, UPDATE; whether the second was taken."""
    if lock is not None:
        await lock.read(8)
    try:
        await vmm.device.iotlb_invalidate(IOVA, PAGE)
        await vmm.device.iotlb_update(IOVA, PAGE, vmm.ram.addr + offset)
    except OSError:
        return False
    finally:
        if lock is not None:
            await lock.write(KICK)
    return True


async def late(vmm: BlkVmm, offset: int) -> bool:
    """As :func:`move`, with something else to ask first; so it comes behind the other, unless it is hurried."""
    await vmm.device.get_iova_range()
    await vmm.device.get_vqs_count()
    return await move(vmm, offset, None)


async def movers(sim: Simulator, *, locked: bool) -> None:
    """Two of them at once."""
    with sim.calm():
        vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        await vmm.device.set_owner()
        await vmm.device.iotlb_update(IOVA, PAGE, vmm.ram.addr)
    lock = vmm.process.eventfd(1, 0) if locked else None

    other = sim.spawn(move, vmm, PAGE, lock) if locked else sim.spawn(late, vmm, PAGE)
    if not all([await move(vmm, 0, lock), await other.join()]):
        sim.violation("vmm.update-refused", "the page was mapped again between INVALIDATE and UPDATE")


@scenario()
async def invalidate_update(sim: Simulator) -> None:
    """Nobody locks."""
    await movers(sim, locked=False)


@scenario()
async def invalidate_update_fixed(sim: Simulator) -> None:
    """The VMM has a lock around the two messages."""
    await movers(sim, locked=True)
