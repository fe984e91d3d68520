"""The dirty log: which bits a VMM finds set after the device wrote."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.core.support import refused
from tests.core.vhost.test_net_handlers import FRAME, MRG_RXBUF, Net
from vdpasim.core.events import Kind
from vdpasim.core.vhost.net import RX, TX
from vdpasim.core.vhost.vhost_log import log_access_ok
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.uapi.abi import I386, X86_64
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.transport import run_sync

if TYPE_CHECKING:
    from vdpasim.sim import File, Region
    from vdpasim.uapi.abi import Abi
    from vdpasim.uapi.ioctl import Ioctl

PLATFORM, LOG_ALL, RING_LOG = 1 << 33, 1 << 26, 1
GUEST = 0x40_0000
"""Guest physical address of the machine's memory in the memory table."""
PAGE = 4096


class Logged:
    """A vhost-net machine with a memory table, a bitmap and its eventfd."""

    def __init__(self, features: int = LOG_ALL, *, ring_flags: int = 0) -> None:
        platform = bool(features & PLATFORM)
        self.net = net = Net(features | MRG_RXBUF, table=not platform)
        self.base = net.base if platform else GUEST
        """Where the device sees the machine's memory."""
        run_sync(net.handle.set_mem_table([(GUEST, 1 << 20, net.ram.addr)]))
        if platform:
            net.map(0, 1 << 20)
        self.bitmap: Region = net.vmm.mmap(PAGE, net.vmm.memfd("log", PAGE))
        self.eventfd: File = net.vmm.eventfd()
        self.call(vhost.VHOST_SET_LOG_BASE, struct.pack("<Q", self.bitmap.addr))
        self.call(vhost.VHOST_SET_LOG_FD, struct.pack("<i", self.eventfd.fd))
        for queue, ring in net.rings.items():
            desc, avail, used = ring.addresses()
            guest = GUEST + ring.used_at
            self.call(vhost.VHOST_SET_VRING_ADDR, struct.pack("<IIQQQQ", queue, ring_flags, desc, used, avail, guest))

    def call(self, request: Ioctl, data: bytes) -> None:
        self.net.file.ioctl_nowait(request.request(), data)

    def dirty(self) -> list[int]:
        """Pages of the machine's memory whose bit is set, which are cleared."""
        data = int.from_bytes(self.bitmap.read(0, PAGE), "little")
        self.bitmap.write(0, bytes(PAGE))
        return [n - GUEST // PAGE for n in range(8 * PAGE) if data >> n & 1]

    def post(self, offset: int, size: int = 0x100) -> None:
        self.net.rings[RX].add(Buffer(self.base + offset, size, True))

    def receive(self, *offsets: int, frame: bytes = FRAME, size: int = 0x100) -> None:
        for offset in offsets:
            self.post(offset, size)
        self.net.backend(RX)
        self.dirty()
        self.net.socket.deliver(frame)
        self.net.sim.run_idle()

    def send(self) -> None:
        net = self.net
        net.ram.write(0x8000, bytes(12) + FRAME)
        net.send(Buffer(self.base + 0x8000, 12 + len(FRAME)))


def test_a_frame_that_came_in_marks_the_page_it_is_in() -> None:
    logged = Logged()
    logged.receive(0x8000)
    assert logged.dirty() == [8]
    assert logged.net.count(logged.eventfd) == 1


def test_a_buffer_over_two_pages_marks_both_and_only_as_far_as_the_frame_goes() -> None:
    logged = Logged()
    logged.receive(0x8FF0)
    assert logged.dirty() == [8, 9]
    logged = Logged()
    logged.receive(0x8000, size=0x4000)
    assert logged.dirty() == [8]


def test_every_buffer_of_a_mergeable_frame_is_marked() -> None:
    logged = Logged()
    logged.receive(0x8000, 0xA000, frame=FRAME + bytes(0x100))
    assert logged.dirty() == [8, 10]


def test_without_log_all_nothing_is() -> None:
    logged = Logged(features=0)
    logged.receive(0x8000)
    assert logged.dirty() == []


@pytest.mark.parametrize("features", [0, PLATFORM])
def test_the_used_ring_is_marked_when_its_address_says_so(features: int) -> None:
    logged = Logged(features, ring_flags=RING_LOG)
    net = logged.net
    net.backend(TX)
    assert logged.dirty() == [1], "its flags were written"
    logged.send()
    assert logged.dirty() == [1]
    assert net.count(logged.eventfd) > 0


def test_with_an_iotlb_a_frame_is_marked_by_its_guest_address_and_the_buffer_whole() -> None:
    logged = Logged(LOG_ALL | PLATFORM)
    logged.receive(0x8000, size=0x2000)
    assert logged.dirty() == [8, 9]


def test_memory_that_two_regions_have_is_marked_in_both() -> None:
    logged = Logged(LOG_ALL | PLATFORM)
    net = logged.net
    alias = [(GUEST, 1 << 20, net.ram.addr), (GUEST + (2 << 20), 1 << 20, net.ram.addr)]
    run_sync(net.handle.set_mem_table(alias))
    logged.receive(0x8000)
    assert logged.dirty() == [8, 512 + 8]


def test_memory_in_no_region_is_not_logged_and_nobody_is_told() -> None:
    logged = Logged(LOG_ALL | PLATFORM)
    run_sync(logged.net.handle.set_mem_table([(GUEST, 0x1000, logged.net.ram.addr)]))
    logged.receive(0x8000)
    assert logged.dirty() == []
    assert logged.net.rings[RX].used()[0].length == 12 + len(FRAME)


def test_a_bitmap_that_is_gone_loses_the_mark_but_not_the_frame() -> None:
    logged = Logged()
    logged.net.vmm.munmap(logged.bitmap.addr, PAGE)
    net = logged.net
    logged.post(0x8000)
    net.backend(RX)
    net.socket.deliver(FRAME)
    net.sim.run_idle()
    assert len(net.rings[RX].used()) == 1


@pytest.mark.parametrize(
    ("abi", "base", "addr", "size", "ok"),
    [
        (X86_64, 0, 0, 1, True),
        (X86_64, X86_64.task_size - 1, 0, 8 * PAGE, True),
        (X86_64, X86_64.task_size - 1, 0, 8 * PAGE + 1, False),
        (X86_64, X86_64.task_size - 1, 8 * PAGE, 1, False),
        (X86_64, (1 << 64) - 1, 1 << 63, 1, False),
        (I386, 0xBFFF_FFFF, 0, 1, True),
        (I386, 0xC000_0000, 0, 1, False),
    ],
)
def test_one_bit_a_page_must_lie_in_user_space(abi: Abi, base: int, addr: int, size: int, ok: bool) -> None:
    assert log_access_ok(abi, base, addr, size) is ok


def test_an_active_queue_wants_a_log_that_holds_its_memory() -> None:
    logged = Logged()
    logged.net.backend(TX)
    with refused(E.EFAULT, "vhost.log.range"):
        logged.call(vhost.VHOST_SET_LOG_BASE, struct.pack("<Q", X86_64.task_size - 8))
    logged = Logged(features=0)
    logged.call(vhost.VHOST_SET_LOG_BASE, struct.pack("<Q", X86_64.task_size - 8))
    logged.net.backend(TX)
    with refused(E.EFAULT, "net.features.log"):
        logged.call(vhost.VHOST_SET_FEATURES, struct.pack("<Q", LOG_ALL))


def test_a_logged_ring_of_an_active_queue_must_be_in_the_log() -> None:
    logged = Logged()
    logged.net.backend(TX)
    desc, avail, used = logged.net.rings[TX].addresses()
    with refused(E.EINVAL, "vhost.vring.addr-log"):
        logged.call(
            vhost.VHOST_SET_VRING_ADDR, struct.pack("<IIQQQQ", TX, RING_LOG, desc, used, avail, (1 << 64) - 4)
        )


def test_a_big_endian_kernel_says_that_its_order_of_bits_is_not_modelled() -> None:
    sim = Simulator(abi="s390x")
    seen: list[object] = []
    sim.kernel.sink = lambda event: seen.append(event[3])
    file = sim.process("vmm").open_nowait("/dev/vhost-net")
    file.ioctl_nowait(vhost.VHOST_SET_FEATURES.request(sim.kernel.abi), struct.pack(">Q", LOG_ALL))
    assert Kind.UNMODELLED in seen



@pytest.mark.parametrize(("first", "pages"), [(0x8800, [8, 10]), (0xB000, [])])
def test_what_is_in_no_region_is_passed_over_behind_a_byte_that_was_found(first: int, pages: list[int]) -> None:
    logged = Logged(LOG_ALL | PLATFORM)
    net = logged.net
    regions = [(GUEST, 0x9000, net.ram.addr), (GUEST + 0xA000, PAGE, net.ram.addr + 0xA000)]
    run_sync(net.handle.set_mem_table(regions))
    logged.receive(first, 0xA000, frame=FRAME + bytes(0x1200), size=PAGE)
    assert logged.dirty() == pages


def test_elements_around_the_end_of_the_ring_mark_what_they_are_written_to() -> None:
    logged = Logged(0, ring_flags=RING_LOG)
    net = logged.net
    ring = net.rings[TX] = Virtqueue(net.ram, net.base, 1024, offset=0x10000)
    ring.used_at, start = 0x22FFC, (1022).to_bytes(2, "little")
    net.ram.write(ring.used_at + 2, start)
    net.ram.write(ring.avail_at + 2, start)
    ring._avail_idx = ring._used_idx = 1022
    run_sync(net.handle.set_vring_num(TX, 1024))
    run_sync(net.handle.set_vring_base(TX, 1022))
    desc, avail, used = ring.addresses()
    logged.call(
        vhost.VHOST_SET_VRING_ADDR, struct.pack("<IIQQQQ", TX, RING_LOG, desc, used, avail, GUEST + ring.used_at)
    )
    net.backend(TX)
    logged.dirty()
    net.ram.write(0x8000, bytes(12) + FRAME)
    for _ in range(4):
        ring.add(Buffer(GUEST + 0x8000, 12 + len(FRAME)))
    net.kicked(TX)
    assert len(ring.used()) == 4
    assert logged.dirty() == [0x22, 0x23, 0x24], "flags and index, the first elements, the last ones"
