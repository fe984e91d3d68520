"""Open files and the system-call layer above drivers (mirrors read_write.c, ioctl.c, select.c, file_table.c of fs/).

Theory. An :class:`OpenFile` is a ``struct file``: access mode, flags, a reference count, and the driver's
:class:`FileOperations`. Descriptors in process tables share it (dup, fork, SCM_RIGHTS); the last reference runs the
driver's ``release``. The layer decides what every driver inherits: EBADF for the wrong mode, EFAULT for a buffer
outside the user half before the driver runs, ENOTTY for a driver's "no such ioctl", the generic ioctls, and the
answers of a driver that has no read, poll or mmap.

Not modelled: file positions (no driver here has one), locks, fasync, splice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

from vdpasim.core.events import Kind
from vdpasim.core.faults import befall
from vdpasim.core.kernel import Call, Kernel, Point, Sleep, Steps, WaitQueue, Woken
from vdpasim.core.ports import PAGE_SIZE
from vdpasim.core.rules import KernelError, fail
from vdpasim.core.uaccess import MmBuffer, UserBuffer, copy_from_user
from vdpasim.uapi import errno as E
from vdpasim.uapi.fcntl import (
    O_ACCMODE,
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLRDNORM,
    POLLWRNORM,
)
from vdpasim.uapi.mman import MAP_PRIVATE, MAP_SHARED

if TYPE_CHECKING:
    from vdpasim.core.kernel import Mutex
    from vdpasim.core.ports import Caller

DEFAULT_POLLMASK = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM
"""What poll() says of a file without a poll operation: always ready."""

FIOCLEX, FIONCLEX, FIONBIO = 0x5451, 0x5450, 0x5421


class FileOperations(Protocol):
    """A driver's open file (``struct file_operations`` and ``private_data`` in one)."""

    @property
    def poll_queue(self) -> WaitQueue | None:
        """Where poll() sleeps; None for a driver without a poll operation."""

    @property
    def mutex(self) -> Mutex | None:
        """The lock a write takes; None for a file without ``write_atomic``."""

    def read(self, call: Call, buffer: UserBuffer, nonblock: bool) -> Steps:
        """``read_iter``: the number of bytes stored."""

    def write(self, call: Call, buffer: UserBuffer) -> Steps:
        """``write_iter``: the driver's return value."""

    def write_atomic(self, task: Caller, data: bytes) -> int:
        """``write`` of plain bytes in one step; the caller saw that the kernel is quiet and :attr:`mutex` free."""

    def ioctl(self, call: Call, request: int, arg: UserBuffer) -> Steps:
        """``unlocked_ioctl``; ENOIOCTLCMD for an unknown request."""

    def poll(self) -> int:
        """The present poll mask."""

    def mmap(self, call: Call, length: int, prot: int, flags: int, offset: int) -> Steps:
        """``mmap``: 0 or a refusal."""

    def release(self, call: Call) -> Steps:
        """The last reference has gone."""


class DriverFile:
    """A driver's file with the answers of one that has no operations at all."""

    poll_queue: WaitQueue | None = None
    mutex: Mutex | None = None

    def write_atomic(self, task: Caller, data: bytes) -> int:
        raise fail("vfs.no-write")

    def read(self, call: Call, buffer: UserBuffer, nonblock: bool) -> Steps:
        yield from ()
        raise fail("vfs.no-read")

    def write(self, call: Call, buffer: UserBuffer) -> Steps:
        yield from ()
        raise fail("vfs.no-write")

    def ioctl(self, call: Call, request: int, arg: UserBuffer) -> Steps:
        yield from ()
        raise fail("vfs.no-ioctl")

    def poll(self) -> int:
        return DEFAULT_POLLMASK

    def mmap(self, call: Call, length: int, prot: int, flags: int, offset: int) -> Steps:
        yield from ()
        raise fail("vfs.no-mmap")

    def release(self, call: Call) -> Steps:
        yield from ()
        return 0


class CharDev(Protocol):
    """A device node: something that can be opened."""

    path: str

    def open(self, call: Call, flags: int) -> Steps:
        """The driver's open; returns its :class:`FileOperations`."""


@attrs.define(eq=False)
class OpenFile:
    """``struct file``: what descriptors refer to."""

    kernel: Kernel
    path: str
    flags: int
    ops: FileOperations
    refs: int = 1
    released: bool = False

    def __attrs_post_init__(self) -> None:
        if self.kernel.journal is not None:
            self.kernel.journal.opened(self)

    def __str__(self) -> str:
        return self.path

    @property
    def nonblock(self) -> bool:
        """O_NONBLOCK is set."""
        return bool(self.flags & O_NONBLOCK)

    def get(self) -> None:
        """Take a reference (``get_file``)."""
        self.refs += 1

    def put(self, call: Call) -> Steps | None:
        """Drop a reference (``fput``); the driver's release to run if it was the last."""
        self.refs -= 1
        if self.refs or self.released:
            return None
        self.released = True
        return self.ops.release(call)

    def syscall(self, call: Call) -> Steps:
        """The generator of one system call on this file, by ``call.op``."""
        if self.released:
            return _refuse("vfs.closed")
        steps: Steps = _SYSCALLS[call.op](self, call, *call.args)
        return steps


@attrs.define(eq=False)
class NodeOpen:
    """The target of an open() call: a device node by path, looked up when the call runs."""

    kernel: Kernel
    nodes: dict[str, CharDev]
    path: str

    def __str__(self) -> str:
        return self.path

    def get(self) -> None:
        """Nothing to count: a path is no open file."""

    def put(self, call: Call) -> Steps | None:
        """Nothing to release."""
        return None

    def syscall(self, call: Call) -> Steps:
        """Open the node; the new :class:`OpenFile` is ``call.out``."""
        (flags,) = call.args
        node = self.nodes.get(self.path)
        if node is None:
            raise fail("vfs.no-device")
        if self.kernel.faults is not None:
            yield from befall(self.kernel, "open", self.path.rpartition("/")[2])
        ops = yield from node.open(call, flags)
        call.out = OpenFile(self.kernel, self.path, flags, ops)
        return 0


@attrs.frozen
class ClosedFd:
    """The target of a call by a number that no file has: it is refused like any other, and seen."""

    number: int

    def __str__(self) -> str:
        return f"fd:{self.number}"

    def get(self) -> None:
        """Nothing to count."""

    def put(self, call: Call) -> Steps | None:
        """Nothing to release."""
        return None

    def syscall(self, call: Call) -> Steps:
        """EBADF."""
        return _refuse("vfs.closed")


def write_atomic(file: OpenFile, task: Caller, data: bytes) -> int | None:
    """write(2) of plain bytes without a call object, None if that must not be.

    It must not be while anything else could run or anybody watches: then only a :class:`Call` has the right steps. The
    result is the same; this saves most of the time of a message.

    Raises:
        KernelError: as the driver's write.
    """
    kernel, mutex = file.kernel, file.ops.mutex
    if mutex is None or mutex.owner is not None or kernel.sink is not None or kernel.points or kernel.running:
        return None
    if kernel.faults is not None or kernel.ready or file.released or file.flags & O_ACCMODE == O_RDONLY:
        return None
    return file.ops.write_atomic(task, data)


def _refuse(rule: str) -> Steps:
    yield from ()
    raise fail(rule)


def sys_read(file: OpenFile, call: Call, buffer: UserBuffer) -> Steps:
    """read(2)/readv(2): mode, user range, then the driver."""
    if file.flags & O_ACCMODE == O_WRONLY:
        raise fail("vfs.bad-mode")
    if not buffer.in_user_range:
        raise fail("uaccess.range")
    return (yield from file.ops.read(call, buffer, file.nonblock))


def sys_write(file: OpenFile, call: Call, buffer: UserBuffer) -> Steps:
    """write(2)/writev(2): mode, user range, then the driver."""
    if file.flags & O_ACCMODE == O_RDONLY:
        raise fail("vfs.bad-mode")
    if not buffer.in_user_range:
        raise fail("uaccess.range")
    return (yield from file.ops.write(call, buffer))


def sys_ioctl(file: OpenFile, call: Call, request: int, arg: UserBuffer | int) -> Steps:
    """ioctl(2): the VFS's own requests first, then the driver's; its "no such command" becomes ENOTTY."""
    request &= 0xFFFF_FFFF
    buffer = MmBuffer(call.task.mm, arg & (1 << call.kernel.abi.bits) - 1) if isinstance(arg, int) else arg
    if request == FIONBIO:
        on = any(copy_from_user(buffer, 4))
        file.flags = file.flags | O_NONBLOCK if on else file.flags & ~O_NONBLOCK
        return 0
    if request in (FIOCLEX, FIONCLEX):
        call.task.files.set_cloexec_of(file, request == FIOCLEX)
        return 0
    try:
        return (yield from file.ops.ioctl(call, request, buffer))
    except KernelError as error:
        if error.errno == E.ENOIOCTLCMD:
            raise KernelError(E.ENOTTY, error.rule) from None
        raise


def sys_poll(file: OpenFile, call: Call, events: int, timeout_ns: int | None) -> Steps:
    """poll(2) of one file: the mask as return value; None waits for ever, 0 not at all."""
    kernel = file.kernel
    deadline = None if timeout_ns is None else kernel.now + timeout_ns
    wanted = events | 0x38
    while True:
        mask = file.ops.poll() & wanted
        if mask or (deadline is not None and deadline <= kernel.now):
            return mask
        if kernel.points:
            yield Point("poll.sleep")
            if file.ops.poll() & wanted:
                continue
        why = yield Sleep(file.ops.poll_queue, interruptible=True, deadline=deadline)
        if kernel.points:
            yield Point("poll.woken")
        if file.released:
            return POLLNVAL
        if why is Woken.SIGNAL:
            raise fail("vfs.signal")


def sys_mmap(file: OpenFile, call: Call, length: int, prot: int, flags: int, offset: int) -> Steps:
    """mmap(2) of a device: the length is rounded up to pages before the driver sees it."""
    if length <= 0 or offset & (PAGE_SIZE - 1) or not flags & (MAP_SHARED | MAP_PRIVATE):
        raise fail("vfs.mmap.invalid")
    length = -(-length // PAGE_SIZE) * PAGE_SIZE
    return (yield from file.ops.mmap(call, length, prot, flags, offset))


def sys_epoll_ctl(file: OpenFile, call: Call) -> Steps:
    """epoll_ctl(EPOLL_CTL_ADD): only whether the file can be watched."""
    if file.ops.poll_queue is None:
        raise fail("vfs.no-epoll")
    yield from ()
    return 0


def sys_close(file: OpenFile, call: Call) -> Steps:
    """Drop the descriptor's reference; the release runs when the last call on the file has ended."""
    file.refs -= 1
    yield from ()
    return 0


_SYSCALLS: dict[str, Any] = {
    "read": sys_read,
    "write": sys_write,
    "ioctl": sys_ioctl,
    "poll": sys_poll,
    "mmap": sys_mmap,
    "epoll_ctl": sys_epoll_ctl,
    "close": sys_close,
}


def unmodelled(kernel: Kernel, file: str, what: str) -> None:
    """Say loudly that the kernel has something that is not modelled; the caller then fails with EOPNOTSUPP."""
    if kernel.sink:
        kernel.emit(Kind.UNMODELLED, file, what)

