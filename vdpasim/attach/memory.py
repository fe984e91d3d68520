"""Memory of a real process, as the ports ``Mm``, ``Pages`` and ``MemoryObject``.

Theory. /proc/PID/mem and /proc/PID/maps stay bound to the address space they were opened on, not to the number: after
exec the same process has a new one and these files read as empty. That is what a driver's owner is, so a
:class:`LiveMm` is made once per address space and dies with it. /proc/PID/mem reads and writes through protections, as
a debugger wants it; a device's access must fault, so every access is first cut at the first page that the map does not
allow. The map is read anew each time, some tens of microseconds in a small process: nothing tells us that it changed.

An object is named by its file: device and inode, with the path for people. Pages that must outlive the mapping (PA
mode) are kept by a descriptor of the object, which is what makes memfd and file pages stay; their physical addresses
are made up: one window of 2^44 bytes per object, no two pages adjacent, so every page is an entry of its own.

Not modelled: pins of private or anonymous pages, refused loudly (EOPNOTSUPP and an Unmodelled event) because nothing
but a real pin could keep them; pages pinned by others; pinned pages that a truncation took out of their file; an
address space that outlives its process in a vfork or CLONE_VM child, where every access faults.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs

from vdpasim.attach.procfs import Mapping, open_object, open_proc, parse_maps, read_whole
from vdpasim.core.fs.file import unmodelled
from vdpasim.core.ports import PAGE_SIZE, Extent, Fault, Run, VmaView
from vdpasim.core.rules import Rule, fail, register
from vdpasim.uapi import errno as E
from vdpasim.uapi.abi import X86_64

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.core.kernel import Kernel

WINDOW = 44
"""Bits of the made-up physical addresses of one object."""

register(
    [
        Rule(
            "attach.pin-private",
            "vdpasim: attach/memory.py",
            E.EOPNOTSUPP,
            "pages of a real process that belong to no file are to be pinned",
            "only the real kernel can keep them",
            source="inferred",
        )
    ]
)


@attrs.define(eq=False)
class LiveObject:
    """A file whose pages a process maps."""

    name: str
    number: int
    refs: int = 0
    fd: int | None = None
    """Keeps the pages while any is pinned, and the file while anybody has a reference."""
    pins: dict[int, int] = attrs.Factory(dict[int, int])
    """Page of the file -> how often it is pinned."""
    seen: tuple[int, Mapping] | None = None
    """A process that maps it, and where: what a reference looks for a descriptor by."""
    kernel: Kernel | None = None
    """Where it is said that there was no way to it."""

    def get(self) -> None:
        self.refs += 1
        if self.seen is not None:
            self.hold(*self.seen)
            self.seen = None

    def put(self) -> None:
        self.refs -= 1
        self.let_go()

    def hold(self, pid: int, mapping: Mapping) -> bool:
        """Have a descriptor; whether there is one."""
        if self.fd is None:
            self.fd = open_object(pid, mapping)
        return self.fd is not None

    def let_go(self) -> None:
        """Close the descriptor unless a page is pinned or somebody has a reference."""
        if self.fd is not None and not self.pins and self.refs <= 0:
            os.close(self.fd)
            self.fd = None

    # -- as a mapping of the whole shows it; where that cannot be had, nothing, and loudly

    def read(self, offset: int, length: int) -> bytes:
        if self.fd is None:
            self._unmodelled("reading a file without a descriptor")
            return b""
        shown, _ = self._shown(self.fd, offset, length)
        try:
            return os.pread(self.fd, shown, offset).ljust(shown, b"\0")
        except OSError as error:
            self._unmodelled(f"pread: {error.strerror}")
            return b""

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        if self.fd is None:
            self._unmodelled("writing a file without a descriptor")
            return 0
        # a pwrite behind the last byte would make the file longer
        shown, fitting = self._shown(self.fd, offset, len(data))
        try:
            if fitting:
                os.pwrite(self.fd, data[:fitting], offset)
        except OSError as error:  # sealed, or of a file system whose files are only mapped
            self._unmodelled(f"pwrite: {error.strerror}")
            return 0
        return shown

    def _unmodelled(self, what: str) -> None:
        if self.kernel is not None:
            unmodelled(self.kernel, self.name, what)

    @staticmethod
    def _shown(fd: int, offset: int, length: int) -> tuple[int, int]:
        # how much of a range a mapping has memory for, to the end of the last page, and how much is in the file
        size = os.fstat(fd).st_size
        behind = -(-size // PAGE_SIZE) * PAGE_SIZE
        return max(0, min(length, behind - offset)), max(0, min(length, size - offset))

    def frame(self, offset: int, *, write: bool) -> None:
        """None, as of :class:`LiveMm`."""


@attrs.define(eq=False)
class LivePages:
    """The objects of all attached processes, and their made-up physical memory."""

    kernel: Kernel
    objects: dict[tuple[str, int], LiveObject] = attrs.Factory(dict[tuple[str, int], LiveObject])
    version: int = 0

    def frame(self, paddr: int, *, write: bool) -> None:
        """None, as of :class:`LiveMm`."""

    def object_of(self, pid: int, mapping: Mapping) -> LiveObject:
        """The object behind a mapping of a process that has a file."""
        key = mapping.device, mapping.inode
        if key not in self.objects:
            name = f"{mapping.path}[{mapping.device}:{mapping.inode}]"
            self.objects[key] = LiveObject(name, len(self.objects) + 1, kernel=self.kernel)
        found = self.objects[key]
        if found.fd is None:
            found.seen = pid, mapping
        return found

    def pin(self, obj: LiveObject, page: int) -> int:
        """Pin one page of an object that is held; its physical address."""
        obj.pins[page] = obj.pins.get(page, 0) + 1
        return (obj.number << WINDOW) + 2 * page * PAGE_SIZE

    def unpin(self, run: Run, *, dirty: bool) -> None:
        found = self._page(run.paddr)
        if found is not None:
            obj, page = found
            obj.pins[page] -= 1
            if not obj.pins[page]:
                del obj.pins[page]
            obj.let_go()

    def read(self, paddr: int, length: int) -> bytes:
        parts: list[bytes] = []
        for obj, offset, size in self._pieces(paddr, length):
            part = obj.read(offset, size)
            parts.append(part)
            if len(part) < size:
                break
        return b"".join(parts)

    def write(self, paddr: int, data: bytes | bytearray | memoryview) -> int:
        done = 0
        for obj, offset, size in self._pieces(paddr, len(data)):
            stored = obj.write(offset, data[done : done + size])
            done += stored
            if stored < size:
                break
        return done

    def extents(self, paddr: int, length: int) -> list[Extent]:
        found: list[Extent] = []
        for at, size in page_pieces(paddr, length):
            place = self._page(at)
            if place is None:
                break
            obj, page = place
            _join(found, Extent(obj.name, page * PAGE_SIZE + at % PAGE_SIZE, size))
        return found

    def _pieces(self, paddr: int, length: int) -> Iterator[tuple[LiveObject, int, int]]:
        for at, size in page_pieces(paddr, length):
            place = self._page(at)
            if place is None:
                return
            yield place[0], place[1] * PAGE_SIZE + at % PAGE_SIZE, size

    def _page(self, paddr: int) -> tuple[LiveObject, int] | None:
        # the pinned page at a physical address
        number = paddr >> WINDOW
        obj = next((obj for obj in self.objects.values() if obj.number == number), None)
        page, odd = divmod((paddr & ((1 << WINDOW) - 1)) // PAGE_SIZE, 2)
        return None if obj is None or odd or page not in obj.pins else (obj, page)


class LiveMm:
    """The address space a process has at this moment.

    Raises:
        AttachError: not on Linux, no such process, or not permitted.
    """

    def __init__(self, pid: int, pages: LivePages, *, ident: str | None = None) -> None:
        self.pid = pid
        self.pages = pages
        self.pinned_vm = 0
        self.task_size = X86_64.task_size
        self._ident = ident or f"mm:{pid}"
        self._mem = open_proc(pid, "mem", os.O_RDWR)
        self._maps = open_proc(pid, "maps", os.O_RDONLY)
        self._smaps = open_proc(pid, "smaps", os.O_RDONLY)
        self._text: bytes = b""
        self._known: list[Mapping] = []
        self._seq = 0

    def frame(self, addr: int, *, write: bool) -> None:
        """None: another process's memory has no view here."""

    def close(self) -> None:
        """Give the descriptors back; the object must not be used again."""
        for fd in (self._mem, self._maps, self._smaps):
            os.close(fd)

    @property
    def ident(self) -> str:
        return self._ident

    def get_user(self) -> bool:
        """It is another process's, which nothing here keeps alive."""
        return self.alive

    def put_user(self) -> None:
        """Nothing was taken."""

    @property
    def alive(self) -> bool:
        # a dead address space reads as the end of a file, a living one has a byte or an error at address 0
        try:
            return bool(os.pread(self._mem, 1, 0))
        except OSError:
            return True

    @property
    def seq(self) -> int:
        self.mappings()
        return self._seq

    def mappings(self) -> list[Mapping]:
        """The map as it is now, without what only ``smaps`` knows."""
        text = read_whole(self._maps)
        if text != self._text:
            self._text = text
            self._known = parse_maps(text.decode("utf-8", "surrogateescape"))
            self._seq += 1
        return self._known

    # -- access

    def read(self, addr: int, length: int) -> bytes:
        parts: list[bytes] = []
        length = self._allowed(addr, length, write=False)
        while length:
            try:
                part = os.pread(self._mem, length, addr)
            except OSError:
                break
            if not part:
                break
            parts.append(part)
            addr += len(part)
            length -= len(part)
        return b"".join(parts)

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> int:
        done, length = 0, self._allowed(addr, len(data), write=True)
        while done < length:
            try:
                done += os.pwrite(self._mem, data[done:length], addr + done)
            except OSError:
                break
        return done

    def _allowed(self, addr: int, length: int, *, write: bool) -> int:
        # how many bytes the protections let through
        reached = addr
        for mapping in self._from(addr):
            ok = mapping.writable if write else mapping.readable
            if mapping.start > reached or not ok or reached >= addr + length:
                break
            reached = mapping.last + 1
        return min(length, reached - addr)

    def _from(self, addr: int) -> Iterator[Mapping]:
        return (mapping for mapping in self.mappings() if mapping.last >= addr)

    # -- what lies where

    def vmas(self, addr: int) -> Iterator[VmaView]:
        text = read_whole(self._smaps).decode("utf-8", "surrogateescape")
        for mapping in parse_maps(text):
            if mapping.last >= addr:
                file = self.pages.object_of(self.pid, mapping) if mapping.inode else None
                yield VmaView(mapping.start, mapping.last, mapping.shared, file, mapping.offset, mapping.special)

    def extents(self, addr: int, length: int) -> list[Extent]:
        found: list[Extent] = []
        behind = addr + length
        for mapping in self._from(addr):
            if mapping.start > addr or addr >= behind:
                break
            size = min(behind, mapping.last + 1) - addr
            if mapping.inode and mapping.shared:
                name, offset = self.pages.object_of(self.pid, mapping).name, mapping.offset + addr - mapping.start
            else:
                name, offset = f"{self._ident}/private", addr
            _join(found, Extent(name, offset, size))
            addr += size
        return found

    # -- pinning

    def pin(self, addr: int, npages: int, *, write: bool) -> list[Run]:
        runs: list[Run] = []
        for at in range(addr, addr + npages * PAGE_SIZE, PAGE_SIZE):
            paddr = self._pin_page(at, write=write)
            if paddr is None:
                break
            runs.append(Run(paddr, 1))
        if not runs:
            raise Fault
        return runs

    def _pin_page(self, addr: int, *, write: bool) -> int | None:
        mapping = next(self._from(addr), None)
        if mapping is None or mapping.start > addr or not (mapping.writable if write else mapping.readable):
            return None
        obj = self.pages.object_of(self.pid, mapping) if mapping.inode and mapping.shared else None
        if obj is None or not obj.hold(self.pid, mapping):
            unmodelled(self.pages.kernel, self._ident, f"pinning the private page at {addr:#x}")
            raise fail("attach.pin-private")
        offset = mapping.offset + addr - mapping.start
        if obj.fd is None or offset >= os.fstat(obj.fd).st_size:
            obj.let_go()
            return None
        return self.pages.pin(obj, offset // PAGE_SIZE)


def page_pieces(addr: int, length: int) -> Iterator[tuple[int, int]]:
    """(address, size) of the pieces of a range that lie in one page each."""
    while length:
        size = min(length, PAGE_SIZE - addr % PAGE_SIZE)
        yield addr, size
        addr += size
        length -= size


def _join(found: list[Extent], extent: Extent) -> None:
    # append, or lengthen the last one
    before = found[-1] if found else None
    if before and (before.object, before.offset + before.length) == extent[:2]:
        found[-1] = before._replace(length=before.length + extent.length)
    else:
        found.append(extent)
