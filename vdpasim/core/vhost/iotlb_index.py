"""The two ordered indices under the IOTLB: one for maps that never overlap, one for maps that may.

Theory. The kernel keeps its maps in one augmented red-black tree. In Python a bisection over flat lists is several
times faster than any tree of objects, so the maps are kept in buckets of a few hundred, and a look-up is two bisections
in C.

*Without overlaps* order by ``last`` is order by ``start``, so the first map whose ``last`` reaches the query's start is
the only candidate for "first overlap": :class:`ExclusiveIndex`, a ``SortedKeyList`` whose search and insertion share
the two bisections.

*With overlaps* maps are ordered by (start, arrival) and each bucket carries the running maximum of ``last``. Both
sequences of maxima rise, so one bisection per level still finds the first map whose ``last`` reaches the query:
:class:`OverlapIndex`. A giant map at the front makes inserts walk the maxima behind it; look-ups do not mind.

The subclass reaches into sortedcontainers (``_lists``, ``_keys``, ``_maxes``, ``_len``, ``_index``, ``_expand``,
``_delete``), unchanged since 2021 and pinned below version 3; the tests run its ``_check()``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, Self

from sortedcontainers import SortedKeyList

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.core.vhost.iotlb import IotlbMap

LOAD = 256
"""Maps per bucket; a bucket is split at twice as many."""


class Index(Protocol):
    """What the IOTLB needs of an index."""

    def first(self, start: int, last: int) -> IotlbMap | None:
        """The overlapping map with the smallest start, the older one of equals."""

    def following(self, after: IotlbMap, start: int, last: int) -> IotlbMap | None:
        """The next overlapping map in tree order."""

    def delete_range(self, start: int, last: int) -> list[IotlbMap]:
        """Remove every overlapping map; they are returned in tree order."""

    def discard(self, one: IotlbMap) -> None:
        """Remove a map that is in the index."""

    def maps(self) -> Iterator[IotlbMap]:
        """All maps in tree order."""

    def __len__(self) -> int:
        """Number of maps."""


class ExclusiveIndex(SortedKeyList):  # type: ignore[type-arg]
    """Maps that do not overlap, ordered by ``last``."""

    _lists: list[list[IotlbMap]]
    _keys: list[list[int]]
    _maxes: list[int]
    _index: list[int]
    _len: int

    def __new__(cls) -> Self:
        """Bypass SortedList's dispatch on the key argument."""
        return object.__new__(cls)

    def __init__(self) -> None:
        super().__init__(key=attrgetter("last"))
        self._load = LOAD

    def first(self, start: int, last: int) -> IotlbMap | None:
        maxes = self._maxes
        pos = bisect_left(maxes, start)
        if pos == len(maxes):
            return None
        one = self._lists[pos][bisect_left(self._keys[pos], start)]
        return one if one.start <= last else None

    def following(self, after: IotlbMap, start: int, last: int) -> IotlbMap | None:
        # maps behind one that ends at `last` or later start later still
        return None if after.last >= last else self.first(max(start, after.last + 1), last)

    def insert_exclusive(self, one: IotlbMap) -> bool:
        """Insert unless something overlaps; the search for the overlap is the search for the place."""
        start, last = one.start, one.last
        maxes = self._maxes
        pos = bisect_left(maxes, start)
        if pos == len(maxes):
            self._append(one)
            return True
        keys = self._keys[pos]
        i = bisect_left(keys, start)
        bucket = self._lists[pos]
        if bucket[i].start <= last:
            return False
        bucket.insert(i, one)
        keys.insert(i, last)
        self._len += 1
        self._expand(pos)
        return True

    def _append(self, one: IotlbMap) -> None:
        if not self._maxes:
            self._lists.append([one])
            self._keys.append([one.last])
            self._maxes.append(one.last)
            self._len = 1
            return
        pos = len(self._maxes) - 1
        self._lists[pos].append(one)
        self._keys[pos].append(one.last)
        self._maxes[pos] = one.last
        self._len += 1
        self._expand(pos)

    def discard(self, one: IotlbMap) -> None:  # type: ignore[override]
        pos = bisect_left(self._maxes, one.last)
        self._delete(pos, bisect_left(self._keys[pos], one.last))

    def delete_range(self, start: int, last: int) -> list[IotlbMap]:
        removed: list[IotlbMap] = []
        pos = bisect_left(self._maxes, start)
        while pos < len(self._maxes):
            keys, bucket = self._keys[pos], self._lists[pos]
            i = bisect_left(keys, start)
            j = bisect_left(keys, last, i)
            if j < len(bucket) and bucket[j].start <= last:
                j += 1
            whole_tail = j == len(bucket)
            if i == j:
                break
            removed += bucket[i:j]
            self._cut(pos, i, j)
            if not whole_tail:
                break
            pos += 1 if i else 0
        if removed:
            del self._index[:]
        return removed

    def _cut(self, pos: int, i: int, j: int) -> None:
        # take out a slice of one bucket; an empty bucket goes
        keys, bucket = self._keys[pos], self._lists[pos]
        del bucket[i:j], keys[i:j]
        self._len -= j - i
        if keys:
            self._maxes[pos] = keys[-1]
        else:
            del self._lists[pos], self._keys[pos], self._maxes[pos]

    def maps(self) -> Iterator[IotlbMap]:
        for bucket in self._lists:
            yield from bucket


class _Bucket:
    """Some maps in (start, arrival) order, with the running maximum of their ``last``."""

    __slots__ = ("keys", "maps", "maxima")

    def __init__(self, keys: list[int], maps: list[IotlbMap]) -> None:
        self.keys = keys
        self.maps = maps
        self.maxima: list[int] = []
        self.refresh(0)

    def refresh(self, i: int) -> None:
        """Recompute the running maximum from index i on."""
        maxima = self.maxima
        del maxima[i:]
        top = maxima[-1] if maxima else -1
        for one in self.maps[i:]:
            top = max(top, one.last)
            maxima.append(top)


def _key(one: IotlbMap) -> int:
    return one.start << 64 | one.serial


class OverlapIndex:
    """Maps that may overlap, ordered by (start, arrival)."""

    def __init__(self, maps: Iterator[IotlbMap]) -> None:
        ordered = sorted(maps, key=_key)
        parts = [ordered[i : i + LOAD] for i in range(0, len(ordered), LOAD)]
        self._buckets = [_Bucket([_key(one) for one in part], part) for part in parts]
        self._firsts = [bucket.keys[0] for bucket in self._buckets]
        self._tops: list[int] = []
        self._refresh_tops(0)
        self._count = len(ordered)

    def __len__(self) -> int:
        return self._count

    def first(self, start: int, last: int) -> IotlbMap | None:
        k = bisect_left(self._tops, start)
        if k == len(self._tops):
            return None
        bucket = self._buckets[k]
        one = bucket.maps[bisect_left(bucket.maxima, start)]
        return one if one.start <= last else None

    def following(self, after: IotlbMap, start: int, last: int) -> IotlbMap | None:
        k, i = self._place(_key(after))
        for bucket in self._buckets[k:]:
            if bucket.maxima[-1] >= start:
                for one in bucket.maps[i:]:
                    if one.start > last:
                        return None
                    if one.last >= start:
                        return one
            i = 0
        return None

    def insert(self, one: IotlbMap) -> None:
        """Insert behind every map of the same start."""
        key = _key(one)
        self._count += 1
        if not self._buckets:
            self._buckets, self._firsts = [_Bucket([key], [one])], [key]
            self._refresh_tops(0)
            return
        k = max(bisect_right(self._firsts, key) - 1, 0)
        bucket = self._buckets[k]
        i = bisect_right(bucket.keys, key)
        bucket.keys.insert(i, key)
        bucket.maps.insert(i, one)
        bucket.refresh(i)
        if len(bucket.keys) > 2 * LOAD:
            half = _Bucket(bucket.keys[LOAD:], bucket.maps[LOAD:])
            del bucket.keys[LOAD:], bucket.maps[LOAD:]
            bucket.refresh(LOAD)
            self._buckets.insert(k + 1, half)
            self._firsts.insert(k + 1, half.keys[0])
            del self._tops[k:]
        self._firsts[k] = bucket.keys[0]
        self._refresh_tops(k)

    def discard(self, one: IotlbMap) -> None:
        k, behind = self._place(_key(one))
        i = behind - 1
        bucket = self._buckets[k]
        del bucket.keys[i], bucket.maps[i]
        self._count -= 1
        if bucket.keys:
            bucket.refresh(i)
            self._firsts[k] = bucket.keys[0]
        else:
            del self._buckets[k], self._firsts[k]
            del self._tops[k:]
        self._refresh_tops(k)

    def delete_range(self, start: int, last: int) -> list[IotlbMap]:
        removed: list[IotlbMap] = []
        while (one := self.first(start, last)) is not None:
            self.discard(one)
            removed.append(one)
        return removed

    def maps(self) -> Iterator[IotlbMap]:
        for bucket in self._buckets:
            yield from bucket.maps

    def _place(self, key: int) -> tuple[int, int]:
        # bucket of a key that is there, and the index behind it
        k = bisect_right(self._firsts, key) - 1
        return k, bisect_right(self._buckets[k].keys, key)

    def _refresh_tops(self, k: int) -> None:
        # running maximum over the buckets' maxima from k on; stops where it agrees again
        tops, buckets = self._tops, self._buckets
        top = tops[k - 1] if k else -1
        known = len(tops) == len(buckets)
        for j in range(k, len(buckets)):
            top = max(top, buckets[j].maxima[-1])
            if j < len(tops):
                if known and tops[j] == top:
                    return
                tops[j] = top
            else:
                tops.append(top)

    def check(self) -> None:
        """Verify every invariant; for tests."""
        everything: list[Any] = [one for bucket in self._buckets for one in bucket.maps]
        assert [_key(one) for one in everything] == sorted(_key(one) for one in everything)
        assert len(everything) == self._count
        top = -1
        for bucket, first, known in zip(self._buckets, self._firsts, self._tops, strict=True):
            assert bucket.keys == [_key(one) for one in bucket.maps]
            assert bucket.keys[0] == first
            running = -1
            for one, maximum in zip(bucket.maps, bucket.maxima, strict=True):
                running = max(running, one.last)
                assert maximum == running
            top = max(top, running)
            assert known == top
