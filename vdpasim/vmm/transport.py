"""What a client handle needs of a file: four calls, over the simulator or over a real descriptor.

Theory. A handle encodes, calls, decodes; it does not know what it talks to. The simulator's ``File`` has the four
calls already; :class:`FdTransport` gives them to a real descriptor, :class:`NowaitTransport` to a simulated file
without waiting. All are ``async``; over these two they never suspend, so synchronous code may drive a handle by
:func:`run_sync`.
"""

from __future__ import annotations

import fcntl
import mmap as _mmap
import os
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from vdpasim.sim import File

T = TypeVar("T")


class Transport(Protocol):
    """An open vhost file."""

    async def read(self, size: int) -> bytes:
        """read(2)."""

    async def write(self, data: bytes) -> int:
        """write(2)."""

    async def ioctl(self, request: int, arg: int | bytes | bytearray | None = None) -> Any:
        """ioctl(2), in the manner of ``fcntl.ioctl``: bytes in, changed bytes out."""

    async def mmap(self, length: int, prot: int, flags: int, offset: int = 0) -> Any:
        """mmap(2)."""


class FdTransport:
    """A real descriptor: an open /dev/vhost-net or /dev/vhost-vdpa-N of the machine this runs on."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    async def read(self, size: int) -> bytes:
        return os.read(self.fd, size)

    async def write(self, data: bytes) -> int:
        return os.write(self.fd, data)

    async def ioctl(self, request: int, arg: int | bytes | bytearray | None = None) -> Any:
        if isinstance(arg, bytes):
            # a copy of any size: fcntl.ioctl limits immutable arguments to 1024 bytes
            buffer = bytearray(arg)
            fcntl.ioctl(self.fd, request, buffer, True)  # noqa: TID251 - the real descriptor of a client
            return bytes(buffer)
        return fcntl.ioctl(self.fd, request, arg or 0)  # noqa: TID251 - as above

    async def mmap(self, length: int, prot: int, flags: int, offset: int = 0) -> Any:
        return _mmap.mmap(self.fd, length, flags, prot, offset=offset)


class NowaitTransport:
    """A simulated file whose calls end at once or not at all."""

    def __init__(self, file: File) -> None:
        self.file = file

    async def read(self, size: int) -> bytes:
        data: bytes = self.file.read_nowait(size)
        return data

    async def write(self, data: bytes) -> int:
        return self.file.write_nowait(data)

    async def ioctl(self, request: int, arg: int | bytes | bytearray | None = None) -> Any:
        return self.file.ioctl_nowait(request, arg)

    async def mmap(self, length: int, prot: int, flags: int, offset: int = 0) -> Any:
        return self.file.mmap_nowait(length, prot, flags, offset)


def run_sync(steps: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine that never suspends.

    Raises:
        RuntimeError: it suspended, so its transport is not a synchronous one.
    """
    try:
        steps.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    steps.close()
    raise RuntimeError("the transport waited: run this handle as an actor or a trio task")
