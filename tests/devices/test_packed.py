"""The device side of a packed ring, against the driver side of ``vmm/packed.py`` and against bytes written by hand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.ringside import BUFFERS, IOVA, READ, RW, SIZE, WRITE, Ringside, readable, writable
from vdpasim.core.rules import KernelError
from vdpasim.devices.packed import START, PackedRing, advance, event_passed, vring_need_event
from vdpasim.vmm.guest import Used
from vdpasim.vmm.packed import PackedVirtqueue

if TYPE_CHECKING:
    from vdpasim.vmm.guest import Buffer

NEXT, W, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15
DRIVER, DEVICE = 16 * 8, 16 * 8 + 4
"""Offsets of the event areas of a ring of 8."""


@pytest.fixture
def ring() -> Ringside:
    return Ringside(packed=True)


def refused_by(ring: Ringside) -> str:
    """The rule that the next look at the ring meets; a second look meets the same, and nothing was taken."""
    before = ring.device.last_avail_idx
    rules = []
    for _ in range(2):
        with pytest.raises(KernelError) as caught:
            ring.device.getdesc(writable=True)
        rules.append(caught.value.rule)
    assert rules[0] == rules[1]
    assert ring.device.last_avail_idx == before
    return rules[0]


class TestPositions:
    @pytest.mark.parametrize(
        ("position", "slots", "after"),
        [
            (START, 3, START | 3),
            (START | 7, 1, 0),
            (START | 6, 5, 3),
            (5, 3, START),
            (0, 8, START),
            (START | 4, 8, 4),
            (2, 0, 2),
        ],
    )
    def test_the_wrap_counter_flips_at_the_end_of_the_table(self, position: int, slots: int, after: int) -> None:
        assert advance(position, slots, 8) == after

    def test_an_event_lies_among_the_slots_just_used(self) -> None:
        assert event_passed(START | 2, START | 3, 1, 8)
        assert not event_passed(START | 3, START | 3, 1, 8)
        assert not event_passed(START | 1, START | 3, 1, 8)
        assert event_passed(START | 7, 1, 3, 8)
        assert event_passed(0, 1, 3, 8)
        assert not event_passed(START | 5, 1, 3, 8)

    @given(st.integers(0, 31), st.integers(1, 16), st.integers(0, 31))
    def test_whether_an_event_passed_is_counting(self, at: int, slots: int, event: int) -> None:
        """Positions of a ring of 16 are a clock of 32 hours."""

        def position(hour: int) -> int:
            return hour % 16 | (START if hour % 32 < 16 else 0)

        passed = {(at + i) % 32 for i in range(slots)}
        # an event more than a lap away is one lap off; drivers never ask for that
        if event in passed or (event - at) % 32 < 16:
            assert event_passed(position(event), position(at + slots), slots, 16) is (event in passed)

    def test_need_event_is_the_kernel_s(self) -> None:
        assert vring_need_event(0xFFFF, 0, 0xFFFF)
        assert not vring_need_event(0, 0, 0xFFFF)
        assert not vring_need_event(5, 5, 5)


class TestTaking:
    def test_an_empty_ring_has_nothing(self, ring: Ringside) -> None:
        assert ring.device.getdesc() is None

    @pytest.mark.parametrize(("flags", "there"), [(0, False), (USED, False), (AVAIL | USED, False), (AVAIL, True)])
    def test_a_descriptor_is_there_if_its_bits_differ_the_right_way(
        self, ring: Ringside, flags: int, there: bool
    ) -> None:
        ring.put_slot(0, IOVA, 1, 0, flags)
        assert (ring.device.getdesc() is not None) is there

    def test_a_chain_is_read_and_written_and_comes_back(self, ring: Ringside) -> None:
        ring.ram.write(BUFFERS, b"question")
        number = ring.driver.add(readable(0, 4), readable(4, 4), writable(0x100, 16))
        head, riov, wiov = ring.take()
        assert (head, ring.read(riov), wiov.total) == (number, b"question", 16)
        ring.device.push(wiov, b"an answer")
        ring.device.complete(head, 9)
        assert ring.driver.used() == [Used(number, 9)]
        assert ring.ram.read(BUFFERS + 0x100, 9) == b"an answer"
        assert ring.device.getdesc() is None

    def test_the_used_descriptor_is_as_the_standard_has_it(self, ring: Ringside) -> None:
        ring.driver.add(writable(0, 8))
        head, _, _ = ring.take()
        ring.device.complete(head, 5)
        address, length, ident, flags = ring.slot(0)
        assert (length, ident, flags) == (5, head, W | AVAIL | USED)
        assert address == IOVA + BUFFERS, "the address is not written"

    def test_nothing_written_is_said_by_the_flag(self, ring: Ringside) -> None:
        ring.driver.add(readable(0, 8))
        ring.device.complete(ring.take()[0], 0)
        assert ring.slot(0)[3] == AVAIL | USED

    def test_the_id_is_that_of_the_last_descriptor(self, ring: Ringside) -> None:
        ring.put_slot(1, IOVA, 1, 0x4321, AVAIL)
        ring.put_slot(0, IOVA, 1, 0x1234, AVAIL | NEXT)
        assert ring.take()[0] == 0x4321

    def test_chains_may_come_back_in_any_order(self, ring: Ringside) -> None:
        first = ring.driver.add(readable(0, 1), readable(1, 1))
        second = ring.driver.add(readable(2, 1))
        assert (ring.take()[0], ring.take()[0]) == (first, second)
        ring.device.complete(second, 0)
        assert [used.head for used in ring.driver.used()] == [second]
        ring.device.complete(first, 0)
        assert [used.head for used in ring.driver.used()] == [first]
        assert ring.device.last_used_idx == ring.device.last_avail_idx == START | 3

    def test_abandoned_chains_are_taken_again(self, ring: Ringside) -> None:
        for _ in range(3):
            ring.driver.add(readable(0, 1), readable(1, 1))
        heads = [ring.take()[0] for _ in range(3)]
        ring.device.abandon()
        ring.device.abandon()
        assert [ring.take()[0] for _ in range(2)] == heads[1:]

    @pytest.mark.parametrize("used", range(9))
    def test_giving_back_a_chain_is_the_way_back(self, used: int) -> None:
        ring = Ringside(packed=True)
        for _ in range(used):
            ring.driver.add(readable(0, 1))
            ring.device.complete(ring.take()[0], 0)
            ring.driver.used()
        before = ring.device.last_avail_idx
        ring.driver.add(*[readable(i, 1) for i in range(8)])
        ring.take()
        ring.device.abandon()
        assert ring.device.last_avail_idx == before

    def test_a_chain_may_lie_across_the_end_of_the_table(self, ring: Ringside) -> None:
        for _ in range(6):
            ring.driver.add(readable(0, 1))
            ring.device.complete(ring.take()[0], 0)
        ring.driver.used()
        ring.ram.write(BUFFERS, b"abcd")
        number = ring.driver.add(*[readable(i, 1) for i in range(4)])
        head, riov, _ = ring.take()
        assert (head, ring.read(riov)) == (number, b"abcd")
        ring.device.complete(head, 0)
        assert ring.driver.used() == [Used(number, 0)]
        assert (ring.device.last_avail_idx, ring.device.last_used_idx) == (2, 2)

    def test_a_ring_of_one_slot_works(self) -> None:
        ring = Ringside(packed=True, num=1)
        for i in range(5):
            number = ring.driver.add(readable(i, 1))
            ring.device.complete(ring.take()[0], 0)
            assert ring.driver.used() == [Used(number, 0)]


class TestIndirect:
    def test_a_table_takes_one_slot(self) -> None:
        ring = Ringside(packed=True, indirect=True)
        ring.ram.write(BUFFERS, b"xyz")
        number = ring.driver.add(readable(0, 1), readable(1, 2), writable(0x100, 4))
        head, riov, wiov = ring.take()
        assert (head, ring.read(riov), wiov.total) == (number, b"xyz", 4)
        assert ring.device.last_avail_idx == START | 1
        ring.device.complete(head, 4)
        assert ring.driver.used() == [Used(number, 4)]

    def test_flags_inside_a_table_do_not_chain(self) -> None:
        ring = Ringside(packed=True, indirect=True)
        ring.put_slot(0x100, IOVA + BUFFERS, 3, 0, NEXT)
        ring.put_slot(0, IOVA + 0x1000, 16, 5, AVAIL | INDIRECT)
        assert ring.take()[1].total == 3

    @pytest.mark.parametrize("length", [0, 8, 17, 16 * 1025])
    def test_of_a_bad_length_it_is_refused(self, length: int) -> None:
        ring = Ringside(packed=True, indirect=True)
        ring.put_slot(0, IOVA, length, 0, AVAIL | INDIRECT)
        assert refused_by(ring) == "peer.packed.indirect.length"

    def test_nested_or_chained_it_is_refused(self) -> None:
        ring = Ringside(packed=True, indirect=True)
        ring.put_slot(0, IOVA + 0x1000, 16, 0, AVAIL | INDIRECT | NEXT)
        assert refused_by(ring) == "peer.packed.indirect.nested"
        ring.put_slot(0, IOVA, 1, 0, AVAIL | NEXT)
        ring.put_slot(1, IOVA + 0x1000, 16, 0, AVAIL | INDIRECT)
        assert refused_by(ring) == "peer.packed.indirect.nested"
        ring.put_slot(0x100, IOVA, 16, 0, INDIRECT)
        ring.put_slot(0, IOVA + 0x1000, 16, 0, AVAIL | INDIRECT)
        assert refused_by(ring) == "peer.packed.indirect.nested"

    def test_not_negotiated_it_is_refused(self, ring: Ringside) -> None:
        ring.put_slot(0, IOVA + 0x1000, 16, 0, AVAIL | INDIRECT)
        assert refused_by(ring) == "peer.packed.indirect.unknown"


class TestWhatBreaksTheRules:
    def test_a_chain_longer_than_the_ring(self, ring: Ringside) -> None:
        for i in range(8):
            ring.put_slot(i, IOVA, 1, 0, AVAIL | NEXT)
        assert refused_by(ring) == "peer.packed.loop"

    def test_a_readable_descriptor_behind_a_writable_one(self, ring: Ringside) -> None:
        ring.driver.add(writable(0, 1), readable(0, 1))
        assert refused_by(ring) == "peer.packed.order"

    def test_a_direction_the_queue_does_not_take(self, ring: Ringside) -> None:
        ring.driver.add(writable(0, 1))
        with pytest.raises(KernelError) as caught:
            ring.device.getdesc(writable=False)
        assert caught.value.rule == "peer.packed.direction"
        assert ring.device.getdesc(readable=False) is not None

    def test_an_id_that_is_in_flight(self, ring: Ringside) -> None:
        ring.put_slot(0, IOVA, 1, 7, AVAIL)
        ring.put_slot(1, IOVA, 1, 7, AVAIL)
        ring.take()
        assert refused_by(ring) == "peer.packed.id"
        ring.device.complete(7, 0)
        assert ring.take()[0] == 7

    def test_a_table_outside_the_map(self, ring: Ringside) -> None:
        ring.driver.add(readable(0, 1))
        ring.revoke()
        assert refused_by(ring) == "vringh.iotlb.absent"
        ring.grant(IOVA, SIZE)
        assert ring.device.getdesc() is not None


class TestPermissions:
    def test_the_table_must_be_writable_to_complete(self, ring: Ringside) -> None:
        ring.driver.add(readable(0, 1))
        ring.revoke()
        ring.grant(IOVA, SIZE, READ)
        head, _, _ = ring.take()
        with pytest.raises(KernelError) as caught:
            ring.device.complete(head, 0)
        assert caught.value.rule == "vringh.copy"
        assert isinstance(ring.device, PackedRing)
        assert (ring.device.in_flight, ring.device.last_used_idx) == ({head: 1}, START)

    @pytest.mark.parametrize("kernel", ["6.1", "tip"])
    def test_write_is_asked_for_whatever_the_kernel_does_to_split_rings(self, kernel: str) -> None:
        ring = Ringside(packed=True, kernel=kernel)
        ring.driver.add(readable(0, 1))
        ring.watch()
        ring.device.complete(ring.take()[0], 0)
        ring.device.need_notify()
        ring.device.getdesc()
        writes = {(iova - IOVA, length) for iova, length, access in ring.accesses if access == WRITE}
        assert writes == {(8, 6), (14, 2), (DEVICE + 2, 2)}
        reads = {iova - IOVA for iova, _, access in ring.accesses if access == READ}
        assert reads == {0, 14, 16 + 14, DRIVER + 2}

    def test_the_event_areas_may_be_of_the_least_permission(self) -> None:
        ring = Ringside(packed=True, num=256)
        ring.revoke()
        ring.grant(IOVA, 0x1000, RW)
        ring.grant(IOVA + 0x1000, 4, READ)
        ring.grant(IOVA + 0x1004, 4, WRITE)
        ring.grant(IOVA + BUFFERS, 0x1000, READ)
        ring.driver.add(readable(0, 1))
        head, riov, _ = ring.take()
        ring.read(riov)
        ring.device.complete(head, 0)
        assert ring.device.need_notify()
        assert ring.device.getdesc() is None


class TestEvents:
    def test_flags_say_always_or_never(self, ring: Ringside) -> None:
        for wanted in (True, False):
            ring.driver.want_interrupt(0 if wanted else None)
            ring.driver.add(readable(0, 1))
            ring.device.complete(ring.take()[0], 0)
            assert ring.device.need_notify() is wanted

    def test_a_descriptor_is_named_by_index_and_wrap(self) -> None:
        ring = Ringside(packed=True, event_idx=True)
        told: list[bool] = []
        ring.driver.want_interrupt(after=5)
        for _ in range(12):
            ring.driver.add(readable(0, 1))
            ring.device.complete(ring.take()[0], 0)
            ring.driver.used()
            told.append(ring.device.need_notify())
        assert [i for i, one in enumerate(told) if one] == [0, 5], "the first is always told"

    def test_one_question_covers_all_that_came_before(self) -> None:
        ring = Ringside(packed=True, event_idx=True)
        assert isinstance(ring.device, PackedRing)
        ring.device.fresh = False
        ring.driver.want_interrupt(after=2)
        for _ in range(4):
            ring.driver.add(readable(0, 1))
            ring.device.complete(ring.take()[0], 0)
        assert ring.device.need_notify()
        assert not ring.device.need_notify()

    def test_an_event_inside_a_chain_is_passed_with_the_chain(self) -> None:
        ring = Ringside(packed=True, event_idx=True)
        told = []
        ring.driver.want_interrupt(after=4)
        for _ in range(3):
            ring.driver.add(readable(0, 1), readable(1, 1), readable(2, 1))
            ring.device.complete(ring.take()[0], 0)
            ring.driver.used()
            told.append(ring.device.need_notify())
        assert told == [True, True, False]

    def test_an_event_without_the_feature_is_always(self, ring: Ringside) -> None:
        ring.put_u16(DRIVER, START | 6)
        ring.put_u16(DRIVER + 2, 2)
        for _ in range(2):
            ring.driver.add(readable(0, 1))
            ring.device.complete(ring.take()[0], 0)
            assert ring.device.need_notify()

    def test_an_idle_device_asks_for_the_next_kick(self) -> None:
        ring = Ringside(packed=True, event_idx=True)
        assert ring.device.getdesc() is None
        assert (ring.u16(DEVICE), ring.u16(DEVICE + 2)) == (START, 2)
        ring.driver.add(readable(0, 1))
        assert ring.driver.need_kick()
        ring.driver.add(readable(0, 1))
        assert not ring.driver.need_kick(), "the device is awake and will see it"
        ring.take()
        ring.take()
        assert ring.device.getdesc() is None
        assert ring.u16(DEVICE) == START | 2

    def test_without_the_feature_it_asks_for_all(self, ring: Ringside) -> None:
        ring.put_u16(DEVICE + 2, 1)
        assert ring.device.getdesc() is None
        assert ring.u16(DEVICE + 2) == 0


class TestState:
    def test_a_new_ring_begins_with_wrap_one(self, ring: Ringside) -> None:
        assert (ring.device.last_avail_idx, ring.device.last_used_idx) == (0x8000, 0x8000)

    @pytest.mark.parametrize("done", range(20))
    def test_another_device_goes_on_where_one_stopped(self, done: int) -> None:
        ring = Ringside(packed=True)
        for _ in range(done):
            ring.driver.add(readable(0, 1))
            ring.device.complete(ring.take()[0], 0)
            ring.driver.used()
        number = ring.driver.add(readable(0, 1))
        old = ring.device
        new = PackedRing(ring.sim.kernel, ring.map, ring.sim.pages, on_dma=old.on_dma)
        assert new.init(8, *ring.driver.addresses(), ring.ram.process.mm)
        assert new.restore(old.last_avail_idx, old.last_used_idx)
        chain = new.getdesc()
        assert chain is not None
        new.complete(chain[0], 0)
        assert ring.driver.used() == [Used(number, 0)]

    @pytest.mark.parametrize(("avail", "used"), [(8, 0), (0, 8), (START | 8, START), (0x7FFF, 0)])
    def test_a_position_outside_the_ring_is_refused(self, ring: Ringside, avail: int, used: int) -> None:
        assert not ring.device.restore(avail, used)
        assert ring.device.last_avail_idx == START

    @pytest.mark.parametrize("num", [0, 3, 0x10000])
    def test_a_size_that_is_none_changes_nothing(self, ring: Ringside, num: int) -> None:
        assert not ring.device.init(num, 0, 0, 0, None)
        assert ring.device.num == 8


@st.composite
def chain_of_buffers(draw: st.DrawFn) -> list[Buffer]:
    reads = draw(st.lists(st.integers(0, 64), max_size=3))
    writes = draw(st.lists(st.integers(0, 64), max_size=3))
    sizes = [(length, False) for length in reads] + [(length, True) for length in writes]
    place = draw(st.integers(0, 0x1000))
    made = [writable(place + 64 * i, n) if w else readable(place + 64 * i, n) for i, (n, w) in enumerate(sizes)]
    return made or [readable(0, 1)]


@settings(max_examples=60, deadline=None)
@given(
    packed=st.booleans(),
    num=st.sampled_from([1, 2, 4, 8, 16]),
    event_idx=st.booleans(),
    indirect=st.booleans(),
    watched=st.booleans(),
    data=st.data(),
)
def test_every_chain_comes_back_once_with_its_own_buffers(
    packed: bool, num: int, event_idx: bool, indirect: bool, watched: bool, data: st.DataObject
) -> None:
    """A random driver against the device: adding, taking, completing (a packed ring in any order), for many laps."""
    ring = Ringside(packed, num, event_idx=event_idx, indirect=indirect)
    if watched:
        ring.watch()
    posted: dict[int, list[Buffer]] = {}
    taken: list[int] = []
    free = num
    count: Counter[str] = Counter()
    for _ in range(data.draw(st.integers(1, 120))):
        action = data.draw(st.sampled_from(["add", "take", "complete", "look"]))
        if action == "add":
            chain = data.draw(chain_of_buffers())
            slots = 1 if indirect and len(chain) > 1 else len(chain)
            if slots <= free:
                head = ring.driver.add(*chain)
                assert head not in posted
                posted[head], free = chain, free - slots
                count["added"] += 1
        elif action == "take":
            found = ring.device.getdesc()
            if found is None:
                assert set(posted) <= set(taken)
                continue
            head, riov, wiov = found
            assert head not in taken
            assert [*riov.segments, *wiov.segments] == [(one.iova, one.length) for one in posted[head]]
            assert len(wiov.segments) == sum(one.writable for one in posted[head])
            taken.append(head)
        elif action == "complete" and taken:
            head = taken.pop(data.draw(st.integers(0, len(taken) - 1)) if packed else 0)
            ring.device.complete(head, len(posted[head]))
            ring.device.need_notify()
            count["completed"] += 1
            written = len(posted[head]) if any(one.writable for one in posted[head]) or not packed else None
            used = ring.driver.used()
            assert [one.head for one in used] == [head]
            assert written in (None, used[0].length)
            chain = posted.pop(head)
            free += 1 if indirect and len(chain) > 1 else len(chain)
    assert count["added"] - count["completed"] == len(posted)
    assert all(iova >= IOVA and iova + length <= IOVA + SIZE for iova, length, _ in ring.accesses)
    if packed:
        assert isinstance(ring.driver, PackedVirtqueue)
        assert ring.driver.free == free


@settings(max_examples=200, deadline=None)
@given(table=st.binary(min_size=128, max_size=128), indirect=st.booleans(), event_idx=st.booleans())
def test_whatever_a_driver_writes_the_device_refuses_or_takes(table: bytes, indirect: bool, event_idx: bool) -> None:
    """Nothing but KernelError comes out, and what is taken fits the ring."""
    ring = Ringside(packed=True, event_idx=event_idx, indirect=indirect)
    ring.ram.write(0, table)
    for _ in range(9):
        before = ring.device.last_avail_idx
        try:
            chain = ring.device.getdesc()
        except KernelError:
            assert ring.device.last_avail_idx == before
            return
        if chain is None:
            return
        try:
            ring.device.complete(chain[0], 1)
        except KernelError:
            return
    raise AssertionError("a ring of 8 gave more than 8 chains")
