"""What a device that goes by files reaches memory through (mirrors vduse_domain_set_map of
drivers/vdpa/vdpa_user/iova_domain.c, and the mmap of the program behind it).

Theory. vhost-vdpa keeps the file behind every entry of user addresses, and where in it the entry begins
(``struct vdpa_map_file``). A device in user space (VDUSE) cannot use the addresses of another process: it is given a
descriptor of that file and the offset, and maps it itself. So it needs no owner's address space. That the owner moves
or goes is nothing to it, and a REMAP changes nothing: the address that a REMAP stores is not read, and the file stays
that of the UPDATE.

Each piece of a file gets addresses of its own here, as the daemon's mmap() would give it, and these are what the
device's copy of the table holds.

Not modelled: VDUSE's messages and its daemon as a process, the bounce buffer for a driver in the kernel, protections of
the mappings. An entry whose offset no file can have, which the daemon could not map, is left out of the copy.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.ports import PAGE_MASK, PAGE_SIZE, Extent
from vdpasim.core.rules import KernelError

if TYPE_CHECKING:
    from vdpasim.core.ports import MemoryObject
    from vdpasim.core.vhost.iotlb import Iotlb
    from vdpasim.core.vhost.vdpa_map import MapFile

FILE_SIZE_MAX = (1 << 63) - 1
"""No file reaches further."""


@attrs.frozen(eq=False)
class Piece:
    """A range of a file that the device has mapped."""

    start: int
    """Its first address."""
    size: int
    file: MemoryObject
    offset: int


class IovaDomain:
    """The files a device has mapped, for all its address spaces; a :class:`~vdpasim.core.ports.View`."""

    def __init__(self, ident: str) -> None:
        self.ident = ident
        self._spaces: dict[int, list[Piece]] = {}
        self._pieces: list[Piece] = []
        """All of them, by address."""

    # -- mapping

    def set_map(self, asid: int, table: Iotlb, copy: Iotlb) -> None:
        """Map the files behind a table, in the place of those before; ``copy`` holds where (``vduse_domain_set_map``).

        Raises:
            KernelError: as :meth:`Iotlb.add_range` of the copy; nothing is mapped then.
        """
        self.clear(asid, copy)
        try:
            for entry in table:
                behind: MapFile = entry.opaque
                if behind.offset + entry.size <= FILE_SIZE_MAX:
                    piece = self._map(asid, behind, entry.size)
                    copy.add_range(entry.start, entry.last, piece.start, entry.perm, entry.serial)
        except KernelError:
            self.clear(asid, copy)
            raise

    def clear(self, asid: int, copy: Iotlb) -> None:
        """Let the files of an address space go (``vduse_domain_clear_map``)."""
        copy.reset()
        gone = self._spaces.pop(asid, [])
        for piece in gone:
            piece.file.put()
        if gone:
            self._pieces = sorted(chain(*self._spaces.values()), key=attrgetter("start"))

    def _map(self, asid: int, behind: MapFile, size: int) -> Piece:
        # behind all others, from a page of its own, at the place in it that the bytes have in the file's
        last = self._pieces[-1].start + self._pieces[-1].size - 1 if self._pieces else 0
        start = (last & PAGE_MASK) + PAGE_SIZE + (behind.offset & ~PAGE_MASK)
        piece = Piece(start, size, behind.file, behind.offset)
        behind.file.get()
        self._spaces.setdefault(asid, []).append(piece)
        self._pieces.append(piece)
        return piece

    # -- access

    def read(self, addr: int, length: int) -> bytes:
        piece, at, size = self._at(addr, length)
        return piece.file.read(at, size) if piece else b""

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> int:
        piece, at, size = self._at(addr, len(data))
        return piece.file.write(at, data[:size]) if piece else 0

    def frame(self, addr: int, *, write: bool) -> tuple[bytearray, int] | None:
        piece, at, _ = self._at(addr, 1)
        return piece.file.frame(at, write=write) if piece else None

    def extents(self, addr: int, length: int) -> list[Extent]:
        piece, at, size = self._at(addr, length)
        return [Extent(piece.file.name, at, size)] if piece else []

    def _at(self, addr: int, length: int) -> tuple[Piece | None, int, int]:
        # the piece an address is in, where in its file, and how far it reaches; an access is in one entry, so in one
        # piece
        i = bisect_right(self._pieces, addr, key=attrgetter("start")) - 1
        piece = self._pieces[i] if i >= 0 else None
        if piece is None or addr >= piece.start + piece.size:
            return None, 0, 0
        within = addr - piece.start
        return piece, piece.offset + within, min(length, piece.size - within)
