"""The IOTLB as the kernel's users know it: what is inserted, found, translated and removed."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from vdpasim.core import rules
from vdpasim.core.rules import KernelError
from vdpasim.core.vhost.iotlb import Iotlb, IotlbMap, Translation
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RO, WO, RW = 1, 2, 3
TOP = 2**64 - 1
HALF = 2**63


def table(*ranges: tuple[int, int]) -> Iotlb:
    """A table without limit; every entry leads to its start plus 0x10000."""
    new = Iotlb(enforce_limit=False)
    for start, last in ranges:
        new.add_range(start, last, 0x10000 + start, RW)
    return new


def ranges(entries: Iterable[IotlbMap]) -> list[tuple[int, int]]:
    return [(entry.start, entry.last) for entry in entries]


def serial(entry: IotlbMap | None) -> int | None:
    return None if entry is None else entry.serial


def one(found: IotlbMap | None) -> IotlbMap:
    assert found is not None
    return found


@pytest.fixture
def hits() -> Iterator[list[str]]:
    seen: list[str] = []
    stop = rules.observe(seen.append)
    yield seen
    stop()


class TestAdd:
    def test_keeps_what_it_is_given(self) -> None:
        (entry,) = Iotlb(1).add_range(0x1000, 0x1FFF, 0x7F0000, WO, "file")
        assert (entry.start, entry.last, entry.size) == (0x1000, 0x1FFF, 0x1000)
        assert (entry.addr, entry.perm, entry.opaque, entry.live) == (0x7F0000, WO, "file", True)

    def test_takes_one_byte_anywhere(self) -> None:
        assert ranges(table((TOP, TOP), (0, 0), (HALF, HALF))) == [(0, 0), (HALF, HALF), (TOP, TOP)]

    def test_refuses_a_range_that_wraps(self) -> None:
        with pytest.raises(KernelError) as refused:
            table().add_range(1, 0, 0, RW)
        assert (refused.value.errno, refused.value.rule) == (E.EFAULT, "iotlb.add.wraps")

    def test_refuses_a_wrapping_range_before_it_looks_at_the_limit(self) -> None:
        with pytest.raises(KernelError) as refused:
            Iotlb(0).add_range(1, 0, 0, RW)
        assert refused.value.errno == E.EFAULT

    def test_never_checks_for_overlaps(self) -> None:
        assert ranges(table((0, 9), (5, 14), (0, 9))) == [(0, 9), (0, 9), (5, 14)]

    def test_never_merges_neighbours(self) -> None:
        assert ranges(table((0, 9), (10, 19))) == [(0, 9), (10, 19)]

    def test_numbers_entries_in_the_order_of_insertion(self) -> None:
        added = table((20, 29), (0, 9), (10, 19))
        assert [entry.serial for entry in added] == [1, 2, 0]

    def test_takes_numbers_from_a_shared_count(self) -> None:
        serials = count(1)
        left, right = Iotlb(9, serials=serials), Iotlb(9, serials=serials)
        numbers = [serial(each.add_exclusive(0, 9, 0, RW)) for each in (left, right)]
        assert left.add_exclusive(5, 5, 0, RW) is None
        numbers += [right.add_range(5, 5, 0, RW)[0].serial, left.add_range(5, 5, 0, RW)[0].serial]
        assert numbers == [1, 2, 3, 4]


class TestAddEverything:
    def test_makes_two_halves(self, hits: list[str]) -> None:
        lower, upper = Iotlb(2).add_range(0, TOP, 0x1000, RO, "all")
        assert ranges([lower, upper]) == [(0, HALF - 1), (HALF, TOP)]
        assert (lower.addr, upper.addr) == (0x1000, 0x1000 + HALF)
        assert (lower.perm, upper.perm, lower.opaque, upper.opaque) == (RO, RO, "all", "all")
        assert hits == ["iotlb.add.split-all"]

    def test_advances_the_address_in_64_bits(self) -> None:
        _, upper = Iotlb(2).add_range(0, TOP, HALF + 5, RW)
        assert upper.addr == 5

    def test_needs_room_for_both(self) -> None:
        almost = Iotlb(2)
        almost.add_range(0, 0, 0, RW)
        with pytest.raises(KernelError) as refused:
            almost.add_range(0, TOP, 0, RW)
        assert refused.value.errno == E.ENOSPC
        assert ranges(almost) == [(0, 0)], "not even one half was added"

    def test_drops_its_own_lower_half_where_one_entry_must_do(self) -> None:
        tiny = Iotlb(1, retire=True)
        lower, upper = tiny.add_range(0, TOP, 0, RW)
        assert (lower.live, upper.live) == (False, True)
        assert ranges(tiny) == [(HALF, TOP)]

    def test_leaves_a_range_one_byte_shorter_whole(self) -> None:
        assert ranges(table((0, TOP - 1))) == [(0, TOP - 1)]
        assert ranges(table((1, TOP))) == [(1, TOP)]


class TestAddExclusive:
    def test_adds_where_nothing_is(self) -> None:
        new = table((0, 9))
        entry = one(new.add_exclusive(10, 19, 0x5000, RO, "file"))
        assert (entry.start, entry.last, entry.addr, entry.perm, entry.opaque) == (10, 19, 0x5000, RO, "file")
        assert new.itree_first(10, 10) is entry

    @pytest.mark.parametrize(("start", "last"), [(10, 19), (5, 10), (19, 30), (12, 13), (0, 99)])
    def test_adds_nothing_over_an_entry(self, start: int, last: int) -> None:
        new = table((10, 19))
        before = new.generation
        assert new.add_exclusive(start, last, 0, RW) is None
        assert (ranges(new), new.generation) == ([(10, 19)], before)

    def test_adds_nothing_over_entries_that_overlap_already(self) -> None:
        new = table((10, 19), (15, 24))
        assert new.add_exclusive(24, 30, 0, RW) is None
        assert new.add_exclusive(25, 30, 0, RW) is not None

    def test_returns_the_lower_half_of_everything(self) -> None:
        new = Iotlb(2)
        assert one(new.add_exclusive(0, TOP, 0, RW)).last == HALF - 1
        assert new.add_exclusive(0, TOP, 0, RW) is None
        assert len(new) == 2

    def test_sees_the_overlap_before_the_table_is_full(self) -> None:
        full = Iotlb(1)
        full.add_range(0, 9, 0, RW)
        assert full.add_exclusive(9, 9, 0, RW) is None
        with pytest.raises(KernelError) as refused:
            full.add_exclusive(10, 10, 0, RW)
        assert refused.value.errno == E.ENOSPC

    def test_drops_no_entry_for_a_range_it_does_not_add(self) -> None:
        full = Iotlb(2, retire=True)
        full.add_range(0, 9, 0, RW)
        full.add_range(10, 19, 0, RW)
        assert full.add_exclusive(15, 25, 0, RW) is None
        assert ranges(full) == [(0, 9), (10, 19)]

    def test_refuses_a_range_that_wraps(self) -> None:
        with pytest.raises(KernelError) as refused:
            table((0, 4)).add_exclusive(9, 8, 0, RW)
        assert refused.value.errno == E.EFAULT


class TestLimit:
    def test_of_zero_is_refused(self) -> None:
        with pytest.raises(KernelError) as refused:
            Iotlb(0).add_range(0, 0, 0, RW)
        assert (refused.value.errno, refused.value.rule) == (E.EINVAL, "iotlb.add.limit-zero")

    @pytest.mark.parametrize("retire", [False, True])
    def test_of_zero_is_refused_for_both_halves_and_with_retire_too(self, retire: bool) -> None:
        with pytest.raises(KernelError) as refused:
            Iotlb(0, retire=retire).add_range(0, TOP, 0, RW)
        assert refused.value.errno == E.EINVAL

    @pytest.mark.parametrize("retire", [False, True])
    def test_of_zero_was_no_limit_once(self, retire: bool) -> None:
        endless = Iotlb(0, retire=retire, enforce_limit=False)
        for at in range(3000):
            endless.add_range(at, at, 0, RW)
        assert len(endless) == 3000

    def test_refuses_the_entry_after_the_last(self) -> None:
        small = Iotlb(2)
        small.add_range(0, 0, 0, RW)
        small.add_range(1, 1, 0, RW)
        with pytest.raises(KernelError) as refused:
            small.add_range(2, 2, 0, RW)
        assert (refused.value.errno, refused.value.rule) == (E.ENOSPC, "iotlb.add.full")
        assert ranges(small) == [(0, 0), (1, 1)]

    def test_was_not_enforced_once(self) -> None:
        small = Iotlb(2, enforce_limit=False)
        small.add_range(0, TOP, 0, RW)
        small.add_range(5, 5, 0, RW)
        assert (small.limit, len(small)) == (2, 3)

    def test_has_room_again_after_a_removal(self) -> None:
        small = Iotlb(1)
        small.add_range(0, 9, 0, RW)
        small.del_range(0, 0)
        assert ranges(small.add_range(5, 5, 0, RW)) == [(5, 5)]


class TestRetire:
    @pytest.mark.parametrize("enforce", [False, True])
    def test_drops_the_oldest_silently(self, enforce: bool, hits: list[str]) -> None:
        small = Iotlb(2, retire=True, enforce_limit=enforce)
        (oldest,) = small.add_range(50, 59, 0, RW)
        small.add_range(0, 9, 0, RW)
        small.add_range(20, 29, 0, RW)
        assert ranges(small) == [(0, 9), (20, 29)]
        assert (oldest.live, hits) == (False, ["iotlb.add.retire"])

    def test_goes_by_insertion_not_by_use_nor_by_a_new_address(self) -> None:
        small = Iotlb(2, retire=True)
        (oldest,) = small.add_range(0, 9, 0, RW)
        small.add_range(10, 19, 0, RW)
        small.translate(0, 10, RW)
        small.set_addr(oldest, 0x9000)
        small.add_range(20, 29, 0, RW)
        assert ranges(small) == [(10, 19), (20, 29)]

    def test_forgets_what_was_removed(self) -> None:
        small = Iotlb(2, retire=True)
        (oldest,) = small.add_range(0, 9, 0, RW)
        small.add_range(10, 19, 0, RW)
        small.map_free(oldest)
        small.add_range(20, 29, 0, RW)
        small.add_range(30, 39, 0, RW)
        assert ranges(small) == [(20, 29), (30, 39)]

    def test_forgets_everything_at_reset(self) -> None:
        small = Iotlb(2, retire=True)
        small.add_range(0, 9, 0, RW)
        small.reset()
        small.add_range(10, 19, 0, RW)
        small.add_range(20, 29, 0, RW)
        assert ranges(small) == [(10, 19), (20, 29)]

    def test_can_drop_the_entry_the_new_one_would_overlap(self) -> None:
        small = Iotlb(1, retire=True)
        small.add_range(0, 9, 0, RW)
        small.add_range(5, 14, 0, RW)
        assert ranges(small) == [(5, 14)]


class TestFirstOverlap:
    def test_is_the_one_that_starts_first(self) -> None:
        assert serial(table((20, 29), (0, 9), (10, 19)).itree_first(5, 25)) == 1

    def test_is_the_older_of_equal_starts(self) -> None:
        assert serial(table((0, 9), (0, 99), (0, 5)).itree_first(3, 3)) == 0

    def test_skips_what_ends_too_early(self) -> None:
        assert serial(table((0, 9), (0, 99), (0, 5)).itree_first(10, 10)) == 1

    def test_is_never_a_newer_entry_over_an_older_that_starts_no_later(self) -> None:
        shadowed = table((0, 99))
        shadowed.add_range(50, 59, 0xBAD, RW)
        assert one(shadowed.itree_first(55, 55)).addr == 0x10000

    def test_is_a_newer_entry_that_starts_earlier(self) -> None:
        assert serial(table((50, 59), (0, 99)).itree_first(55, 55)) == 1

    def test_includes_both_ends(self) -> None:
        new = table((10, 19))
        assert [serial(new.itree_first(at, at)) for at in (9, 10, 19, 20)] == [None, 0, 0, None]

    def test_reaches_the_last_byte_of_all(self) -> None:
        assert serial(table((TOP, TOP)).itree_first(TOP, TOP)) == 0
        assert table((TOP, TOP)).itree_first(0, TOP - 1) is None

    @pytest.mark.parametrize("extra", [[], [(100, 109), (105, 114)]])
    def test_of_a_degenerate_range_spans_both_its_ends(self, extra: list[tuple[int, int]]) -> None:
        new = table((10, 19), *extra)
        assert serial(new.itree_first(15, 14)) == 0
        assert serial(new.itree_first(19, 10)) == 0
        assert new.itree_first(10, 9) is None
        assert new.itree_first(20, 19) is None

    def test_is_followed_by_the_others_in_order(self) -> None:
        new = table((20, 29), (0, 9), (5, 25), (40, 49), (5, 6))
        first = one(new.itree_first(6, 22))
        second = one(new.itree_next(first, 6, 22))
        third = one(new.itree_next(second, 6, 22))
        fourth = one(new.itree_next(third, 6, 22))
        assert [first.serial, second.serial, third.serial, fourth.serial] == [1, 2, 4, 0]
        assert new.itree_next(fourth, 6, 22) is None
        assert [entry.serial for entry in new.overlaps(6, 22)] == [1, 2, 4, 0]


class TestDelRange:
    def test_removes_whole_entries_for_one_byte(self) -> None:
        new = table((0, 9), (10, 19), (20, 29))
        assert ranges(new.del_range(15, 15)) == [(10, 19)]
        assert ranges(new) == [(0, 9), (20, 29)]

    def test_returns_entries_as_first_overlaps_come(self) -> None:
        new = table((20, 29), (0, 9), (5, 25), (40, 49))
        gone = new.del_range(6, 22)
        assert [entry.serial for entry in gone] == [1, 2, 0]
        assert not any(entry.live for entry in gone)
        assert ranges(new) == [(40, 49)]

    def test_of_nothing_changes_nothing(self) -> None:
        new = table((0, 9))
        before = new.generation
        assert new.del_range(10, 19) == []
        assert (len(new), new.generation) == (1, before)

    @pytest.mark.parametrize("extra", [[], [(25, 34)]])
    def test_of_size_0_at_0_removes_everything(self, extra: list[tuple[int, int]]) -> None:
        new = table((0, 9), (20, 29), (TOP, TOP), *extra)
        assert len(new.del_range(0, (0 + 0 - 1) % 2**64)) == 3 + len(extra)
        assert len(new) == 0

    @pytest.mark.parametrize("extra", [[], [(105, 114), (100, 109)]])
    def test_of_size_0_removes_what_contains_the_address_but_does_not_start_there(
        self, extra: list[tuple[int, int]]
    ) -> None:
        new = table((10, 19), (20, 29), *extra)
        assert new.del_range(20, 19) == []
        assert ranges(new.del_range(15, 14)) == [(10, 19)]

    def test_of_a_range_that_wraps_removes_what_spans_from_its_end_to_its_start(self) -> None:
        new = table((0, 0xFFF), (TOP - 0xFFF, TOP), (0x2000, HALF))
        assert new.del_range(TOP - 10, 10) == []
        spanning = table((5, TOP - 5), (0, 3))
        assert ranges(spanning.del_range(TOP - 10, 10)) == [(5, TOP - 5)]


class TestMapFree:
    @pytest.mark.parametrize("extra", [[], [(25, 34)]])
    def test_removes_one(self, extra: list[tuple[int, int]]) -> None:
        new = table((0, 9), (20, 29), *extra)
        entry = one(new.itree_first(20, 20))
        new.map_free(entry)
        assert entry.live is False
        assert ranges(new) == [(0, 9), *extra]

    def test_refuses_an_entry_that_is_gone(self) -> None:
        new = table((0, 9))
        (gone,) = new.del_range(0, 9)
        with pytest.raises(ValueError, match="left its table"):
            new.map_free(gone)

    @pytest.mark.parametrize("extra", [[], [(5, 14)]])
    @pytest.mark.parametrize("foreign", [(0, 9), (50, 59)])
    def test_refuses_an_entry_of_another_table(self, extra: list[tuple[int, int]], foreign: tuple[int, int]) -> None:
        stranger = one(table(foreign).itree_first(0, TOP))
        new = table((0, 9), *extra)
        with pytest.raises(ValueError, match="not in this table"):
            new.map_free(stranger)
        assert (stranger.live, len(new)) == (True, 1 + len(extra))


class TestReset:
    def test_leaves_nothing_alive(self) -> None:
        new = table((0, 9), (5, 14))
        entries = list(new)
        new.reset()
        assert (len(new), list(new), [entry.live for entry in entries]) == (0, [], [False, False])

    def test_goes_on_counting(self) -> None:
        new = table((0, 9))
        new.reset()
        assert new.add_range(0, 9, 0, RW)[0].serial == 1

    def test_of_an_empty_table_changes_nothing(self) -> None:
        new = table()
        before = new.generation
        new.reset()
        assert new.generation == before


class TestSetAddr:
    def test_leads_elsewhere_in_the_same_place(self) -> None:
        new = table((0, 9), (10, 19))
        entry, before = one(new.itree_first(10, 10)), new.generation
        new.set_addr(entry, 0x9000)
        assert new.translate(12, 1, RO).pieces == [(entry, 0x9002, 1)]
        assert (ranges(new), new.generation != before) == ([(0, 9), (10, 19)], True)

    def test_refuses_an_entry_that_is_gone(self) -> None:
        new = table((0, 9))
        (gone,) = new.del_range(0, 9)
        with pytest.raises(ValueError, match="left its table"):
            new.set_addr(gone, 0)


class TestTable:
    def test_answers_for_what_it_holds_now_also_through_methods_kept_from_before(self) -> None:
        new = table((0, 9))
        first, overlaps, translate = new.itree_first, new.overlaps, new.translate
        new.add_range(5, 14, 0, RW)
        assert (serial(first(12, 12)), len(overlaps(7, 7)), translate(12, 1, RO).miss) == (1, 2, None)
        new.reset()
        assert (first(12, 12), overlaps(7, 7), translate(12, 1, RO).miss) == (None, [], 12)

    def test_is_true_also_when_empty(self) -> None:
        assert table()

    def test_counts_what_happened(self) -> None:
        small = Iotlb(2, retire=True)
        for at in range(4):
            small.add_range(at, at, 0, RW)
        small.del_range(3, 3)
        counts = small.statistics()
        assert (counts.nmaps, counts.adds, counts.removes, counts.retired) == (1, 4, 1, 2)
        assert small.nmaps == 1

    def test_says_what_it_was_made_for(self) -> None:
        assert (Iotlb(5, retire=True).limit, Iotlb(5, retire=True).retire, Iotlb(5).retire) == (5, True, False)


def pieces(found: Translation) -> list[tuple[int, int, int]]:
    return [(entry.serial, addr, size) for entry, addr, size in found.pieces]


@pytest.fixture(params=["exclusive", "overlapping"])
def memory(request: pytest.FixtureRequest) -> Iotlb:
    """Read-write, read-only, a hole, write-only at the top; the other regime has an overlap elsewhere."""
    new = Iotlb(enforce_limit=False)
    new.add_range(0x1000, 0x1FFF, 0xA000, RW)
    new.add_range(0x2000, 0x2FFF, 0x5000, RO)
    new.add_range(TOP - 0xFFF, TOP, 0x7000, WO)
    if request.param == "overlapping":
        new.add_range(0x10000, 0x10FFF, 0, RW)
        new.add_range(0x10800, 0x117FF, 0, RW)
    return new


class TestTranslate:
    def test_within_one_entry(self, memory: Iotlb) -> None:
        found = memory.translate(0x1010, 0x20, WO)
        assert (pieces(found), found.miss, found.denied) == ([(0, 0xA010, 0x20)], None, None)

    def test_of_a_whole_entry(self, memory: Iotlb) -> None:
        assert pieces(memory.translate(0x1000, 0x1000, RO)) == [(0, 0xA000, 0x1000)]

    def test_across_entries(self, memory: Iotlb) -> None:
        found = memory.translate(0x1FF0, 0x20, RO)
        assert pieces(found) == [(0, 0xAFF0, 0x10), (1, 0x5000, 0x10)]
        assert (found.miss, found.denied) == (None, None)

    def test_of_no_bytes_succeeds_anywhere(self, memory: Iotlb) -> None:
        for addr in (0, 0x1000, 0x3000, TOP):
            found = memory.translate(addr, 0, WO)
            assert (found.pieces, found.miss, found.denied) == ([], None, None)

    def test_misses_the_first_byte(self, memory: Iotlb) -> None:
        found = memory.translate(0xFFF, 2, RO)
        assert (found.pieces, found.miss, found.denied) == ([], 0xFFF, None)

    def test_misses_behind_the_last_entry(self) -> None:
        assert table((0, 9)).translate(10, 1, RO).miss == 10
        assert table().translate(0, 1, RO).miss == 0

    def test_stops_at_the_first_hole(self, memory: Iotlb) -> None:
        found = memory.translate(0x2FF0, 0x100000, RO)
        assert (pieces(found), found.miss, found.denied) == ([(1, 0x5FF0, 0x10)], 0x3000, None)

    def test_stops_at_the_first_entry_that_lacks_the_access(self, memory: Iotlb) -> None:
        found = memory.translate(0x1FF0, 0x20, WO)
        assert (pieces(found), found.miss, found.denied) == ([(0, 0xAFF0, 0x10)], None, 0x2000)

    def test_sees_the_permission_before_a_later_hole(self, memory: Iotlb) -> None:
        found = memory.translate(0x2000, 0x2000, WO)
        assert (found.pieces, found.miss, found.denied) == ([], None, 0x2000)

    def test_up_to_the_last_byte_of_all(self, memory: Iotlb) -> None:
        found = memory.translate(TOP - 1, 2, WO)
        assert (pieces(found), found.miss) == ([(2, 0x7FFE, 2)], None)

    def test_computes_addresses_in_64_bits(self) -> None:
        new = Iotlb(2)
        new.add_range(0, 0xFFFF, TOP - 0xF, RW)
        assert new.translate(0x20, 1, RO).pieces[0][1] == 0x10

    def test_of_a_range_that_wraps_misses_its_first_byte(self, memory: Iotlb) -> None:
        found = memory.translate(TOP - 1, 4, WO)
        assert (found.pieces, found.miss) == ([], TOP - 1)

    def test_of_a_range_that_wraps_succeeds_where_entries_span_both_ends(self) -> None:
        new = table((0, 0), (1, TOP))
        found = new.translate(TOP, 4, RO)
        assert (pieces(found), found.miss) == ([(1, 0x10000 + TOP & TOP, 1), (0, 0x10000, 1), (1, 0x10001, 2)], None)

    def test_uses_the_older_of_overlapping_entries_as_far_as_it_goes(self) -> None:
        new = table((0x1000, 0x1FFF), (0x1800, 0x27FF))
        found = new.translate(0x1900, 0x1000, RO)
        assert (pieces(found), found.miss) == ([(0, 0x11900, 0x700), (1, 0x12000, 0x800)], 0x2800)

    def test_denies_by_the_entry_that_wins(self) -> None:
        new = Iotlb(2)
        new.add_range(0, 0xFFF, 0, RO)
        new.add_range(0, 0xFFF, 0, RW)
        assert new.translate(0x10, 1, WO).denied == 0x10

    def test_walks_over_many_entries(self) -> None:
        new = table(*((at * 4, at * 4 + 3) for at in range(2000)))
        found = new.translate(2, 7998, RO)
        assert [size for _, _, size in found.pieces] == [2] + [4] * 1999
        assert new.translate(2, 7999, RO).miss == 8000


class TestCopy:
    def test_a_copy_has_the_entries_and_keeps_their_serials(self) -> None:
        source = table((0, 9), (20, 29), (10, 19))
        source.set_addr(one(source.itree_first(20, 20)), 0x7000)
        copy = table((5, 6))
        copy.copy(source)
        assert ranges(copy) == [(0, 9), (10, 19), (20, 29)]
        assert [entry.opaque for entry in copy] == [entry.serial for entry in source]
        assert one(copy.itree_first(20, 20)).addr == 0x7000
        copy._index._check()  # type: ignore[union-attr]

    def test_it_is_a_table_of_its_own(self) -> None:
        source = table((0, 9))
        copy = table()
        copy.copy(source)
        source.set_addr(one(source.itree_first(0, 0)), 0x7000)
        source.del_range(0, 9)
        assert (ranges(copy), one(copy.itree_first(0, 0)).addr) == ([(0, 9)], one(table((0, 9)).itree_first(0, 0)).addr)
        copy.add_range(10, 19, 0, RW)
        copy.del_range(0, 9)
        assert ranges(copy) == [(10, 19)]

    def test_overlaps_are_copied_too(self) -> None:
        source = table((0, 9))
        source.add_range(5, 14, 0, RW)
        copy = table()
        copy.copy(source)
        assert ranges(copy) == [(0, 9), (5, 14)]

    def test_one_that_does_not_fit_leaves_nothing(self) -> None:
        small = Iotlb(2)
        small.add_range(0, 9, 0, RW)
        with pytest.raises(KernelError):
            small.copy(table((0, 9), (10, 19), (20, 29)))
        assert len(small) == 0

    @pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000])
    def test_of_any_size(self, count: int) -> None:
        source = table(*((10 * i, 10 * i + 5) for i in range(count)))
        copy = table((0, 9))
        copy.copy(source)
        assert ranges(copy) == ranges(source)
        assert copy.statistics().nmaps == count
