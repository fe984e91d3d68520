"""Event kinds, and the one tuple layout of each.

Theory. An event is a plain tuple ``(seq, time_ns, unit, kind, *fields)`` of integers, strings and nested tuples; it is
formatted only when somebody prints it. The first four members are common; ``LAYOUT`` names the rest. With no sink an
event costs one test, so drivers write ``if kernel.sink: kernel.emit(...)``. The core never compares promise and place
of a DMA: ``MAP`` records what an entry promised, ``DMA`` where the bytes went, and an oracle joins them on the serial.
"""

from __future__ import annotations

import enum
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Event = tuple[Any, ...]


class Kind(enum.IntEnum):
    """What happened."""

    ENTER = 1
    EXIT = 2
    MAP = 3
    UNMAP = 4
    PUSH = 5
    DMA = 6
    MISS = 7
    WAKE = 8
    SIGNAL = 9
    KICK = 10
    OWNER = 11
    STATUS = 12
    FAULT = 13
    VIOLATION = 14
    UNMODELLED = 15
    REMAP = 16
    OPEN = 17
    SPACE = 18
    PIN = 19
    UNPIN = 20
    GONE = 21
    REMOVE = 22
    SUSPEND = 23
    RING = 24
    FEATURES = 25
    USED = 26
    QUIET = 27
    IDLE = 28
    CLEAR = 29
    CONFIG = 30
    BATCH = 31
    IGNORED = 32
    STILL = 33
    MOVED = 34


NO_COPY = -1
"""In place of an address space: the table is what the device uses."""

COMMON = ("seq", "time", "unit", "kind")

LAYOUT: dict[Kind, tuple[str, ...]] = {
    Kind.ENTER: ("op", "file", "args"),
    Kind.EXIT: ("op", "file", "ret", "handler_errno", "rule"),
    Kind.MAP: ("device", "asid", "serial", "start", "last", "addr", "perm", "promise"),
    Kind.UNMAP: ("device", "asid", "serial", "start", "last"),
    Kind.PUSH: ("device", "asid", "maps", "errno"),
    Kind.DMA: ("device", "queue", "iova", "length", "access", "serial", "target", "place"),
    Kind.MISS: ("device", "queue", "iova", "perm"),
    Kind.WAKE: ("device", "queue", "iova"),
    Kind.SIGNAL: ("device", "queue", "what", "count"),
    Kind.KICK: ("device", "queue"),
    Kind.OWNER: ("device", "old", "new"),
    Kind.STATUS: ("device", "old", "new"),
    Kind.FAULT: ("device", "what", "errno"),
    Kind.VIOLATION: ("id", "text"),
    Kind.UNMODELLED: ("file", "what"),
    Kind.REMAP: ("device", "asid", "serial", "start", "last", "old", "new"),
    Kind.OPEN: ("device", "below", "family"),
    Kind.SPACE: ("device", "queue", "mm"),
    Kind.PIN: ("device", "mm", "pages", "total"),
    Kind.UNPIN: ("device", "serial", "addr", "pages"),
    Kind.GONE: ("what", "name"),
    Kind.REMOVE: ("device", "errno"),
    Kind.SUSPEND: ("device", "old", "new"),
    Kind.RING: ("device", "queue", "what", "value"),
    Kind.FEATURES: ("device", "what", "mask"),
    Kind.USED: ("device", "queue", "old", "new", "found", "taken"),
    Kind.QUIET: ("device", "queue", "why"),
    Kind.IDLE: ("device", "queue", "why"),
    Kind.CLEAR: ("device", "count"),
    Kind.CONFIG: ("device",),
    Kind.BATCH: ("device", "asid", "open"),
    Kind.IGNORED: ("device", "what", "value"),
    Kind.STILL: (),
    Kind.MOVED: ("object", "to"),
}
"""Field names behind the common four, per kind.

``asid`` is :data:`NO_COPY` for entries of a device IOTLB (vhost-net's), which is no copy of anything. ``promise`` and
``place`` are tuples of ``(object, offset, length)``; ``serial`` is that of the vhost entry (0 for passthrough and for
the memory table); ``target`` is ``va``, ``pa``, ``file``, ``passthrough-va`` or ``passthrough-pa``; ``access`` and
``perm`` are VHOST_ACCESS masks; errnos are positive numbers.

A vhost-vdpa file and the device below it have names of their own, ``vhost-vdpa-0`` and ``disk``; ``OPEN`` says which go
together, and whether the ``family`` is ``vhost-net``, ``vhost-vdpa`` or ``vhost-vdpa+miss``. What the device does
(``DMA``, ``SPACE``, ``USED``, ``QUIET``, ``IDLE``, ``CONFIG``) bears the name below, everything else the file's.

* ``OPEN``: ``below`` is empty in the log of a program, which has nothing of what the device does.
* ``SPACE``: the address space in which a queue's accesses are resolved from here on; None for physical addresses and
  for files that the device maps itself.
* ``PIN``: pages were accounted to an address space, or taken off it, whose count is ``total`` now; ``UNPIN``: a device
  gave the pages of an entry back, by the address the entry had then.
* ``GONE``: the last user of an address space (``mm``) went, or the last reference to an eventfd (``eventfd``) or to a
  vhost file (``file``).
* ``REMOVE``: the bus was asked to remove the device; EBUSY while it is open.
* ``SUSPEND``: suspended before and after the request, 0 or 1.
* ``RING``: a ring request that was granted. ``what`` is ``num``, ``base``, ``get-base``, ``ready``, ``backend``,
  ``addr`` (the three addresses, and how many of them lie in the owner's address space) or ``kick``, ``call``, ``err``
  and, for queue -1, ``config`` (an eventfd's name, None without one).
* ``FEATURES``: what was acked, ``virtio`` or ``backend``.
* ``USED``: the used index went from ``old`` to ``new``; ``found`` is what lay in memory before (None: not looked at),
  ``taken`` how far the avail ring was taken.
* ``QUIET``: why there is no interrupt: ``driver`` wants none, ``unreadable`` flags, ``no-callback``, ``no-eventfd``.
* ``IDLE``: why a kicked device did nothing: ``dead-mm``, ``not-running``, ``not-ready``, ``remembered``.
* ``CLEAR``: misses were dropped unanswered.
* ``CONFIG``: the config space changed by itself.
* ``BATCH``: BATCH_BEGIN (1) or BATCH_END (0).
* ``IGNORED``: part of a request was not looked at: ``asid``, or an ``update`` (by its iova) that mapped nothing.
* ``STILL``: nothing is left to run; not the kernel's, but of whoever plays a story to its end.
* ``MOVED``: guest memory that lay in one object lies in another from here on, every byte at the offset it had; not the
  kernel's, but of the program that moved it and says so.
"""


def as_dict(event: Event) -> dict[str, Any]:
    """The event with named fields, for filters and JSON."""
    names = COMMON + LAYOUT[event[3]]
    return dict(zip(names, event, strict=True))


class OpenCalls:
    """What is kept of calls that have not returned: found by what they do, of equal ones the oldest first.

    Threads of a process share a name, so an ``EXIT`` does not say more of its ``ENTER`` than unit, operation and file.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, str], list[Any]] = {}

    def enter(self, event: Event, value: Any) -> None:
        """A call begins."""
        self._open.setdefault((event[2], event[4], event[5]), []).append(value)

    def exit(self, event: Event, choose: Callable[[list[Any]], Any] = itemgetter(0)) -> Any:
        """The value of the call that returns; None if it was made before anybody listened.

        ``choose`` picks one of those it may be.
        """
        key = event[2], event[4], event[5]
        waiting = self._open.get(key)
        if not waiting:
            return None
        value = choose(waiting)
        waiting.remove(value)
        if not waiting:
            del self._open[key]
        return value

    def rest(self) -> list[Any]:
        """The values of the calls that never returned."""
        return [value for waiting in self._open.values() for value in waiting]
