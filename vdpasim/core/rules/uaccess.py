"""Rules of user copies (``include/linux/uaccess.h``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

register(
    [
        Rule(
            "uaccess.from-user",
            "uaccess.h:copy_from_user()",
            E.EFAULT,
            "the argument cannot be read in full",
            "the pointer is wrong, or the buffer is smaller than the structure the request number promises",
        ),
        Rule("uaccess.to-user", "uaccess.h:copy_to_user()", E.EFAULT, "the result cannot be stored in full"),
        Rule(
            "uaccess.range",
            "read_write.c:vfs_read()",
            E.EFAULT,
            "the buffer of read() or write() is not in the user half of the address space",
            "checked before the driver runs; a user address that is merely unmapped reaches the driver",
        ),
    ]
)
