"""The host side of a split ring: what is taken, what is refused and by which rule, what has moved by then."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.core.rings import INDIRECT, NEXT, UNMAPPED, WRITE, rules_hit
from vdpasim.core.mm.memory import PhysicalMemory
from vdpasim.core.ports import Extent
from vdpasim.core.rules import KernelError
from vdpasim.core.vhost.iotlb import Iotlb
from vdpasim.core.vhost.virtio_byteorder import BIG, LITTLE, RingStructs
from vdpasim.core.vhost.vringh import STRIDE, DeviceMap, IotlbMiss, Iov, Vringh
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.core.events import Event
    from vdpasim.core.vhost.iotlb import IotlbMap

PAGE, PAGES = 4096, 64
DESC, AVAIL, USED, TABLE, DATA = (0x1000 * n for n in range(1, 6))
NUM = 8
RO, WO, RW = 1, 2, 3

Access = tuple[int, int, int]


class Bench:
    """A ring whose areas are pages with an entry each; I/O address n is byte n of one folio."""

    def __init__(
        self, kernel: str = "6.12", *, structs: RingStructs = LITTLE, on_demand: bool = False, **perms: int
    ) -> None:
        self.sim = Simulator(kernel)
        self.pages = PhysicalMemory()
        self.folio = self.pages.alloc(PAGES, "ram", 0)
        self.map = DeviceMap(Iotlb(2048), on_demand=on_demand)
        self.seen: list[Access] = []
        self.places: list[tuple[Extent, ...]] = []
        self.structs = structs
        self.ring = Vringh(self.sim.kernel, self.map, self.pages, on_dma=self.observe)
        assert self.ring.init(NUM, DESC, AVAIL, USED, None, structs)
        for name, at in {"desc": DESC, "avail": AVAIL, "used": USED, "table": TABLE, "data": DATA}.items():
            self.entry(at, PAGE, perms.get(name, RW))

    def observe(self, iova: int, length: int, access: int, entry: IotlbMap, place: tuple[Extent, ...]) -> None:
        assert entry.start <= iova <= entry.last
        self.seen.append((iova, length, access))
        self.places.append(place)

    def entry(self, iova: int, size: int, perm: int = RW, at: int | None = None) -> None:
        self.map.version += 1
        if perm:
            self.map.table.add_range(iova, iova + size - 1, self.folio.paddr + (iova if at is None else at), perm)

    def unmap(self, iova: int) -> None:
        self.map.version += 1
        self.map.table.del_range(iova, iova)

    def put(self, at: int, data: bytes) -> None:
        self.folio.write(at, data)

    def get(self, at: int, length: int) -> bytes:
        return self.folio.read(at, length)

    def u16(self, at: int, value: int) -> None:
        self.put(at, self.structs.u16.pack(value & 0xFFFF))

    def descriptors(self, *rows: tuple[int, int, int, int], at: int = DESC) -> None:
        """Write (address, length, flags, next) into a table."""
        for slot, row in enumerate(rows):
            self.put(at + 16 * slot, self.structs.desc.pack(*row))

    def offer(self, *heads: int, idx: int = 0) -> None:
        for n, head in enumerate(heads):
            self.u16(AVAIL + 4 + 2 * ((idx + n) % NUM), head)
        self.u16(AVAIL + 2, idx + len(heads))

    def take(self, head: int = 0, **directions: bool) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Offer one head and take it: what is readable and what is writable."""
        self.offer(head, idx=self.ring.last_avail_idx)
        taken = self.ring.getdesc(**directions)
        assert taken is not None
        assert taken[0] == head
        return taken[1].segments, taken[2].segments


@contextmanager
def refused(errno: int, rule: str) -> Iterator[None]:
    with pytest.raises(KernelError) as caught:
        yield
    assert (caught.value.errno, caught.value.rule) == (errno, rule)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- size


@pytest.mark.parametrize("num", [1, 2, 256, 32768])
def test_a_size_is_a_power_of_two(bench: Bench, num: int) -> None:
    bench.ring.last_avail_idx = bench.ring.last_used_idx = 5
    assert bench.ring.init(num, 1, 2, 3, None)
    assert (bench.ring.num, bench.ring.desc, bench.ring.avail, bench.ring.used) == (num, 1, 2, 3)
    assert (bench.ring.last_avail_idx, bench.ring.last_used_idx) == (0, 0)


@pytest.mark.parametrize("num", [0, 3, 0xFFFF, 0x10000, 0x20000])
def test_what_is_no_size_changes_nothing(bench: Bench, num: int) -> None:
    bench.ring.last_avail_idx = 5
    assert not bench.ring.init(num, 1, 2, 3, None)
    assert (bench.ring.num, bench.ring.desc, bench.ring.last_avail_idx) == (NUM, DESC, 5)


# -- the avail ring


def test_an_empty_ring_has_nothing(bench: Bench) -> None:
    assert bench.ring.getdesc() is None
    bench.ring.last_avail_idx = 3
    bench.offer(idx=3)
    assert bench.ring.getdesc() is None


def test_heads_come_in_the_order_of_the_ring_and_wrap_around(bench: Bench) -> None:
    bench.descriptors(*[(DATA, n, 0, 0) for n in range(NUM)])
    bench.ring.last_avail_idx = 0xFFFE
    bench.offer(3, 1, 7, idx=0xFFFE)
    taken = [bench.ring.getdesc() for _ in range(4)]
    assert [one and (one[0], one[1].total) for one in taken] == [(3, 3), (1, 1), (7, 7), None]
    assert bench.ring.last_avail_idx == 1


def test_the_distance_of_the_index_is_not_checked_so_stale_heads_come_again(bench: Bench) -> None:
    bench.descriptors((DATA, 1, 0, 0), (DATA, 2, 0, 0))
    bench.offer(0, 1)
    bench.u16(AVAIL + 2, NUM + 2)
    heads = [one[0] for _ in range(NUM + 2) if (one := bench.ring.getdesc())]
    assert heads == [0, 1] + [0] * (NUM - 2) + [0, 1]


@pytest.mark.parametrize("head", [NUM, NUM + 1, 0xFFFF])
def test_a_head_beyond_the_ring_is_never_got_past(bench: Bench, head: int) -> None:
    bench.offer(head, 0)
    for _ in range(2):
        with refused(E.EINVAL, "vringh.head"):
            bench.ring.getdesc()
    assert bench.ring.last_avail_idx == 0


@pytest.mark.parametrize(("perm", "rule", "errno"), [(0, "absent", E.EINVAL), (WO, "perm", E.EPERM)])
def test_an_avail_ring_that_cannot_be_read_is_retried(perm: int, rule: str, errno: int) -> None:
    bench = Bench(avail=perm)
    bench.offer(0)
    with refused(errno, "vringh.iotlb." + rule):
        bench.ring.getdesc()
    assert bench.ring.last_avail_idx == 0
    bench.unmap(AVAIL)
    bench.entry(AVAIL, PAGE)
    bench.descriptors((DATA, 1, 0, 0))
    assert bench.ring.getdesc() is not None


def test_a_16_bit_field_lies_in_one_entry(bench: Bench) -> None:
    bench.entry(0x20000, 0x1001)
    bench.entry(0x21001, 0xFFF)
    bench.put(0x20FFE, b"\1\2\3\4")
    assert bench.ring.getu16(0x20FFE) == 0x0201
    for access in (lambda: bench.ring.getu16(0x21000), lambda: bench.ring.putu16(0x21000, 7)):
        with refused(E.ENOBUFS, "vringh.iotlb.split"):
            access()
    assert bench.get(0x21000, 2) == b"\3\4"


@pytest.mark.parametrize("iova", [UNMAPPED, DATA + PAGE - 1])
def test_a_16_bit_field_keeps_its_own_errors(bench: Bench, iova: int) -> None:
    with refused(E.EINVAL, "vringh.iotlb.absent"):
        bench.ring.getu16(iova)
    with refused(E.EINVAL, "vringh.iotlb.absent"):
        bench.ring.putu16(iova, 1)


def test_memory_that_is_gone_behind_an_entry_is_a_fault(bench: Bench) -> None:
    bench.entry(0x80000, PAGE, at=PAGES * PAGE)
    for access in (lambda: bench.ring.getu16(0x80000), lambda: bench.ring.putu16(0x80000, 7)):
        with refused(E.EFAULT, "vringh.copy"):
            access()


# -- chains


def test_a_chain_comes_as_two_lists(bench: Bench) -> None:
    bench.descriptors((DATA, 4, NEXT, 2), (0, 0, 0, 0), (DATA + 8, 2, NEXT, 5))
    bench.put(DESC + 16 * 5, bench.structs.desc.pack(DATA + 16, 7, WRITE | NEXT, 1))
    bench.put(DESC + 16, bench.structs.desc.pack(UNMAPPED, 9, WRITE, 0xFFFF))
    assert bench.take() == ([(DATA, 4), (DATA + 8, 2)], [(DATA + 16, 7), (UNMAPPED, 9)])


def test_empty_buffers_are_fine_and_kept(bench: Bench) -> None:
    bench.descriptors((0, 0, NEXT, 1), (0, 0, WRITE, 0))
    assert bench.take() == ([(0, 0)], [(0, 0)])


def test_a_chain_may_use_the_whole_table(bench: Bench) -> None:
    bench.descriptors(*[(DATA, n, NEXT if n < NUM - 1 else 0, n + 1) for n in range(NUM)])
    assert len(bench.take()[0]) == NUM


@pytest.mark.parametrize(
    ("rows", "errno", "rule"),
    [
        ([(DATA, 1, NEXT, NUM)], E.EINVAL, "next"),
        ([(DATA, 1, NEXT, 0xFFFF)], E.EINVAL, "next"),
        ([(DATA, 1, NEXT, 0)], E.ELOOP, "loop"),
        ([(DATA, 1, NEXT, 1), (DATA, 1, NEXT, 0)], E.ELOOP, "loop"),
        ([(DATA, 1, WRITE | NEXT, 1), (DATA, 1, 0, 0)], E.EINVAL, "order"),
        ([(DATA, 1, WRITE | NEXT, 1), (DATA, 0, 0, 0)], E.EINVAL, "order"),
    ],
)
def test_a_bad_chain_is_consumed_and_the_next_one_comes(
    bench: Bench, rows: list[tuple[int, int, int, int]], errno: int, rule: str
) -> None:
    bench.descriptors(*rows)
    bench.put(DESC + 16 * 7, bench.structs.desc.pack(DATA, 1, 0, 0))
    bench.offer(0, 7)
    with refused(errno, "vringh.chain." + rule):
        bench.ring.getdesc()
    assert bench.ring.last_avail_idx == 1
    taken = bench.ring.getdesc()
    assert taken is not None
    assert taken[0] == 7


@pytest.mark.parametrize(("flags", "directions"), [(0, {"readable": False}), (WRITE, {"writable": False})])
def test_a_queue_that_takes_one_direction_refuses_the_other(
    bench: Bench, flags: int, directions: dict[str, bool]
) -> None:
    bench.descriptors((DATA, 1, flags, 0), (DATA, 1, flags ^ WRITE, 0))
    with pytest.raises(KernelError) as caught:
        bench.take(0, **directions)
    assert caught.value.rule == "vringh.chain.direction"
    assert bench.ring.last_avail_idx == 1
    assert sum(map(len, bench.take(1, **directions))) == 1


@pytest.mark.parametrize("perm", [0, WO])
def test_an_unreadable_table_consumes_the_head(perm: int) -> None:
    bench = Bench(desc=perm)
    with refused(E.EFAULT, "vringh.copy"):
        bench.take()
    assert bench.ring.last_avail_idx == 1


def test_a_head_can_be_given_back(bench: Bench) -> None:
    bench.descriptors((DATA, 1, 0, 0))
    bench.take()
    bench.ring.abandon()
    assert bench.ring.getdesc() is not None
    bench.ring.last_avail_idx = 0
    bench.ring.abandon()
    assert bench.ring.last_avail_idx == 0xFFFF


# -- indirect


def test_an_indirect_table_takes_the_place_of_its_descriptor(bench: Bench) -> None:
    bench.descriptors((DATA, 1, NEXT, 1), (TABLE, 48, INDIRECT | NEXT, 2), (DATA, 5, WRITE, 0))
    bench.descriptors((DATA, 2, NEXT, 2), (DATA, 9, 0, 0), (DATA, 3, WRITE, 0), at=TABLE)
    readable, writable = bench.take()
    assert [length for _, length in readable + writable] == [1, 2, 3, 5]


@pytest.mark.parametrize(
    ("flags", "following", "lengths"),
    [(INDIRECT, 1, [2]), (INDIRECT | NEXT, 0, [2]), (INDIRECT | NEXT, 1, [2, 5]), (INDIRECT | WRITE, 1, [2])],
)
def test_the_chain_goes_on_behind_it_with_next_above_0_only(
    bench: Bench, flags: int, following: int, lengths: list[int]
) -> None:
    bench.descriptors((TABLE, 16, flags, following), (DATA, 5, 0, 0))
    bench.descriptors((DATA, 2, 0, 0), at=TABLE)
    assert [length for _, length in bench.take()[0]] == lengths


def test_a_chain_may_have_several_each_with_a_limit_of_its_own(bench: Bench) -> None:
    bench.descriptors((TABLE, 32, INDIRECT | NEXT, 1), (TABLE, 32, INDIRECT, 0))
    bench.descriptors((DATA, 1, NEXT, 1), (DATA, 2, 0, 0), at=TABLE)
    assert [length for _, length in bench.take()[0]] == [1, 2, 1, 2]


def test_an_indirect_table_may_be_longer_than_the_ring(bench: Bench) -> None:
    bench.descriptors((TABLE, 16 * 20, INDIRECT, 0))
    bench.descriptors(*[(DATA, 1, NEXT if n < 19 else 0, n + 1) for n in range(20)], at=TABLE)
    assert len(bench.take()[0]) == 20


@pytest.mark.parametrize(
    ("length", "rows", "errno", "rule"),
    [
        (15, [], E.EINVAL, "indirect.length"),
        (24, [], E.EINVAL, "indirect.length"),
        (0, [(DATA, 1, 0, 0)], E.ELOOP, "chain.loop"),
        (32, [(DATA, 1, NEXT, 2)], E.EINVAL, "chain.next"),
        (32, [(DATA, 1, NEXT, 1), (DATA, 1, NEXT, 0)], E.ELOOP, "chain.loop"),
        (32, [(TABLE, 16, INDIRECT, 0)], E.EINVAL, "indirect.nested"),
        (32, [(DATA, 1, NEXT, 1), (TABLE, 16, INDIRECT, 0)], E.EINVAL, "indirect.nested"),
        (32, [(DATA, 1, WRITE | NEXT, 1), (DATA, 1, 0, 0)], E.EINVAL, "chain.order"),
    ],
)
def test_a_bad_indirect_table_consumes_the_head(
    bench: Bench, length: int, rows: list[tuple[int, int, int, int]], errno: int, rule: str
) -> None:
    bench.descriptors((TABLE, length, INDIRECT | NEXT, 1), (DATA, 1, 0, 0))
    bench.descriptors(*rows, at=TABLE)
    with refused(errno, "vringh." + rule):
        bench.take()
    assert bench.ring.last_avail_idx == 1


def test_behind_an_indirect_table_next_is_bounded_by_the_ring(bench: Bench) -> None:
    bench.descriptors((TABLE, 16 * 20, INDIRECT | NEXT, NUM))
    bench.descriptors((DATA, 1, 0, 0), at=TABLE)
    with refused(E.EINVAL, "vringh.chain.next"):
        bench.take()


def test_an_indirect_table_that_is_not_mapped_is_a_fault(bench: Bench) -> None:
    bench.descriptors((UNMAPPED, 16, INDIRECT, 0))
    with refused(E.EFAULT, "vringh.copy"):
        bench.take()


def test_a_chain_that_returns_to_its_own_indirect_descriptor_ends(bench: Bench) -> None:
    bench.descriptors((DATA, 1, NEXT, 1), (TABLE, 16, INDIRECT | NEXT, 1))
    bench.descriptors((DATA, 1, 0, 0), at=TABLE)
    with refused(E.ELOOP, "vringh.chain.loop"):
        bench.take()


# -- payload


def iov(*segments: tuple[int, int]) -> Iov:
    return Iov(list(segments))


def test_bytes_are_pulled_over_segments_and_end_with_them(bench: Bench) -> None:
    bench.put(DATA, b"abcdefgh")
    source = iov((DATA + 4, 3), (DATA, 0), (DATA, 2))
    assert bench.ring.pull(source, 2) == b"ef"
    assert (source.total, source.left) == (5, 3)
    assert bench.ring.pull(source, 100) == b"gab"
    assert bench.ring.pull(source, 1) == b""
    assert source.left == 0


def test_bytes_are_pushed_as_far_as_there_is_room(bench: Bench) -> None:
    bench.put(DATA, b"........")
    target = iov((DATA, 2), (DATA + 4, 3))
    assert [bench.ring.push(target, part) for part in (b"A", b"BCD", b"EFG", b"")] == [1, 3, 1, 0]
    assert bench.get(DATA, 8) == b"AB..CDE."


@pytest.mark.parametrize(("skip", "left"), [(0, 5), (1, 4), (2, 3), (3, 2), (5, 0), (9, 0)])
def test_a_cursor_can_be_moved(bench: Bench, skip: int, left: int) -> None:
    target = iov((DATA, 2), (DATA + 4, 3))
    target.advance(skip)
    assert target.left == left
    assert bench.ring.push(target, b"x" * 9) == left


def test_what_was_moved_before_a_broken_segment_stays_moved(bench: Bench) -> None:
    target = iov((DATA, 2), (UNMAPPED, 2), (DATA + 8, 2))
    with refused(E.EFAULT, "vringh.copy"):
        bench.ring.push(target, b"ABCDEF")
    assert (bench.get(DATA, 2), target.left) == (b"AB", 4)
    source = iov((DATA, 2), (UNMAPPED, 2))
    pieces: list[bytes] = []
    with refused(E.EFAULT, "vringh.copy"):
        pieces.extend(bench.ring.pull_pieces(source, 4))
    assert (pieces, source.left) == ([b"AB"], 2)


@pytest.mark.parametrize(("perm", "readable", "writable"), [(RO, True, False), (WO, False, True), (RW, True, True)])
def test_payload_needs_the_permission_of_its_direction(perm: int, readable: bool, writable: bool) -> None:
    bench = Bench(data=perm)
    if readable:
        bench.ring.copy_from(DATA, 4)
    else:
        with refused(E.EFAULT, "vringh.copy"):
            bench.ring.copy_from(DATA, 4)
    if not writable:
        with refused(E.EFAULT, "vringh.copy"):
            bench.ring.copy_to(DATA, b"nope")
    else:
        bench.ring.copy_to(DATA, b"nope")
    assert bench.get(DATA, 4) == (b"nope" if writable else bytes(4))


def test_a_copy_over_a_missing_entry_moves_no_byte(bench: Bench) -> None:
    with refused(E.EFAULT, "vringh.copy"):
        bench.ring.copy_to(DATA + PAGE - 2, b"ABCD")
    assert bench.get(DATA + PAGE - 2, 4) == bytes(4)


@pytest.mark.parametrize(("entries", "moved"), [(STRIDE - 1, 0), (STRIDE, STRIDE), (STRIDE + 3, STRIDE)])
def test_a_long_copy_looks_up_16_entries_at_a_time(bench: Bench, entries: int, moved: int) -> None:
    for n in range(entries):
        bench.entry(0x20000 + n, 1)
    with refused(E.EFAULT, "vringh.copy"):
        bench.ring.copy_to(0x20000, b"x" * 40)
    assert bench.get(0x20000, 40) == b"x" * moved + bytes(40 - moved)


def test_a_fault_in_the_middle_of_an_entry_leaves_what_lay_before_it(bench: Bench) -> None:
    end = PAGES * PAGE
    bench.entry(0x80000, 2 * PAGE, at=end - PAGE)
    with refused(E.EFAULT, "vringh.copy"):
        bench.ring.copy_to(0x80000 + PAGE - 2, b"ABCD")
    assert bench.get(end - 2, 2) == b"AB"
    with refused(E.EFAULT, "vringh.copy"):
        bench.ring.copy_from(0x80000 + PAGE - 2, 4)


def test_through_user_addresses_the_same_holds() -> None:
    bench = Bench()
    process = bench.sim.process("vmm")
    region = process.mmap(2 * PAGE)
    bench.map.table.add_range(0x80000, 0x80000 + 2 * PAGE - 1, region.addr, RW)
    bench.ring.mm = process.mm
    bench.ring.copy_to(0x80000 + PAGE - 2, b"ABCD")
    assert region.read(PAGE - 2, 4) == bench.ring.copy_from(0x80000 + PAGE - 2, 4) == b"ABCD"
    process.munmap(region.addr + PAGE, PAGE)
    with refused(E.EFAULT, "vringh.copy"):
        bench.ring.copy_to(0x80000 + PAGE - 2, b"EFGH")
    assert region.read(PAGE - 2, 2) == b"EF"


# -- completion


def test_an_element_goes_before_the_index(bench: Bench) -> None:
    bench.sim.listen(lambda event: None)
    bench.ring.complete(3, 17)
    assert bench.seen == [(USED + 4, 8, WO), (USED + 2, 2, WO)]
    assert bench.get(USED, 12) == b"\0\0\1\0" + bench.structs.used_elem.pack(3, 17)


def test_elements_wrap_with_the_ring_and_the_index_with_16_bits(bench: Bench) -> None:
    bench.ring.last_used_idx = 0xFFFF
    bench.ring.complete(1, 1)
    bench.ring.complete(2, 2)
    assert bench.get(USED + 2, 2) == b"\1\0"
    assert bench.get(USED + 4 + 8 * (NUM - 1), 8) == bench.structs.used_elem.pack(1, 1)
    assert bench.get(USED + 4, 8) == bench.structs.used_elem.pack(2, 2)


def test_the_index_has_all_16_bits(bench: Bench) -> None:
    bench.ring.last_used_idx = 0x7FFF
    bench.ring.complete(1, 1)
    assert (bench.ring.last_used_idx, bench.get(USED + 2, 2)) == (0x8000, b"\0\x80")


def test_a_negative_length_is_stored_as_32_bits(bench: Bench) -> None:
    bench.ring.complete(0, -14)
    assert bench.get(USED + 8, 4) == (2**32 - 14).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("kernel", "perm", "element", "rule", "errno"),
    [
        ("6.1", RO, False, "vringh.copy", E.EFAULT),
        ("6.1", WO, True, None, 0),
        ("6.12", RO, False, "vringh.copy", E.EFAULT),
        ("6.12", WO, True, "vringh.iotlb.perm", E.EPERM),
        ("tip", WO, True, "vringh.iotlb.perm", E.EPERM),
        ("tip", RW, True, None, 0),
        ("tip", 0, False, "vringh.copy", E.EFAULT),
    ],
)
def test_the_used_index_wants_the_read_permission_since_6_4(
    kernel: str, perm: int, element: bool, rule: str | None, errno: int
) -> None:
    bench = Bench(kernel, used=perm)
    if rule is None:
        bench.ring.complete(5, 9)
    else:
        with refused(errno, rule):
            bench.ring.complete(5, 9)
    assert bench.get(USED + 4, 8) == (bench.structs.used_elem.pack(5, 9) if element else bytes(8))
    assert bench.get(USED + 2, 2) == (b"\1\0" if rule is None else b"\0\0")
    assert bench.ring.last_used_idx == (1 if rule is None else 0), "a slot that failed is used again"


@pytest.mark.parametrize(("kernel", "written"), [("6.1", False), ("6.12", True), ("tip", True)])
def test_so_an_index_is_written_into_memory_mapped_read_only(kernel: str, written: bool) -> None:
    bench = Bench(kernel, used=0)
    bench.entry(USED, 4, RO)
    bench.entry(USED + 4, 8 * NUM, WO)
    with rules_hit() as hit:
        if written:
            bench.ring.complete(5, 9)
        else:
            with refused(E.EPERM, "vringh.iotlb.perm"):
                bench.ring.complete(5, 9)
    assert ("vringh.used-idx-read-perm" in hit, bench.get(USED + 2, 2)) == (written, b"\1\0" if written else b"\0\0")


@pytest.mark.parametrize(("flags", "wanted"), [(0, True), (1, False), (2, True), (3, False), (0xFFFE, True)])
def test_one_flag_says_whether_interrupts_are_wanted(bench: Bench, flags: int, wanted: bool) -> None:
    bench.u16(AVAIL, flags)
    assert bench.ring.need_notify() == wanted


def test_there_is_no_event_index(bench: Bench) -> None:
    bench.u16(AVAIL + 4 + 2 * NUM, 100)
    bench.ring.complete(0, 0)
    assert bench.ring.need_notify()
    assert bench.get(USED + 4 + 8 * NUM, 2) == b"\0\0"


def test_flags_that_cannot_be_read_are_an_error() -> None:
    with refused(E.EPERM, "vringh.iotlb.perm"):
        Bench(avail=WO).ring.need_notify()


# -- byte order, observation, on demand


def test_a_legacy_ring_of_a_big_endian_host_is_read_and_written_so() -> None:
    bench = Bench(structs=BIG)
    bench.descriptors((DATA, 1, NEXT, 2))
    bench.put(DESC + 32, BIG.desc.pack(DATA + 8, 3, WRITE, 0))
    assert bench.take() == ([(DATA, 1)], [(DATA + 8, 3)])
    bench.ring.complete(2, 0x10)
    assert bench.get(USED, 12) == b"\0\0\0\1" + bytes([0, 0, 0, 2]) + bytes([0, 0, 0, 0x10])


def test_an_access_is_reported_with_its_place_while_somebody_listens(bench: Bench) -> None:
    bench.ring.copy_to(DATA, b"unseen")
    events: list[Event] = []
    bench.sim.listen(events.append)
    bench.entry(DATA + PAGE, PAGE, at=0x10000)
    bench.ring.copy_from(DATA + PAGE - 2, 4)
    assert bench.seen == [(DATA + PAGE - 2, 2, RO), (DATA + PAGE, 2, RO)]
    assert bench.places == [(Extent("ram", DATA + PAGE - 2, 2),), (Extent("ram", 0x10000, 2),)]


@pytest.mark.parametrize(
    ("hole", "rows", "iova", "access"),
    [
        (DESC, [], DESC, RO),
        (AVAIL, [], AVAIL, RO),
        (USED, [], USED, WO),
        (TABLE, [(TABLE, 16, INDIRECT, 0)], TABLE, RO),
        (DATA, [(DATA + 5, 1, 0, 0)], DATA + 5, RO),
        (DATA, [(DATA + 6, 1, WRITE, 0)], DATA + 6, WO),
    ],
)
def test_on_demand_a_hole_is_a_miss_and_the_head_stays(
    hole: int, rows: list[tuple[int, int, int, int]], iova: int, access: int
) -> None:
    bench = Bench(on_demand=True)
    bench.descriptors(*(rows or [(DATA, 1, 0, 0)]))
    bench.descriptors((DATA, 1, 0, 0), at=TABLE)
    bench.offer(0)
    bench.unmap(hole)
    with pytest.raises(IotlbMiss) as caught:
        bench.ring.getdesc()
    assert (caught.value.vring, caught.value.iova, caught.value.access) == (bench.ring, iova, access)
    assert bench.ring.last_avail_idx == 0
    bench.entry(hole, PAGE)
    assert bench.ring.getdesc() is not None


def test_on_demand_a_copy_misses_before_a_byte_moves() -> None:
    bench = Bench(on_demand=True)
    with pytest.raises(IotlbMiss) as caught:
        bench.ring.copy_to(DATA + PAGE - 2, b"ABCD")
    assert (caught.value.iova, bench.get(DATA + PAGE - 2, 2)) == (DATA + PAGE, bytes(2))
