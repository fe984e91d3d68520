"""The IOTLB: a table of translations from I/O addresses (mirrors drivers/vhost/iotlb.c).

Theory. The kernel keeps the entries twice: in an interval tree ordered by start address, where it finds the first
overlap of a range, and in a list in the order of insertion, whose head gives way when a full table is allowed to retire
entries. Nothing is ever merged, trimmed or split; the one exception is [0, 2^64-1], which becomes two entries because
its size does not fit. Entries may overlap, the container does not mind. Its users differ:

==================================  ==================================  =======================================
user                                overlaps                            full
==================================  ==================================  =======================================
vhost-net device IOTLB, mem table   accepted, the smaller start wins,   the oldest gives way (``retire``)
                                    among equal starts the older one
vhost-vdpa address space            refused by vhost-vdpa (EEXIST)      ENOSPC with F1, unlimited before
vdpa_sim's own copy                 can never arise                     ENOSPC with F1, unlimited before
==================================  ==================================  =======================================

So nearly every table never sees an overlap, and one sorted list with one search serves it. A table begins in that
regime and changes over at the first overlapping entry, once, to an index that bears overlaps and costs more to change;
only :meth:`Iotlb.reset` leads back. Nobody can tell the regimes apart but by the clock: see
:mod:`vdpasim.core.vhost.iotlb_index`.

The list in insertion order exists only where entries can retire.

Not modelled: allocation failure (ENOMEM); the locks around a table, which belong to its users.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.core.ports import U64_MAX
from vdpasim.core.rules import KernelError, fail, hit
from vdpasim.core.vhost.iotlb_index import ExclusiveIndex, IotlbMap, OverlapIndex, Translation

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Iotlb", "IotlbMap", "IotlbStatistics", "Translation"]

_HALF = 1 << 63
_NO_LIMIT = 1 << 64


@attrs.frozen
class IotlbStatistics:
    """What a table has been through; ``adds == nmaps + removes + retired`` always."""

    nmaps: int
    """Entries now."""
    adds: int
    """Entries ever inserted."""
    removes: int
    """Entries removed by a range, one by one or by a reset."""
    retired: int
    """Entries that gave way to newer ones."""


class Iotlb:
    """An ordered multiset of entries (``struct vhost_iotlb``). Ranges are inclusive, addresses 0 to 2^64-1."""

    __slots__ = (
        "_cap",
        "_fifo",
        "_index",
        "_limit",
        "_remaps",
        "_removed",
        "_retire",
        "_retired",
        "_serials",
        "nmaps",
    )

    def __init__(
        self,
        limit: int = 0,
        *,
        retire: bool = False,
        enforce_limit: bool = True,
        serials: Iterator[int] | None = None,
    ) -> None:
        """An empty table for ``limit`` entries (``vhost_iotlb_alloc``).

        ``retire`` is VHOST_IOTLB_FLAG_RETIRE. ``enforce_limit`` is switch F1: without it a limit of 0 is none, and no
        limit holds unless entries retire. ``serials`` gives the rising serial numbers, so that tables can share them;
        one is taken for every entry inserted and none for an entry refused.
        """
        self._limit = limit
        self._retire = retire
        self._cap = limit if enforce_limit or (retire and limit) else _NO_LIMIT
        self._fifo: OrderedDict[int, IotlbMap] | None = OrderedDict() if retire and limit else None
        self._index: ExclusiveIndex | OverlapIndex = ExclusiveIndex()
        self._serials = count() if serials is None else serials
        self._remaps = 0
        self._removed = 0
        self._retired = 0
        self.nmaps = 0
        """Number of entries."""

    @property
    def generation(self) -> int:
        """Rises with every change of the table; a cached translation is good for one value."""
        # derived, so that adding an entry counts one thing: an addition is one more, a removal one less and two more
        return self.nmaps + 2 * self._removed + self._remaps

    @property
    def limit(self) -> int:
        """The limit it was made with, enforced or not."""
        return self._limit

    @property
    def retire(self) -> bool:
        """Whether a full table drops its oldest entry instead of refusing."""
        return self._retire

    def __len__(self) -> int:
        return self.nmaps

    def __bool__(self) -> bool:
        # An empty table is a table: only None stands for an IOTLB that is not initialised.
        return True

    def __iter__(self) -> Iterator[IotlbMap]:
        """Entries by start, equal starts older first; the table must not change meanwhile."""
        return self._index.maps()

    # -- add

    def add_range(self, start: int, last: int, addr: int, perm: int, opaque: Any = None) -> list[IotlbMap]:
        """Insert [start, last], overlaps or not (``vhost_iotlb_add_range_ctx``).

        Returns the new entries: two for [0, 2^64-1], else one.

        Raises:
            KernelError: EFAULT last < start, EINVAL limit 0 (F1), ENOSPC full (F1).
        """
        if last < start:
            raise fail("iotlb.add.wraps")
        if start == 0 and last == U64_MAX:
            return self._add_all(addr, perm, opaque)
        if self.nmaps >= self._cap:
            self._make_room()
        return [self._insert(start, last, addr, perm, opaque)]

    def add_exclusive(self, start: int, last: int, addr: int, perm: int, opaque: Any = None) -> IotlbMap | None:
        """Insert unless something overlaps: ``itree_first`` and :meth:`add_range` with one search.

        Returns the new entry (for [0, 2^64-1] its lower half), None with nothing changed if there is an overlap.

        Raises:
            KernelError: as :meth:`add_range`.
        """
        index = self._index
        plain = start <= last and self.nmaps < self._cap and (start or last != U64_MAX)
        if plain and isinstance(index, ExclusiveIndex):
            entry = index.insert_exclusive(start, last, addr, perm, opaque, self._serials)
            if entry is not None:
                self.nmaps += 1
                if self._fifo is not None:
                    self._fifo[entry.serial] = entry
            return entry
        if index.first(start, last) is not None:
            return None
        return self.add_range(start, last, addr, perm, opaque)[0]

    def copy(self, other: Iotlb) -> None:
        """Become a copy of another table, whose entries' serial numbers the new entries keep as ``opaque``.

        Raises:
            KernelError: as :meth:`add_range`; the table is left empty.
        """
        self.reset()
        index = self._index
        fits = other.nmaps <= self._cap and self._fifo is None
        if fits and isinstance(index, ExclusiveIndex) and isinstance(other._index, ExclusiveIndex):
            index.fill(other, self._serials)
            self.nmaps = other.nmaps
            return
        try:
            for entry in other:
                self.add_range(entry.start, entry.last, entry.addr, entry.perm, entry.serial)
        except KernelError:
            self.reset()
            raise

    def _add_all(self, addr: int, perm: int, opaque: Any) -> list[IotlbMap]:
        if self._fifo is None and self.nmaps + 2 > self._cap:
            self._make_room()
        hit("iotlb.add.split-all")
        lower = self.add_range(0, _HALF - 1, addr, perm, opaque)
        return lower + self.add_range(_HALF, U64_MAX, addr + _HALF & U64_MAX, perm, opaque)

    def _make_room(self) -> None:
        if not self._limit:
            raise fail("iotlb.add.limit-zero")
        if self._fifo is None:
            raise fail("iotlb.add.full")
        hit("iotlb.add.retire")
        _, oldest = self._fifo.popitem(last=False)
        self._index.discard(oldest)
        oldest.live = False
        self.nmaps -= 1
        self._removed += 1
        self._retired += 1

    def _insert(self, start: int, last: int, addr: int, perm: int, opaque: Any) -> IotlbMap:
        index = self._index
        if isinstance(index, ExclusiveIndex):
            entry = index.insert_exclusive(start, last, addr, perm, opaque, self._serials)
            if entry is not None:
                self._account(entry)
                return entry
            self._index = index = OverlapIndex(index.maps())
        entry = IotlbMap(start, last, addr, perm, opaque, next(self._serials))
        index.insert(entry)
        self._account(entry)
        return entry

    def _account(self, entry: IotlbMap) -> None:
        self.nmaps += 1
        if self._fifo is not None:
            self._fifo[entry.serial] = entry

    # -- look up

    def itree_first(self, start: int, last: int) -> IotlbMap | None:
        """The first entry with ``entry.start <= last`` and ``entry.last >= start`` (``vhost_iotlb_itree_first``).

        First is the smallest start, among equal ones the oldest. A degenerate range (start > last) asks the same.
        """
        return self._index.first(start, last)

    def itree_next(self, entry: IotlbMap, start: int, last: int) -> IotlbMap | None:
        """The next such entry behind ``entry``, which must be in the table (``vhost_iotlb_itree_next``)."""
        return self._index.following(entry, start, last)

    def overlaps(self, start: int, last: int) -> list[IotlbMap]:
        """All entries that ``itree_first`` and ``itree_next`` would find, in order."""
        return self._index.overlaps(start, last)

    def translate(self, addr: int, length: int, access: int) -> Translation:
        """Where ``length`` bytes from ``addr`` on lead (``vhost.c:translate_desc()``, ``vringh.c:iotlb_translate()``).

        ``access`` is 1 to read, 2 to write. The walk stops at the first byte without an entry (``miss``) or whose entry
        lacks the access (``denied``). No bytes: no pieces, and success. Addresses are 64-bit and a range that wraps is
        not refused: every look-up asks for [address reached, last byte of the whole range], which is then a degenerate
        range and mostly misses at ``addr`` itself.
        """
        return self._index.translate(addr, length, access)

    # -- remove and change

    def del_range(self, start: int, last: int) -> list[IotlbMap]:
        """Remove every entry that overlaps, whole (``vhost_iotlb_del_range``); returns them in the order of removal.

        A degenerate range removes what spans both its ends.
        """
        gone = self._index.delete_range(start, last)
        if gone:
            self._left(gone)
        return gone

    def _left(self, gone: list[IotlbMap]) -> None:
        for entry in gone:
            entry.live = False
            if self._fifo is not None:
                del self._fifo[entry.serial]
        self.nmaps -= len(gone)
        self._removed += len(gone)

    def map_free(self, entry: IotlbMap) -> None:
        """Remove one entry (``vhost_iotlb_map_free``).

        Raises:
            ValueError: it is not in this table.
        """
        if not entry.live:
            raise ValueError(f"{entry} has left its table")
        self._index.discard(entry)
        self._left([entry])

    def reset(self) -> None:
        """Remove everything (``vhost_iotlb_reset``); serials go on counting."""
        for entry in self:
            entry.live = False
        self._removed += self.nmaps
        self.nmaps = 0
        self._index = ExclusiveIndex()
        if self._fifo is not None:
            self._fifo.clear()

    def set_addr(self, entry: IotlbMap, addr: int) -> None:
        """Let an entry lead elsewhere (VHOST_IOTLB_REMAP of the live-update series); its place and age stay.

        Raises:
            ValueError: it has left its table.
        """
        if not entry.live:
            raise ValueError(f"{entry} has left its table")
        entry.addr = addr
        self._remaps += 1

    def statistics(self) -> IotlbStatistics:
        """Counts since the table was made."""
        adds = self.nmaps + self._removed
        return IotlbStatistics(self.nmaps, adds, self._removed - self._retired, self._retired)
