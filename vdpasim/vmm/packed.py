"""The driver side of a packed virtqueue (virtio 1.3, section 2.8), in the memory of a simulated process.

Theory. One table of descriptors, then two event areas of four bytes: the driver's, which the device reads, and the
device's. A chain goes into the next slots under a *buffer id*; its first flags word, which makes it available, is
written last. The device writes a used descriptor at its own position, which moves on by the slots of the chain. Either
side keeps a wrap counter that flips whenever its position passes the end of the table.

The methods are those of :class:`vdpasim.vmm.guest.Virtqueue`, with the buffer id in the place of the head. Unlike there
chains may come back in any order, and a ring that is full is an error of the caller.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vdpasim.uapi.virtio_ring import (
    VRING_DESC_F_INDIRECT,
    VRING_DESC_F_NEXT,
    VRING_DESC_F_WRITE,
    VRING_PACKED_DESC_F_AVAIL,
    VRING_PACKED_DESC_F_USED,
    VRING_PACKED_EVENT_F_WRAP_CTR,
    VRING_PACKED_EVENT_FLAG_DESC,
    VRING_PACKED_EVENT_FLAG_DISABLE,
    VRING_PACKED_EVENT_FLAG_ENABLE,
)
from vdpasim.vmm.guest import TABLE, Buffer, Used, need_event

if TYPE_CHECKING:
    from vdpasim.sim.process import Region

DESC = Struct("<QIHH")
"""Address, length, buffer id, flags."""
AVAIL, USED = 1 << VRING_PACKED_DESC_F_AVAIL, 1 << VRING_PACKED_DESC_F_USED
WRAP = 1 << VRING_PACKED_EVENT_F_WRAP_CTR


class PackedVirtqueue:
    """A packed ring of ``num`` slots in a region mapped at ``iova`` for the device."""

    first_base = WRAP << 16 | WRAP

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
        self.base = iova
        self.num = num
        self.event_idx = event_idx
        self.indirect = indirect
        self.desc_at = offset
        self.driver_at = offset + 16 * num
        self.device_at = self.driver_at + 4
        self.tables_at = -(-(self.device_at + 4) // 16) * 16
        self.last_offset = (self.tables_at + 16 * TABLE * num if indirect else self.device_at + 4) - 1
        self.free = num
        """Slots that are not in flight."""
        self._ids = list(range(num))
        self._slots: dict[int, int] = {}
        self._avail, self._avail_wrap = 0, True
        self._used, self._used_wrap = 0, True
        self._added = 0
        """Slots made available since the device was last thought of."""
        region.write(offset, bytes(16 * num + 8))

    def addresses(self) -> tuple[int, int, int]:
        """I/O addresses of the table, the driver's and the device's event area, as SET_VRING_ADDR takes them."""
        return self.iova(self.desc_at), self.iova(self.driver_at), self.iova(self.device_at)

    def iova(self, offset: int) -> int:
        """The I/O address of an offset in the region."""
        return self.base + offset

    @property
    def in_flight(self) -> int:
        """Chains the device has not given back."""
        return len(self._slots)

    # -- adding

    def add(self, *buffers: Buffer) -> int:
        """Make a chain available; its buffer id.

        Raises:
            ValueError: the ring has no room for it.
        """
        indirect = self.indirect and 1 < len(buffers) <= TABLE
        slots = 1 if indirect else len(buffers)
        if not 0 < slots <= self.free:
            raise ValueError(f"{slots} slots are wanted, {self.free} of {self.num} are free")
        buffer_id = self._ids.pop(0)
        if indirect:
            table = self._table(buffer_id, buffers)
            self._put(buffer_id, [(table, VRING_DESC_F_INDIRECT)])
        else:
            last = len(buffers) - 1
            self._put(buffer_id, [(one, VRING_DESC_F_NEXT if i < last else 0) for i, one in enumerate(buffers)])
        self._slots[buffer_id] = slots
        self.free -= slots
        self._added += slots
        return buffer_id

    def _put(self, buffer_id: int, chain: list[tuple[Buffer, int]]) -> None:
        first, head_flags = self._avail, 0
        for i, (buffer, flags) in enumerate(chain):
            flags |= VRING_DESC_F_WRITE if buffer.writable else 0
            flags |= AVAIL if self._avail_wrap else USED
            at = self.desc_at + 16 * self._avail
            if i == 0:
                head_flags = flags
                self.region.write(at, DESC.pack(buffer.iova, buffer.length, buffer_id, 0)[:14])
            else:
                self.region.write(at, DESC.pack(buffer.iova, buffer.length, buffer_id, flags))
            self._avail, self._avail_wrap = self._step(self._avail, self._avail_wrap, 1)
        self.region.write(self.desc_at + 16 * first + 14, head_flags.to_bytes(2, "little"))

    def _table(self, buffer_id: int, buffers: tuple[Buffer, ...]) -> Buffer:
        at = self.tables_at + 16 * TABLE * buffer_id
        for i, buffer in enumerate(buffers):
            flags = VRING_DESC_F_WRITE if buffer.writable else 0
            self.region.write(at + 16 * i, DESC.pack(buffer.iova, buffer.length, 0, flags))
        return Buffer(self.iova(at), 16 * len(buffers))

    def _step(self, index: int, wrap: bool, slots: int) -> tuple[int, bool]:
        index += slots
        return (index, wrap) if index < self.num else (index - self.num, not wrap)

    # -- taking

    def used(self) -> list[Used]:
        """The chains that came back since the last look.

        Raises:
            ValueError: the device gave back what it does not have.
        """
        out: list[Used] = []
        while True:
            _, length, buffer_id, flags = DESC.unpack(self.region.read(self.desc_at + 16 * self._used, 16))
            if bool(flags & AVAIL) is not self._used_wrap or bool(flags & USED) is not self._used_wrap:
                return out
            if buffer_id not in self._slots:
                raise ValueError(f"the device gave back {buffer_id}, which it does not have")
            slots = self._slots.pop(buffer_id)
            self._ids.append(buffer_id)
            self.free += slots
            self._used, self._used_wrap = self._step(self._used, self._used_wrap, slots)
            out.append(Used(buffer_id, length if flags & VRING_DESC_F_WRITE else 0))

    # -- event suppression

    def need_kick(self) -> bool:
        """Whether the device wants to be told of what was added since this was last asked."""
        added, self._added = self._added, 0
        off_wrap, flags = (int.from_bytes(self.region.read(self.device_at + at, 2), "little") for at in (0, 2))
        if not added or flags & 3 == VRING_PACKED_EVENT_FLAG_DISABLE:
            return False
        if flags & 3 != VRING_PACKED_EVENT_FLAG_DESC or not self.event_idx:
            return True
        event = off_wrap & ~WRAP
        if bool(off_wrap & WRAP) is not self._avail_wrap:
            event -= self.num
        return need_event(event, self._avail, self._avail - added)

    def want_interrupt(self, after: int | None = 0) -> None:
        """Ask for an interrupt behind ``after`` further slots (without event index: for each chain); None for none."""
        off_wrap = 0
        if after is None:
            flags = VRING_PACKED_EVENT_FLAG_DISABLE
        elif self.event_idx:
            flags = VRING_PACKED_EVENT_FLAG_DESC
            index, wrap = self._step(self._used, self._used_wrap, min(after, self.num - 1))
            off_wrap = index | (WRAP if wrap else 0)
        else:
            flags = VRING_PACKED_EVENT_FLAG_ENABLE
        self.region.write(self.driver_at, off_wrap.to_bytes(2, "little") + flags.to_bytes(2, "little"))
