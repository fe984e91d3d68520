"""Address spaces: mappings, their changes, and access through them (mirrors mm/mmap.c, mm/mprotect.c, mm/mremap.c,
mm/memory.c).

Theory. An address space is an ordered list of VMAs. Every change cuts mappings at its borders and joins neighbours
that could be one, exactly as a kernel does, because a driver that walks VMAs makes one IOTLB entry of each. ``seq``
changes with every change of the map, and when a private page takes the place of a file's, so whoever caches a
translation can tell.

Reads and writes come up short at the first byte that is not there, not allowed, or beyond the end of its object. A
write to a private mapping of a file gives the process a page of its own. The address space lives while it has users:
tasks that run in it and whoever was cloned into it; with the last one its mappings go.

Not modelled: stack growth, mlock, madvise, userfaultfd, huge page alignment of addresses; VMAs kept apart because their
anonymous pages have different histories; truncation of private copies (when the file grows again they are back).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.mm import pin as _pin
from vdpasim.core.mm.memory import Memory
from vdpasim.core.mm.vma import Vma
from vdpasim.core.ports import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Extent
from vdpasim.core.rules import fail
from vdpasim.uapi.abi import X86_64
from vdpasim.uapi.mman import PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vdpasim.core.mm.memory import Folio, PhysicalMemory
    from vdpasim.core.ports import Run, VmaView

MMAP_BASE = 0x7F00_0000_0000
MMAP_BASE_32 = 0x4000_0000
"""Where mappings without an address begin; they go upwards, apart from each other."""
MMAP_GAP = 0x10000
MMAP_MIN_ADDR = 0x10000
"""Nothing is placed below this; a fixed mapping may lie there."""
MAX_MAP_COUNT = 65530
"""Mappings of one address space (vm.max_map_count)."""
FILE_SIZE_MAX = (1 << 63) - 1
"""No file reaches further, so no mapping of one does."""


class AddressSpace:
    """One simulated address space, the :class:`~vdpasim.core.ports.Mm` of a process."""

    def __init__(self, ident: str, phys: PhysicalMemory, task_size: int = X86_64.task_size) -> None:
        self.ident = ident
        self.phys = phys
        self.task_size = task_size
        self.pinned_vm = 0
        self.seq = 0
        self.users = 1
        self.on_gone: list[Callable[[], None]] = []
        """Called when the last user has gone."""
        self._vmas: list[Vma] = []
        self._lasts: list[int] = []
        self._private = Memory(ident + "/anon", task_size, phys)
        self._next = MMAP_BASE if task_size > MMAP_BASE else MMAP_BASE_32
        self._shmem = 0

    @property
    def alive(self) -> bool:
        return self.users > 0

    def get_user(self) -> bool:
        """One more user (``mmget_not_zero``); False, and none, once the last has gone."""
        if not self.users:
            return False
        self.users += 1
        return True

    def put_user(self) -> None:
        """One user less (``mmput``); the last one takes the mappings with it.

        Raises:
            RuntimeError: there is no user to take.
        """
        if not self.users:
            raise RuntimeError(f"{self.ident} has no user left")
        self.users -= 1
        if self.users == 0:
            self._replace(0, self.task_size - 1, [])
            for callback in self.on_gone:
                callback()

    # -- changing the map

    def mmap(
        self,
        addr: int | None,
        length: int,
        prot: int,
        *,
        shared: bool,
        obj: Memory | None = None,
        offset: int = 0,
        fixed: bool = False,
        file_writable: bool = True,
    ) -> int:
        """mmap(2): the address. Without ``obj`` the memory is anonymous; shared anonymous memory is an object as well.

        An ``addr`` that is not ``fixed`` is a hint and taken if free.

        Raises:
            KernelError: EINVAL length or alignment, EOVERFLOW offset, ENOMEM too many mappings, EACCES writable shared
                mapping of a read-only file, ENOMEM no room.
        """
        if length <= 0 or offset < 0 or offset & ~PAGE_MASK or (fixed and (addr is None or addr & ~PAGE_MASK)):
            raise fail("mm.mmap.invalid")
        if obj is not None and offset + _page_align(length) > FILE_SIZE_MAX:
            raise fail("mm.mmap.overflow")
        if len(self._vmas) > MAX_MAP_COUNT:
            raise fail("mm.map-count")
        if shared and prot & PROT_WRITE and not file_writable:
            raise fail("mm.mmap.read-only-file")
        size = _page_align(length)
        at = addr if fixed and addr is not None else self._place(addr, size)
        if at < 0 or at + size > self.task_size:
            raise fail("mm.mmap.no-room")
        if shared and obj is None:
            obj = Memory(f"{self.ident}/shmem{self._shmem}", size, self.phys)
            obj.refs = 0
            self._shmem += 1
        self._replace(at, at + size - 1, [Vma(at, at + size - 1, prot, shared, file_writable, obj, offset)])
        return at

    def munmap(self, addr: int, length: int) -> None:
        """munmap(2): nothing there is no error.

        Raises:
            KernelError: EINVAL alignment, length, or beyond the user half; ENOMEM a hole that makes one mapping
                too many.
        """
        size = _page_align(length)
        last = addr + size - 1
        if addr < 0 or addr & ~PAGE_MASK or size <= 0 or last >= self.task_size:
            raise fail("mm.range.invalid")
        vma = self._find(addr)
        if vma is not None and vma.start < addr and last < vma.last:
            self._check_split()
        self._replace(addr, last, [])

    def mprotect(self, addr: int, length: int, prot: int) -> None:
        """mprotect(2), mapping by mapping: an error leaves what lies below its place changed.

        Raises:
            KernelError: EINVAL alignment, ENOMEM a hole in the range, EACCES a shared mapping of a read-only file,
                ENOMEM one mapping too many.
        """
        if addr & ~PAGE_MASK or length < 0:
            raise fail("mm.range.invalid")
        last = addr + _page_align(length) - 1
        while addr <= last:
            vma = self._find(addr)
            if vma is None:
                raise fail("mm.mprotect.hole")
            if prot & PROT_WRITE and vma.shared and not vma.file_writable:
                raise fail("mm.mprotect.access")
            part = vma.part(addr, last)
            if (part.start, part.last) != (vma.start, vma.last):
                self._check_split()
            part.prot = prot
            self._replace(part.start, part.last, [part], keep_private=True)
            addr = part.last + 1

    def _check_split(self) -> None:
        if len(self._vmas) >= MAX_MAP_COUNT:
            raise fail("mm.map-count")

    def mremap(self, addr: int, length: int, new_length: int, to: int | None = None) -> int:
        """mremap(2) with MREMAP_MAYMOVE, with ``to`` as MREMAP_FIXED: the new address; private pages move along.

        Without ``to`` it moves only if it cannot grow in place. Length 0 maps shared memory a second time.

        Raises:
            KernelError: EINVAL alignment or new length, EFAULT nothing there, EINVAL new range, EFAULT the old range is
                not inside one mapping, EINVAL length 0 of private memory, ENOMEM no room.
        """
        size, new_size = _page_align(length), _page_align(new_length)
        if addr & ~PAGE_MASK or size < 0 or new_size <= 0:
            raise fail("mm.mremap.invalid")
        if self._find(addr) is None:
            raise fail("mm.mremap.fault")
        if to is not None:
            beyond = to < 0 or to & ~PAGE_MASK or to + new_size > self.task_size
            if beyond or (to < addr + size and addr < to + new_size):
                raise fail("mm.mremap.invalid")
            self._replace(to, to + new_size - 1, [])
        if size > new_size:
            self._replace(addr + new_size, addr + size - 1, [])
            size = new_size
        if to is None and size == new_size:
            return addr
        old = self._resizable(addr, size)
        if to is None and size and self._grow(old, addr + size, addr + new_size - 1):
            return addr
        return self._move(old, addr, size, new_size, to)

    def _resizable(self, addr: int, size: int) -> Vma:
        # vma_to_resize(); unmapping the new range cannot have taken the old one
        old = self._find(addr)
        if old is None or old.last < addr + size - 1:
            raise fail("mm.mremap.fault")
        if not size and not old.shared:
            raise fail("mm.mremap.invalid")
        return old

    def _grow(self, vma: Vma, start: int, last: int) -> bool:
        # in place, where [start, last] is free: then it follows the mapping, which reaches at least to start
        if last >= self.task_size or self._overlapping(start, last):
            return False
        more = attrs.evolve(vma, start=start, last=last, offset=vma.offset + start - vma.start)
        self._replace(start, last, [more])
        return True

    def _move(self, vma: Vma, addr: int, size: int, new_size: int, to: int | None) -> int:
        at = self._place(None, new_size) if to is None else to
        moved = attrs.evolve(vma, start=at, last=at + new_size - 1, offset=vma.offset + addr - vma.start)
        self._replace(at, at + new_size - 1, [moved])
        if size:
            self._move_private(addr, at, size)
            self._replace(addr, addr + size - 1, [])
        return at

    def _place(self, hint: int | None, size: int) -> int:
        # at the hint if that is free, else upwards from where the last mapping went, else in the highest gap
        if hint is not None:
            at = _page_align(hint)
            if 0 <= at <= self.task_size - size and not self._overlapping(at, at + size - 1):
                return at
        at = self._next
        while taken := self._overlapping(at, at + size - 1):
            at = taken[-1].last + 1 + MMAP_GAP
        if at + size > self.task_size:
            return self._highest_gap(size)
        self._next = at + size + MMAP_GAP
        return at

    def _highest_gap(self, size: int) -> int:
        above = self.task_size
        for vma in reversed(self._vmas):
            if above - size > max(vma.last, MMAP_MIN_ADDR - 1):
                break
            above = vma.start
        if above - size < MMAP_MIN_ADDR:
            raise fail("mm.mmap.no-room")
        return above - size

    def _replace(self, start: int, last: int, new: list[Vma], *, keep_private: bool = False) -> None:
        # put `new` in place of whatever is in [start, last], cutting at the borders and joining what could be one
        self.seq += 1
        self.phys.version += 1
        i = bisect_left(self._lasts, start)
        gone = self._overlapping(start, last)
        j = i + len(gone)
        around = [vma.part(vma.start, start - 1) for vma in gone[:1] if vma.start < start]
        around += new
        around += [vma.part(last + 1, vma.last) for vma in gone[-1:] if vma.last > last]
        low, high = max(i - 1, 0), min(j + 1, len(self._vmas))
        before, after = self._vmas[low:i], self._vmas[j:high]
        pieces = _joined([*before, *around, *after])
        for vma in pieces:
            if vma.obj is not None:
                vma.obj.get()
        for vma in self._vmas[low:high]:
            if vma.obj is not None:
                vma.obj.put()
        self._vmas[low:high] = pieces
        self._lasts[low:high] = [vma.last for vma in pieces]
        if not keep_private:
            self._private.drop_pages(start >> PAGE_SHIFT, last >> PAGE_SHIFT)

    def _move_private(self, addr: int, to: int, size: int) -> None:
        shift = (to - addr) >> PAGE_SHIFT
        for index in self._private.indices(addr >> PAGE_SHIFT, (addr + size - 1) >> PAGE_SHIFT):
            found = self._private.known(index)
            if found is not None:
                self._private.set_page(index + shift, *found)

    # -- looking

    def _overlapping(self, start: int, last: int) -> list[Vma]:
        i = bisect_left(self._lasts, start)
        j = i
        while j < len(self._vmas) and self._vmas[j].start <= last:
            j += 1
        return self._vmas[i:j]

    def _find(self, addr: int) -> Vma | None:
        i = bisect_left(self._lasts, addr)
        if i == len(self._vmas) or self._vmas[i].start > addr:
            return None
        return self._vmas[i]

    def vmas(self, addr: int) -> Iterator[VmaView]:
        for i in range(bisect_left(self._lasts, addr), len(self._vmas)):
            yield self._vmas[i].view()

    def extents(self, addr: int, length: int) -> list[Extent]:
        out: list[Extent] = []
        last = addr + length - 1
        for vma in self._overlapping(addr, last):
            if vma.start > addr:
                break
            part = vma.part(addr, last)
            if part.obj is not None and part.shared:
                out.append(Extent(part.obj.name, part.offset, part.last - part.start + 1))
            else:
                out += self._private_extents(part)
            addr = part.last + 1
        return _adjoined(out)

    def _private_extents(self, part: Vma) -> list[Extent]:
        # pages the process has of its own are its anonymous memory, at their address; the others still the file's
        if part.obj is None:
            return [Extent(self._private.name, part.start, part.last - part.start + 1)]
        out: list[Extent] = []
        at, shift = part.start, part.offset - part.start
        for index in self._private.indices(part.start >> PAGE_SHIFT, part.last >> PAGE_SHIFT):
            own = max(part.start, index << PAGE_SHIFT)
            last = min(part.last, (index << PAGE_SHIFT) + PAGE_SIZE - 1)
            if at < own:
                out.append(Extent(part.obj.name, at + shift, own - at))
            out.append(Extent(self._private.name, own, last - own + 1))
            at = last + 1
        if at <= part.last:
            out.append(Extent(part.obj.name, at + shift, part.last - at + 1))
        return out

    # -- access

    def read(self, addr: int, length: int) -> bytes:
        parts: list[bytes] = []
        for at, size in _pages(addr, length, self.task_size):
            vma = self._find(at)
            found = self.page(vma, at, write=False) if vma is not None and vma.readable else None
            if found is None:
                break
            folio, page = found
            parts.append(folio.read(page * PAGE_SIZE + (at & ~PAGE_MASK), size))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> int:
        done = 0
        for at, size in _pages(addr, len(data), self.task_size):
            vma = self._find(at)
            found = self.page(vma, at, write=True) if vma is not None and vma.writable else None
            if found is None:
                break
            folio, page = found
            folio.write(page * PAGE_SIZE + (at & ~PAGE_MASK), data[done : done + size])
            done += size
        return done

    def frame(self, addr: int, *, write: bool) -> tuple[bytearray, int] | None:
        vma = self._find(addr)
        found = self.page(vma, addr, write=write) if vma and (vma.writable if write else vma.readable) else None
        return found[0].view(found[1] * PAGE_SIZE + (addr & ~PAGE_MASK), write=write) if found else None

    def page(self, vma: Vma, addr: int, *, write: bool) -> tuple[Folio, int] | None:
        """The frame behind an address, as (folio, page in it); ``write`` gives a private mapping its own page.

        None beyond the end of the object. Protection is the caller's to check.
        """
        index = addr >> PAGE_SHIFT
        behind = vma.offset + (addr & PAGE_MASK) - vma.start >> PAGE_SHIFT
        if vma.shared and vma.obj is not None:
            return vma.obj.page(behind)
        if vma.obj is None:
            return self._private.page(index)
        source = vma.obj.page(behind)
        if source is None:
            return None
        own = self._private.known(index)
        if own is not None or not write:
            return own or source
        folio, page = source
        self.seq += 1
        self.phys.version += 1
        return self._private.own_copy(index, folio.read(page * PAGE_SIZE, PAGE_SIZE))

    def pin(self, addr: int, npages: int, *, write: bool) -> list[Run]:
        return _pin.pin_user_pages(self, addr, npages, write=write)

    def populate_runs(self, addr: int, length: int, folio_pages: int) -> None:
        """Give private anonymous pages frames that are adjacent in runs of ``folio_pages``."""
        for index in range(addr >> PAGE_SHIFT, addr + length >> PAGE_SHIFT, folio_pages):
            self._private.fault_in_run(index, folio_pages)

    def vma_at(self, addr: int) -> Vma | None:
        """The mapping an address is in."""
        return self._find(addr)

    # -- fork

    def fork(self, ident: str) -> AddressSpace:
        """A copy: shared mappings shared, private pages copied, so that the parent keeps its frames and their pins.

        A name that was given to another child gets a number.
        """
        child = AddressSpace(self.phys.unique(ident), self.phys, self.task_size)
        child._next = self._next
        child._vmas = [vma.part(vma.start, vma.last) for vma in self._vmas]
        child._lasts = list(self._lasts)
        for vma in child._vmas:
            if vma.obj is not None:
                vma.obj.get()
        for index, folio, page in self._private.populated():
            child._private.own_copy(index, folio.read(page * PAGE_SIZE, PAGE_SIZE))
        return child


def _page_align(length: int) -> int:
    return (length + PAGE_SIZE - 1) & PAGE_MASK


def _pages(addr: int, length: int, task_size: int) -> Iterator[tuple[int, int]]:
    # (address, bytes) page by page, inside the user part
    last = min(addr + length, task_size)
    while addr < last:
        size = min(PAGE_SIZE - (addr & ~PAGE_MASK), last - addr)
        yield addr, size
        addr += size


def _adjoined(extents: list[Extent]) -> list[Extent]:
    # neighbours that are one run of an object, though of two mappings, as one
    out: list[Extent] = []
    for extent in extents:
        before = out[-1] if out else None
        if before and before.object == extent.object and before.offset + before.length == extent.offset:
            out[-1] = Extent(before.object, before.offset, before.length + extent.length)
        else:
            out.append(extent)
    return out


def _joined(pieces: list[Vma]) -> list[Vma]:
    out: list[Vma] = []
    for vma in pieces:
        if out and out[-1].joins(vma):
            out[-1] = Vma(
                out[-1].start, vma.last, vma.prot, vma.shared, vma.file_writable, vma.obj, out[-1].offset
            )
        else:
            out.append(vma)
    return out
