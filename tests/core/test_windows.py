"""The short way through remembered places against the long way, over whatever a driver and a VMM may do.

Two machines get the same random actions. One has an observer, so each of its accesses is looked up and reported; the
other may remember. After every action memory, indices, disk, interrupts and refusals must be the same.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.rings import BUFFERS, IOVA, RAM, RUNNING, UNMAPPED, Board, inside, rules_hit
from tests.core.support import ACCESS_PLATFORM, VERSION_1
from vdpasim.core.vdpa import vdpa_sim_blk
from vdpasim.uapi import vhost
from vdpasim.uapi.mman import PROT_READ, PROT_WRITE
from vdpasim.vmm.guest import Buffer

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 4096
NUM = 16
SECTOR = 512

Action = tuple[Any, ...]


class Twin:
    """One of the two machines."""

    def __init__(self, kind: str, *, watched: bool, **options: Any) -> None:
        queues = 1 if kind == "vdpasim_blk" else 2
        self.board = Board(kind, queues=queues, num=NUM, **options)
        self.seen: list[object] = []
        if watched:
            self.board.sim.kernel.sink = self.seen.append

    def do(self, action: Action) -> object:
        name, *arguments = action
        try:
            return getattr(self, name)(*arguments)
        except OSError as error:
            return error.errno, getattr(error, "rule", None)

    # -- what a driver does

    def descriptor(self, queue: int, slot: int, addr: int, length: int, flags: int, following: int) -> None:
        self.board.queues[queue % len(self.board.queues)].descriptor(slot, addr, length, flags, following)

    def offer(self, queue: int, head: int) -> None:
        self.board.queues[queue % len(self.board.queues)].offer(head)

    def kick(self, queue: int) -> object:
        self.board.queues[queue % len(self.board.queues)].kick()
        return self.board.sim.kernel.violations

    def header(self, offset: int, kind: int, sector: int) -> None:
        self.board.ram.write(BUFFERS + offset, struct.pack("<IIQ", kind, 0, sector))

    def read(self, sector: int, data: int, size: int) -> None:
        """A whole read request, its descriptors in a row."""
        self.header(0, 0, sector)
        at = IOVA + BUFFERS
        self.board.queues[0].post(Buffer(at, 16), Buffer(at + data, size, True), Buffer(at + 0x800, 1, True))

    def write(self, sector: int, data: int, size: int) -> None:
        """A whole write request."""
        self.header(16, 1, sector)
        at = IOVA + BUFFERS
        self.board.queues[0].post(Buffer(at + 16, 16), Buffer(at + data, size), Buffer(at + 0x801, 1, True))

    def no_interrupts(self, wanted: int) -> None:
        queue = self.board.queues[0]
        self.board.ram.write(queue.ring.avail_at, bytes([wanted, 0]))

    # -- what a VMM does

    def unmap(self, page: int, pages: int) -> None:
        self.board.invalidate(IOVA + page * PAGE, pages * PAGE)

    def map(self, page: int, pages: int, to: int, perm: int) -> None:
        self.board.update(IOVA + page * PAGE, pages * PAGE, self.board.ram.addr + to * PAGE, perm=perm)

    def whole(self) -> None:
        """INVALIDATE everything and map it again, page by page of the guest."""
        self.board.invalidate(IOVA, RAM)
        self.board.update(IOVA, RAM, self.board.ram.addr)

    def munmap(self, page: int) -> None:
        self.board.process.munmap(self.board.ram.addr + page * PAGE, PAGE)

    def mmap(self, page: int, shared: bool) -> None:
        address = self.board.ram.addr + page * PAGE
        self.board.process.mmap(PAGE, self.board.process.memfd("other", PAGE), addr=address, shared=shared)

    def mprotect(self, page: int, prot: int) -> None:
        self.board.process.mprotect(self.board.ram.addr + page * PAGE, PAGE, prot)

    def reset(self) -> None:
        self.board.status(0)
        self.board.start()

    def state(self) -> object:
        """All that can be told apart from outside."""
        board = self.board
        device: Any = inside(board)
        queues = [(queue.base, queue.interrupts()) for queue in board.queues if queue is not None]
        memory = board.process.mm.read(board.ram.addr, RAM)
        disk = getattr(device.behaviour, "disk", None)
        return queues, hash(memory), disk and {n: bytes(chunk) for n, chunk in disk.chunks.items()}


pages = st.sampled_from([0, 1, 2, BUFFERS // PAGE, BUFFERS // PAGE + 1, BUFFERS // PAGE + 2])
places = st.sampled_from([0, 1, 15, 0x7FF, 0x800, 0xFFF, 0x1000, 0x1FF0, 0x2000])
sizes = st.sampled_from([0, 1, 16, 511, 512, 4096, 5000])
sectors = st.sampled_from([0, 1, 127, 128, 0x3FFFF, 0x40000, 1 << 40])
addresses = st.one_of(places.map(lambda at: IOVA + BUFFERS + at), st.sampled_from([IOVA, UNMAPPED, (1 << 64) - 8]))
slots = st.integers(0, NUM - 1)

actions = st.one_of(
    st.tuples(st.just("kick"), st.integers(0, 1)),
    st.tuples(st.just("kick"), st.just(0)),
    st.tuples(st.just("read"), sectors, places, sizes),
    st.tuples(st.just("read"), sectors, places, sizes),
    st.tuples(st.just("write"), sectors, places, sizes),
    st.tuples(st.just("no_interrupts"), st.integers(0, 1)),
    st.tuples(
        st.just("descriptor"), st.integers(0, 1), slots, addresses, sizes, st.integers(0, 7), st.integers(0, NUM)
    ),
    st.tuples(st.just("offer"), st.integers(0, 1), st.integers(0, NUM)),
    st.tuples(st.just("header"), places, st.integers(0, 14), sectors),
    st.tuples(st.just("unmap"), pages, st.integers(1, 3)),
    st.tuples(st.just("map"), pages, st.integers(1, 3), pages, st.integers(1, 3)),
    st.tuples(st.just("whole")),
    st.tuples(st.just("munmap"), pages),
    st.tuples(st.just("mmap"), pages, st.booleans()),
    st.tuples(st.just("mprotect"), pages, st.sampled_from([0, PROT_READ, PROT_READ | PROT_WRITE])),
    st.tuples(st.just("reset")),
)


@pytest.mark.parametrize("kind", ["vdpasim_blk", "vdpasim_net"])
@pytest.mark.parametrize("use_va", [True, False])
@given(script=st.lists(actions, max_size=40))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
def test_who_remembers_does_what_who_looks_up_does(kind: str, use_va: bool, script: list[Action]) -> None:
    looks, remembers = (Twin(kind, watched=watched, use_va=use_va) for watched in (True, False))
    for action in script:
        assert remembers.do(action) == looks.do(action), action
        assert remembers.state() == looks.state(), action


def reads(disk: Board, count: int) -> Callable[[], None]:
    def serve() -> None:
        for n in range(count):
            disk.ram.write(BUFFERS, struct.pack("<IIQ", 0, 0, n))
            disk.queues[0].post(
                Buffer(IOVA + BUFFERS, 16),
                Buffer(IOVA + BUFFERS + PAGE, SECTOR, True),
                Buffer(IOVA + BUFFERS + 16, 1, True),
            )
            disk.queues[0].kick()

    return serve


def test_plain_reads_do_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Board("vdpasim_blk", num=NUM)
    long_way: list[object] = []
    handle = vdpa_sim_blk.VdpasimBlk._handle_req

    def counted(self: vdpa_sim_blk.VdpasimBlk, *arguments: Any) -> tuple[bool, int]:
        long_way.append(arguments)
        return handle(self, *arguments)

    monkeypatch.setattr(vdpa_sim_blk.VdpasimBlk, "_handle_req", counted)
    reads(disk, 5)()
    assert len(long_way) == 1, "the first one opens the places"
    disk.sim.kernel.sink = lambda event: None
    reads(disk, 1)()
    assert len(long_way) == 2, "somebody watches"


def test_a_pass_of_short_ways_is_five_requests_too() -> None:
    disk = Board("vdpasim_blk", num=64)
    reads(disk, 1)()
    for _ in range(12):
        disk.queues[0].post(
            Buffer(IOVA + BUFFERS, 16),
            Buffer(IOVA + BUFFERS + PAGE, SECTOR, True),
            Buffer(IOVA + BUFFERS + 16, 1, True),
        )
    before = inside(disk).statistics().passes
    with rules_hit() as rules:
        disk.queues[0].kick()
    assert "sim.blk.budget" in rules
    assert inside(disk).statistics().passes - before == 3
    assert len(disk.queues[0].used()) == 13


def test_a_ring_in_another_address_space_is_looked_up_there() -> None:
    net = Board("vdpasim_net", queues=2, num=NUM)
    received = []
    for asid in (0, 1, 0):
        net.call(vhost.VHOST_VDPA_SET_GROUP_ASID, 0, asid)
        net.queues[0].post(net.writable(0x1000, 64))
        net.queues[1].post(net.readable(0, bytes(12) + b"\xff" * 52))
        net.queues[1].kick()
        received.append(len(net.queues[0].used()))
    assert received == [1, 0, 2]


@pytest.mark.parametrize("kind", ["vdpasim_blk", "vdpasim_net"])
@pytest.mark.parametrize("ring", [ACCESS_PLATFORM, ACCESS_PLATFORM | VERSION_1])
@pytest.mark.parametrize("device", [ACCESS_PLATFORM, ACCESS_PLATFORM | VERSION_1])
def test_a_ring_and_its_device_may_be_of_different_byte_orders(kind: str, ring: int, device: int) -> None:
    """A ring keeps the order it was enabled with though the driver changes its mind about VERSION_1."""
    results = []
    for watched in (True, False):
        board = Board(kind, abi="s390x", start=False, queues=2 if kind == "vdpasim_net" else 1, negotiated=ring)
        for queue in board.queues:
            queue.set_up()
            queue.enable()
        board.features(device)
        board.status(RUNNING)
        if watched:
            board.sim.kernel.sink = lambda event: None
        order = "<" if ring & VERSION_1 else ">"
        memory = []
        for n in range(3):
            if kind == "vdpasim_net":
                chains = [[(True, 0x1000, bytes(100))], [(False, 0, bytes(12) + b"\xff" * 88)]]
            else:
                header = struct.pack(">IIQ" if n % 2 else "<IIQ", 0, 0, 1)
                chains = [[(False, 0, header), (True, 0x1000, bytes(SECTOR)), (True, 0x100, b"\xee")]]
            for queue, chain in zip(board.queues, chains, strict=True):
                for i, (write, offset, data) in enumerate(chain):
                    board.ram.write(BUFFERS + offset, data)
                    flags = (2 if write else 0) | (1 if i + 1 < len(chain) else 0)
                    fields = (IOVA + BUFFERS + offset, len(data), flags, i + 1)
                    board.ram.write(queue.ring.desc_at + 16 * i, struct.pack(order + "QIHH", *fields))
                board.ram.write(queue.ring.avail_at + 4 + 2 * n, bytes(2))
                board.ram.write(queue.ring.avail_at + 2, struct.pack(order + "H", n + 1))
            board.queues[-1].kick()
            memory.append([board.ram.read(queue.ring.used_at, 40) for queue in board.queues])
            memory.append([board.ram.read(BUFFERS, 0x2000)])
        results.append(memory)
    assert results[0] == results[1]
