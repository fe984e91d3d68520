"""The driver side of a split virtqueue, in the memory of a simulated process.

Theory. A :class:`Virtqueue` lays out descriptor table, avail and used ring in a mapped region, adds chains, and takes
used elements back. Addresses handed to the device are ``iova(offset)``; the region may be mapped at any I/O address.
Nothing here checks what the device does: a chain comes back when the device says so.

With ``event_idx`` the driver and the device tell each other by index when they want to be told, without by a flag:
``need_kick`` and ``want_interrupt`` work in both forms. With ``indirect`` a chain of up to ``TABLE`` buffers takes one
slot and a table of its own behind the ring. Packed rings are in ``packed.py``, with the same methods (:class:`Ring`).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vdpasim.uapi.virtio_ring import (
    VRING_AVAIL_F_NO_INTERRUPT,
    VRING_DESC_F_INDIRECT,
    VRING_DESC_F_NEXT,
    VRING_DESC_F_WRITE,
    VRING_USED_F_NO_NOTIFY,
)

if TYPE_CHECKING:
    from vdpasim.sim.process import Region

DESC = Struct("<QIHH")
USED = Struct("<II")
TABLE = 8
"""Descriptors of an indirect table."""


class Buffer(NamedTuple):
    """One descriptor of a chain."""

    iova: int
    length: int
    writable: bool = False


class Used(NamedTuple):
    """One used element."""

    head: int
    length: int


class Ring(Protocol):
    """What split and packed rings have in common for a driver."""

    region: Region
    num: int
    last_offset: int
    """Offset in the region of the last byte that belongs to the ring."""
    first_base: int
    """What SET_VRING_BASE takes for a ring that was never used."""

    def addresses(self) -> tuple[int, int, int]:
        """I/O addresses as SET_VRING_ADDR takes them."""

    def iova(self, offset: int) -> int:
        """The I/O address of an offset in the region."""

    def add(self, *buffers: Buffer) -> int:
        """Make a chain available; the number it comes back under."""

    def used(self) -> list[Used]:
        """What came back since the last look."""

    def need_kick(self) -> bool:
        """Whether the device wants to be told of what was added since this was last asked."""

    def want_interrupt(self, after: int | None = 0) -> None:
        """Ask for an interrupt behind ``after`` further chains; None for no interrupts."""


def need_event(event: int, new: int, old: int) -> bool:
    """Whether going from ``old`` to ``new`` passed ``event``, all modulo 2^16 (``vring_need_event``)."""
    return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF


class Virtqueue:
    """A split ring of ``num`` entries in a region mapped at ``iova`` for the device."""

    first_base = 0

    def __init__(
        self,
        region: Region,
        iova: int,
        num: int = 16,
        offset: int = 0,
        *,
        event_idx: bool = False,
        indirect: bool = False,
    ) -> None:
        self.region = region
        self.event_idx = event_idx
        self.indirect = indirect
        self.base = iova
        self.num = num
        self.desc_at = offset
        self.avail_at = offset + 16 * num
        self.used_at = (self.avail_at + 6 + 2 * num + 3) & ~3
        self.last_offset = self.used_at + 6 + 8 * num - 1
        """Offset of the last byte of the ring in the region."""
        self.tables_at = -(-(self.last_offset + 1) // 16) * 16
        if indirect:
            self.last_offset = self.tables_at + 16 * TABLE * num - 1
        self._free = 0
        self._kicked = 0
        self._avail_idx = 0
        self._used_idx = 0
        region.write(self.avail_at, bytes(4))
        region.write(self.used_at, bytes(4))

    def addresses(self) -> tuple[int, int, int]:
        """I/O addresses of descriptor table, avail and used ring, as SET_VRING_ADDR takes them."""
        return self.iova(self.desc_at), self.iova(self.avail_at), self.iova(self.used_at)

    def iova(self, offset: int) -> int:
        """The I/O address of an offset in the region."""
        return self.base + offset

    def add(self, *buffers: Buffer) -> int:
        """Put a chain into the table and the avail ring; its head. The driver must not use more than ``num`` at a
        time.
        """
        head = self._free % self.num
        if self.indirect and 1 < len(buffers) <= TABLE:
            buffers = (self._table(head, buffers),)
            indirect = VRING_DESC_F_INDIRECT
        else:
            indirect = 0
        for i, buffer in enumerate(buffers):
            slot = (self._free + i) % self.num
            flags = indirect | (VRING_DESC_F_WRITE if buffer.writable else 0)
            following = (slot + 1) % self.num
            if i + 1 < len(buffers):
                flags |= VRING_DESC_F_NEXT
            self.region.write(self.desc_at + 16 * slot, DESC.pack(buffer.iova, buffer.length, flags, following))
        self._free += len(buffers)
        at = self.avail_at + 4 + 2 * (self._avail_idx % self.num)
        self.region.write(at, head.to_bytes(2, "little"))
        self._avail_idx = (self._avail_idx + 1) & 0xFFFF
        self.region.write(self.avail_at + 2, self._avail_idx.to_bytes(2, "little"))
        return head

    def used(self) -> list[Used]:
        """The used elements that are new since the last look."""
        idx = int.from_bytes(self.region.read(self.used_at + 2, 2), "little")
        out: list[Used] = []
        while self._used_idx != idx:
            at = self.used_at + 4 + 8 * (self._used_idx % self.num)
            out.append(Used(*USED.unpack(self.region.read(at, 8))))
            self._used_idx = (self._used_idx + 1) & 0xFFFF
        return out

    def need_kick(self) -> bool:
        """Whether the device wants to be told of what was added since this was last asked."""
        old, self._kicked = self._kicked, self._avail_idx
        if self.event_idx:
            return need_event(self._u16(self.used_at + 4 + 8 * self.num), self._avail_idx, old)
        return old != self._avail_idx and not self._u16(self.used_at) & VRING_USED_F_NO_NOTIFY

    def want_interrupt(self, after: int | None = 0) -> None:
        """Ask for an interrupt behind ``after`` further chains (without event index: for each); None for none."""
        if self.event_idx:
            # an index that was passed just now is the one that is passed last
            event = (self._used_idx + (-1 if after is None else after)) & 0xFFFF
            self.region.write(self.avail_at + 4 + 2 * self.num, event.to_bytes(2, "little"))
        else:
            flags = VRING_AVAIL_F_NO_INTERRUPT if after is None else 0
            self.region.write(self.avail_at, flags.to_bytes(2, "little"))

    def _u16(self, offset: int) -> int:
        return int.from_bytes(self.region.read(offset, 2), "little")

    def _table(self, head: int, buffers: tuple[Buffer, ...]) -> Buffer:
        # the table of a slot, and the buffer that stands for it
        at = self.tables_at + 16 * TABLE * head
        for i, buffer in enumerate(buffers):
            flags = VRING_DESC_F_WRITE if buffer.writable else 0
            flags |= VRING_DESC_F_NEXT if i + 1 < len(buffers) else 0
            self.region.write(at + 16 * i, DESC.pack(buffer.iova, buffer.length, flags, i + 1))
        return Buffer(self.iova(at), 16 * len(buffers))
