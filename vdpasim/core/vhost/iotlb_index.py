"""The two ordered indices under the IOTLB: one for maps that never overlap, one for maps that may.

Theory. The kernel keeps its maps in one augmented red-black tree (drivers/vhost/iotlb.c). In Python a bisection over
flat lists is several times faster than any tree of objects, so the maps are kept in buckets of a few hundred, and a
look-up is two bisections in C. It asks for the smallest start among the maps with ``start <= b`` and ``last >= a``.

*Without overlaps* order by ``last`` is order by ``start``, so the first map whose ``last`` reaches ``a`` is the only
candidate: :class:`ExclusiveIndex`, a ``SortedKeyList`` whose search for an overlap is the search for the place.

*With overlaps* maps are ordered by (start, arrival) and each bucket carries the running maximum of ``last``. Both
sequences of maxima rise, so one bisection per level still finds the first map whose ``last`` reaches ``a``:
:class:`OverlapIndex`. A giant map at the front makes inserts and removals walk the maxima behind it, and makes
``overlaps`` scan what lies under it; look-ups do not mind.

A degenerate range (a > b) needs no case of its own: the formula is evaluated as it stands.

With n maps and k results: look-up O(log n); further pieces of a translation O(1) each in the exclusive index, O(log n)
in the other; insertion and removal O(log n) and a move of at most two buckets; ``delete_range`` O(log n + k).

The subclass reaches into sortedcontainers (``_lists``, ``_keys``, ``_maxes``, ``_len``, ``_expand``, ``_delete``),
unchanged since 2021 and pinned below version 3; the tests run its ``_check()``. The public methods would search two or
three times over and build a positional index.

Not modelled: the shape of the kernel's tree. Only its order can be observed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

import attrs
from sortedcontainers import SortedKeyList

from vdpasim.core.ports import U64_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LOAD = 256
"""Maps per bucket; a bucket is split at twice as many and united with its neighbour at half as many."""

_LAST = attrgetter("last")
_SERIAL = attrgetter("serial")


@attrs.define(eq=False)
class IotlbMap:
    """One entry (``struct vhost_iotlb_map``)."""

    start: int
    last: int
    """Last byte, inclusive."""
    addr: int
    """What ``start`` translates to: a user or a physical address."""
    perm: int
    """1 read (VHOST_ACCESS_RO), 2 write (VHOST_ACCESS_WO), 3 both."""
    opaque: Any
    """What the owner of the table keeps with the entry."""
    serial: int
    """Unique in its table, in the order of insertion."""
    live: bool = True
    """False once the entry has left its table; who caches entries checks it."""

    @property
    def size(self) -> int:
        """Size in bytes, 1 to 2^64-1."""
        return self.last - self.start + 1


@attrs.define
class Translation:
    """What a range of I/O addresses leads to, up to the first byte that leads nowhere."""

    pieces: list[tuple[IotlbMap, int, int]]
    """(entry, address, bytes) in order; the address is the entry's kind of address."""
    miss: int | None = None
    """The first I/O address without an entry, None if there is none before ``denied``."""
    denied: int | None = None
    """The first I/O address whose entry lacks the access, None if there is none before ``miss``."""


def walk(first: Callable[[int, int], IotlbMap | None], addr: int, length: int, access: int) -> Translation:
    """Translate with one look-up per piece, in 64-bit arithmetic.

    Every look-up asks for [address reached, last byte of the whole range]; if the range wraps past 2^64-1 that is a
    degenerate range, which mostly is a miss of the very first byte.
    """
    last = addr + length - 1 & U64_MAX
    pieces: list[tuple[IotlbMap, int, int]] = []
    while length:
        one = first(addr, last)
        if one is None or one.start > addr:
            return Translation(pieces, addr)
        if one.perm & access != access:
            return Translation(pieces, None, addr)
        size = min(length, one.last - addr + 1)
        pieces.append((one, one.addr + addr - one.start & U64_MAX, size))
        addr = addr + size & U64_MAX
        length -= size
    return Translation(pieces)


class ExclusiveIndex(SortedKeyList[IotlbMap, int]):
    """Maps that do not overlap, ordered by ``last``."""

    _lists: list[list[IotlbMap]]
    _keys: list[list[int]]
    _maxes: list[int]
    _len: int

    if TYPE_CHECKING:

        def _expand(self, pos: int) -> None: ...
        def _delete(self, pos: int, idx: int) -> None: ...

    def __new__(cls) -> Self:
        """An index, empty; the base class would choose its class by the key."""
        return object.__new__(cls)

    def __init__(self) -> None:
        # The stubs describe __new__ only.
        super().__init__(None, _LAST)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        self._reset(LOAD)

    def first(self, start: int, last: int) -> IotlbMap | None:
        """The overlapping map with the smallest start."""
        maxes = self._maxes
        pos = bisect_left(maxes, start)
        if pos == len(maxes):
            return None
        one = self._lists[pos][bisect_left(self._keys[pos], start)]
        return one if one.start <= last else None

    def following(self, after: IotlbMap, start: int, last: int) -> IotlbMap | None:
        """The next overlapping map in tree order."""
        # maps behind one that ends at `last` or later start later still
        return None if after.last >= last else self.first(max(start, after.last + 1), last)

    def overlaps(self, start: int, last: int) -> list[IotlbMap]:
        """Every overlapping map in tree order."""
        (pos, i), (pos_last, j) = self._span(start, last)
        if pos == pos_last:
            return self._lists[pos][i:j] if i < j else []
        middle = chain.from_iterable(self._lists[pos + 1 : pos_last])
        return [*self._lists[pos][i:], *middle, *self._lists[pos_last][:j]]

    def insert_exclusive(
        self, start: int, last: int, addr: int, perm: int, opaque: Any, serials: Iterator[int]
    ) -> IotlbMap | None:
        """Insert a new map unless something overlaps; the search for the overlap is the search for the place."""
        maxes = self._maxes
        pos = bisect_left(maxes, start)
        if pos == len(maxes):
            one = IotlbMap(start, last, addr, perm, opaque, next(serials))
            self._append(one)
            return one
        keys = self._keys[pos]
        i = bisect_left(keys, start)
        bucket = self._lists[pos]
        if bucket[i].start <= last:
            return None
        one = IotlbMap(start, last, addr, perm, opaque, next(serials))
        bucket.insert(i, one)
        keys.insert(i, last)
        self._len += 1
        if len(keys) > 2 * LOAD:
            self._expand(pos)
        return one

    def fill(self, maps: Iterable[IotlbMap], serials: Iterator[int]) -> None:
        """Take copies of maps in tree order that do not overlap; the index is empty."""
        copies = [IotlbMap(m.start, m.last, m.addr, m.perm, m.serial, next(serials)) for m in maps]
        self._lists.extend(copies[i : i + LOAD] for i in range(0, len(copies), LOAD))
        self._keys.extend([one.last for one in bucket] for bucket in self._lists)
        self._maxes.extend(keys[-1] for keys in self._keys)
        self._len = len(copies)

    def _append(self, one: IotlbMap) -> None:
        self._len += 1
        if not self._maxes:
            self._lists.append([one])
            self._keys.append([one.last])
            self._maxes.append(one.last)
            return
        self._lists[-1].append(one)
        self._keys[-1].append(one.last)
        self._maxes[-1] = one.last
        if len(self._keys[-1]) > 2 * LOAD:
            self._expand(len(self._maxes) - 1)

    def discard(self, value: IotlbMap) -> None:
        """Remove one map.

        Raises:
            ValueError: it is not here.
        """
        pos = bisect_left(self._maxes, value.last)
        if pos < len(self._maxes):
            i = bisect_left(self._keys[pos], value.last)
            if self._lists[pos][i] is value:
                self._delete(pos, i)
                return
        raise ValueError(f"{value} is not in this table")

    def delete_range(self, start: int, last: int) -> list[IotlbMap]:
        """Remove every overlapping map; they are returned in tree order."""
        maxes = self._maxes
        pos = bisect_left(maxes, start)
        if pos == len(maxes):
            return []
        keys, bucket = self._keys[pos], self._lists[pos]
        i = bisect_left(keys, start)
        one = bucket[i]
        if one.start > last:
            return []
        if one.last < last:
            return self._delete_span(start, last)
        # Nothing behind it can start in the range: one map goes, as in nearly every INVALIDATE.
        del bucket[i], keys[i]
        self._len -= 1
        if i == len(keys) or (len(keys) <= LOAD // 2 and len(maxes) > 1):
            self._unite(pos)
        return [one]

    def _delete_span(self, start: int, last: int) -> list[IotlbMap]:
        (pos, i), (pos_last, j) = self._span(start, last)
        if pos == pos_last:
            removed = self._lists[pos][i:j]
            del self._lists[pos][i:j], self._keys[pos][i:j]
        else:
            removed = self._cut(pos, i, pos_last, j)
            self._unite(pos + 1)
        self._len -= len(removed)
        self._unite(pos)
        return removed

    def maps(self) -> Iterator[IotlbMap]:
        """All maps in tree order."""
        return chain.from_iterable(self._lists)

    def translate(self, addr: int, length: int, access: int) -> Translation:
        """As :func:`walk`; the pieces behind the first cost no search."""
        last = addr + length - 1
        maxes = self._maxes
        pos = bisect_left(maxes, addr)
        if pos == len(maxes) or not addr <= last <= U64_MAX:
            return walk(self.first, addr, length, access)
        i = bisect_left(self._keys[pos], addr)
        one = self._lists[pos][i]
        if one.start <= addr and one.last >= last and one.perm & access == access:
            return Translation([(one, one.addr + addr - one.start & U64_MAX, length)])
        return self._translate_from(pos, i, addr, last, access)

    def _translate_from(self, pos: int, i: int, addr: int, last: int, access: int) -> Translation:
        pieces: list[tuple[IotlbMap, int, int]] = []
        bucket = self._lists[pos]
        while True:
            one = bucket[i]
            start, until = one.start, one.last
            if start > addr:
                return Translation(pieces, addr)
            if one.perm & access != access:
                return Translation(pieces, None, addr)
            target = one.addr + addr - start & U64_MAX
            if until >= last:
                pieces.append((one, target, last - addr + 1))
                return Translation(pieces)
            pieces.append((one, target, until - addr + 1))
            addr = until + 1
            i += 1
            if i == len(bucket):
                pos, i = pos + 1, 0
                if pos == len(self._lists):
                    return Translation(pieces, addr)
                bucket = self._lists[pos]

    def _span(self, start: int, last: int) -> tuple[tuple[int, int], tuple[int, int]]:
        # (bucket, index) of the first overlapping map, and behind the last one in the last one's bucket
        maxes = self._maxes
        pos = bisect_left(maxes, start)
        if pos == len(maxes):
            return (pos, 0), (pos, 0)
        i = bisect_left(self._keys[pos], start)
        if last <= maxes[pos]:
            pos_last = pos
        else:
            pos_last = min(bisect_left(maxes, last, pos), len(maxes) - 1)
        # Every map from here on that ends before `last` overlaps; of the others at most the first does.
        j = bisect_left(self._keys[pos_last], last, i if pos == pos_last else 0)
        bucket = self._lists[pos_last]
        if j < len(bucket) and bucket[j].start <= last:
            j += 1
        if j == 0 and pos_last > pos:
            pos_last -= 1
            j = len(self._lists[pos_last])
        return (pos, i), (pos_last, j)

    def _cut(self, pos: int, i: int, pos_last: int, j: int) -> list[IotlbMap]:
        # take out what lies between two positions; the buckets at both ends stay, perhaps empty
        between = slice(pos + 1, pos_last)
        head, tail = self._lists[pos], self._lists[pos_last]
        removed = [*head[i:], *chain.from_iterable(self._lists[between]), *tail[:j]]
        del head[i:], self._keys[pos][i:]
        del tail[:j], self._keys[pos_last][:j]
        del self._lists[between], self._keys[between], self._maxes[between]
        return removed

    def _unite(self, pos: int) -> None:
        # a bucket got shorter: an empty one goes, a thin one joins its neighbour, as sortedcontainers wants it
        keys = self._keys[pos]
        if not keys:
            del self._keys[pos], self._lists[pos], self._maxes[pos]
        elif len(keys) > LOAD // 2 or len(self._keys) == 1:
            self._maxes[pos] = keys[-1]
        else:
            left = max(pos - 1, 0)
            right = left + 1
            self._keys[left] += self._keys[right]
            self._lists[left] += self._lists[right]
            self._maxes[left] = self._keys[left][-1]
            del self._keys[right], self._lists[right], self._maxes[right]
            self._expand(left)


class _Bucket:
    # some maps in (start, arrival) order, their starts, and the running maximum of their `last`
    __slots__ = ("maps", "maxima", "starts")

    def __init__(self, maps: list[IotlbMap]) -> None:
        self.maps = maps
        self.starts = [one.start for one in maps]
        self.maxima = list(accumulate((one.last for one in maps), max))

    def insert(self, i: int, one: IotlbMap) -> None:
        last, maxima = one.last, self.maxima
        self.maps.insert(i, one)
        self.starts.insert(i, one.start)
        maxima.insert(i, last if i == 0 else max(maxima[i - 1], last))
        _raise(maxima, i + 1, last)

    def delete(self, i: int) -> None:
        maps, maxima = self.maps, self.maxima
        del maps[i], self.starts[i], maxima[i]
        top = maxima[i - 1] if i else -1
        for j in range(i, len(maps)):
            top = max(top, maps[j].last)
            if maxima[j] == top:
                return
            maxima[j] = top


def _raise(maxima: list[int], i: int, last: int) -> None:
    # maxima never fall, so behind one that is high enough all are
    while i < len(maxima) and maxima[i] < last:
        maxima[i] = last
        i += 1


class OverlapIndex:
    """Maps that may overlap, ordered by (start, arrival)."""

    __slots__ = ("_buckets", "_count", "_firsts", "_tops")

    def __init__(self, maps: Iterable[IotlbMap] = ()) -> None:
        """``maps`` come in tree order."""
        self._load(list(maps))

    def _load(self, maps: list[IotlbMap]) -> None:
        self._count = len(maps)
        self._buckets = [_Bucket(maps[i : i + LOAD]) for i in range(0, len(maps), LOAD)]
        self._firsts = [bucket.starts[0] for bucket in self._buckets]
        self._tops = list(accumulate((bucket.maxima[-1] for bucket in self._buckets), max))

    def __len__(self) -> int:
        return self._count

    def first(self, start: int, last: int) -> IotlbMap | None:
        """The overlapping map with the smallest start, the older one of equals."""
        tops = self._tops
        k = bisect_left(tops, start)
        if k == len(tops):
            return None
        bucket = self._buckets[k]
        one = bucket.maps[bisect_left(bucket.maxima, start)]
        return one if one.start <= last else None

    def following(self, after: IotlbMap, start: int, last: int) -> IotlbMap | None:
        """The next overlapping map in tree order.

        Raises:
            ValueError: ``after`` is not here.
        """
        k, i = self._place(after)
        i += 1
        for bucket in self._buckets[k:]:
            if bucket.maxima[-1] >= start:
                for one in bucket.maps[i:]:
                    if one.start > last:
                        return None
                    if one.last >= start:
                        return one
            i = 0
        return None

    def overlaps(self, start: int, last: int) -> list[IotlbMap]:
        """Every overlapping map in tree order."""
        found: list[IotlbMap] = []
        for k in range(bisect_left(self._tops, start), bisect_right(self._firsts, last)):
            bucket = self._buckets[k]
            i, j = bisect_left(bucket.maxima, start), bisect_right(bucket.starts, last)
            found += [one for one in bucket.maps[i:j] if one.last >= start]
        return found

    def insert(self, one: IotlbMap) -> None:
        """Insert behind every map of the same start."""
        if not self._buckets:
            self._load([one])
            return
        self._count += 1
        k = max(bisect_right(self._firsts, one.start) - 1, 0)
        bucket = self._buckets[k]
        bucket.insert(bisect_right(bucket.starts, one.start), one)
        self._firsts[k] = bucket.starts[0]
        _raise(self._tops, k, one.last)
        self._split(k)

    def discard(self, one: IotlbMap) -> None:
        """Remove one map.

        Raises:
            ValueError: it is not here.
        """
        k, i = self._place(one)
        bucket = self._buckets[k]
        bucket.delete(i)
        self._count -= 1
        if not self._count:
            self._load([])
        elif len(bucket.maps) <= LOAD // 2 and len(self._buckets) > 1:
            self._unite(max(k - 1, 0))
        else:
            self._firsts[k] = bucket.starts[0]
            self._lower(k)

    def delete_range(self, start: int, last: int) -> list[IotlbMap]:
        """Remove every overlapping map; they are returned in tree order."""
        removed = self.overlaps(start, last)
        if len(removed) > 1 and len(removed) * 2 > self._count:
            gone = {one.serial for one in removed}
            self._load([one for one in self.maps() if one.serial not in gone])
        else:
            for one in removed:
                self.discard(one)
        return removed

    def maps(self) -> Iterator[IotlbMap]:
        """All maps in tree order."""
        return chain.from_iterable(bucket.maps for bucket in self._buckets)

    def translate(self, addr: int, length: int, access: int) -> Translation:
        """As :func:`walk`."""
        return walk(self.first, addr, length, access)

    def _place(self, one: IotlbMap) -> tuple[int, int]:
        # bucket and index of a map; equal starts are told apart by serial and may fill several buckets
        start, serial = one.start, one.serial
        k = bisect_right(self._firsts, start) - 1
        while k > 0 and self._firsts[k] == start and self._buckets[k].maps[0].serial > serial:
            k -= 1
        if k >= 0:
            bucket = self._buckets[k]
            i = bisect_left(bucket.starts, start)
            j = bisect_right(bucket.starts, start, i)
            i = bisect_left(bucket.maps, serial, i, j, key=_SERIAL)
            if i < j and bucket.maps[i] is one:
                return k, i
        raise ValueError(f"{one} is not in this table")

    def _split(self, k: int) -> None:
        maps = self._buckets[k].maps
        if len(maps) > 2 * LOAD:
            left, right = _Bucket(maps[:LOAD]), _Bucket(maps[LOAD:])
            self._buckets[k : k + 1] = [left, right]
            self._firsts.insert(k + 1, right.starts[0])
            below = self._tops[k - 1] if k else -1
            self._tops.insert(k, max(below, left.maxima[-1]))

    def _unite(self, k: int) -> None:
        # make one bucket of two neighbours, after a map has left one of them
        united = _Bucket(self._buckets[k].maps + self._buckets[k + 1].maps)
        self._buckets[k : k + 2] = [united]
        self._firsts[k : k + 2] = [united.starts[0]]
        del self._tops[k]
        self._lower(k)
        self._split(k)

    def _lower(self, k: int) -> None:
        # a map has left bucket k: running maxima from there on may be too high, until one agrees again
        tops = self._tops
        top = tops[k - 1] if k else -1
        for i in range(k, len(tops)):
            top = max(top, self._buckets[i].maxima[-1])
            if tops[i] == top:
                return
            tops[i] = top

    def check(self) -> None:
        """Verify every invariant; for tests."""
        order = [(one.start, one.serial) for one in self.maps()]
        assert order == sorted(order)
        assert len(order) == self._count
        top = -1
        for bucket, first, known in zip(self._buckets, self._firsts, self._tops, strict=True):
            assert len(bucket.maps) <= 2 * LOAD
            assert bucket.starts == [one.start for one in bucket.maps]
            assert bucket.starts[0] == first
            assert bucket.maxima == list(accumulate((one.last for one in bucket.maps), max))
            top = max(top, bucket.maxima[-1])
            assert known == top
