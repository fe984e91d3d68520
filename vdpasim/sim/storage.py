"""What may be behind a simulated disk: a memory object of the simulation, or a file of yours.

``sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk", backing=...)`` takes a path, a simulated memfd, a memory object, or
anything with ``read(offset, length)`` and ``write(offset, data)``. The disk is copied on write; with
``write_through=True`` what a request changed goes to the backing once the request has succeeded.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdpasim.core.mm.memory import Memory
from vdpasim.sim.errors import UsageError
from vdpasim.sim.file import File

if TYPE_CHECKING:
    from vdpasim.core.ports import Storage


class MemoryStorage:
    """A memory object; processes that map it see what a write-through disk writes."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        memory.get()

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the object."""
        return self.memory.pread(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes."""
        self.memory.pwrite(offset, data)


class FileStorage:
    """A file of the host, opened for writing only if it is to be written.

    Raises:
        UsageError: it cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        if path.exists() and not path.is_file():
            raise UsageError(f"no disk in {path}: not a regular file")
        try:
            self._fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"no disk in {path}: {error.strerror}") from None
        weakref.finalize(self, os.close, self._fd)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file."""
        return os.pread(self._fd, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes, all of them."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            view, offset = view[done:], offset + done


def storage(given: Any, *, writable: bool) -> Storage:
    """The storage that somebody meant.

    Raises:
        UsageError: nothing that has bytes; see :class:`FileStorage`.
    """
    if isinstance(given, str | Path):
        return FileStorage(Path(given), writable=writable)
    memory = given.memory if isinstance(given, File) else given
    if isinstance(memory, Memory):
        return MemoryStorage(memory)
    if not isinstance(given, File) and all(callable(getattr(given, name, None)) for name in ("read", "write")):
        result: Storage = given
        return result
    raise UsageError(f"no storage for a disk: {given!r}; it is a path, a memfd, a memory object, or has read and write")
