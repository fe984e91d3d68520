"""Bugs that were: rings, vhost-net's and those of the simulated devices.

Each story is told on a kernel that has the bug and on one that has not, and reports what it sees go wrong, by bytes,
counts and errnos. The number is that of the list in docs/history.md.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.virtio_config import VHOST_F_LOG_ALL
from vdpasim.uapi.virtio_net import VIRTIO_NET_F_MRG_RXBUF
from vdpasim.uapi.virtio_ring import VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE
from vdpasim.vmm.blk import DATA_AT, HEADER, HEADER_AT, IOVA, RAM, SECTOR, STATUS_AT, BlkVmm
from vdpasim.vmm.guest import DESC, Buffer, Virtqueue
from vdpasim.vmm.vhost_net import ACCESS_PLATFORM, RX, TX, VhostNetVmm

PAGE = 4096
TABLE_AT = 0xC000


async def boot(sim: Simulator) -> BlkVmm:
    """A VMM with a running disk."""
    return await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)


@scenario(
    kernel={
        "7.1": ("dma.wrong-object", "history.stale-metadata"),
        "tip-F3": ("dma.wrong-object", "history.stale-metadata"),
        "6.1": (),
        "6.12": (),
        "tip": (),
    }
)
async def ring_that_moved(sim: Simulator) -> None:
    """History 24: the ring moves to other memory; the kernel goes on from where the old one was, into a neighbour."""
    vmm = await VhostNetVmm.boot(sim)
    assert await vmm.send(b"one") == b"one"
    neighbour = vmm.process.mmap(PAGE, addr=vmm.ram.addr + RAM)
    neighbour.write(0, b"\xaa" * PAGE)
    other = vmm.process.mmap(PAGE, vmm.process.memfd("other", PAGE))
    await vmm.detach()
    await vmm.net.iotlb_update(IOVA + RAM, PAGE, other.addr)
    # a round with the old ring, so that its translations are cached again
    vmm.post(b"two")
    await vmm.attach()
    assert await vmm.wire.read(PAGE) == b"two"
    await vmm.detach()

    vmm.ring = Virtqueue(other, IOVA + RAM)
    await vmm.set_up_ring()
    await vmm.net.set_vring_base(TX, 0)
    await vmm.attach()
    vmm.post(b"three")
    await vmm.kick_device()
    await sim.settle()
    if neighbour.read(0, PAGE) != b"\xaa" * PAGE:
        sim.violation("history.stale-metadata", "memory of the VMM that was never mapped for the device was written")
    else:
        assert vmm.ring.used()


@scenario(
    kernel={
        "6.1": "history.address-reinterpreted",
        "7.1": "history.address-reinterpreted",
        "tip-F8": "history.address-reinterpreted",
        "6.12": (),
        "tip": (),
    }
)
async def addresses_before_the_iotlb(sim: Simulator) -> None:
    """History 25: a ring is set up by user addresses, then the IOTLB comes; they are I/O addresses from then on."""
    vmm = await VhostNetVmm.create(sim)
    vmm.ring.base = vmm.ram.addr
    await vmm.net.set_owner()
    await vmm.net.set_mem_table([])
    await vmm.set_up_ring()
    await vmm.net.set_features(ACCESS_PLATFORM)
    with refused(errno.EFAULT):
        await vmm.attach()
    miss = await vmm.net.read_miss()
    if vmm.ram.addr <= miss.iova < vmm.ram.addr + RAM:
        sim.violation("history.address-reinterpreted", f"user address {miss.iova:#x} is asked for as an I/O address")


@scenario(
    kernel={
        "6.1": "history.iotlb-stays",
        "7.1": "history.iotlb-stays",
        "tip-F9": "history.iotlb-stays",
        "6.12": (),
        "tip": (),
    }
)
async def iotlb_that_was_given_up(sim: Simulator) -> None:
    """History 26: SET_FEATURES without ACCESS_PLATFORM; the IOTLB that is not negotiated any more is still asked."""
    vmm = await VhostNetVmm.boot(sim)
    assert await vmm.send(b"one") == b"one"
    await vmm.net.iotlb_invalidate(0, 0)  # or a kernel before F3 goes on by what it has cached, and asks nothing
    await vmm.detach()
    await vmm.net.set_features(0)
    await vmm.net.set_mem_table([(IOVA, RAM, vmm.ram.addr)])
    vmm.ring = Virtqueue(vmm.ram, vmm.ram.addr)
    await vmm.set_up_ring()
    await vmm.net.set_vring_base(TX, 0)
    try:
        await vmm.attach()
    except OSError as error:
        assert error.errno == errno.EFAULT
        miss = await vmm.net.read_miss()
        assert miss.iova == vmm.ring.addresses()[2]
        sim.violation("history.iotlb-stays", "the ring's user address was looked up in the IOTLB")
    else:
        assert await vmm.send(b"two") == b"two"


@scenario(kernel={"tip-F14": "history.worker-spins", "6.1": (), "6.12": (), "7.1": (), "tip": ()})
async def frame_that_does_not_fit(sim: Simulator) -> None:
    """History 27: the only RX buffer is too small for the frame that waits; it counts as new, again and again."""
    vmm = await VhostNetVmm.boot(sim, queue=RX, features=ACCESS_PLATFORM | 1 << VIRTIO_NET_F_MRG_RXBUF)
    vmm.ring.add(Buffer(IOVA + 0x8000, 20, writable=True))
    await vmm.wire.write(bytes(60))
    for _ in range(20):
        await vmm.net.get_features()  # time goes by
    busy = sim.kernel.statistics().ready
    await vmm.detach()
    if busy:
        sim.violation("history.worker-spins", "the worker runs and runs, and nothing has changed")


@scenario(kernel={"tip+bug-log-overflow": "kernel.oops", "tip": ()})
async def log_of_empty_descriptors(sim: Simulator) -> None:
    """History 29: an RX chain with more than 1024 descriptors of length 0, while what is written is logged."""
    vmm = await VhostNetVmm.create(sim, queue=RX)
    vmm.ring = Virtqueue(vmm.ram, IOVA, 2048)
    await vmm.negotiate(ACCESS_PLATFORM | 1 << VHOST_F_LOG_ALL)
    await vmm.map_ram()
    await vmm.set_up_ring()
    buffer = Buffer(IOVA + 0x80000, 64, writable=True)
    vmm.ring.add(*[buffer._replace(length=0)] * 1100, buffer)
    await vmm.attach()
    await vmm.wire.write(b"a frame")
    await sim.settle()
    assert vmm.ring.used()


@scenario(kernel={"tip+bug-rx-heads": "kernel.oops", "tip": ()})
async def buffers_of_one_byte(sim: Simulator) -> None:
    """History 30: frames into RX buffers of one byte; those of the first wait to be put when the second takes 1000."""
    vmm = await VhostNetVmm.create(sim, queue=RX)
    vmm.ring = Virtqueue(vmm.ram, IOVA, 2048)
    await vmm.negotiate(ACCESS_PLATFORM | 1 << VIRTIO_NET_F_MRG_RXBUF)
    await vmm.map_ram()
    await vmm.set_up_ring()
    for i in range(1060):
        vmm.ring.add(Buffer(IOVA + 0x80000 + i, 1, writable=True))
    for length in (60, 1000):
        await vmm.wire.write(bytes(length - 12))  # a header of 12 bytes comes in front
    await vmm.attach()
    await sim.settle()
    assert len(vmm.ring.used()) == 1060


def descriptor(iova: int, length: int, following: int, *, writable: bool) -> bytes:
    """One entry of a table; following 0 ends the chain."""
    flags = (VRING_DESC_F_WRITE if writable else 0) | (VRING_DESC_F_NEXT if following else 0)
    return DESC.pack(iova, length, flags, following)


@scenario(kernel={"tip+bug-indirect-limit": "history.chain-lost", "tip": ()})
async def long_indirect_table(sim: Simulator) -> None:
    """History 39: a request in an indirect table of more descriptors than the ring has; it is never completed."""
    vmm = await boot(sim)
    pieces = 20
    vmm.ram.write(HEADER_AT, HEADER.pack(blk.VIRTIO_BLK_T_IN, 0, 0))
    table = descriptor(vmm.vq.iova(HEADER_AT), HEADER.size, 1, writable=False)
    for i in range(pieces):
        table += descriptor(vmm.vq.iova(DATA_AT + 32 * i), 32, i + 2, writable=True)
    table += descriptor(vmm.vq.iova(STATUS_AT), 1, 0, writable=True)
    vmm.ram.write(TABLE_AT, table)
    head = vmm.vq.add(Buffer(vmm.vq.iova(TABLE_AT), len(table)))
    vmm.ram.write(vmm.vq.desc_at + 16 * head + 12, VRING_DESC_F_INDIRECT.to_bytes(2, "little"))
    await vmm.kick_device()
    await sim.settle()
    if not vmm.vq.used():
        sim.violation("history.chain-lost", f"{pieces + 2} descriptors are a loop in a ring of {vmm.vq.num}")


@scenario(kernel={"tip+bug-zero-length-segment": "kernel.hang", "tip": ()})
async def descriptor_of_length_0(sim: Simulator) -> None:
    """History 40: the data of a request begins with a descriptor of length 0, and the copy stays in front of it."""
    vmm = await boot(sim)
    vmm.ram.write(HEADER_AT, HEADER.pack(blk.VIRTIO_BLK_T_IN, 0, 0))
    data = [Buffer(vmm.vq.iova(DATA_AT), length, writable=True) for length in (0, SECTOR)]
    status = Buffer(vmm.vq.iova(STATUS_AT), 1, writable=True)
    vmm.vq.add(Buffer(vmm.vq.iova(HEADER_AT), HEADER.size), *data, status)
    await vmm.kick_device()
    await sim.settle()


@scenario(kernel={"tip+bug-vringh-short-copy": ("history.lost-data-called-ok", "dma.fault"), "tip": "dma.fault"})
async def memory_that_went_away(sim: Simulator) -> None:
    """History 41: a sector is read into memory the VMM has unmapped; nothing arrives and the status is OK."""
    vmm = await boot(sim)
    await vmm.write_sector(0, b"1" * SECTOR)
    vmm.ram.write(DATA_AT, bytes(SECTOR))
    vmm.process.munmap(vmm.ram.addr + DATA_AT, PAGE)
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    status = await vmm.wait()
    there = vmm.process.mmap(PAGE, vmm.memfd, offset=DATA_AT).read(0, SECTOR)  # where pinned memory would have it
    if status == blk.VIRTIO_BLK_S_OK and there != b"1" * SECTOR:
        sim.violation("history.lost-data-called-ok", "the status is OK, and the sector is nowhere in memory")


@scenario(
    kernel={
        "6.12": "history.read-only-index-moved",
        "7.1": "history.read-only-index-moved",
        "tip": "history.read-only-index-moved",
        "6.1": (),
        "tip-used-idx-read-perm": (),
    }
)
async def used_index_read_only(sim: Simulator) -> None:
    """History 65: the used index lies in a page mapped for reading only, the elements behind it do not; it moves."""
    vmm = await boot(sim)
    vmm.vq = Virtqueue(vmm.ram, IOVA, 16, offset=PAGE - 16 * 16 - 40 - 4)
    assert vmm.vq.used_at == PAGE - 4
    await vmm.device.set_status(0)
    await vmm.device.iotlb_invalidate(0, 0)
    await vmm.negotiate()
    await vmm.device.iotlb_update(IOVA, PAGE, vmm.ram.addr, perm=1)
    await vmm.device.iotlb_update(IOVA + PAGE, RAM - PAGE, vmm.ram.addr + PAGE)
    await vmm.start()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    await sim.settle()
    if vmm.ram.read(PAGE - 2, 2) != bytes(2):
        sim.violation("history.read-only-index-moved", "the device wrote where it may only read")
