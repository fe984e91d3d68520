"""Bugs that were, and some that still are: the simulated devices.

Each story is told on a kernel that has the bug and on one that has not, and reports what it sees go wrong, by bytes,
counts and errnos. The number is that of the list in docs/history.md.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from vdpasim.scenario import refused, scenario
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.virtio_net import VIRTIO_NET_F_CTRL_VQ
from vdpasim.vmm.blk import FEATURES, IOVA, KICK, QUEUE_NUM, RAM, SECTOR, STATUS_AT, BlkVmm
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.handles import VhostVdpa

if TYPE_CHECKING:
    from vdpasim.sim import File, Region, Simulator

RX, TX, CVQ = 0, 1, 2
FRAME_AT, BUFFER_AT, COMMAND_AT, ACK_AT = 0x8000, 0xA000, 0xC000, 0xD000
HEADER = bytes(12)
BROADCAST = b"\xff" * 6
DRIVER_OK = 0xF
NOT_WRITTEN = b"\xee" * 8
CAPACITY = 0x40000
OK, ERR = 0, 1


async def boot(sim: Simulator) -> BlkVmm:
    """A VMM with a running disk."""
    return await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)


class Loop:
    """A VMM with vdpasim_net, which gives back what is sent."""

    def __init__(self, device: VhostVdpa, ram: Region, rings: list[Virtqueue], kicks: list[File]) -> None:
        self.device = device
        self.ram = ram
        self.rings = rings
        self.kicks = kicks

    @classmethod
    async def boot(cls, sim: Simulator) -> Loop:
        """Open, negotiate, map guest memory, start all three queues."""
        vmm = sim.process("vmm")
        ram = vmm.mmap(RAM, vmm.memfd("ram", RAM))
        device = VhostVdpa(await vmm.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
        await device.set_owner()
        await device.set_features(FEATURES | 1 << VIRTIO_NET_F_CTRL_VQ)
        await device.set_backend_features(0xE)
        for asid in (0, 1):
            await device.iotlb_update(IOVA, RAM, ram.addr, asid=asid)
        rings = [Virtqueue(ram, IOVA, QUEUE_NUM, offset=0x1000 * queue) for queue in (RX, TX, CVQ)]
        kicks = [vmm.eventfd() for _ in rings]
        for queue, ring in enumerate(rings):
            await device.set_vring_num(queue, QUEUE_NUM)
            await device.set_vring_addr(queue, *ring.addresses())
            await device.set_vring_kick(queue, kicks[queue].fd)
            await device.set_vring_enable(queue)
        await device.set_status(DRIVER_OK)
        return cls(device, ram, rings, kicks)

    def post(self, payload: bytes, *, count: int = 1) -> None:
        """Put a frame for everybody into the TX ring, ``count`` times."""
        frame = HEADER + BROADCAST + payload
        self.ram.write(FRAME_AT, frame)
        for _ in range(count):
            self.rings[TX].add(Buffer(IOVA + FRAME_AT, len(frame)))

    def offer(self) -> None:
        """Put a buffer into the RX ring."""
        self.rings[RX].add(Buffer(IOVA + BUFFER_AT, 256, writable=True))

    def command(self, *data: bytes) -> None:
        """Put control commands, each with an ack byte of its own, into the control ring."""
        for i, one in enumerate(data):
            self.ram.write(COMMAND_AT + 64 * i, one)
            self.ram.write(ACK_AT + i, b"\xee")
            ack = Buffer(IOVA + ACK_AT + i, 1, writable=True)
            self.rings[CVQ].add(Buffer(IOVA + COMMAND_AT + 64 * i, len(one)), ack)

    async def kick(self, sim: Simulator, queue: int) -> None:
        """Write a kick eventfd and let the device work."""
        await self.kicks[queue].write(KICK)
        await sim.settle()


@scenario(kernel={"tip+bug-ring-max": "history.past-the-ring", "tip": ()})
async def ring_of_the_largest_size(sim: Simulator) -> None:
    """History 56: a ring of 16 is set up as one of 256; its 17th completion is written behind its end."""
    vmm = await boot(sim)
    behind = vmm.vq.used_at + 4 + 8 * QUEUE_NUM
    vmm.ram.write(behind, NOT_WRITTEN)
    for sector in range(QUEUE_NUM + 1):
        await vmm.write_sector(sector, bytes(SECTOR))
    if vmm.ram.read(behind, 8) != NOT_WRITTEN:
        sim.violation("history.past-the-ring", "guest memory behind the used ring was written")


@scenario(kernel={"tip+bug-enable-twice": ("history.request-replayed", "ring.replay"), "tip": ()})
async def enabled_twice(sim: Simulator) -> None:
    """History 57: a queue that runs is enabled once more; it begins again with the first request."""
    vmm = await boot(sim)
    await vmm.write_sector(0, bytes(SECTOR))
    await vmm.device.set_vring_enable(0)
    await vmm.kick_device()
    if await vmm.call.poll(POLLIN, timeout_ns=1_000_000):
        sim.violation("history.request-replayed", "the device completed a request that nobody had posted")


@scenario(kernel={"tip+bug-enable-base": ("history.base-forgotten", "ring.replay"), "tip": ()})
async def base_before_enable(sim: Simulator) -> None:
    """History 58: a ring goes through a reset with its base; the device executes everything in it once more."""
    vmm = await boot(sim)
    for sector in range(3):
        await vmm.write_sector(sector, bytes(SECTOR))
    base = await vmm.device.get_vring_base(0)
    assert base == 3
    await vmm.device.set_status(0)
    await vmm.device.iotlb_invalidate(0, 0)
    await vmm.negotiate()
    await vmm.map_ram()
    await vmm.set_up_ring(base)
    await vmm.device.set_vring_enable(0)
    await vmm.device.set_status(DRIVER_OK)
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    await sim.settle()
    interrupts = int.from_bytes(await vmm.call.read(8), "little")
    assert vmm.ram.read(vmm.vq.used_at + 2, 2) == b"\4\0"
    if interrupts != 1:
        sim.violation("history.base-forgotten", f"{interrupts} interrupts for one request")


@scenario(kernel={"tip+bug-blk-no-groups": "history.no-address-space", "tip": ()})
async def disk_without_address_space(sim: Simulator) -> None:
    """History 60: the block device says it has no address space, and so nothing can be mapped for it."""
    vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.set_owner()
    try:
        await vmm.map_ram()
    except OSError as error:
        assert error.errno == errno.EFAULT
        spaces, groups = await vmm.device.get_as_num(), await vmm.device.get_group_num()
        with refused(errno.EIO):
            await vmm.device.get_vring_group(0)
        sim.violation("history.no-address-space", f"{spaces} address spaces and {groups} groups")


@scenario(kernel={"7.1": "kernel.oops", "tip-F10": "kernel.oops", "6.1": (), "6.12": (), "tip": ()})
async def sector_beyond_the_end(sim: Simulator) -> None:
    """History 61: IN at a sector beyond the end of the disk; what is left of the disk there is counted as huge."""
    vmm = await boot(sim)
    assert (await vmm.request(blk.VIRTIO_BLK_T_IN, CAPACITY + 1, SECTOR))[0] == blk.VIRTIO_BLK_S_IOERR


@scenario(kernel={"6.1": "kernel.leak", "7.1": "kernel.leak", "tip-F11": "kernel.leak", "6.12": (), "tip": ()})
async def frame_without_memory(sim: Simulator) -> None:
    """History 62: a frame whose memory is not mapped behind one that was sent; its errno is taken for a length."""
    loop = await Loop.boot(sim)
    for _ in range(2):
        loop.offer()
    loop.post(b"a frame of somebody")
    loop.rings[TX].add(Buffer(IOVA + 2 * RAM, 64))
    await loop.kick(sim, TX)
    assert len(loop.rings[RX].used()) == 1


@scenario(
    kernel={
        "6.1": "history.moved-under-io",
        "6.12": "history.moved-under-io",
        "tip-group-asid-needs-stopped": "history.moved-under-io",
        "7.1": (),
        "tip": (),
    }
)
async def group_that_moves_under_io(sim: Simulator) -> None:
    """History 23: the queues of a running device get another address space, and with it another memory."""
    loop = await Loop.boot(sim)
    other = sim.processes[0].mmap(RAM, sim.processes[0].memfd("other", RAM))
    await loop.device.iotlb_invalidate(0, 0, asid=1)
    await loop.device.iotlb_update(IOVA, RAM, other.addr, asid=1)
    loop.offer()
    loop.post(b"a frame")
    try:
        await loop.device.set_group_asid(0, 1)
    except OSError as error:
        assert error.errno == errno.EBUSY
    await loop.kick(sim, TX)
    if not loop.rings[RX].used():
        sim.violation("history.moved-under-io", "the frame in the ring was not sent, for the device looks elsewhere")


@scenario(
    kernel={
        "6.1": ("history.status-eaten", "irq.lost"),
        "6.12": ("history.status-eaten", "irq.lost"),
        "7.1": ("history.status-eaten", "irq.lost"),
        "tip": ("history.status-eaten", "irq.lost"),
        "tip-bug-get-id-status": (),
    }
)
async def short_get_id(sim: Simulator) -> None:
    """History 65: GET_ID into 10 bytes; the string runs over the status byte, and there is no interrupt."""
    vmm = await boot(sim)
    vmm.post(blk.VIRTIO_BLK_T_GET_ID, 0, 10)
    await vmm.kick_device()
    await sim.settle()
    if vmm.ram.read(STATUS_AT, 1)[0] != blk.VIRTIO_BLK_S_OK or not await vmm.call.poll(POLLIN, timeout_ns=0):
        sim.violation("history.status-eaten", "a request was completed without a status and without an interrupt")


@scenario(
    kernel={
        "6.1": "history.ack-of-another",
        "6.12": "history.ack-of-another",
        "7.1": "history.ack-of-another",
        "tip": "history.ack-of-another",
        "tip-bug-ctrl-ack-carry": (),
    }
)
async def unknown_control_class(sim: Simulator) -> None:
    """History 65: a control command of a class that does not exist comes behind one that succeeds, and is acked OK."""
    loop = await Loop.boot(sim)
    loop.command(b"\1\1" + b"\2\0\0\0\0\1", b"\x63\0")
    await loop.kick(sim, CVQ)
    first, second = loop.ram.read(ACK_AT, 2)
    assert first == OK
    if second == OK:
        sim.violation("history.ack-of-another", "class 0x63 is said to have been carried out")
    else:
        assert second == ERR


@scenario(
    kernel={
        "6.1": "history.half-an-address",
        "6.12": "history.half-an-address",
        "7.1": "history.half-an-address",
        "tip": "history.half-an-address",
        "tip-bug-ctrl-partial-mac": (),
    }
)
async def short_mac_address(sim: Simulator) -> None:
    """History 65: a MAC address of three bytes is refused, and is half of the device's address from then on."""
    loop = await Loop.boot(sim)
    loop.command(b"\1\1" + b"\2\3\4")
    await loop.kick(sim, CVQ)
    assert loop.ram.read(ACK_AT, 1)[0] == ERR
    if any(await loop.device.get_config(0, 6)):
        sim.violation("history.half-an-address", "a command that failed has changed the device's address")


@scenario(
    kernel={
        "6.1": "history.frames-stranded",
        "6.12": "history.frames-stranded",
        "7.1": "history.frames-stranded",
        "tip": "history.frames-stranded",
        "tip-bug-rx-overrun-stops": (),
    }
)
async def frames_without_a_buffer(sim: Simulator) -> None:
    """History 65: two frames and no RX buffer; the first is dropped and the second is left in the ring."""
    loop = await Loop.boot(sim)
    loop.post(b"nobody listens", count=2)
    await loop.kick(sim, TX)
    done = len(loop.rings[TX].used())
    if done < 2:
        sim.violation("history.frames-stranded", f"{done} of 2 frames was taken, the other waits for a kick")
