"""The device side of a split ring with event index (virtio 1.3, section 2.7); **no kernel's vringh offers that**.

Theory. Core's vringh with three differences. The device writes ``avail_event`` when it finds the ring empty: "kick me
when you have gone past this"; it looks once more after that. It honours ``used_event``: an interrupt is sent when the
used index passes it, and for the first completion. And what breaks the rules is *not* consumed: the index stays, every
further look meets the same error, and so the queue stands still; an avail index more than a ring ahead is such a case.

Without EVENT_IDX the flags words decide, as in core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.core.rules import KernelError, fail
from vdpasim.core.vhost.virtio_byteorder import LITTLE, RingStructs
from vdpasim.core.vhost.vringh import Vringh
from vdpasim.devices.packed import vring_need_event

if TYPE_CHECKING:
    from vdpasim.core.ports import View
    from vdpasim.core.vhost.vringh import Iov


@attrs.define(eq=False)
class SplitRing(Vringh):
    """The device side of one split ring."""

    event_idx: bool = False
    signalled: int | None = None
    """The used index when the driver was last thought of; None before the first time."""

    def init(
        self, num: int, desc: int, avail: int, used: int, mm: View | None, structs: RingStructs = LITTLE
    ) -> bool:
        """Set up for a ring; False, with nothing changed, for a size that is none."""
        if not super().init(num, desc, avail, used, mm, structs):
            return False
        self.signalled = None
        return True

    def restore(self, avail: int, used: int) -> bool:
        """Go on at this avail index; what was taken has been completed, so the used index is the same."""
        self.last_avail_idx = self.last_used_idx = avail
        return True

    def getdesc(self, *, readable: bool = True, writable: bool = True) -> tuple[int, Iov, Iov] | None:
        """The next chain: (head, readable, writable), None when there is none.

        Raises:
            KernelError: the avail ring or the chain is bad; nothing was consumed.
        """
        self._check_windows()
        before = self.last_avail_idx
        if (self.getu16(self.avail + 2) - before) & 0xFFFF > self.num:
            raise fail("peer.split.avail-idx")
        try:
            chain = super().getdesc(readable=readable, writable=writable)
            if chain is None and self.event_idx:
                self.copy_to(self.used + 4 + 8 * self.num, self.structs.u16.pack(before))
                chain = super().getdesc(readable=readable, writable=writable)
        except KernelError:
            self.last_avail_idx = before
            raise
        return chain

    def need_notify(self) -> bool:
        """Whether the driver wants an interrupt for what was completed since this was last asked.

        Raises:
            KernelError: flags or used_event cannot be read.
        """
        if not self.event_idx:
            return super().need_notify()
        event = self.getu16(self.avail + 4 + 2 * self.num)
        old, self.signalled = self.signalled, self.last_used_idx
        return self._wanted(old is None or vring_need_event(event, self.last_used_idx, old))
