"""Physical memory and the objects made of it: frames, folios, memfd-like and anonymous memory (mirrors mm/shmem.c,
mm/gup.c).

Theory. Physical memory is handed out in *folios*, runs of adjacent 4 KiB frames with one array of bytes. A memory
object maps page numbers to frames of folios, lazily: nothing exists until it is touched, and bytes nobody wrote cost
nothing. No frame number is used twice, so the address of memory that is gone never becomes that of other memory.
Whether neighbouring pages are physically adjacent is a property of the object (``folio_pages``): with 1 they never are,
because the allocator leaves a gap after every folio. That matters, because a pinned range becomes one IOTLB entry per
contiguous run.

A frame lives as long as an object maps it or somebody pins it. A page that was punched out, truncated or unmapped
leaves its pinned frame behind: whoever holds the physical address goes on reading and writing it, and nobody else sees
it.

Not modelled: swapping, migration, huge page splitting, memory pressure.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.ports import PAGE_SHIFT, PAGE_SIZE, Extent, Run
from vdpasim.core.rules import fail, hit

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_PFN = 0x100


@attrs.define(eq=False)
class Folio:
    """A run of adjacent frames."""

    pfn: int
    npages: int
    owner: str
    """Name of the object it was allocated for."""
    offset: int
    """Offset in that object of its first byte."""
    data: bytearray | None = None
    """Its bytes, None while all are zero."""
    mapped: int = 0
    """Pages of it that objects refer to."""
    pins: int = 0

    @property
    def paddr(self) -> int:
        """Physical address of its first byte."""
        return self.pfn << PAGE_SHIFT

    def view(self, at: int, *, write: bool) -> tuple[bytearray, int] | None:
        """The folio's bytes and an offset in them; None to read what nobody wrote."""
        if self.data is None:
            if not write:
                return None
            self.data = bytearray(self.npages << PAGE_SHIFT)
        return self.data, at

    def read(self, at: int, length: int) -> bytes:
        """Bytes from an offset in the folio; the range is inside."""
        return bytes(self.data[at : at + length]) if self.data is not None else bytes(length)

    def write(self, at: int, data: bytes | bytearray | memoryview) -> None:
        """Store bytes at an offset in the folio; the range is inside."""
        if self.data is None:
            self.data = bytearray(self.npages << PAGE_SHIFT)
        self.data[at : at + len(data)] = data


@attrs.frozen
class MemoryStatistics:
    """What physical memory holds at one time."""

    folios: int
    pages: int
    """Frames in those folios."""
    pins: int
    """Pins on them; a page pinned twice counts twice."""
    orphans: int
    """Folios that no object maps any more, kept by their pins."""
    wrong_unpins: int
    """Unpins so far of pages that were not pinned."""
    pinned: int
    """Pages pinned so far, those unpinned since included."""
    unpinned: int
    """Pages unpinned so far, the wrong ones not counted."""


class PhysicalMemory:
    """All frames of a machine, the simulated :class:`~vdpasim.core.ports.Pages`."""

    def __init__(self) -> None:
        self.version = 0
        self._next = FIRST_PFN
        self._pfns: list[int] = []
        self._folios: dict[int, Folio] = {}
        self._names: dict[str, int] = {}
        self._wrong_unpins = 0
        self._unpinned = 0
        self.pinned = 0
        """Pages pinned so far, whoever did it (``pin_user_pages``)."""

    def unique(self, name: str) -> str:
        """A name for an object or an address space: itself the first time, then ``name#1``, ``name#2`` …"""
        number = self._names.get(name, 0)
        self._names[name] = number + 1
        return f"{name}#{number}" if number else name

    def statistics(self) -> MemoryStatistics:
        """What there is now."""
        folios = self._folios.values()
        return MemoryStatistics(
            folios=len(folios),
            pages=sum(folio.npages for folio in folios),
            pins=sum(folio.pins for folio in folios),
            orphans=sum(not folio.mapped for folio in folios),
            wrong_unpins=self._wrong_unpins,
            pinned=self.pinned,
            unpinned=self._unpinned,
        )

    def alloc(self, npages: int, owner: str, offset: int) -> Folio:
        """A folio at the next free frames, aligned to its size; the frame behind it stays unused."""
        pfn = -(-self._next // npages) * npages
        self._next = pfn + npages + 1
        folio = Folio(pfn, npages, owner, offset)
        self._pfns.append(pfn)
        self._folios[pfn] = folio
        return folio

    def release(self, folio: Folio) -> None:
        """Free a folio if nothing maps or pins it."""
        if folio.mapped or folio.pins:
            return
        self.version += 1
        del self._folios[folio.pfn]
        self._pfns.pop(bisect_right(self._pfns, folio.pfn) - 1)

    def folio_at(self, paddr: int) -> Folio | None:
        """The folio a physical address is in."""
        pfn = paddr >> PAGE_SHIFT
        i = bisect_right(self._pfns, pfn) - 1
        if i < 0:
            return None
        folio = self._folios[self._pfns[i]]
        return folio if pfn < folio.pfn + folio.npages else None

    def _runs(self, paddr: int, length: int) -> Iterator[tuple[Folio, int, int]]:
        # (folio, offset in it, bytes) until the range or the memory ends
        while length > 0:
            folio = self.folio_at(paddr)
            if folio is None:
                return
            at = paddr - folio.paddr
            part = min(length, (folio.npages << PAGE_SHIFT) - at)
            yield folio, at, part
            paddr += part
            length -= part

    def frame(self, paddr: int, *, write: bool) -> tuple[bytearray, int] | None:
        folio = self.folio_at(paddr)
        return folio.view(paddr - folio.paddr, write=write) if folio else None

    def read(self, paddr: int, length: int) -> bytes:
        return b"".join(folio.read(at, part) for folio, at, part in self._runs(paddr, length))

    def write(self, paddr: int, data: bytes | bytearray | memoryview) -> int:
        done = 0
        for folio, at, part in self._runs(paddr, len(data)):
            folio.write(at, data[done : done + part])
            done += part
        return done

    def extents(self, paddr: int, length: int) -> list[Extent]:
        return [Extent(folio.owner, folio.offset + at, part) for folio, at, part in self._runs(paddr, length)]

    def unpin(self, run: Run, *, dirty: bool) -> None:
        for i in range(run.npages):
            folio = self.folio_at(run.paddr + i * PAGE_SIZE)
            if folio is None or not folio.pins:
                # A kernel would take somebody else's reference; nothing breaks here, but it must not pass unseen.
                hit("mm.unpin.not-pinned")
                self._wrong_unpins += 1
                continue
            folio.pins -= 1
            self._unpinned += 1
            self.release(folio)


class Memory:
    """A memory object: a memfd, shared anonymous memory, or the anonymous pages of one private mapping.

    ``special`` is what VM_IO and VM_PFNMAP say of its mappings: no ordinary pages, see ``device_page.py``.

    Args:
        name: how traces call it.
        size: bytes; accesses beyond the last page fault.
        phys: where its frames come from.
        folio_pages: neighbouring pages that are physically adjacent, a power of two (512: huge pages).
        one_frame: every page is the same frame.
    """

    special = False

    def __init__(
        self, name: str, size: int, phys: PhysicalMemory, *, folio_pages: int = 1, one_frame: bool = False
    ) -> None:
        if folio_pages < 1 or folio_pages & (folio_pages - 1):
            raise ValueError(f"folio_pages is {folio_pages}, not a power of two")
        self.name = name
        self.size = size
        self.phys = phys
        self.folio_pages = folio_pages
        self.one_frame = one_frame
        self.refs = 1
        self._pages: dict[int, tuple[Folio, int]] = {}

    def __repr__(self) -> str:
        return f"<Memory {self.name}>"

    def get(self) -> None:
        self.refs += 1

    def put(self) -> None:
        self.refs -= 1
        if self.refs == 0:
            self._drop(list(self._pages))

    def page(self, index: int) -> tuple[Folio, int] | None:
        """(folio, page in it) of a page, faulted in; None beyond the size."""
        if index << PAGE_SHIFT >= self.size or index < 0:
            return None
        found = self._pages.get(index)
        if found is None:
            if self.one_frame and self._pages:
                self.set_page(index, *next(iter(self._pages.values())))
            else:
                self._fault_in(index)
            found = self._pages[index]
        return found

    def known(self, index: int) -> tuple[Folio, int] | None:
        """As :meth:`page`, without faulting in."""
        return self._pages.get(index)

    def _fault_in(self, index: int) -> None:
        first = index // self.folio_pages * self.folio_pages
        folio = self.phys.alloc(self.folio_pages, self.name, first << PAGE_SHIFT)
        for i in range(self.folio_pages):
            if first + i not in self._pages:
                self.set_page(first + i, folio, i)

    def set_page(self, index: int, folio: Folio, page: int) -> None:
        """Let a page be a frame of a folio."""
        old = self._pages.get(index)
        folio.mapped += 1
        self._pages[index] = (folio, page)
        if old is not None:
            self.phys.version += 1
            old[0].mapped -= 1
            self.phys.release(old[0])

    def own_copy(self, index: int, data: bytes) -> tuple[Folio, int]:
        """Give a page a fresh frame with this content."""
        folio = self.phys.alloc(1, self.name, index << PAGE_SHIFT)
        if any(data):
            folio.write(0, data)
        self.set_page(index, folio, 0)
        return folio, 0

    def fault_in_run(self, index: int, npages: int) -> None:
        """Give adjacent pages adjacent fresh frames."""
        folio = self.phys.alloc(npages, self.name, index << PAGE_SHIFT)
        for i in range(npages):
            self.set_page(index + i, folio, i)

    def drop_pages(self, first: int, last: int) -> None:
        """Let pages go by index; pinned frames stay with who pins them."""
        self._drop(self.indices(first, last))

    def indices(self, first: int, last: int) -> list[int]:
        """The pages from ``first`` to ``last`` that exist, in order; costs the smaller of range and population."""
        if len(self._pages) < last - first:
            return sorted(index for index in self._pages if first <= index <= last)
        return [index for index in range(first, last + 1) if index in self._pages]

    def populated(self) -> Iterator[tuple[int, Folio, int]]:
        """(index, folio, page in it) of every page that exists."""
        for index in sorted(self._pages):
            yield (index, *self._pages[index])

    def truncate(self, size: int) -> None:
        """ftruncate(2): pages wholly beyond the size go, the rest of the last page becomes zero.

        Raises:
            KernelError: EINVAL negative size.
        """
        if size < 0:
            raise fail("mm.file.range")
        last = -(-size // PAGE_SIZE)
        self._drop([index for index in self._pages if index >= last])
        if size % PAGE_SIZE and size < self.size and (found := self.known(last - 1)) is not None:
            folio, page = found
            at = page * PAGE_SIZE + size % PAGE_SIZE
            folio.write(at, bytes(PAGE_SIZE - size % PAGE_SIZE))
        self.size = size

    def punch_hole(self, offset: int, length: int) -> None:
        """fallocate(2) with PUNCH_HOLE and KEEP_SIZE: whole pages go, parts of pages become zero.

        Raises:
            KernelError: EINVAL negative offset, or a length that is not positive.
        """
        if offset < 0 or length <= 0:
            raise fail("mm.file.range")
        last = offset + length - 1
        for index in self.indices(offset >> PAGE_SHIFT, last >> PAGE_SHIFT):
            first, final = max(offset, index << PAGE_SHIFT), min(last, (index << PAGE_SHIFT) + PAGE_SIZE - 1)
            if final - first + 1 == PAGE_SIZE:
                self._drop([index])
            else:
                folio, page = self._pages[index]
                folio.write(page * PAGE_SIZE + first % PAGE_SIZE, bytes(final - first + 1))

    def _drop(self, indices: list[int]) -> None:
        self.phys.version += 1
        for index in indices:
            folio, _ = self._pages.pop(index)
            folio.mapped -= 1
            self.phys.release(folio)

    # -- through a mapping of the whole

    def read(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        for index, at, size in _page_pieces(offset, length):
            found = self.page(index)
            if found is None:
                break
            parts.append(found[0].read(found[1] * PAGE_SIZE + at, size))
        return b"".join(parts)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        done = 0
        for index, at, size in _page_pieces(offset, len(data)):
            found = self.page(index)
            if found is None:
                break
            found[0].write(found[1] * PAGE_SIZE + at, data[done : done + size])
            done += size
        return done

    def frame(self, offset: int, *, write: bool) -> tuple[bytearray, int] | None:
        found = self.page(offset >> PAGE_SHIFT)
        return found[0].view(found[1] * PAGE_SIZE + offset % PAGE_SIZE, write=write) if found else None

    # -- through a descriptor

    def pread(self, offset: int, length: int) -> bytes:
        """pread(2): short at the end of the object.

        Raises:
            KernelError: EINVAL negative offset.
        """
        if offset < 0:
            raise fail("mm.file.range")
        parts: list[bytes] = []
        for index, at, size in _page_pieces(offset, min(length, self.size - offset)):
            found = self.known(index)
            parts.append(found[0].read(found[1] * PAGE_SIZE + at, size) if found else bytes(size))
        return b"".join(parts)

    def pwrite(self, offset: int, data: bytes) -> int:
        """pwrite(2): grows the object.

        Raises:
            KernelError: EINVAL negative offset.
        """
        if offset < 0:
            raise fail("mm.file.range")
        if not data:
            return 0
        self.size = max(self.size, offset + len(data))
        return self.write(offset, data)


def _page_pieces(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    # (page, offset in it, bytes) page by page
    while length > 0:
        at = offset % PAGE_SIZE
        size = min(length, PAGE_SIZE - at)
        yield offset >> PAGE_SHIFT, at, size
        offset += size
        length -= size
