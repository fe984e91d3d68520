"""The two indices with thousands of entries: buckets split, unite and stay what sortedcontainers expects."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.core.vhost.iotlb_index import LOAD, ExclusiveIndex, IotlbMap, OverlapIndex, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = 2**64 - 1
MANY = 6 * LOAD
NUMBERS = count()


def entry(start: int, last: int, serial: int = 0) -> IotlbMap:
    return IotlbMap(start, last, start, 3, None, serial)


def spans(entries: Any) -> list[tuple[int, int]]:
    return [(one.start, one.last) for one in entries]


def put(index: ExclusiveIndex, start: int, last: int, perm: int = 3, serials: Iterator[int] = NUMBERS) -> bool:
    return index.insert_exclusive(start, last, start * 100, perm, None, serials) is not None


def exclusive(numbers: Any) -> ExclusiveIndex:
    """Ten bytes of every twenty for each number."""
    index = ExclusiveIndex()
    for at in numbers:
        assert put(index, at * 20, at * 20 + 9)
    return index


def sound(index: Any) -> bool:
    """Raises otherwise."""
    (index.check if isinstance(index, OverlapIndex) else index._check)()
    return True


# In order, against it, and far from both.
ORDERS = {
    "rising": list(range(MANY)),
    "falling": list(reversed(range(MANY))),
    "scattered": [at * 577 % MANY for at in range(MANY)],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
class TestEveryOrderOfInsertion:
    def test_fills_the_exclusive_index_in_order(self, order: list[int]) -> None:
        index = exclusive(order)
        assert sound(index)
        assert spans(index.maps()) == [(at * 20, at * 20 + 9) for at in range(MANY)]
        assert len(index._lists) > 2, "the test is about several buckets"

    def test_fills_the_overlap_index_in_order(self, order: list[int]) -> None:
        index = OverlapIndex()
        for serial, at in enumerate(order):
            index.insert(entry(at, at + 50 + at % 7 * 100, serial))
        assert sound(index)
        assert [one.start for one in index.maps()] == list(range(MANY))
        assert len(index) == MANY

    def test_may_be_emptied_by_in_the_exclusive_index(self, order: list[int]) -> None:
        index = exclusive(range(MANY))
        for left, at in zip(reversed(range(MANY)), order, strict=True):
            assert spans(index.delete_range(at * 20, at * 20)) == [(at * 20, at * 20 + 9)]
            assert len(index) == left
            assert left % 100 or sound(index)

    def test_may_be_emptied_by_in_the_overlap_index(self, order: list[int]) -> None:
        entries = [entry(at, at + 50 + at % 7 * 100, at) for at in range(MANY)]
        index = OverlapIndex(entries)
        for left, at in zip(reversed(range(MANY)), order, strict=True):
            index.discard(entries[at])
            assert len(index) == left
            assert left % 100 or sound(index)


class TestExclusiveIndex:
    @given(st.integers(0, MANY * 20), st.integers(0, MANY * 20))
    def test_deletes_any_range_at_once(self, start: int, last: int) -> None:
        index = exclusive(range(MANY))
        before = spans(index.maps())
        gone = [one for one in before if one[0] <= last and one[1] >= start]
        assert spans(index.overlaps(start, last)) == gone
        assert spans(index.delete_range(start, last)) == gone
        assert sound(index)
        assert spans(index.maps()) == [one for one in before if one not in set(gone)]

    @given(st.lists(st.tuples(st.integers(0, MANY * 20), st.integers(0, 8000)), max_size=12))
    def test_stays_sound_under_many_deletions(self, cuts: list[tuple[int, int]]) -> None:
        index = exclusive(range(MANY))
        for start, size in cuts:
            gone = index.delete_range(start, start + size)
            assert sound(index)
            assert index.delete_range(start, start + size) == []
            for one in gone[::3]:
                assert put(index, one.start, one.last)
        assert sound(index)

    def test_finds_in_every_bucket(self) -> None:
        index = exclusive(range(MANY))
        for at in range(MANY):
            found = index.first(at * 20 + 9, at * 20 + 9)
            assert found is not None
            assert found.start == at * 20
            assert index.first(at * 20 + 10, at * 20 + 19) is None

    def test_discards_only_what_is_here(self) -> None:
        index = exclusive(range(3))
        for stranger in (entry(0, 9), entry(5, 7), entry(1000, 1009)):
            with pytest.raises(ValueError, match="not in this table"):
                index.discard(stranger)
        assert len(index) == 3

    def test_translates_as_the_plain_walk_does(self) -> None:
        index = ExclusiveIndex()
        for at in range(MANY):
            put(index, at * 8, at * 8 + 7, perm=1 if at % 500 == 499 else 3)
        for addr in range(0, MANY * 8, 331):
            for length in (1, 9, 8 * LOAD, 16 * MANY):
                for access in (1, 2):
                    assert index.translate(addr, length, access) == walk(index.first, addr, length, access)


class TestOverlapIndex:
    def test_orders_equal_starts_by_age_over_several_buckets(self) -> None:
        index = OverlapIndex()
        entries = [entry(5, 5 + serial % 3, serial) for serial in range(MANY)]
        for one in entries:
            index.insert(one)
        assert sound(index)
        assert [one.serial for one in index.maps()] == list(range(MANY))
        for at, one in enumerate(entries[:-1]):
            assert index.following(one, 0, TOP) is entries[at + 1]
        for one in entries[::-2]:
            index.discard(one)
        assert sound(index)
        assert [one.serial for one in index.maps()] == list(range(0, MANY, 2))

    def test_finds_the_giant_in_front_and_what_is_left_without_it(self) -> None:
        small = [entry(10 + at * 20, 10 + at * 20 + 9, at) for at in range(MANY)]
        index, giant = OverlapIndex(small), entry(0, TOP, MANY)
        index.insert(giant)
        assert sound(index)
        assert index.first(MANY * 20, MANY * 20) is giant
        assert index.overlaps(MANY * 10 + 10, MANY * 10 + 10) == [giant, small[MANY // 2]]
        assert index.following(giant, MANY * 20 - 15, TOP) is small[-1]
        index.discard(giant)
        assert sound(index)
        assert index.first(MANY * 20, MANY * 20) is None
        assert index.first(MANY * 10 + 10, MANY * 10 + 10) is small[MANY // 2]

    @given(st.integers(0, 4000), st.integers(0, 4000))
    def test_deletes_any_range_at_once(self, start: int, last: int) -> None:
        index = OverlapIndex([entry(at * 2, at * 2 + at % 11 * 30, at) for at in range(MANY)])
        before = list(index.maps())
        gone = [one for one in before if one.start <= last and one.last >= start]
        assert index.overlaps(start, last) == gone
        assert index.delete_range(start, last) == gone
        assert sound(index)
        assert list(index.maps()) == [one for one in before if one not in gone]

    def test_discards_only_what_is_here(self) -> None:
        index = OverlapIndex([entry(5, 9, 0), entry(5, 9, 2), entry(7, 9, 3)])
        for stranger in (entry(5, 9, 1), entry(5, 9, 2), entry(0, 9, 0), entry(6, 9, 4), entry(8, 9, 5)):
            with pytest.raises(ValueError, match="not in this table"):
                index.discard(stranger)
            with pytest.raises(ValueError, match="not in this table"):
                index.following(stranger, 0, TOP)
        assert len(index) == 3

    def test_lowers_its_maxima_when_a_thin_bucket_loses_its_farthest(self) -> None:
        entries = [entry(at, at, at) for at in range(3 * LOAD)]
        entries[LOAD].last = TOP
        index = OverlapIndex(entries)
        for at in range(LOAD + 1, LOAD + LOAD // 2):
            index.discard(entries[at])
        index.discard(entries[LOAD])
        assert sound(index)
        assert index.first(TOP, TOP) is None

    def test_check_sees_a_maximum_that_is_wrong(self) -> None:
        index = OverlapIndex([entry(5, 9, 0), entry(6, 7, 1)])
        index._buckets[0].maxima[1] = 7
        with pytest.raises(AssertionError):
            index.check()
