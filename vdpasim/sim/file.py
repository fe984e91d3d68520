"""Open files of simulated processes: bytes in, bytes out, OSError with the kernel's errno.

Theory. A :class:`File` is a descriptor of a process: the same object serves actors, trio tasks (``await
file.read(72)``) and plain synchronous code (``file.read_nowait(72)``). ``ioctl`` follows ``fcntl.ioctl``: an int
argument is an address (or a number), a ``bytes`` argument is copied and the changed copy returned, a ``bytearray`` is
changed in place. A buffer may also be ``(address, length)`` in the process's memory, where faults happen as they do in
a kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from vdpasim.core.fs.file import ClosedFd, DriverFile, OpenFile, write_atomic
from vdpasim.core.mm.device_page import DevicePage
from vdpasim.core.ports import PAGE_SIZE
from vdpasim.core.rules import KernelError
from vdpasim.core.uaccess import BytesBuffer, MmBuffer, UserBuffer
from vdpasim.core.vhost.vdpa import Doorbell
from vdpasim.sim import hosts
from vdpasim.sim.errors import call_error, kernel_error, os_error, os_errors
from vdpasim.sim.journal import Recorder, journaled
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call, Steps
    from vdpasim.core.mm.memory import Memory
    from vdpasim.sim.process import Process

READ_MAX = 1 << 20
"""A longer read gets a buffer of this many bytes: no file here has more to give at once."""

Place = tuple[int, int]
"""(address, length) in the memory of the process."""


class MemfdFile(DriverFile):
    """A memfd as an open file: only what is behind it matters here."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def release(self, call: Call) -> Steps:
        """The last descriptor has gone; mappings keep the memory."""
        yield from ()
        self.memory.put()
        return 0


class File:
    """A descriptor of a simulated process."""

    def __init__(self, process: Process, fd: int) -> None:
        self.process = process
        self.fd = fd

    def __repr__(self) -> str:
        return f"<File {self.process.name}:{self.fd}>"

    @property
    def open_file(self) -> OpenFile:
        """The open file the number refers to.

        Raises:
            OSError: EBADF the number is closed.
        """
        file = self.process.task.files.get(self.fd)
        if file is None:
            raise os_error(E.EBADF, "vfs.closed")
        return file

    @property
    def memory(self) -> Memory | None:
        """The object behind a memfd, None for other files.

        Raises:
            OSError: EBADF the number is closed.
        """
        ops = self.open_file.ops
        return ops.memory if isinstance(ops, MemfdFile) else None

    # -- the awaitable face

    async def read(self, size: int | Place) -> Any:
        """read(2): the bytes, or, for a place in memory, their number."""
        buffer = self._reading(size)
        return self._read_result(await self._wait("read", buffer), buffer)

    async def write(self, data: bytes | bytearray | memoryview | Place) -> int:
        """write(2): what the driver returns, which may be more than was offered."""
        return self._result(await self._wait("write", self._writing(data)))

    async def ioctl(self, request: int, arg: int | bytes | bytearray | None = None) -> Any:
        """ioctl(2), in the manner of ``fcntl.ioctl``."""
        buffer = self._argument(arg)
        return self._ioctl_result(await self._wait("ioctl", request, buffer), arg, buffer)

    async def poll(self, events: int, timeout_ns: int | None = None) -> int:
        """poll(2) of this file: the events that are there; 0 after the timeout."""
        return self._result(await self._wait("poll", events, timeout_ns))

    async def mmap(self, length: int, prot: int, flags: int, offset: int = 0) -> int:
        """mmap(2) of a device: the address; a store there (:meth:`Process.write`) reaches the device."""
        return self._mapped(await self._wait("mmap", length, prot, flags, offset), prot)

    async def aclose(self) -> None:
        """close(2); the last reference releases the device."""
        file = self._taken_out()
        self._result(await hosts.wait(self.process.sim.kernel, lambda: self._submit(file, "close"), must=True))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.process.task.files.get(self.fd) is not None:
            await self.aclose()

    # -- the synchronous face

    def read_nowait(self, size: int | Place) -> Any:
        """As :meth:`read`, without waiting.

        Raises:
            WouldBlock: there is nothing to read.
        """
        buffer = self._reading(size)
        return self._read_result(self._nowait("read", buffer), buffer)

    def write_nowait(self, data: bytes | bytearray | memoryview | Place) -> int:
        """As :meth:`write`, without waiting."""
        if type(data) is bytes:
            ret = self._write_atomic(data)
            if ret is not None:
                return ret
        return self._result(self._nowait("write", self._writing(data)))

    def _write_atomic(self, data: bytes) -> int | None:
        # the short way of a message, when nothing else can run
        process = self.process
        kernel, file = process.sim.kernel, process.task.files.get(self.fd)
        if file is None:
            return None
        try:
            ret = write_atomic(file, process.task, data)
        except KernelError as error:
            raise kernel_error(error) from None
        if kernel.ready and not kernel.lazy_workers:
            hosts.run_idle(kernel)
        return ret

    def writev_nowait(self, parts: list[bytes]) -> int:
        """writev(2): the parts are one message to the driver; of nothing at all it is not even told."""
        data = b"".join(parts)
        return self.write_nowait(data) if data else 0

    def ioctl_nowait(self, request: int, arg: int | bytes | bytearray | None = None) -> Any:
        """As :meth:`ioctl`, without waiting."""
        buffer = self._argument(arg)
        return self._ioctl_result(self._nowait("ioctl", request, buffer), arg, buffer)

    def poll_nowait(self, events: int) -> int:
        """The events that are there now."""
        return self._result(self._nowait("poll", events, 0))

    def mmap_nowait(self, length: int, prot: int, flags: int, offset: int = 0) -> int:
        """As :meth:`mmap`, without waiting."""
        return self._mapped(self._nowait("mmap", length, prot, flags, offset), prot)

    def close_nowait(self) -> None:
        """As :meth:`aclose`, without waiting."""
        file = self._taken_out()
        self._result(hosts.call_nowait(self.process.sim.kernel, lambda: self._submit(file, "close")))

    # -- pieces

    @property
    def recorder(self) -> Recorder | None:
        """Who writes the journal."""
        return self.process.sim.recorder

    @property
    def key(self) -> list[Any]:
        """What a journal calls it."""
        return ["fd", self.process.key[1], self.fd]

    @journaled
    def removed(self) -> None:
        """The number is free again; whoever removes it closes the file behind it."""
        self.process.task.files.remove(self.fd)

    @property
    def _target(self) -> OpenFile | ClosedFd:
        # what a call by this number goes to
        return self.process.task.files.get(self.fd) or ClosedFd(self.fd)

    def _taken_out(self) -> OpenFile | ClosedFd:
        # the target of close(), out of the table
        target = self._target
        if isinstance(target, OpenFile):
            self.removed()
        return target

    def _submit(self, file: OpenFile | ClosedFd, op: str, *args: Any) -> Call:
        return self.process.sim.kernel.submit(self.process.task, file, op, args)

    async def _wait(self, op: str, *args: Any) -> Call:
        file = self._target
        return await hosts.wait(self.process.sim.kernel, lambda: self._submit(file, op, *args))

    def _nowait(self, op: str, *args: Any) -> Call:
        file = self._target
        return hosts.call_nowait(self.process.sim.kernel, lambda: self._submit(file, op, *args))

    @staticmethod
    def _result(call: Call) -> int:
        if call.ret < 0:
            raise call_error(call)
        return call.ret

    def _mapped(self, call: Call, prot: int) -> int:
        ret = self._result(call)
        return self.map_page(call.file, call, prot) if isinstance(call.out, Doorbell) else ret

    @journaled
    def map_page(self, file: OpenFile, call: Call, prot: int) -> int:
        """Put the doorbell that an mmap() was given into the address space."""
        process = self.process
        # the mapping holds the file; its last piece drops it as close(2) does
        page = DevicePage(call.out.name, process.sim.pages, call.out.ring, lambda: self._unmapped(file))
        with os_errors():
            address = process.mm.mmap(None, PAGE_SIZE, prot, shared=True, obj=page)
        file.get()
        return address

    def _unmapped(self, file: OpenFile) -> None:
        # at once for a synchronous caller; an actor's munmap cannot wait, so there it is the next unit to run
        kernel, task = self.process.sim.kernel, self.process.task
        if kernel.running:
            kernel.submit(task, file, "close", ())
        else:
            hosts.call_nowait(kernel, lambda: kernel.submit(task, file, "close", ()))

    def _reading(self, size: int | Place) -> UserBuffer:
        if isinstance(size, tuple):
            return MmBuffer(self.process.task.mm, *size)
        if size < 0:
            raise os_error(E.EINVAL, "vfs.no-read")
        return BytesBuffer(bytearray(min(size, READ_MAX)))

    def _writing(self, data: bytes | bytearray | memoryview | Place) -> UserBuffer:
        if isinstance(data, tuple):
            return MmBuffer(self.process.task.mm, *data)
        return BytesBuffer(bytes(data))

    @staticmethod
    def _argument(arg: int | bytes | bytearray | None) -> int | UserBuffer:
        if isinstance(arg, (bytes, bytearray)):
            return BytesBuffer(arg if isinstance(arg, bytearray) else bytearray(arg))
        return arg or 0

    def _read_result(self, call: Call, buffer: UserBuffer) -> Any:
        count = self._result(call)
        return bytes(buffer.data[:count]) if isinstance(buffer, BytesBuffer) else count

    def _ioctl_result(self, call: Call, arg: int | bytes | bytearray | None, buffer: int | UserBuffer) -> Any:
        ret = self._result(call)
        if isinstance(arg, bytes) and isinstance(buffer, BytesBuffer):
            return bytes(buffer.data)
        return ret
