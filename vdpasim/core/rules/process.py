"""Rules of descriptor look-ups (``fs/file.c``, ``fs/eventfd.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

register(
    [
        Rule("eventfd.bad-fd", "eventfd.c:eventfd_fget()", E.EBADF, "the descriptor is not open"),
        Rule("eventfd.not-eventfd", "eventfd.c:eventfd_ctx_fileget()", E.EINVAL, "the descriptor is no eventfd"),
    ]
)
