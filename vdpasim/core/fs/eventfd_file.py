"""The file side of an eventfd: what a process reads, writes and polls (mirrors fs/eventfd.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.events import Kind
from vdpasim.core.fs.file import DriverFile
from vdpasim.core.kernel import Call, Sleep, Steps, WaitQueue, Woken
from vdpasim.core.rules import KernelError, fail
from vdpasim.core.uaccess import UserBuffer, copy_from_user, copy_to_user
from vdpasim.uapi import errno as E
from vdpasim.uapi.fcntl import POLLERR, POLLIN, POLLOUT

if TYPE_CHECKING:
    from vdpasim.core.fs.eventfd import EventFdCtx


class EventFdFile(DriverFile):
    """An eventfd as an open file; the context behind it is what drivers hold."""

    def __init__(self, ctx: EventFdCtx) -> None:
        self.ctx = ctx
        self.queue = WaitQueue("eventfd")
        self.poll_queue: WaitQueue | None = self.queue
        ctx.watch(self.queue.wake_up)

    def read(self, call: Call, buffer: UserBuffer, nonblock: bool) -> Steps:
        if buffer.length < 8:
            raise fail("eventfd.short")
        while True:
            try:
                value = self.ctx.read()
                break
            except KernelError:
                if nonblock:
                    raise
            if (yield Sleep(self.queue, interruptible=True)) is Woken.SIGNAL:
                raise fail("vfs.signal")
        copy_to_user(buffer, value.to_bytes(8, call.kernel.abi.byteorder))
        self.queue.wake_up()
        return 8

    def write(self, call: Call, buffer: UserBuffer) -> Steps:
        if buffer.length < 8:
            raise fail("eventfd.short")
        value = int.from_bytes(copy_from_user(buffer, 8), call.kernel.abi.byteorder)
        while True:
            try:
                self.ctx.write(value)
                return 8
            except KernelError as error:
                if error.errno != E.EAGAIN or call.file.nonblock:
                    raise
            if (yield Sleep(self.queue, interruptible=True)) is Woken.SIGNAL:
                raise fail("vfs.signal")

    def poll(self) -> int:
        count = self.ctx.count
        full = POLLERR if count == (1 << 64) - 1 else 0
        return full | (POLLIN if count else 0) | (POLLOUT if count < (1 << 64) - 2 else 0)

    def release(self, call: Call) -> Steps:
        self.ctx.unwatch(self.queue.wake_up)
        self.ctx.put()
        if call.kernel.sink:
            call.kernel.emit(Kind.GONE, "eventfd", self.ctx.name)
        yield from ()
        return 0
