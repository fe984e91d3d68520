"""vhost-net's ring walk, piece by piece: translation, chains, what is taken and what is not, used elements."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.rings import rules_hit
from tests.core.vhost.test_net_handlers import IOVA, Net
from vdpasim.core.events import Event, Kind
from vdpasim.core.rules import KernelError
from vdpasim.core.vhost.net import TX
from vdpasim.core.vhost.vhost_vq import (
    CHAIN_PIECES,
    Chain,
    Piece,
    add_used_and_signal,
    areas,
    disable_notify,
    discard_vq_desc,
    enable_notify,
    gather,
    put_used,
    scatter,
    translate_desc,
    vhost_get_vq_desc,
    vhost_vq_init_access,
    vq_meta_prefetch,
)
from vdpasim.uapi import errno as E
from vdpasim.vmm.transport import run_sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.vhost.vhost import VhostVirtqueue

PLATFORM, EVENT_IDX, ON_EMPTY = 1 << 33, 1 << 29, 1 << 24
NEXT, WRITE, INDIRECT = 1, 2, 4
RO, WO = 1, 2
NUM = 16
PAGE = 4096


class Walk:
    """The TX queue of a machine whose rings are mapped, walked by hand."""

    def __init__(self, features: int = PLATFORM, *, mapped: bool = True, kernel: str = "6.12") -> None:
        self.net = net = Net(features, kernel=kernel)
        if mapped:
            net.map(0, 0x10000)
        self.vq: VhostVirtqueue = net.device.vqs[TX]
        self.ring = net.rings[TX]
        self.slots = 0

    def descriptor(self, slot: int, addr: int, length: int, flags: int = 0, following: int = 0) -> None:
        self.net.ram.write(self.ring.desc_at + 16 * slot, struct.pack("<QIHH", addr, length, flags, following))

    def offer(self, *heads: int) -> None:
        for head in heads:
            at = self.ring.avail_at + 4 + 2 * (self.slots % NUM)
            self.net.ram.write(at, head.to_bytes(2, "little"))
            self.slots += 1
        self.net.ram.write(self.ring.avail_at + 2, (self.slots & 0xFFFF).to_bytes(2, "little"))

    def chain(self) -> Chain:
        found = vhost_get_vq_desc(self.vq)
        assert found is not None
        return found

    def used(self) -> list[tuple[int, int]]:
        return [(one.head, one.length) for one in self.ring.used()]


@pytest.fixture
def walk() -> Walk:
    return Walk()


def refusal(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(KernelError) as caught:
        call()
    return caught.value.rule, caught.value.errno


# -- translation


def test_a_range_over_several_entries_is_as_many_pieces(walk: Walk) -> None:
    base = walk.net.ram.addr
    walk.net.map(0x20000, PAGE)
    walk.net.map(0x21000, PAGE)
    pieces = translate_desc(walk.vq, IOVA + 0x20FF0, 0x20, RO, 8)
    assert pieces == [Piece(base + 0x20FF0, 16, IOVA + 0x20FF0), Piece(base + 0x21000, 16, IOVA + 0x21000)]


@pytest.mark.parametrize(
    ("access", "perm", "room", "refused"),
    [
        (RO, WO, 8, ("vq.translate.perm", E.EPERM)),
        (WO, RO, 8, ("vq.translate.perm", E.EPERM)),
        (RO, RO, 1, ("vq.translate.pieces", E.ENOBUFS)),
    ],
)
def test_permission_and_room_are_checked(
    walk: Walk, access: int, perm: int, room: int, refused: tuple[str, int]
) -> None:
    walk.net.map(0x20000, PAGE, perm)
    walk.net.map(0x21000, PAGE, perm)
    assert refusal(lambda: translate_desc(walk.vq, IOVA + 0x20FF0, 0x20, access, room)) == refused
    assert not walk.net.device.read_list, "no question is asked"


def test_the_first_missing_byte_is_asked_for(walk: Walk) -> None:
    walk.net.map(0x20000, PAGE)
    assert refusal(lambda: translate_desc(walk.vq, IOVA + 0x20FF0, 0x20, WO, 8)) == ("vq.translate.miss", E.EAGAIN)
    (miss,) = walk.net.device.read_list
    assert (miss.iova, miss.perm) == (IOVA + 0x21000, WO)


def test_without_an_iotlb_the_memory_table_answers_and_nothing_is_asked() -> None:
    net = Net(0, table=True)
    vq = net.device.vqs[TX]
    assert translate_desc(vq, net.ram.addr + 5, 3, WO, 1) == [Piece(net.ram.addr + 5, 3, net.ram.addr + 5)]
    assert refusal(lambda: translate_desc(vq, 0, 1, RO, 1)) == ("vq.translate.absent", E.EFAULT)
    assert not net.device.read_list


# -- metadata


@pytest.mark.parametrize(("features", "extra"), [(PLATFORM, 0), (PLATFORM | EVENT_IDX, 2)])
def test_areas_are_as_long_as_the_ring(features: int, extra: int) -> None:
    walk = Walk(features)
    assert [(name, size, access) for name, _, size, access in areas(walk.vq)] == [
        ("desc", 16 * NUM, RO),
        ("avail", 4 + 2 * NUM + extra, RO),
        ("used", 4 + 8 * NUM + extra, WO),
    ]


def test_prefetch_remembers_areas_that_lie_in_one_entry_until_the_map_changes(walk: Walk) -> None:
    assert vq_meta_prefetch(walk.vq)
    assert set(walk.vq.meta_iotlb) == {"desc", "avail", "used"}
    walk.net.map(0x40000, PAGE)
    assert not walk.vq.meta_iotlb


def test_an_area_in_two_entries_is_there_but_not_remembered() -> None:
    walk = Walk(mapped=False)
    at = walk.ring.desc_at
    walk.net.map(at, 8 * 16)
    walk.net.map(at + 8 * 16, 0x10000 - at - 8 * 16)
    assert vq_meta_prefetch(walk.vq)
    assert set(walk.vq.meta_iotlb) == {"avail", "used"}


# -- chains


def test_a_chain_is_taken_with_its_readable_part_before_its_writable(walk: Walk) -> None:
    walk.descriptor(3, IOVA + 0x8000, 10, NEXT, 7)
    walk.descriptor(7, IOVA + 0x9000, 20, NEXT, 1)
    walk.descriptor(1, IOVA + 0xA000, 30, WRITE)
    walk.offer(3)
    chain = walk.chain()
    assert chain.head == 3
    assert [piece.length for piece in chain.out] == [10, 20]
    assert [piece.length for piece in chain.into] == [30]
    assert walk.vq.last_avail_idx == 1
    assert vhost_get_vq_desc(walk.vq) is None
    discard_vq_desc(walk.vq)
    assert walk.chain().head == 3


BAD: dict[str, list[tuple[int, int, int, int]]] = {
    "vq.chain.next": [(IOVA + 0x8000, 4, NEXT, NUM)],
    "vq.chain.loop": [(IOVA + 0x8000, 4, NEXT, 0)],
    "vq.chain.order": [(IOVA + 0x8000, 4, WRITE | NEXT, 1), (IOVA + 0x8000, 4, 0, 0)],
    "vq.indirect.length": [(IOVA + 0x8000, 24, INDIRECT, 0)],
    "vq.translate.perm": [(IOVA + 0x30000, 4, WRITE, 0)],
    "vq.translate.miss": [(IOVA + 0x50000, 4, 0, 0)],
}


@pytest.mark.parametrize("rule", BAD)
def test_a_bad_chain_is_not_taken_and_an_error_is_told_unless_it_is_a_question(walk: Walk, rule: str) -> None:
    walk.net.map(0x30000, PAGE, RO)
    for slot, fields in enumerate(BAD[rule]):
        walk.descriptor(slot, *fields)
    walk.offer(0)
    for _ in range(2):
        assert refusal(lambda: vhost_get_vq_desc(walk.vq))[0] == rule
    assert walk.vq.last_avail_idx == 0
    assert (walk.net.count(walk.net.err[TX]) > 0) == (rule != "vq.translate.miss")


def test_a_head_beyond_the_ring_and_an_index_that_jumps(walk: Walk) -> None:
    walk.offer(NUM)
    assert refusal(lambda: vhost_get_vq_desc(walk.vq))[0] == "vq.chain.head"
    jump = Walk()
    jump.slots = NUM
    jump.offer(0)
    assert refusal(lambda: vhost_get_vq_desc(jump.vq))[0] == "vq.avail.jump"


def test_an_indirect_table_may_be_longer_than_the_ring_and_lie_in_pieces(walk: Walk) -> None:
    count = NUM + 4
    table = b"".join(
        struct.pack("<QIHH", IOVA + 0x8000 + i, 1, NEXT if i + 1 < count else 0, i + 1) for i in range(count)
    )
    walk.net.map(0x20000, PAGE)
    walk.net.map(0x21000, PAGE)
    walk.net.ram.write(0x20FF8, table)
    walk.descriptor(0, IOVA + 0x20FF8, len(table), INDIRECT)
    walk.offer(0)
    assert sum(piece.length for piece in walk.chain().out) == count


@pytest.mark.parametrize(
    ("entries", "rule"),
    [
        ([(IOVA + 0x8000, 4, NEXT, 0)], "vq.indirect.loop"),
        ([(IOVA + 0x8000, 4, NEXT, 5)], "vq.indirect.loop"),
        ([(IOVA + 0x8000, 4, INDIRECT, 0)], "vq.indirect.nested"),
        ([(IOVA + 0x8000, 4, WRITE | NEXT, 1), (IOVA + 0x8000, 4, 0, 0)], "vq.chain.order"),
    ],
)
def test_what_an_indirect_table_may_not_hold(walk: Walk, entries: list[tuple[int, int, int, int]], rule: str) -> None:
    table = b"".join(struct.pack("<QIHH", *entry) for entry in entries)
    walk.net.ram.write(0xC000, table)
    walk.descriptor(0, IOVA + 0xC000, len(table), INDIRECT)
    walk.offer(0)
    assert refusal(lambda: vhost_get_vq_desc(walk.vq))[0] == rule


@given(
    st.lists(
        st.tuples(
            st.sampled_from([IOVA, IOVA + 0x8000, IOVA + 0xFFFF, IOVA + 0x10000, (1 << 64) - 4, 0]),
            st.sampled_from([0, 1, 15, 16, 48, 0x10000, 0xFFFF_FFFF]),
            st.integers(0, 7),
            st.integers(0, NUM + 1),
        ),
        min_size=NUM,
        max_size=NUM,
    ),
    st.lists(st.integers(0, NUM + 1), min_size=1, max_size=NUM),
)
def test_any_table_ends_in_a_chain_or_a_refusal_and_never_beyond_the_mapping(
    table: list[tuple[int, int, int, int]], heads: list[int]
) -> None:
    walk = Walk()
    for slot, fields in enumerate(table):
        walk.descriptor(slot, *fields)
    walk.offer(*heads)
    before = walk.vq.last_avail_idx
    try:
        chain = vhost_get_vq_desc(walk.vq)
    except KernelError:
        assert walk.vq.last_avail_idx == before
        return
    assert chain is not None
    assert len(chain.out) + len(chain.into) <= CHAIN_PIECES
    low = walk.net.ram.addr
    for piece in chain.out + chain.into:
        assert low <= piece.uaddr <= piece.uaddr + piece.length <= low + 0x10000


# -- buffers


def test_gather_and_scatter_are_each_other_s_inverse(walk: Walk) -> None:
    pieces = translate_desc(walk.vq, IOVA + 0x8000, 0x1800, RO, 8)
    assert scatter(walk.vq, pieces, b"x" * 0x1000) == 0x1000
    assert gather(walk.vq, pieces, 2)[:0x1000] == b"x" * 0xFFE + bytes(2)


def test_memory_that_is_gone_is_a_fault(walk: Walk) -> None:
    pieces = translate_desc(walk.vq, IOVA + 0x8000, 0x2000, RO, 8)
    walk.net.vmm.munmap(walk.net.ram.addr + 0x9000, PAGE)
    assert refusal(lambda: gather(walk.vq, pieces))[0] == "vq.copy"
    assert refusal(lambda: scatter(walk.vq, pieces, bytes(0x2000)))[0] == "vq.copy"


# -- used ring


def test_used_elements_are_put_in_order_with_one_interrupt(walk: Walk) -> None:
    add_used_and_signal(walk.vq, [(3, 10), (1, 0)])
    assert walk.used() == [(3, 10), (1, 0)]
    assert walk.net.count(walk.net.call[TX]) == 1
    add_used_and_signal(walk.vq, [])
    assert walk.net.count(walk.net.call[TX]) == 0


def test_elements_wrap_round_the_ring(walk: Walk) -> None:
    for n in range(0xFFFE, 0x10000 + NUM):
        walk.vq.last_used_idx = n & 0xFFFF
        add_used_and_signal(walk.vq, [(n % NUM, n)])
        at = walk.ring.used_at + 4 + 8 * (n % NUM)
        assert walk.net.ram.read(at, 8) == struct.pack("<II", n % NUM, n)
    assert walk.vq.last_used_idx == NUM


def test_a_used_ring_that_is_gone_is_an_error_event(walk: Walk) -> None:
    walk.net.vmm.munmap(walk.net.ram.addr + (walk.ring.used_at & -PAGE), PAGE)
    add_used_and_signal(walk.vq, [(0, 0)])
    assert walk.net.count(walk.net.err[TX]) == 2, "for the element, and for the flags in the same page"


@pytest.mark.parametrize(
    ("features", "flags", "interrupts"),
    [(PLATFORM, 0, 1), (PLATFORM, 1, 0), (PLATFORM | ON_EMPTY, 1, 1)],
)
def test_the_driver_s_flag_is_asked_unless_the_ring_ran_empty(features: int, flags: int, interrupts: int) -> None:
    walk = Walk(features)
    walk.net.ram.write(walk.ring.avail_at, bytes([flags, 0]))
    add_used_and_signal(walk.vq, [(0, 0)])
    assert walk.net.count(walk.net.call[TX]) == interrupts


@pytest.mark.parametrize(("event", "interrupts"), [(0, [1, 0, 0]), (1, [1, 1, 0]), (2, [1, 0, 1]), (9, [1, 0, 0])])
def test_with_event_index_an_interrupt_comes_when_the_index_passes_the_event(
    event: int, interrupts: list[int]
) -> None:
    walk = Walk(PLATFORM | EVENT_IDX)
    walk.net.ram.write(walk.ring.avail_at + 4 + 2 * NUM, event.to_bytes(2, "little"))
    seen = []
    for _ in range(3):
        add_used_and_signal(walk.vq, [(0, 0)])
        seen.append(walk.net.count(walk.net.call[TX]))
    assert seen == interrupts


def test_enabling_notifications_tells_what_had_slipped_in(walk: Walk) -> None:
    walk.vq.used_flags = 1
    walk.offer(0)
    assert enable_notify(walk.vq)
    assert not enable_notify(walk.vq), "they are on already"
    walk.vq.used_flags = 1
    assert not enable_notify(walk.vq)


def test_no_ring_is_no_ring() -> None:
    walk = Walk()
    walk.vq.desc = walk.vq.avail = walk.vq.used = 0
    with rules_hit() as rules:
        assert not vq_meta_prefetch(walk.vq)
    assert "vq.prefetch.no-ring" in rules


# -- notifications


@pytest.mark.parametrize(("features", "flags"), [(PLATFORM, 1), (PLATFORM | EVENT_IDX, 0)])
def test_kicks_are_refused_by_the_flag_unless_the_event_index_speaks(features: int, flags: int) -> None:
    walk = Walk(features)
    disable_notify(walk.vq)
    assert walk.vq.used_flags == 1
    assert walk.net.ram.read(walk.ring.used_at, 2) == bytes([flags, 0])


@pytest.mark.parametrize(("features", "offset"), [(PLATFORM, 0), (PLATFORM | EVENT_IDX, 4 + 8 * NUM)])
def test_kicks_are_wanted_again_by_flag_or_by_index(features: int, offset: int) -> None:
    walk = Walk(features)
    disable_notify(walk.vq)
    walk.vq.last_avail_idx = walk.vq.avail_idx = 5
    walk.net.ram.write(walk.ring.avail_at + 2, b"\x05\0")
    walk.net.ram.write(walk.ring.used_at + offset, b"\xff\xff")
    assert not enable_notify(walk.vq)
    assert walk.vq.used_flags == 0
    stored = int.from_bytes(walk.net.ram.read(walk.ring.used_at + offset, 2), "little")
    assert stored == (5 if offset else 0)


@pytest.mark.parametrize("slots", [NUM, NUM + 1])
def test_an_avail_index_may_be_a_whole_ring_ahead_and_no_more(walk: Walk, slots: int) -> None:
    walk.descriptor(0, IOVA + 0x8000, 4)
    walk.offer(*[0] * slots)
    if slots > NUM:
        assert refusal(lambda: vhost_get_vq_desc(walk.vq)) == ("vq.avail.jump", E.EINVAL)
        assert walk.net.count(walk.net.err[TX]) == 1
    else:
        assert [walk.chain().head for _ in range(NUM)] == [0] * NUM


def test_the_avail_ring_wraps(walk: Walk) -> None:
    walk.vq.last_avail_idx = walk.vq.avail_idx = NUM + 3
    walk.slots = NUM + 3
    walk.descriptor(7, IOVA + 0x8000, 4)
    walk.offer(7)
    assert walk.chain().head == 7


def test_a_chain_as_long_as_the_ring_is_no_loop(walk: Walk) -> None:
    for slot in range(NUM):
        walk.descriptor(slot, IOVA + 0x8000, 1, NEXT if slot + 1 < NUM else 0, slot + 1)
    walk.offer(0)
    assert len(walk.chain().out) == NUM


# -- metadata without the cache


def scattered(perm: int, cut: int) -> Walk:
    """A machine whose used ring lies in two entries, cut at this offset, so nothing of it is remembered."""
    walk = Walk(mapped=False)
    at = walk.ring.used_at
    walk.net.map(walk.ring.desc_at, at - walk.ring.desc_at)
    walk.net.map(at, cut, perm)
    walk.net.map(at + cut, 0x400, perm)
    return walk


def test_a_field_that_lies_across_two_entries_is_an_error() -> None:
    walk = scattered(3, 3)
    assert refusal(lambda: vhost_vq_init_access(walk.vq))[0] == "net.backend.used"
    assert walk.net.count(walk.net.err[TX]) == 2, "who looked it up and who wanted it both tell"


def test_flags_are_written_with_read_permission_where_an_element_is_not() -> None:
    walk = scattered(RO, 64)
    disable_notify(walk.vq)
    assert walk.net.ram.read(walk.ring.used_at, 2) == b"\x01\0"
    add_used_and_signal(walk.vq, [(3, 10)])
    assert walk.net.ram.read(walk.ring.used_at + 2, 10) == bytes(10)
    assert walk.net.count(walk.net.err[TX]) == 1


def test_an_element_across_two_entries_is_put_in_two_parts() -> None:
    walk = scattered(3, 8)
    add_used_and_signal(walk.vq, [(3, 0x01020304)])
    assert walk.used() == [(3, 0x01020304)]


@pytest.mark.parametrize("entries", [0x10000, 0x10001])
def test_an_indirect_table_has_at_most_65536_entries(entries: int) -> None:
    walk = Walk(mapped=False)
    walk.net.map(0, 1 << 20)
    walk.net.vmm.mmap(1 << 21, addr=walk.net.ram.addr + (1 << 20))
    walk.net.map(1 << 20, 1 << 21)
    walk.net.ram.write(0x8000, struct.pack("<QIHH", IOVA + 0x9000, 4, 0, 0))
    walk.descriptor(0, IOVA + 0x8000, 16 * entries, INDIRECT)
    walk.offer(0)
    if entries > 0x10000:
        assert refusal(lambda: vhost_get_vq_desc(walk.vq)) == ("vq.indirect.size", E.E2BIG)
    else:
        assert [piece.length for piece in walk.chain().out] == [4]


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_chain_has_room_for_1024_pieces(walk: Walk, beyond: int) -> None:
    count = CHAIN_PIECES + beyond
    table = b"".join(
        struct.pack("<QIHH", IOVA + 0x8000, 1, (NEXT if i + 1 < count else 0) | (WRITE if i > 500 else 0), i + 1)
        for i in range(count)
    )
    walk.net.ram.write(0xB000, table)
    walk.descriptor(0, IOVA + 0xB000, len(table), INDIRECT)
    walk.offer(0)
    if beyond:
        assert refusal(lambda: vhost_get_vq_desc(walk.vq)) == ("vq.translate.pieces", E.ENOBUFS)
    else:
        chain = walk.chain()
        assert len(chain.out) + len(chain.into) == 1024


@pytest.mark.parametrize(("kernel", "served"), [("tip", []), ("tip-F14", [0, 0])])
def test_an_index_that_jumps_is_served_at_the_second_try_before_f14(kernel: str, served: list[int]) -> None:
    walk = Walk(kernel=kernel)
    walk.descriptor(0, IOVA + 0x8000, 4)
    walk.offer(*[0] * (NUM + 1))
    assert refusal(lambda: vhost_get_vq_desc(walk.vq))[0] == "vq.avail.jump"
    for head in served:
        assert walk.chain().head == head
    if not served:
        assert refusal(lambda: vhost_get_vq_desc(walk.vq))[0] == "vq.avail.jump"


def test_a_kick_is_wanted_behind_what_the_driver_offered_though_chains_were_given_back() -> None:
    walk = Walk(PLATFORM | EVENT_IDX)
    walk.descriptor(0, IOVA + 0x8000, 4)
    walk.offer(0)
    disable_notify(walk.vq)
    walk.chain()
    discard_vq_desc(walk.vq)
    enable_notify(walk.vq)
    assert walk.net.ram.read(walk.ring.used_at + 4 + 8 * NUM, 2) == b"\x01\0"


@pytest.mark.parametrize("following", [0, 2, 999])
def test_an_indirect_table_is_read_in_sequence_whatever_next_says(walk: Walk, following: int) -> None:
    entries = [(IOVA + 0x8000, 4, NEXT, following), (IOVA + 0x8100, 5, 0, 0), (IOVA + 0x8200, 6, 0, 0)]
    walk.net.ram.write(0x7000, b"".join(struct.pack("<QIHH", *entry) for entry in entries))
    walk.descriptor(0, IOVA + 0x7000, 48, INDIRECT)
    walk.offer(0)
    assert [piece.length for piece in walk.chain().out] == [4, 5]


@pytest.mark.parametrize("flags", [0, NEXT])
def test_the_end_of_an_indirect_table_need_not_be_there_if_the_chain_ends_before(walk: Walk, flags: int) -> None:
    net = walk.net
    run_sync(net.handle.iotlb_update(IOVA + 0x20000, 0x2000, net.ram.addr + 0xFF000))
    net.ram.write(0xFFFF0, struct.pack("<QIHH", IOVA + 0x8000, 4, flags, 1))
    walk.descriptor(0, IOVA + 0x20FF0, 32, INDIRECT)
    walk.offer(0)
    if flags:
        assert refusal(lambda: vhost_get_vq_desc(walk.vq))[0] == "vq.copy"
    else:
        assert [piece.length for piece in walk.chain().out] == [4]


@pytest.mark.parametrize("cut", [1, 8, 15])
def test_a_descriptor_may_lie_across_two_entries(cut: int) -> None:
    walk = Walk(mapped=False)
    at = walk.ring.desc_at + cut
    walk.net.map(0, at)
    walk.net.map(at, 0x10000 - at)
    walk.descriptor(0, IOVA + 0x8000, 4)
    walk.offer(0)
    assert walk.chain().out == [Piece(walk.net.ram.addr + 0x8000, 4, IOVA + 0x8000)]
    assert walk.net.count(walk.net.err[TX]) == 0


def test_a_descriptor_whose_end_is_not_mapped_is_an_error_that_is_told() -> None:
    walk = Walk(mapped=False)
    walk.net.map(0, walk.ring.desc_at + 8)
    walk.net.map(walk.ring.avail_at, 0x400)
    walk.offer(0)
    assert refusal(lambda: vhost_get_vq_desc(walk.vq))[0] == "vq.translate.miss"
    assert walk.net.count(walk.net.err[TX]) == 1


def test_when_the_room_is_used_up_nothing_more_is_asked_for(walk: Walk) -> None:
    walk.net.map(0x20000, PAGE)
    assert refusal(lambda: translate_desc(walk.vq, IOVA + 0x20FF0, 0x20, RO, 1)) == ("vq.translate.pieces", E.ENOBUFS)
    assert not walk.net.device.read_list
    assert len(translate_desc(walk.vq, IOVA + 0x20FF0, 0x10, RO, 1)) == 1


def test_activation_forgets_what_was_signalled() -> None:
    walk = Walk(PLATFORM | EVENT_IDX)
    walk.ring.want_interrupt(0)
    add_used_and_signal(walk.vq, [(3, 0)])
    vhost_vq_init_access(walk.vq)
    walk.ring.want_interrupt(1000)
    walk.net.count(walk.net.call[TX])
    add_used_and_signal(walk.vq, [(4, 0)])
    assert walk.net.count(walk.net.call[TX]) == 1


def test_without_a_call_eventfd_the_wish_for_interrupts_is_not_looked_at() -> None:
    walk = Walk(PLATFORM | EVENT_IDX)
    run_sync(walk.net.handle.set_vring_call(TX, -1))
    add_used_and_signal(walk.vq, [(3, 0)])
    assert walk.vq.signalled_used is None
    run_sync(walk.net.handle.set_vring_call(TX, walk.net.call[TX].fd))
    walk.ring.want_interrupt(1000)
    add_used_and_signal(walk.vq, [(4, 0)])
    assert walk.net.count(walk.net.call[TX]) == 1


def test_an_index_that_went_all_the_way_round_is_no_longer_what_was_signalled() -> None:
    walk = Walk(PLATFORM | EVENT_IDX)
    add_used_and_signal(walk.vq, [(3, 0)])
    assert walk.vq.signalled_used == 1
    walk.vq.last_used_idx = 0
    put_used(walk.vq, [(4, 0)])
    assert walk.vq.signalled_used is None


def torn(offset: int, size: int) -> Walk:
    """A machine where a part of the used ring is mapped to memory that is not there."""
    walk = Walk(mapped=False)
    net, at = walk.net, walk.ring.used_at + offset
    net.map(0, at)
    net.map(at + size, 0x400)
    run_sync(net.handle.iotlb_update(IOVA + at, size, net.ram.addr + (2 << 20)))
    return walk


def test_elements_count_only_when_their_run_was_written() -> None:
    walk = torn(4 + 16, 0x400)
    add_used_and_signal(walk.vq, [(head, 0) for head in range(4)])
    assert (walk.vq.last_used_idx, walk.used()) == (0, [])
    assert walk.net.count(walk.net.err[TX]) == 1


def test_of_elements_around_the_end_of_the_ring_the_first_run_may_be_all() -> None:
    walk = torn(4, 16)
    walk.vq.last_used_idx = NUM - 2
    add_used_and_signal(walk.vq, [(head, 0) for head in range(4)])
    assert walk.vq.last_used_idx == NUM
    assert walk.net.ram.read(walk.ring.used_at + 2, 2) == bytes([NUM, 0])


def test_without_a_call_eventfd_that_is_why_there_is_no_interrupt(walk: Walk) -> None:
    run_sync(walk.net.handle.set_vring_call(TX, -1))
    walk.net.ram.write(walk.ring.avail_at, b"\x01\0")
    seen: list[Event] = []
    walk.net.sim.listen(seen.append)
    add_used_and_signal(walk.vq, [(3, 0)])
    assert [event[6] for event in seen if event[3] == Kind.QUIET] == ["no-eventfd"]
    assert not [event for event in seen if event[3] == Kind.DMA and event[6] == IOVA + walk.ring.avail_at]
