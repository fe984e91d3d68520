"""Rules of the system-call layer (``fs/read_write.c``, ``fs/ioctl.c`` and neighbours)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

register(
    [
        Rule("vfs.bad-mode", "read_write.c:vfs_read()", E.EBADF, "the file was not opened for this direction"),
        Rule("vfs.closed", "file.c:fdget()", E.EBADF, "the descriptor is not open"),
        Rule("vfs.no-read", "read_write.c:vfs_read()", E.EINVAL, "the driver has no read operation"),
        Rule("vfs.no-write", "read_write.c:vfs_write()", E.EINVAL, "the driver has no write operation"),
        Rule("vfs.no-ioctl", "ioctl.c:vfs_ioctl()", E.ENOTTY, "the file has no such ioctl"),
        Rule("vfs.mmap.invalid", "mmap.c:ksys_mmap_pgoff()", E.EINVAL, "length 0, an offset that is not page aligned, or neither shared nor private"),
        Rule("vfs.no-mmap", "mmap.c:do_mmap()", E.ENODEV, "the driver has no mmap operation"),
        Rule("vfs.no-epoll", "eventpoll.c:do_epoll_ctl()", E.EPERM, "epoll_ctl on a file without a poll operation"),
        Rule("vfs.signal", "signal.c:do_signal()", E.EINTR, "a signal ended the wait", "restarting is the caller's"),
        Rule("vfs.no-device", "namei.c:do_open()", E.ENOENT, "no such device node"),
    ]
)
