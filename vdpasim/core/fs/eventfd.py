"""Eventfd contexts: a counter that drivers signal and watch (mirrors the ctx half of fs/eventfd.c).

Theory. A driver holds the context, not the file, so it outlives the descriptor. Signalling adds one and is
never refused: it stops at 2^64-1, one above what a process can write. A process adds what it writes and takes
everything when it reads. Whoever watches is told of every write, also of 0, and never takes
from the counter: a kick eventfd keeps growing.

Not modelled: EFD_SEMAPHORE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.core.ports import U64_MAX
from vdpasim.core.rules import fail

if TYPE_CHECKING:
    from vdpasim.core.ports import Watcher

COUNT_MAX = U64_MAX - 1


@attrs.define(eq=False)
class EventFdCtx:
    """One counter (``struct eventfd_ctx``), the simulated :class:`~vdpasim.core.ports.EventFd`."""

    count: int = 0
    name: str = attrs.field(kw_only=True, default="eventfd")
    refs: int = 1
    watchers: list[Watcher] = attrs.Factory(list["Watcher"])

    def get(self) -> None:
        self.refs += 1

    def put(self) -> None:
        self.refs -= 1

    @property
    def freed(self) -> bool:
        return self.refs <= 0

    def signal(self) -> None:
        """Add one; a full counter stays full."""
        if self.count < U64_MAX:
            self.count += 1
        if self.watchers:
            self._notify()

    def write(self, value: int) -> None:
        """A process's write.

        Raises:
            KernelError: EINVAL 2^64-1, EAGAIN the counter would overflow.
        """
        if value == U64_MAX:
            raise fail("eventfd.value")
        if value > COUNT_MAX - self.count:
            raise fail("eventfd.full")
        self.count += value
        self._notify()

    def read(self) -> int:
        """A process's read: the counter, which becomes 0.

        Raises:
            KernelError: EAGAIN it is 0.
        """
        if not self.count:
            raise fail("eventfd.empty")
        value, self.count = self.count, 0
        return value

    def watch(self, callback: Watcher) -> None:
        self.watchers.append(callback)

    def unwatch(self, callback: Watcher) -> None:
        self.watchers.remove(callback)

    def _notify(self) -> None:
        for callback in list(self.watchers):
            callback()
