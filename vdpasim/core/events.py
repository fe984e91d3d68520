"""Event kinds, and the one tuple layout of each.

Theory. An event is a plain tuple ``(seq, time_ns, unit, kind, *fields)`` of integers, strings and nested tuples; it is
formatted only when somebody prints it. The first four members are common; ``LAYOUT`` names the rest. With no sink an
event costs one test, so drivers write ``if kernel.sink: kernel.emit(...)``. The core never compares promise and place
of a DMA: ``MAP`` records what an entry promised, ``DMA`` where the bytes went, and an oracle joins them on the serial.
"""

from __future__ import annotations

import enum
from typing import Any

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
}
"""Field names behind the common four, per kind.

``asid`` is :data:`NO_COPY` for entries of a device IOTLB (vhost-net's), which is no copy of anything. ``promise`` and
``place`` are tuples of ``(object, offset, length)``; ``serial`` is that of the vhost entry (0 for passthrough and for
the memory table); ``target`` is ``va``, ``pa``, ``passthrough-va`` or ``passthrough-pa``; ``access`` and ``perm`` are
VHOST_ACCESS masks; errnos are positive numbers.
"""


def as_dict(event: Event) -> dict[str, Any]:
    """The event with named fields, for filters and JSON."""
    names = COMMON + LAYOUT[event[3]]
    return dict(zip(names, event, strict=True))
