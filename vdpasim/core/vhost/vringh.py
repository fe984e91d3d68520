"""Host side of a split ring for vDPA devices (mirrors drivers/vhost/vringh.c, the iotlb flavour).

Theory. A device keeps two indices. ``getdesc`` takes the next head from the avail ring and *counts it as taken before
the chain is walked*: a bad chain is consumed and never returned, an unreadable avail ring or a head beyond the ring is
retried for ever. Buffers come as two lists of segments, readable and writable. ``complete`` writes the used element
first, then the index; if the element fails the slot is used again.

Every access goes through the device's map. Bulk copies fail as a whole before any byte moves when an entry is missing
(up to 16 entries are looked up at a time), and in the middle when the memory behind an entry faults. A 16-bit field
must lie in one entry. Since 6.4 the used index is written with only the *read* permission checked.

What differs from vhost-net: no miss, no retry, no error eventfd. The exception is a map marked ``on_demand`` (the
``vhost-vdpa+miss`` device, which no kernel has): there a missing entry raises :class:`IotlbMiss` before anything moves.

Not modelled: packed rings (the kernel's vringh has none), event index (never offered by vdpa_sim).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import attrs

from vdpasim.core.events import Kind
from vdpasim.core.faults import cut_short
from vdpasim.core.ports import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from vdpasim.core.rules import fail, hit
from vdpasim.core.vhost.virtio_byteorder import LITTLE, RingStructs
from vdpasim.uapi.vhost_types import VHOST_ACCESS_RO, VHOST_ACCESS_WO
from vdpasim.uapi.virtio_ring import (
    VRING_AVAIL_F_NO_INTERRUPT,
    VRING_DESC_F_INDIRECT,
    VRING_DESC_F_NEXT,
    VRING_DESC_F_WRITE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.core.kernel import Kernel
    from vdpasim.core.ports import Extent, Pages, View
    from vdpasim.core.vhost.iotlb import Iotlb, IotlbMap

STRIDE = 16
"""Entries looked up at a time by a bulk copy."""


class IotlbMiss(Exception):
    """An on-demand map lacks a byte: which ring met it, the address and the access wanted."""

    def __init__(self, vring: Vringh, iova: int, access: int) -> None:
        super().__init__(iova, access)
        self.vring = vring
        self.iova = iova
        self.access = access


Segment = tuple[int, int]
"""One descriptor's buffer: its I/O address and its length."""

Window = tuple[int, int, bytearray, int, int]
"""(first, last, data, shift, perm): the bytes at the I/O addresses first to last are ``data[address + shift]``; perm is
what the entry permits."""


class DmaObserver(Protocol):
    """Where accesses are reported; see :data:`vdpasim.core.events.Kind.DMA`."""

    def __call__(
        self, iova: int, length: int, access: int, entry: IotlbMap, place: tuple[Extent, ...]
    ) -> None:
        """One contiguous access through one entry, and where the bytes went."""


NOWHERE: Window = (1, 0, bytearray(), 0, 0)
"""A window that has no address."""


class PlacedRing(NamedTuple):
    """The three areas of a ring in memory, bytes and offset of each, and the windows of its map."""

    avail: bytearray
    avail_at: int
    desc: bytearray
    desc_at: int
    used: bytearray
    used_at: int
    reads: dict[int, Window]
    writes: dict[int, Window]


@attrs.define(eq=False)
class DeviceMap:
    """The device's own copy of the translations of one address space."""

    table: Iotlb
    on_demand: bool = False
    passthrough: bool = False
    """The map is still the identity a device starts with."""
    version: int = 0
    """Changes with every change of the map."""


class Iov:
    """A list of segments with a cursor (``struct vringh_kiov``)."""

    __slots__ = ("consumed", "i", "segments", "total")

    def __init__(self, segments: list[Segment]) -> None:
        self.segments = segments
        self.total = 0
        """Bytes of all segments."""
        self.i = 0
        self.consumed = 0
        for _, length in segments:
            self.total += length

    @property
    def left(self) -> int:
        """Bytes behind the cursor (``vringh_kiov_length``)."""
        return sum([length for _, length in self.segments[self.i :]]) - self.consumed

    def advance(self, length: int) -> None:
        """Move the cursor (``vringh_kiov_advance``)."""
        while length and self.i < len(self.segments):
            part = min(length, self.segments[self.i][1] - self.consumed)
            self.step(part)
            length -= part

    def step(self, part: int) -> None:
        """Move the cursor inside the present segment."""
        self.consumed += part
        if self.consumed == self.segments[self.i][1]:
            self.consumed = 0
            self.i += 1


@attrs.define(eq=False)
class Vringh:
    """The host side of one split ring (``struct vringh``)."""

    kernel: Kernel
    map: DeviceMap
    pages: Pages
    num: int = 0
    desc: int = 0
    avail: int = 0
    used: int = 0
    last_avail_idx: int = 0
    last_used_idx: int = 0
    mm: View | None = None
    """What entries refer to: an address space, or the files a device has mapped; None: physical addresses."""
    structs: RingStructs = LITTLE
    used_idx_access: int = attrs.field(init=False)
    """The permission that is asked for the write of used->idx."""
    _reads: dict[int, Window] = attrs.field(init=False, factory=dict["int", "Window"])
    """Page of I/O addresses -> where its bytes are, as far as one mapping and one frame reach."""
    _writes: dict[int, Window] = attrs.field(init=False, factory=dict["int", "Window"])
    _placed: PlacedRing | None = attrs.field(init=False, default=None)
    _seen: tuple[DeviceMap | None, int, int, View | None] = attrs.field(init=False, default=(None, 0, 0, None))
    """The map, its version, that of memory, and the address space that the windows are good for."""
    on_dma: DmaObserver = attrs.field(kw_only=True)
    device: str = attrs.field(kw_only=True, default="")
    """The device's name, for fault plans and events."""
    index: int = attrs.field(kw_only=True, default=0)
    """The queue's number, for events."""

    def __attrs_post_init__(self) -> None:
        self.used_idx_access = VHOST_ACCESS_RO if self.kernel.on("used-idx-read-perm") else VHOST_ACCESS_WO

    def init(
        self, num: int, desc: int, avail: int, used: int, mm: View | None, structs: RingStructs = LITTLE
    ) -> bool:
        """Set up for a ring; False, with nothing changed, for a size that is none (``vringh_init_iotlb``)."""
        if not num or num > 0xFFFF or num & (num - 1):
            return False
        self.num, self.desc, self.avail, self.used, self.mm, self.structs = num, desc, avail, used, mm, structs
        self._placed = None
        self.last_avail_idx = self.last_used_idx = 0
        return True

    # -- descriptors

    def getdesc(self, *, readable: bool = True, writable: bool = True) -> tuple[int, Iov, Iov] | None:
        """The next chain: (head, readable, writable), None when there is none (``vringh_getdesc_iotlb``).

        Raises:
            KernelError: the avail ring or the chain is bad; see the module docstring for what was consumed.
            IotlbMiss: on-demand maps only; nothing was consumed.
        """
        self._check_windows()
        if self.map.on_demand:
            self._prefault(self._areas())
        avail_idx = self.getu16(self.avail + 2)
        if avail_idx == self.last_avail_idx:
            return None
        head = self.getu16(self.avail + 4 + 2 * (self.last_avail_idx & (self.num - 1)))
        if head >= self.num:
            raise fail("vringh.head")
        self.last_avail_idx = (self.last_avail_idx + 1) & 0xFFFF
        try:
            riov, wiov = self._walk(head, readable, writable)
            if self.map.on_demand:
                self._prefault([(*one, VHOST_ACCESS_RO) for one in riov.segments])
                self._prefault([(*one, VHOST_ACCESS_WO) for one in wiov.segments])
        except IotlbMiss:
            self.abandon()
            raise
        return head, riov, wiov

    def placed(self) -> PlacedRing | None:
        """Where the ring is, if all three areas lie in known places and nobody watches; good for this step.

        A device may then do what :meth:`getdesc`, :meth:`pull`, :meth:`push` and :meth:`complete` would do for a chain
        with nothing unusual, in fewer steps. An on-demand map is always looked up.
        """
        self._check_windows()
        return None if self.map.on_demand else self._placed or self._place()

    def _place(self) -> PlacedRing | None:
        places: list[tuple[bytearray, int]] = []
        for windows, iova, size, access in (
            (self._reads, self.avail, 4 + 2 * self.num, VHOST_ACCESS_RO),
            (self._reads, self.desc, 16 * self.num, VHOST_ACCESS_RO),
            (self._writes, self.used, 4 + 8 * self.num, self.used_idx_access),
        ):
            first, last, data, shift, perm = windows.get(iova >> PAGE_SHIFT, NOWHERE)
            if iova < first or iova + size - 1 > last or not perm & access:
                return None
            places.append((data, iova + shift))
        self._placed = PlacedRing(*places[0], *places[1], *places[2], self._reads, self._writes)
        return self._placed

    def abandon(self) -> None:
        """Give the head taken last back to the ring (``vringh_abandon``)."""
        self.last_avail_idx = (self.last_avail_idx - 1) & 0xFFFF

    def _walk(self, i: int, readable: bool, writable: bool) -> tuple[Iov, Iov]:
        readables: list[Segment] = []
        writables: list[Segment] = []
        table, limit = self.desc, self.num
        resume: int | None = None
        """Where the chain goes on behind an indirect table; -1 nowhere."""
        direct = indirect = tables = room = 0
        while True:
            addr, length, flags, following = self._descriptor(table + 16 * i)
            if flags & VRING_DESC_F_INDIRECT:
                # a chain that returns to its own indirect descriptor grows until the kernel has no memory for it
                tables += 1
                if tables > self.num:
                    raise fail("vringh.chain.loop")
                resume = self._indirect(resume, length, following if flags & VRING_DESC_F_NEXT else -1)
                table, limit, i = addr, length // 16, 0
                # with the bug both kinds of descriptor were one count, held against the ring
                room = self.num - direct if self.kernel.on("bug-indirect-limit") else limit
                continue
            if resume is None:
                direct += 1
            else:
                indirect += 1
            if direct > self.num or indirect > room:
                raise fail("vringh.chain.loop")
            write = bool(flags & VRING_DESC_F_WRITE)
            if writables and not write:
                raise fail("vringh.chain.order")
            if not (writable if write else readable):
                raise fail("vringh.chain.direction")
            (writables if write else readables).append((addr, length))
            if flags & VRING_DESC_F_NEXT:
                i = following
            elif resume is not None and resume > 0:
                table, limit, i, resume, indirect = self.desc, self.num, resume, None, 0
            else:
                return Iov(readables), Iov(writables)
            if i >= limit:
                raise fail("vringh.chain.next")

    @staticmethod
    def _indirect(resume: int | None, length: int, following: int) -> int:
        if resume is not None:
            raise fail("vringh.indirect.nested")
        if length % 16:
            raise fail("vringh.indirect.length")
        return following

    # -- payload

    def pull(self, iov: Iov, length: int) -> bytes:
        """Read up to ``length`` bytes at the cursor (``vringh_iov_pull_iotlb``).

        Raises:
            KernelError: EFAULT; the cursor stands behind the last segment that was read whole.
        """
        if iov.i < len(iov.segments):
            iova, size = iov.segments[iov.i]
            room = size - iov.consumed
            if room and (length <= room or iov.i + 1 == len(iov.segments)):
                data = self.copy_from(iova + iov.consumed, min(length, room))
                iov.step(len(data))
                return data
        return b"".join(self.pull_pieces(iov, length))

    def pull_pieces(self, iov: Iov, length: int) -> Iterator[bytes]:
        """As :meth:`pull`, piece by piece, so that what came before a fault can be kept."""
        while length and iov.i < len(iov.segments):
            iova, size = iov.segments[iov.i]
            part = min(length, size - iov.consumed)
            if not part:
                self._check_empty()
            yield from self._pieces_from(iova + iov.consumed, part)
            iov.step(part)
            length -= part

    def push(self, iov: Iov, data: bytes | bytearray | memoryview) -> int:
        """Write at the cursor; the number of bytes that fit (``vringh_iov_push_iotlb``).

        Raises:
            KernelError: EFAULT; the cursor stands behind the last segment that was written whole.
        """
        done, wanted = 0, len(data)
        while done < wanted and iov.i < len(iov.segments):
            iova, size = iov.segments[iov.i]
            part = min(wanted - done, size - iov.consumed)
            if not part:
                self._check_empty()
            self.copy_to(iova + iov.consumed, data if part == wanted else data[done : done + part])
            iov.step(part)
            done += part
        return done

    def _check_empty(self) -> None:
        # a cursor that is moved by no bytes stays where it is, and with the bug nothing else moved it
        if self.kernel.on("bug-zero-length-segment"):
            self.kernel.violation("kernel.hang", "a copy would never get past a descriptor of length 0")
            raise fail("vringh.copy")

    def _areas(self) -> list[tuple[int, int, int]]:
        return [
            (self.desc, 16 * self.num, VHOST_ACCESS_RO),
            (self.avail, 4 + 2 * self.num, VHOST_ACCESS_RO),
            (self.used, 4 + 8 * self.num, VHOST_ACCESS_WO),
        ]

    def _prefault(self, ranges: list[tuple[int, int, int]]) -> None:
        # on-demand maps: the first byte that has no entry
        for iova, length, access in ranges:
            missing = self.map.table.translate(iova, length, access).miss
            if missing is not None:
                raise IotlbMiss(self, missing, access)

    # -- completion

    def complete(self, head: int, length: int) -> None:
        """Put a used element, then the index (``vringh_complete_iotlb``).

        Raises:
            KernelError: the element or the index could not be written; the slot is used again.
        """
        slot = self.used + 4 + 8 * (self.last_used_idx & (self.num - 1))
        first, last, ring, shift, perm = self._writes.get(slot >> PAGE_SHIFT, NOWHERE)
        if first <= self.used and slot + 7 <= last and perm & self.used_idx_access:
            following = self.last_used_idx = (self.last_used_idx + 1) & 0xFFFF
            self.structs.used_elem.pack_into(ring, slot + shift, head, length & 0xFFFF_FFFF)
            self.structs.u16.pack_into(ring, self.used + 2 + shift, following)
            return
        self.put_used(head, length)
        self.put_used_idx()

    def put_used(self, head: int, length: int) -> None:
        """The first half of :meth:`complete`."""
        slot = self.used + 4 + 8 * (self.last_used_idx & (self.num - 1))
        self.copy_to(slot, self.structs.used_elem.pack(head, length & 0xFFFF_FFFF))

    def put_used_idx(self) -> None:
        """The second half."""
        before = self.last_used_idx
        following = (before + 1) & 0xFFFF
        found = self._found_used() if self.kernel.sink else None
        self.putu16(self.used + 2, following)
        self.last_used_idx = following
        if self.kernel.sink:
            moved = before, following, found, self.last_avail_idx
            self.kernel.emit(Kind.USED, self.device, self.index, *moved)

    def _found_used(self) -> int | None:
        # what the driver would read as used->idx now; only for those who watch, so it is no access of the device
        pieces = self.map.table.translate(self.used + 2, 2, self.used_idx_access).pieces
        if len(pieces) != 1:
            return None
        data = (self.mm or self.pages).read(pieces[0][1], 2)
        return int(self.structs.u16.unpack(data)[0]) if len(data) == 2 else None

    def need_notify(self) -> bool:
        """Whether the driver wants an interrupt; unreadable flags say no (``vringh_need_notify_iotlb``).

        Raises:
            KernelError: the flags cannot be read.
        """
        return self._wanted(not self.getu16(self.avail) & VRING_AVAIL_F_NO_INTERRUPT)

    def _wanted(self, wanted: bool) -> bool:
        # the answer of need_notify(), told to those who watch if it is no
        if not wanted and self.kernel.sink:
            self.kernel.emit(Kind.QUIET, self.device, self.index, "driver")
        return wanted

    # -- access through the map

    def getu16(self, iova: int) -> int:
        """A 16-bit field, which must lie in one entry."""
        window = self._reads.get(iova >> PAGE_SHIFT)
        if window is None:
            window = self._open(self._reads, iova, VHOST_ACCESS_RO)
        first, last, memory, shift, _ = window
        if first <= iova < last:
            return int(self.structs.u16.unpack_from(memory, iova + shift)[0])
        entry, addr = self._one(iova, VHOST_ACCESS_RO)
        data = self._read(entry, iova, addr, 2)
        if len(data) < 2:
            raise fail("vringh.copy")
        return int(self.structs.u16.unpack(data)[0])

    def putu16(self, iova: int, value: int) -> None:
        """Write a 16-bit field; which permission is checked depends on the kernel."""
        access = self.used_idx_access
        window = self._writes.get(iova >> PAGE_SHIFT)
        if window is None:
            window = self._open(self._writes, iova, VHOST_ACCESS_WO)
        first, last, data, shift, perm = window
        if first <= iova < last and perm & access:
            self.structs.u16.pack_into(data, iova + shift, value)
            return
        entry, addr = self._one(iova, access)
        if access == VHOST_ACCESS_RO and not entry.perm & VHOST_ACCESS_WO:
            hit("vringh.used-idx-read-perm")
        if self._write(entry, iova, addr, self.structs.u16.pack(value)) < 2:
            raise fail("vringh.copy")

    def _one(self, iova: int, access: int) -> tuple[IotlbMap, int]:
        pieces = self._translate(iova, 2, access)
        if len(pieces) > 1:
            raise fail("vringh.iotlb.split")
        entry, addr, _ = pieces[0]
        return entry, addr

    def _translate(self, iova: int, length: int, access: int) -> list[tuple[IotlbMap, int, int]]:
        found = self.map.table.translate(iova, length, access)
        if found.miss is not None:
            if self.map.on_demand:
                raise IotlbMiss(self, found.miss, access)
            raise fail("vringh.iotlb.absent")
        if found.denied is not None:
            raise fail("vringh.iotlb.perm")
        return found.pieces

    def copy_from(self, iova: int, length: int) -> bytes:
        """Read ``length`` bytes.

        Raises:
            KernelError: EFAULT, whatever went wrong.
        """
        window = self._reads.get(iova >> PAGE_SHIFT)
        if window is None:
            window = self._open(self._reads, iova, VHOST_ACCESS_RO)
        first, last, data, shift, _ = window
        if first <= iova and iova + length - 1 <= last:
            return bytes(data[iova + shift : iova + shift + length])
        return b"".join(self._pieces_from(iova, length))

    def _descriptor(self, iova: int) -> tuple[int, int, int, int]:
        # (address, length, flags, next)
        window = self._reads.get(iova >> PAGE_SHIFT)
        if window is not None:
            first, last, data, shift, _ = window
            if first <= iova <= last - 15:
                return self.structs.desc.unpack_from(data, iova + shift)
        return self.structs.desc.unpack(self.copy_from(iova, 16))

    def _pieces_from(self, iova: int, length: int) -> Iterator[bytes]:
        for at, entry, addr, size in self._strides(iova, length, VHOST_ACCESS_RO):
            data = self._read(entry, at, addr, size)
            yield data
            if len(data) < size:
                if self.kernel.on("bug-vringh-short-copy"):
                    text = f"{size - len(data)} bytes that could not be read would be what a buffer held before"
                    self.kernel.violation("kernel.leak", text)
                raise fail("vringh.copy")

    def copy_to(self, iova: int, data: bytes | bytearray | memoryview) -> None:
        """Write ``data``; what lies before a fault has been written.

        Raises:
            KernelError: EFAULT, whatever went wrong.
        """
        length = len(data)
        window = self._writes.get(iova >> PAGE_SHIFT)
        if window is None:
            window = self._open(self._writes, iova, VHOST_ACCESS_WO)
        first, last, memory, shift, _ = window
        if first <= iova and iova + length - 1 <= last:
            memory[iova + shift : iova + shift + length] = data
            return
        for at, entry, addr, size in self._strides(iova, length, VHOST_ACCESS_WO):
            offset = at - iova
            short = self._write(entry, at, addr, data[offset : offset + size]) < size
            if short and not self.kernel.on("bug-vringh-short-copy"):
                raise fail("vringh.copy")

    def _strides(self, iova: int, length: int, access: int) -> Iterator[tuple[int, IotlbMap, int, int]]:
        # (iova, entry, address, size) piece by piece; a missing entry stops the copy before the first byte of the
        # stride of 16 pieces it belongs to
        found = self.map.table.translate(iova, length, access)
        pieces = found.pieces
        if found.miss is not None and self.map.on_demand:
            raise IotlbMiss(self, found.miss, access)
        failed = found.miss is not None or found.denied is not None
        if failed:
            pieces = pieces[: len(pieces) // STRIDE * STRIDE]
        for entry, addr, size in pieces:
            yield iova, entry, addr, size
            iova += size
        if failed:
            raise fail("vringh.copy")

    # -- windows: where a page of I/O addresses is, remembered from one access to the next

    def _check_windows(self) -> None:
        # Nothing that changes a map or memory can run within a step, so it is enough to look before each chain; with
        # schedule points a chain is several steps, and with an observer every access has to be reported.
        kernel = self.kernel
        seen = (self.map, self.map.version, self.pages.version, self.mm)
        if seen != self._seen or kernel.observed:
            self._seen = seen
            self._placed = None
            self._reads.clear()
            self._writes.clear()

    def _open(self, windows: dict[int, Window], iova: int, access: int) -> Window:
        # the window of an address, NOWHERE if it has to go the long way
        if self.kernel.observed:
            return NOWHERE
        found = self.map.table.translate(iova, 1, access)
        if not found.pieces:
            return NOWHERE
        entry, addr, _ = found.pieces[0]
        space = self.mm or self.pages
        data = space.frame(addr, write=access == VHOST_ACCESS_WO)
        if self.pages.version != self._seen[2]:
            # a private page took the place of a file's, or was the first: other windows may look at what it replaced
            self._check_windows()
        if data is None:
            return NOWHERE
        memory, at = data
        within = addr & ~PAGE_MASK
        first = max(iova & PAGE_MASK, entry.start, iova - within)
        last = min(iova | ~PAGE_MASK, entry.last, iova - within + PAGE_SIZE - 1)
        windows[iova >> PAGE_SHIFT] = window = (first, last, memory, at - iova, entry.perm)
        return window

    def _read(self, entry: IotlbMap, iova: int, addr: int, size: int) -> bytes:
        space = self.mm or self.pages
        if self.kernel.sink:
            self.on_dma(iova, size, VHOST_ACCESS_RO, entry, tuple(space.extents(addr, size)))
        if self.kernel.faults is not None and cut_short(self.kernel, "dma.read", self.device):
            return b""
        return space.read(addr, size)

    def _write(self, entry: IotlbMap, iova: int, addr: int, data: bytes | bytearray | memoryview) -> int:
        space, done = self.mm or self.pages, 0
        if self.kernel.faults is None or not cut_short(self.kernel, "dma.write", self.device):
            done = space.write(addr, data)
        if self.kernel.sink:
            # the place is known behind the write: a private page took the place of the file's only now
            self.on_dma(iova, len(data), VHOST_ACCESS_WO, entry, tuple(space.extents(addr, len(data))))
        if self.pages.version != self._seen[2]:
            self._check_windows()
        return done
