"""The device side of a packed ring (virtio 1.3, section 2.8); **no kernel has this**: vringh has split rings only.

Theory. One table, written by both sides. A descriptor is available when its AVAIL bit equals the device's wrap counter
and its USED bit does not; the device walks a chain in table order, remembers how many slots it took under the buffer id
that the *last* descriptor carries, and hands it back by writing id and length, then the flags, at its own used
position, which then moves by as many slots. Chains may be completed in any order. An indirect table takes one slot.

A position is kept as vhost's SET_VRING_BASE has it, index in bits 0 to 14 and wrap counter in bit 15, so
``last_avail_idx`` and ``last_used_idx`` are its low and its high half. A fresh ring starts at index 0 with wrap 1.

Event suppression: the driver area says whether an interrupt is wanted (always, never, or when the used position passes
a descriptor), the device area is where the device asks for kicks. It asks whenever it finds the ring empty, and looks
once more after that.

A chain that breaks the rules is *not* taken: the position stays, every further look meets the same error, and so the
queue stands still. Every access goes through the device's map, with the permission it needs.

Not modelled: in-order use, a chain in more than one piece of indirect tables (the standard forbids it).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.rules import fail
from vdpasim.core.vhost.virtio_byteorder import LITTLE, RingStructs
from vdpasim.core.vhost.vringh import Iov, Segment, Vringh
from vdpasim.uapi.virtio_ring import (
    VRING_DESC_F_INDIRECT,
    VRING_DESC_F_NEXT,
    VRING_DESC_F_WRITE,
    VRING_PACKED_DESC_F_AVAIL,
    VRING_PACKED_DESC_F_USED,
    VRING_PACKED_EVENT_FLAG_DESC,
    VRING_PACKED_EVENT_FLAG_DISABLE,
    VRING_PACKED_EVENT_FLAG_ENABLE,
)

if TYPE_CHECKING:
    from vdpasim.core.ports import View


WRAP = 0x8000
"""The wrap counter in a position."""
START = WRAP
"""Position of a fresh ring."""
DESC = Struct("<QIHH")
"""Address, length, buffer id, flags."""
LENGTH_ID = Struct("<IH")
AVAIL, USED = 1 << VRING_PACKED_DESC_F_AVAIL, 1 << VRING_PACKED_DESC_F_USED
INDIRECT_MAX = 1024
"""Descriptors of an indirect table, if the ring is not larger."""
Lists = tuple[list[Segment], list[Segment]]
"""Buffers to read, buffers to write."""


def advance(position: int, slots: int, num: int) -> int:
    """The position ``slots`` further in a ring of ``num``; ``slots`` is at most ``num``."""
    index, wrap = (position & ~WRAP) + slots, position & WRAP
    return index | wrap if index < num else (index - num) | (wrap ^ WRAP)


def vring_need_event(event: int, new: int, old: int) -> bool:
    """Whether going from ``old`` to ``new`` passed ``event``, all modulo 2^16 (``vring_need_event``)."""
    return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF


def event_passed(off_wrap: int, position: int, slots: int, num: int) -> bool:
    """Whether the last ``slots`` slots before ``position`` included the one that ``off_wrap`` names."""
    new, event = position & ~WRAP, off_wrap & ~WRAP
    if (off_wrap ^ position) & WRAP:
        event -= num
    return vring_need_event(event, new, new - slots)


@attrs.define(eq=False)
class PackedRing(Vringh):
    """The device side of one packed ring; ``avail`` and ``used`` are the driver's and the device's event area."""

    event_idx: bool = False
    indirect: bool = False
    in_flight: dict[int, int] = attrs.Factory(dict["int", "int"])
    """Buffer id -> slots, in the order taken."""
    fresh: bool = True
    """Nothing was signalled yet: the first completion is, whatever the event area says."""
    unsignalled: int = 0
    """Slots used since the driver was last thought of."""

    def init(
        self, num: int, desc: int, avail: int, used: int, mm: View | None, structs: RingStructs = LITTLE
    ) -> bool:
        """Set up for a ring; False, with nothing changed, for a size that is none."""
        if not super().init(num, desc, avail, used, mm, structs):
            return False
        self.last_avail_idx = self.last_used_idx = START
        self.in_flight.clear()
        self.fresh, self.unsignalled = True, 0
        return True

    def restore(self, avail: int, used: int) -> bool:
        """Go on at these positions; False, with nothing changed, for one that is outside the ring."""
        if max(avail & ~WRAP, used & ~WRAP) >= self.num:
            return False
        self.last_avail_idx, self.last_used_idx = avail, used
        return True

    # -- descriptors

    def getdesc(self, *, readable: bool = True, writable: bool = True) -> tuple[int, Iov, Iov] | None:
        """The next chain: (buffer id, readable, writable), None when there is none.

        Raises:
            KernelError: the table cannot be read, or the chain is bad; nothing was consumed.
        """
        self._check_windows()
        if not self._available():
            self._ask_for_kick()
            if not self._available():
                return None
        buffer_id, slots, riov, wiov = self._chain(readable, writable)
        if buffer_id in self.in_flight:
            raise fail("peer.packed.id")
        self.in_flight[buffer_id] = slots
        self.last_avail_idx = advance(self.last_avail_idx, slots, self.num)
        return buffer_id, riov, wiov

    def abandon(self) -> None:
        """Give the chain taken last, of those not completed, back to the ring."""
        _, slots = self.in_flight.popitem()
        # backwards is forwards by the rest of the ring, one lap earlier
        self.last_avail_idx = advance(self.last_avail_idx, self.num - slots, self.num) ^ WRAP

    def _available(self) -> bool:
        wrap = bool(self.last_avail_idx & WRAP)
        flags = self.getu16(self._slot(self.last_avail_idx) + 14)
        return bool(flags & AVAIL) is wrap and bool(flags & USED) is not wrap

    def _slot(self, position: int) -> int:
        return self.desc + 16 * (position & ~WRAP)

    def _chain(self, readable: bool, writable: bool) -> tuple[int, int, Iov, Iov]:
        # (buffer id, slots, readable, writable)
        lists: Lists = ([], [])
        position, slots = self.last_avail_idx, 0
        while True:
            addr, length, buffer_id, flags = DESC.unpack(self.copy_from(self._slot(position), 16))
            slots += 1
            if flags & VRING_DESC_F_INDIRECT:
                if slots > 1 or flags & VRING_DESC_F_NEXT:
                    raise fail("peer.packed.indirect.nested")
                self._table(addr, length, lists, (readable, writable))
            else:
                _take(addr, length, flags, lists, (readable, writable))
            if not flags & VRING_DESC_F_NEXT:
                return buffer_id, slots, Iov(lists[0]), Iov(lists[1])
            if slots == self.num:
                raise fail("peer.packed.loop")
            position = advance(position, 1, self.num)

    def _table(self, addr: int, length: int, lists: Lists, allowed: tuple[bool, bool]) -> None:
        if not self.indirect:
            raise fail("peer.packed.indirect.unknown")
        if length % 16 or not 0 < length // 16 <= max(self.num, INDIRECT_MAX):
            raise fail("peer.packed.indirect.length")
        for one, size, _, flags in DESC.iter_unpack(self.copy_from(addr, length)):
            if flags & VRING_DESC_F_INDIRECT:
                raise fail("peer.packed.indirect.nested")
            _take(one, size, flags, lists, allowed)

    # -- completion

    def complete(self, head: int, length: int) -> None:
        """Hand the chain with buffer id ``head`` back.

        Raises:
            KernelError: the descriptor could not be written; nothing has changed for the device.
        """
        slots = self.in_flight[head]
        at = self._slot(self.last_used_idx)
        flags = (VRING_DESC_F_WRITE if length else 0) | (AVAIL | USED if self.last_used_idx & WRAP else 0)
        self.copy_to(at + 8, LENGTH_ID.pack(length & 0xFFFF_FFFF, head))
        self.copy_to(at + 14, flags.to_bytes(2, "little"))
        del self.in_flight[head]
        self.last_used_idx = advance(self.last_used_idx, slots, self.num)
        self.unsignalled += slots

    def need_notify(self) -> bool:
        """Whether the driver wants an interrupt for what was completed since this was last asked.

        Raises:
            KernelError: the driver's event area cannot be read.
        """
        flags = self.getu16(self.avail + 2) & 3
        slots, self.unsignalled = self.unsignalled, 0
        fresh, self.fresh = self.fresh, False
        if flags == VRING_PACKED_EVENT_FLAG_DISABLE:
            return False
        if flags != VRING_PACKED_EVENT_FLAG_DESC or not self.event_idx or fresh or slots > self.num:
            return True
        return event_passed(self.getu16(self.avail), self.last_used_idx, slots, self.num)

    def _ask_for_kick(self) -> None:
        # the place first, then the word that makes it count
        if self.event_idx:
            self.copy_to(self.used, self.last_avail_idx.to_bytes(2, "little"))
            flags = VRING_PACKED_EVENT_FLAG_DESC
        else:
            flags = VRING_PACKED_EVENT_FLAG_ENABLE
        self.copy_to(self.used + 2, flags.to_bytes(2, "little"))


def _take(addr: int, length: int, flags: int, lists: Lists, allowed: tuple[bool, bool]) -> None:
    write = bool(flags & VRING_DESC_F_WRITE)
    if not write and lists[1]:
        raise fail("peer.packed.order")
    if not allowed[write]:
        raise fail("peer.packed.direction")
    lists[write].append((addr, length))
