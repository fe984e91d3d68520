"""Rules of an eventfd's file (``fs/eventfd.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

register([Rule("eventfd.short", "eventfd.c:eventfd_read()", E.EINVAL, "fewer than the 8 bytes of a counter")])
