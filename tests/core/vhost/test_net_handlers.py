"""The TX and RX rounds of vhost-net, driven through the bytes a VMM sends and a ring in its memory."""

from __future__ import annotations

import pytest

from tests.core.rings import rules_hit
from vdpasim.core.events import NO_COPY, Event, Kind
from vdpasim.core.net.tun import SocketFile
from vdpasim.core.vhost.net import RX, TX, VhostNet
from vdpasim.core.vhost.net_handlers import header_lengths
from vdpasim.sim import File, Process, Region, Simulator, WouldBlock
from vdpasim.uapi.message import Message, decode_message
from vdpasim.uapi.vhost_types import VHOST_IOTLB_MISS
from vdpasim.vmm.guest import Buffer, Used, Virtqueue
from vdpasim.vmm.handles import VhostNet as Handle
from vdpasim.vmm.transport import NowaitTransport, run_sync

ACCESS_PLATFORM = 1 << 33
VERSION_1 = 1 << 32
MRG_RXBUF = 1 << 15
VHOST_HDR = 1 << 27
EVENT_IDX = 1 << 29
KICK = (1).to_bytes(8, "little")
IOVA = 0x10_0000
FRAME = bytes(6) + b"\x52\x54\x00\x12\x34\x56\x08\x00" + b"payload"


class FarEnd:
    """The host side of a tap."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def transmit(self, frame: bytes) -> None:
        self.frames.append(frame)


class Net:
    """A VMM with /dev/vhost-net, one queue pair and a tap."""

    def __init__(self, features: int = ACCESS_PLATFORM, *, kernel: str = "6.12", table: bool = False) -> None:
        self.sim = Simulator(kernel)
        self.vmm: Process = self.sim.process("vmm")
        self.ram: Region = self.vmm.mmap(1 << 20, self.vmm.memfd("ram", 1 << 20))
        self.file = self.vmm.open_nowait("/dev/vhost-net")
        self.handle = Handle(NowaitTransport(self.file))
        base = self.ram.addr if table else IOVA
        self.base = base
        self.rings = {RX: Virtqueue(self.ram, base, 16), TX: Virtqueue(self.ram, base, 16, offset=0x1000)}
        self.kick = {queue: self.vmm.eventfd() for queue in (RX, TX)}
        self.call = {queue: self.vmm.eventfd() for queue in (RX, TX)}
        self.err = {queue: self.vmm.eventfd() for queue in (RX, TX)}
        self.tap = self.vmm.tap("tap0")
        self.far = FarEnd()
        self.socket.far_end = self.far
        run_sync(self._set_up(features, table=table))

    async def _set_up(self, features: int, *, table: bool) -> None:
        handle = self.handle
        await handle.set_owner()
        await handle.set_features(features)
        await handle.set_backend_features(2)
        await handle.set_mem_table([(self.ram.addr, 1 << 20, self.ram.addr)] if table else [])
        for queue, ring in self.rings.items():
            await handle.set_vring_num(queue, 16)
            await handle.set_vring_addr(queue, *ring.addresses())
            await handle.set_vring_base(queue, 0)
            await handle.set_vring_kick(queue, self.kick[queue].fd)
            await handle.set_vring_call(queue, self.call[queue].fd)
            await handle.set_vring_err(queue, self.err[queue].fd)

    @property
    def socket(self) -> SocketFile:
        ops = self.tap.open_file.ops
        assert isinstance(ops, SocketFile)
        return ops

    @property
    def device(self) -> VhostNet:
        ops = self.file.open_file.ops
        assert isinstance(ops, VhostNet)
        return ops

    def map(self, offset: int, size: int, perm: int = 3) -> None:
        run_sync(self.handle.iotlb_update(IOVA + offset, size, self.ram.addr + offset, perm))

    def backend(self, queue: int) -> None:
        run_sync(self.handle.set_backend(queue, self.tap.fd))

    def kicked(self, queue: int) -> None:
        self.kick[queue].write_nowait(KICK)

    def miss(self) -> Message:
        return decode_message(self.handle.abi, self.file.read_nowait(72))

    def count(self, eventfd: File) -> int:
        try:
            return int.from_bytes(eventfd.read_nowait(8), "little")
        except BlockingIOError:
            return 0

    def send(self, *buffers: Buffer) -> int:
        head = self.rings[TX].add(*buffers)
        self.kicked(TX)
        return head


@pytest.fixture
def net() -> Net:
    """Rings and the first 64 KiB of guest memory are mapped, both queues have the tap."""
    machine = Net()
    machine.map(0, 0x10000)
    machine.backend(TX)
    machine.backend(RX)
    return machine


def place(net: Net, offset: int, frame: bytes, header: int = 10) -> Buffer:
    net.ram.write(offset, bytes(header) + frame)
    return Buffer(net.base + offset, header + len(frame))


# -- transmit


def test_a_frame_reaches_the_far_end_without_its_header(net: Net) -> None:
    head = net.send(place(net, 0x8000, FRAME))
    assert net.far.frames == [FRAME]
    assert net.rings[TX].used() == [Used(head, 0)]
    assert net.count(net.call[TX]) == 1


def test_without_an_iotlb_addresses_are_the_owners(net: Net) -> None:
    machine = Net(features=0, table=True)
    machine.backend(TX)
    machine.send(place(machine, 0x8000, FRAME))
    assert machine.far.frames == [FRAME]


def test_every_byte_that_is_missing_is_asked_for_one_area_after_the_other() -> None:
    machine = Net()
    machine.map(machine.rings[TX].used_at, 0x200)
    machine.backend(TX)
    asked = []
    machine.rings[TX].add(place(machine, 0x8000, FRAME))
    for _ in range(3):
        miss = machine.miss()
        asked.append((miss.iova - IOVA, miss.perm, miss.type))
        machine.map(miss.iova - IOVA, 0x100 if miss.iova < IOVA + 0x2000 else 0x1000)
    ring = machine.rings[TX]
    assert asked == [
        (ring.desc_at, 1, VHOST_IOTLB_MISS),
        (ring.avail_at, 1, VHOST_IOTLB_MISS),
        (0x8000, 1, VHOST_IOTLB_MISS),
    ]
    assert machine.far.frames == [FRAME]


def test_each_kick_of_a_stuck_queue_queues_the_same_miss_again() -> None:
    machine = Net()
    machine.map(machine.rings[TX].used_at, 0x200)
    machine.backend(TX)
    machine.kicked(TX)
    machine.kicked(TX)
    assert [machine.miss().iova for _ in range(3)] == [IOVA + machine.rings[TX].desc_at] * 3
    assert machine.device.statistics().misses == 3


def test_a_mapping_without_the_permission_stalls_the_queue_without_a_word() -> None:
    machine = Net()
    machine.map(0, 0x2000)
    machine.map(0x8000, 0x1000, perm=2)
    machine.backend(TX)
    machine.send(place(machine, 0x8000, FRAME))
    assert machine.far.frames == []
    with pytest.raises(WouldBlock):
        machine.file.read_nowait(72)
    assert machine.count(machine.err[TX]) == 1


def test_a_ring_mapped_without_the_permission_is_silent_altogether() -> None:
    machine = Net()
    machine.map(0x1000 + 16 * 16, 0x1000)
    machine.map(0x1000, 16 * 16, perm=2)
    machine.backend(TX)
    machine.kicked(TX)
    with pytest.raises(WouldBlock):
        machine.file.read_nowait(72)
    assert machine.count(machine.err[TX]) == 0


def test_a_writable_descriptor_on_the_transmit_queue_is_an_error_event(net: Net) -> None:
    net.send(Buffer(IOVA + 0x8000, 64, writable=True))
    assert net.rings[TX].used() == []
    assert net.count(net.err[TX]) == 1


def test_a_chain_without_a_byte_behind_the_header_is_an_error_event() -> None:
    machine = Net(ACCESS_PLATFORM | VHOST_HDR)
    machine.map(0, 0x10000)
    machine.backend(TX)
    machine.send(Buffer(IOVA + 0x8000, 10))
    assert machine.far.frames == []
    assert machine.count(machine.err[TX]) == 1


def test_a_bad_chain_is_met_again_at_every_kick(net: Net) -> None:
    ring = net.rings[TX]
    ring.add(place(net, 0x8000, FRAME))
    net.ram.write(ring.desc_at + 12, (1).to_bytes(2, "little") + (99).to_bytes(2, "little"))
    net.kicked(TX)
    net.kicked(TX)
    assert net.count(net.err[TX]) == 2
    assert run_sync(net.handle.get_vring_base(TX)) == 0


def test_an_avail_index_that_jumps_is_an_error_and_not_remembered(net: Net) -> None:
    ring = net.rings[TX]
    net.ram.write(ring.avail_at + 2, (17).to_bytes(2, "little"))
    net.kicked(TX)
    assert net.count(net.err[TX]) == 1
    net.ram.write(ring.avail_at + 2, bytes(2))
    net.send(place(net, 0x8000, FRAME))
    assert net.far.frames == [FRAME]


def test_an_indirect_table_is_walked(net: Net) -> None:
    place(net, 0x8000, FRAME)
    net.ram.write(0x9000, (IOVA + 0x8000).to_bytes(8, "little") + (10 + len(FRAME)).to_bytes(4, "little") + bytes(4))
    ring = net.rings[TX]
    ring.add(Buffer(IOVA + 0x9000, 16))
    net.ram.write(ring.desc_at + 12, (4).to_bytes(2, "little"))
    net.kicked(TX)
    assert net.far.frames == [FRAME]


@pytest.mark.parametrize("size", [15, 17])
def test_an_indirect_table_of_an_odd_length_is_an_error(net: Net, size: int) -> None:
    ring = net.rings[TX]
    ring.add(Buffer(IOVA + 0x9000, size))
    net.ram.write(ring.desc_at + 12, (4).to_bytes(2, "little"))
    net.kicked(TX)
    assert net.count(net.err[TX]) == 1


def test_memory_that_went_away_gives_the_chain_back_to_the_ring(net: Net) -> None:
    net.ram.write(0x8000, bytes(32))
    net.vmm.munmap(net.ram.addr + 0x8000, 0x1000)
    net.send(Buffer(IOVA + 0x8000, 32))
    assert net.rings[TX].used() == []
    assert run_sync(net.handle.get_vring_base(TX)) == 0


def test_no_interrupt_is_honoured(net: Net) -> None:
    net.ram.write(net.rings[TX].avail_at, (1).to_bytes(2, "little"))
    net.send(place(net, 0x8000, FRAME))
    assert net.far.frames == [FRAME]
    assert net.count(net.call[TX]) == 0


def test_with_event_index_one_interrupt_serves_until_the_event_moves() -> None:
    machine = Net(ACCESS_PLATFORM | EVENT_IDX)
    machine.map(0, 0x10000)
    machine.backend(TX)
    for _ in range(3):
        machine.send(place(machine, 0x8000, FRAME))
    assert len(machine.far.frames) == 3
    assert machine.count(machine.call[TX]) == 1


def test_every_access_says_which_mapping_it_used_and_where_it_landed(net: Net) -> None:
    seen: list[Event] = []
    net.sim.kernel.sink = seen.append
    net.map(0x20000, 0x1000)
    net.send(place(net, 0x20000, FRAME))
    ((_, asid, serial, first, last, _, _, promise),) = (event[4:] for event in seen if event[3] == Kind.MAP)
    assert (asid, first, last) == (NO_COPY, IOVA + 0x20000, IOVA + 0x20FFF)
    assert promise == (("vmm/ram", 0x20000, 0x1000),)
    accesses = [event[4:] for event in seen if event[3] == Kind.DMA]
    ring = net.rings[TX]
    touched = [iova - IOVA for _, _, iova, *_ in accesses]
    assert {ring.avail_at + 2, ring.desc_at, 0x20000, ring.used_at + 2} <= set(touched)
    (frame,) = (one for one in accesses if one[2] == IOVA + 0x20000)
    assert frame == (
        "vhost-net-0",
        TX,
        IOVA + 0x20000,
        10 + len(FRAME),
        1,
        serial,
        "va",
        (("vmm/ram", 0x20000, 10 + len(FRAME)),),
    )
    assert serial not in {one[5] for one in accesses if one is not frame}


def test_what_is_invalidated_is_told_entry_by_entry(net: Net) -> None:
    seen: list[Event] = []
    net.sim.kernel.sink = seen.append
    net.map(0x20000, 0x1000)
    net.map(0x21000, 0x1000)
    run_sync(net.handle.iotlb_invalidate(IOVA + 0x20800, 0x1000))
    made, gone = ([event[6] for event in seen if event[3] == kind] for kind in (Kind.MAP, Kind.UNMAP))
    assert made == gone


# -- receive


def test_a_frame_of_the_host_fills_a_buffer_behind_a_header(net: Net) -> None:
    head = net.rings[RX].add(Buffer(IOVA + 0xA000, 256, writable=True))
    net.socket.deliver(FRAME)
    net.sim.run_idle()
    assert net.rings[RX].used() == [Used(head, 10 + len(FRAME))]
    assert net.ram.read(0xA000, 10 + len(FRAME)) == bytes(10) + FRAME
    assert net.count(net.call[RX]) == 1


def test_a_frame_waits_for_a_buffer_and_a_kick(net: Net) -> None:
    net.socket.deliver(FRAME)
    net.sim.run_idle()
    assert net.rings[RX].used() == []
    net.rings[RX].add(Buffer(IOVA + 0xA000, 256, writable=True))
    net.kicked(RX)
    assert [used.length for used in net.rings[RX].used()] == [10 + len(FRAME)]


def test_a_frame_that_does_not_fit_is_dropped_and_the_buffer_kept(net: Net) -> None:
    net.rings[RX].add(Buffer(IOVA + 0xA000, 12, writable=True))
    net.socket.deliver(FRAME)
    net.sim.run_idle()
    assert net.rings[RX].used() == []
    assert net.socket.peek_frame() is None
    assert run_sync(net.handle.get_vring_base(RX)) == 0


def test_mergeable_buffers_share_one_frame_and_count_themselves() -> None:
    machine = Net(ACCESS_PLATFORM | MRG_RXBUF | VERSION_1)
    machine.map(0, 0x10000)
    machine.backend(RX)
    for i in range(3):
        machine.rings[RX].add(Buffer(IOVA + 0xA000 + 0x100 * i, 16, writable=True))
    machine.socket.deliver(FRAME)
    machine.sim.run_idle()
    assert [used.length for used in machine.rings[RX].used()] == [16, 16, 12 + len(FRAME) - 32]
    assert machine.ram.read(0xA000 + 10, 2) == (3).to_bytes(2, "little")


def test_a_missing_receive_buffer_is_asked_for_with_write_permission(net: Net) -> None:
    net.rings[RX].add(Buffer(IOVA + 0x20000, 256, writable=True))
    net.socket.deliver(FRAME)
    net.sim.run_idle()
    miss = net.miss()
    assert (miss.iova, miss.perm) == (IOVA + 0x20000, 2)
    net.map(0x20000, 0x1000)
    assert [used.length for used in net.rings[RX].used()] == [10 + len(FRAME)]


def test_a_readable_descriptor_on_the_receive_queue_is_an_error_event(net: Net) -> None:
    net.rings[RX].add(Buffer(IOVA + 0xA000, 256))
    net.socket.deliver(FRAME)
    net.sim.run_idle()
    assert net.count(net.err[RX]) == 1


# -- backends


def test_a_removed_backend_gets_no_more_frames(net: Net) -> None:
    run_sync(net.handle.set_backend(TX, -1))
    net.send(place(net, 0x8000, FRAME))
    assert net.far.frames == []


def test_closing_the_device_leaves_the_tap_alone(net: Net) -> None:
    net.file.close_nowait()
    net.socket.deliver(FRAME)
    net.sim.run_idle()
    assert net.socket.peek_frame() == FRAME


def test_a_reader_sleeps_until_a_miss_is_queued() -> None:
    machine = Net()
    with pytest.raises(WouldBlock):
        machine.file.read_nowait(72)


@pytest.mark.parametrize(
    ("features", "kernel", "lengths"),
    [
        (0, "6.12", (0, 10)),
        (MRG_RXBUF, "6.12", (0, 12)),
        (VERSION_1, "6.12", (0, 12)),
        (VHOST_HDR, "6.12", (10, 0)),
        (VHOST_HDR | VERSION_1, "6.12", (12, 0)),
    ],
)
def test_the_header_has_the_negotiated_length(features: int, kernel: str, lengths: tuple[int, int]) -> None:
    machine = Net(features, kernel=kernel, table=True)
    assert header_lengths(machine.device.vqs[TX]) == lengths


def test_mergeable_buffers_too_small_for_a_frame_let_the_driver_kick_when_it_adds_more() -> None:
    machine = Net(ACCESS_PLATFORM | MRG_RXBUF | EVENT_IDX | VERSION_1)
    machine.map(0, 0x10000)
    rx = machine.rings[RX]
    rx.event_idx = True
    machine.backend(RX)
    rx.add(Buffer(IOVA + 0x8000, 100, True))
    machine.kicked(RX)
    machine.socket.deliver(bytes(300))
    machine.sim.run_idle()
    rx.need_kick()
    for offset in (0x9000, 0xA000, 0xB000):
        rx.add(Buffer(IOVA + offset, 100, True))
    assert rx.need_kick()
    machine.kicked(RX)
    assert len(rx.used()) == 4


def test_the_room_for_pieces_is_for_all_chains_of_a_frame() -> None:
    machine = Net(ACCESS_PLATFORM | MRG_RXBUF | VERSION_1)
    machine.map(0, 1 << 20)
    ring = machine.rings[RX] = Virtqueue(machine.ram, IOVA, 2048, offset=0x20000)
    run_sync(machine.handle.set_vring_num(RX, 2048))
    run_sync(machine.handle.set_vring_addr(RX, *ring.addresses()))
    machine.backend(RX)
    for _ in range(600):
        ring.add(Buffer(IOVA + 0x8000, 8, True), Buffer(IOVA + 0x9000, 8, True))
    machine.socket.deliver(bytes(16 * 512 - 12))
    machine.sim.run_idle()
    assert (len(ring.used()), len(machine.socket.inbox)) == (512, 0)
    for _ in range(512):
        ring.add(Buffer(IOVA + 0x8000, 8, True), Buffer(IOVA + 0x9000, 8, True))
    with rules_hit() as rules:
        machine.socket.deliver(bytes(16 * 600 - 12))
        machine.sim.run_idle()
    assert (len(ring.used()), len(machine.socket.inbox)) == (0, 1)
    assert "net.rx.pieces" in rules
    assert run_sync(machine.handle.get_vring_base(RX)) == 512


@pytest.mark.parametrize(
    ("features", "kernel", "stored"),
    [(VERSION_1, "tip", 1), (VERSION_1, "7.1", 1), (VERSION_1, "6.12", 0), (0, "tip", 0xEEEE)],
)
def test_a_single_buffer_is_counted_by_new_kernels_and_only_of_the_standard_s_header(
    features: int, kernel: str, stored: int
) -> None:
    machine = Net(ACCESS_PLATFORM | VHOST_HDR | features, kernel=kernel)
    machine.map(0, 0x10000)
    machine.backend(RX)
    machine.ram.write(0x8000, b"\xee" * 12)
    machine.rings[RX].add(Buffer(IOVA + 0x8000, 12 if stored == 0xEEEE else 200, True))
    machine.kicked(RX)
    machine.socket.deliver(b"\xee" * 2 if stored == 0xEEEE else FRAME)
    machine.sim.run_idle()
    assert machine.ram.read(0x8000 + 10, 2) == stored.to_bytes(2, "little")


@pytest.mark.parametrize("features", [ACCESS_PLATFORM, ACCESS_PLATFORM | 1 << 35])
def test_who_acks_in_order_is_told_that_it_is_not_modelled(features: int) -> None:
    machine = Net(kernel="tip")
    seen: list[Event] = []
    machine.sim.listen(seen.append)
    run_sync(machine.handle.set_features(features))
    assert (Kind.UNMODELLED in [event[3] for event in seen]) == bool(features >> 35)
