"""The driver side of a split virtqueue, in the memory of a simulated process.

Theory. A :class:`Virtqueue` lays out descriptor table, avail and used ring in a mapped region, adds chains, and takes
used elements back. Addresses handed to the device are ``iova(offset)``; the region may be mapped at any I/O address.
Nothing here checks what the device does: a chain comes back when the device says so.

Not modelled: packed rings, event index.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from vdpasim.uapi.virtio_ring import VRING_DESC_F_NEXT, VRING_DESC_F_WRITE

if TYPE_CHECKING:
    from vdpasim.sim.process import Region

DESC = Struct("<QIHH")
USED = Struct("<II")


class Buffer(NamedTuple):
    """One descriptor of a chain."""

    iova: int
    length: int
    writable: bool = False


class Used(NamedTuple):
    """One used element."""

    head: int
    length: int


class Virtqueue:
    """A split ring of ``num`` entries in a region mapped at ``iova`` for the device."""

    def __init__(self, region: Region, iova: int, num: int = 16, offset: int = 0) -> None:
        self.region = region
        self.base = iova
        self.num = num
        self.desc_at = offset
        self.avail_at = offset + 16 * num
        self.used_at = (self.avail_at + 6 + 2 * num + 3) & ~3
        self.last_offset = self.used_at + 6 + 8 * num - 1
        """Offset of the last byte of the ring in the region."""
        self._free = 0
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
        for i, buffer in enumerate(buffers):
            slot = (self._free + i) % self.num
            flags = VRING_DESC_F_WRITE if buffer.writable else 0
            following = (slot + 1) % self.num
            if i + 1 < len(buffers):
                flags |= VRING_DESC_F_NEXT
            self.region.write(
                self.desc_at + 16 * slot, DESC.pack(buffer.iova, buffer.length, flags, following)
            )
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
