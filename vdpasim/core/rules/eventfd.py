"""Rules of an eventfd's file (``fs/eventfd.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

register(
    [
        Rule("eventfd.short", "eventfd.c:eventfd_read()", E.EINVAL, "fewer than the 8 bytes of a counter"),
        Rule("eventfd.empty", "eventfd.c:eventfd_read()", E.EAGAIN, "the counter is 0", "a blocking read sleeps instead"),
        Rule("eventfd.full", "eventfd.c:eventfd_write()", E.EAGAIN, "the counter would overflow", "a blocking write sleeps instead"),
        Rule("eventfd.value", "eventfd.c:eventfd_write()", E.EINVAL, "the value is 2^64-1"),
    ]
)
