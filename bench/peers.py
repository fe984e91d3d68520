"""What the IOTLB is compared with: a plain SortedDict by start, and PyPI's intervaltree, both by their public methods.

Each offers what vhost-vdpa asks of a table. A mapping is (start, last, addr); ``intervaltree`` has half-open intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intervaltree import IntervalTree
from sortedcontainers import SortedDict

from vdpasim.core.vhost.iotlb import Iotlb

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Table:
    """The operations, as plain callables so that nothing but they is measured."""

    add: Callable[[int, int, int, int], object]
    """(start, last, addr, perm): insert unless something overlaps."""
    find: Callable[[int, int], object]
    """(start, last): the first overlapping mapping."""
    remove: Callable[[int, int], object]
    """(start, last): remove all overlapping mappings."""
    translate: Callable[[int, int, int], object]
    """(addr, length, access): the pieces."""
    add_any: Callable[[int, int, int, int], object]
    """(start, last, addr, perm): insert, overlapping or not."""
    overlaps: Callable[[int, int], object]
    """(start, last): all overlapping mappings in order."""


def iotlb() -> Table:
    """Ours."""
    table = Iotlb(enforce_limit=False)
    return Table(
        table.add_exclusive, table.itree_first, table.del_range, table.translate, table.add_range, table.overlaps
    )


def iotlb_searching_twice() -> Table:
    """Ours with the overlap check apart from the insertion."""
    table = Iotlb(enforce_limit=False)

    def add(start: int, last: int, addr: int, perm: int) -> None:
        if table.itree_first(start, last) is None:
            table.add_range(start, last, addr, perm)

    return Table(add, table.itree_first, table.del_range, table.translate, table.add_range, table.overlaps)


class DictTable:
    """Mappings (last, addr, perm) by start; overlaps are not supported."""

    def __init__(self) -> None:
        self.maps: SortedDict[int, tuple[int, int, int]] = SortedDict()

    def find(self, start: int, last: int) -> tuple[int, tuple[int, int, int]] | None:
        """The mapping that contains ``start``, else the next if it begins by ``last``."""
        maps = self.maps
        at = maps.bisect_right(start) - 1
        if at >= 0:
            found = maps.peekitem(at)
            if found[1][0] >= start:
                return found
        if at + 1 < len(maps):
            found = maps.peekitem(at + 1)
            if found[0] <= last:
                return found
        return None

    def add(self, start: int, last: int, addr: int, perm: int) -> None:
        """Insert unless something overlaps."""
        if self.find(start, last) is None:
            self.maps[start] = (last, addr, perm)

    def overlaps(self, start: int, last: int) -> list[tuple[int, tuple[int, int, int]]]:
        """All overlapping mappings."""
        found = []
        at = max(self.maps.bisect_right(start) - 1, 0)
        for key in self.maps.islice(at):
            if key > last:
                break
            if self.maps[key][0] >= start:
                found.append((key, self.maps[key]))
        return found

    def remove(self, start: int, last: int) -> None:
        """Remove all overlapping mappings."""
        for key, _ in self.overlaps(start, last):
            del self.maps[key]

    def translate(self, addr: int, length: int, access: int) -> list[tuple[int, int]]:
        """Pieces of (address, bytes)."""
        pieces = []
        last = addr + length - 1
        while addr <= last:
            found = self.find(addr, last)
            if found is None or found[0] > addr or found[1][2] & access != access:
                break
            start, (until, target, _) = found
            size = min(last, until) - addr + 1
            pieces.append((target + addr - start, size))
            addr += size
        return pieces

    def table(self) -> Table:
        """The operations."""
        return Table(self.add, self.find, self.remove, self.translate, self.add, self.overlaps)


class TreeTable:
    """PyPI's intervaltree."""

    def __init__(self) -> None:
        self.tree = IntervalTree()

    def add(self, start: int, last: int, addr: int, perm: int) -> None:
        """Insert unless something overlaps."""
        if not self.tree.overlaps(start, last + 1):
            self.tree.addi(start, last + 1, (addr, perm))

    def add_any(self, start: int, last: int, addr: int, perm: int) -> None:
        """Insert, overlapping or not."""
        self.tree.addi(start, last + 1, (addr, perm))

    def find(self, start: int, last: int) -> Any:
        """The first overlapping mapping."""
        return min(self.tree.overlap(start, last + 1), default=None)

    def overlaps(self, start: int, last: int) -> Any:
        """All overlapping mappings in order."""
        return sorted(self.tree.overlap(start, last + 1))

    def remove(self, start: int, last: int) -> None:
        """Remove all overlapping mappings."""
        self.tree.remove_overlap(start, last + 1)

    def translate(self, addr: int, length: int, access: int) -> list[tuple[int, int]]:
        """Pieces of (address, bytes)."""
        pieces = []
        last = addr + length - 1
        while addr <= last:
            found = min(self.tree.at(addr), default=None)
            if found is None or found.data[1] & access != access:
                break
            size = min(last, found.end - 1) - addr + 1
            pieces.append((found.data[0] + addr - found.begin, size))
            addr += size
        return pieces

    def table(self) -> Table:
        """The operations."""
        return Table(self.add, self.find, self.remove, self.translate, self.add_any, self.overlaps)
