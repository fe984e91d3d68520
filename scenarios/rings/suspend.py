"""SUSPEND with requests in flight: what was taken is finished, what was not stays in the ring, nothing happens twice.

SUSPEND waits for the pass that is under way. Behind it the device does not look at its rings, the VMM reads the indices
and may do with them what it likes; RESUME, or another start with the same indices, goes on exactly there.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import DATA_AT, HEADER, HEADER_AT, KICK, SECTOR, STATUS_AT, BlkVmm
from vdpasim.vmm.guest import Buffer

COUNT = 4


def post(vmm: BlkVmm, n: int) -> int:
    """One write of its own sector, everything in its own place."""
    vmm.ram.write(HEADER_AT + 16 * n, HEADER.pack(blk.VIRTIO_BLK_T_OUT, 0, n))
    vmm.ram.write(DATA_AT + SECTOR * n, bytes([n + 1]) * SECTOR)
    vmm.ram.write(STATUS_AT + n, b"\xff")
    return vmm.vq.add(
        Buffer(vmm.vq.iova(HEADER_AT + 16 * n), HEADER.size),
        Buffer(vmm.vq.iova(DATA_AT + SECTOR * n), SECTOR),
        Buffer(vmm.vq.iova(STATUS_AT + n), 1, writable=True),
    )


async def boot(sim: Simulator) -> BlkVmm:
    """A running disk."""
    return await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)


@scenario(kernel=("6.12", "7.1", "tip"))
async def resumed(sim: Simulator) -> None:
    """Some before, some during, some after: each is answered once, and the kick while suspended is remembered."""
    vmm = await boot(sim)
    heads = [post(vmm, 0)]
    await vmm.kick_device()
    await sim.settle()
    await vmm.device.suspend()
    assert await vmm.device.get_vring_base(0) == 1
    heads += [post(vmm, n) for n in range(1, COUNT)]
    await vmm.kick_device()
    await sim.settle()
    assert [used.head for used in vmm.vq.used()] == heads[:1]
    assert await vmm.device.get_vring_base(0) == 1
    await vmm.device.resume()
    await sim.settle()
    assert [used.head for used in vmm.vq.used()] == heads[1:]
    assert [vmm.ram.read(STATUS_AT + n, 1) for n in range(COUNT)] == [b"\0"] * COUNT


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def started_anew(sim: Simulator) -> None:
    """Reset instead of resume: with the index that SUSPEND left, the rest is served once; the disk keeps its data."""
    vmm = await boot(sim)
    for n in range(COUNT):
        post(vmm, n)
    await vmm.device.suspend()
    await vmm.kick_device()
    await sim.settle()
    base = await vmm.device.get_vring_base(0)
    assert (base, vmm.vq.used()) == (0, [])
    await vmm.device.set_status(0)
    await vmm.negotiate()
    # the reset has emptied the device's map, but not the table: what is in it is taken out and put in again
    await vmm.device.iotlb_invalidate(0, 2**64 - 1)
    await vmm.map_ram()
    await vmm.set_up_ring(base)
    await vmm.device.set_vring_enable(0)
    await vmm.device.set_status(await vmm.device.get_status() | 4)
    await vmm.kick.write(KICK)
    await sim.settle()
    assert len(vmm.vq.used()) == COUNT
    assert [vmm.ram.read(STATUS_AT + n, 1) for n in range(COUNT)] == [b"\0"] * COUNT
    assert (await vmm.read_sector(COUNT - 1))[:1] == bytes([COUNT])
