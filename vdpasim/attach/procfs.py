"""What a real process shows of itself: mappings, limits, descriptors (the text of Linux's ``proc`` file system).

Theory. ``maps`` and ``smaps`` have the same head lines; ``smaps`` adds ``VmFlags``, which alone says what the kernel
asks of a VMA: VM_SHARED (``sh``, where ``maps`` only knows that MAP_SHARED was said) and VM_IO or VM_PFNMAP (``io``,
``pf``). One parser takes both. A descriptor is taken from the process by ``pidfd_getfd``, which Python has no function
for, so it is called by number; the number is the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SYS_PIDFD_GETFD = 438
"""Since Linux 5.6."""

HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (.)(.)(.)(.) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+)\s*(.*)")


class AttachError(Exception):
    """A process cannot be attached to: not on Linux, no such process, or not permitted; the message says which."""


def require_linux() -> None:
    """Say plainly that this part of the package is for one system.

    Raises:
        AttachError: not Linux.
    """
    if sys.platform != "linux":
        raise AttachError(f"a real process can be attached on Linux only, and this is {sys.platform}")


class Mapping(NamedTuple):
    """One VMA of a process."""

    start: int
    last: int
    readable: bool
    writable: bool
    shared: bool
    """VM_SHARED if ``smaps`` was read; MAP_SHARED if ``maps`` was, which a read-only file also has."""
    special: bool
    """VM_IO or VM_PFNMAP; False where only ``maps`` was read."""
    offset: int
    device: str
    """Major and minor number as printed, ``00:01``."""
    inode: int
    """0: no file behind it."""
    path: str


def parse_maps(text: str) -> list[Mapping]:
    """The mappings of a ``maps`` or ``smaps`` file, in address order."""
    found: list[Mapping] = []
    for line in text.splitlines():
        head = HEAD.fullmatch(line)
        if head is not None:
            start, behind, r, w, _, s, offset, device, inode, path = head.groups()
            first, last, at = int(start, 16), int(behind, 16) - 1, int(offset, 16)
            found.append(Mapping(first, last, r == "r", w == "w", s == "s", False, at, device, int(inode), path))
        elif line.startswith("VmFlags:"):
            flags = line.split()[1:]
            found[-1] = found[-1]._replace(shared="sh" in flags, special="io" in flags or "pf" in flags)
    return found


def read_whole(fd: int) -> bytes:
    """All of a ``proc`` file that stays open, read from the start every time; nothing once the process is gone."""
    parts: list[bytes] = []
    offset = 0
    try:
        while part := os.pread(fd, 1 << 16, offset):
            parts.append(part)
            offset += len(part)
    except ProcessLookupError:
        return b""
    return b"".join(parts)


def open_proc(pid: int, name: str, flags: int) -> int:
    """A descriptor of a file under /proc/PID.

    Raises:
        AttachError: there is no such process, or its memory is not ours to see.
    """
    require_linux()
    path = f"/proc/{pid}/{name}"
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise AttachError(f"{path}: {error.strerror} (it must be a process this one may trace)") from error


def open_object(pid: int, mapping: Mapping) -> int | None:
    """A descriptor of the file behind a mapping, None if there is no way to it.

    The process's own descriptors are tried first, then ``map_files``, which needs a capability.
    """
    try:
        paths = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None  # the process has gone, or is not ours to see
    for path in paths:
        if _is_behind(path, mapping):
            try:
                return os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
    try:
        return os.open(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.last + 1:x}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None


def _is_behind(path: Path, mapping: Mapping) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False  # closed since it was listed
    device = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}"
    return (stat.st_ino, device) == (mapping.inode, mapping.device)


def fields(path: str) -> Iterator[tuple[str, str]]:
    """``name: value`` lines of a status file."""
    for line in Path(path).read_text("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        yield name, value.strip()


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A duplicate, in this process, of a descriptor of another one.

    Raises:
        OSError: EBADF it is not open there, EPERM, ENOSYS before Linux 5.6.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    taken = int(libc.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0))
    if taken < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return taken
