"""A real process as a caller: eventfds, descriptors, limits, and the loop that hears its kicks.

Theory. The process keeps its eventfds; we hold duplicates. A kick eventfd is *never read*: the counter is the driver's
to look at, and a level-triggered wait on it would never end, so the loop waits edge-triggered, where each write is one
edge however high the counter stands. Nothing runs by itself: :meth:`Loop.poll` calls the watchers, which only queue
work, and whoever holds the kernel runs it afterwards. Writes between two polls are one edge, as they may be for a real
driver's worker.

Not modelled: a write of 0 to a kick eventfd (epoll reports nothing, a driver in the kernel is woken); threads with a
descriptor table of their own; sockets and taps behind descriptors, refused loudly.
"""

from __future__ import annotations

import os
import resource
import select
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from vdpasim.attach.memory import LiveMm, LivePages
from vdpasim.attach.procfs import AttachError, fields, pidfd_getfd, require_linux
from vdpasim.core.fs.file import unmodelled
from vdpasim.core.rules import Rule, fail, register
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from vdpasim.core.fs.file import OpenFile
    from vdpasim.core.kernel import Kernel
    from vdpasim.core.ports import Watcher

EVENTFD_MAX = (1 << 64) - 2

register(
    [
        Rule(
            "attach.descriptor",
            "vdpasim: attach/live.py",
            E.EOPNOTSUPP,
            "a driver asks for a descriptor of a real process that is no eventfd",
            "taps and sockets of an attached process are not modelled",
            source="inferred",
        )
    ]
)


class Loop:
    """Edge-triggered waiting on the eventfds of real processes, one explicit step at a time."""

    def __init__(self) -> None:
        require_linux()
        self._epoll = select.epoll()
        self._watched: dict[int, LiveEventFd] = {}
        self._pending: list[int] = []

    def add(self, eventfd: LiveEventFd) -> None:
        """Hear writes from now on; one that is readable already is not reported."""
        self._watched[eventfd.fd] = eventfd
        self._epoll.register(eventfd.fd, select.EPOLLIN | select.EPOLLET)
        # registering reports the present state as an edge, which start_poll() looks at by itself
        self._pending += [fd for fd, _ in self._epoll.poll(0) if fd != eventfd.fd]

    def remove(self, eventfd: LiveEventFd) -> None:
        """Hear no more of it."""
        if self._watched.pop(eventfd.fd, None) is not None:
            self._epoll.unregister(eventfd.fd)

    def poll(self, timeout: float | None = 0) -> int:
        """Call the watchers of the eventfds that were written, waiting up to ``timeout`` seconds for the first.

        Returns the number of eventfds. None waits for ever.
        """
        pending, self._pending = self._pending, []
        ready = [fd for fd, _ in self._epoll.poll(0 if pending else timeout)]
        found = [self._watched[fd] for fd in dict.fromkeys(pending + ready) if fd in self._watched]
        for eventfd in found:
            eventfd.written()
        return len(found)

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()


class LiveEventFd:
    """A duplicate of an eventfd of a process."""

    def __init__(self, fd: int, loop: Loop) -> None:
        self.fd = fd
        self._loop = loop
        self._refs = 1
        self._watchers: list[Watcher] = []

    @property
    def count(self) -> int:
        values = dict(fields(f"/proc/self/fdinfo/{self.fd}"))
        return int(values["eventfd-count"], 16)

    @property
    def freed(self) -> bool:
        return self._refs <= 0

    def signal(self) -> None:
        if self.count < EVENTFD_MAX:  # else it stays, and a write would wait
            os.eventfd_write(self.fd, 1)

    def get(self) -> None:
        self._refs += 1

    def put(self) -> None:
        self._refs -= 1
        if not self._refs:
            self._loop.remove(self)
            os.close(self.fd)

    def watch(self, callback: Watcher) -> None:
        self._watchers.append(callback)
        if len(self._watchers) == 1:
            self._loop.add(self)

    def unwatch(self, callback: Watcher) -> None:
        self._watchers.remove(callback)
        if not self._watchers:
            self._loop.remove(self)

    def written(self) -> None:
        """The loop saw a write."""
        for callback in list(self._watchers):
            callback()


@attrs.define(eq=False)
class LiveFiles:
    """The descriptor table of a process."""

    kernel: Kernel
    pid: int
    pidfd: int
    loop: Loop

    def eventfd(self, fd: int) -> LiveEventFd:
        taken = self._take(fd)
        if taken is None:
            raise fail("eventfd.bad-fd")
        if str(Path(f"/proc/self/fd/{taken}").readlink()) != "anon_inode:[eventfd]":
            os.close(taken)
            raise fail("eventfd.not-eventfd")
        return LiveEventFd(taken, self.loop)

    def get(self, fd: int) -> object | None:
        taken = self._take(fd)
        if taken is None:
            return None
        os.close(taken)
        unmodelled(self.kernel, f"{self.pid}:{fd}", "a descriptor that is no eventfd")
        raise fail("attach.descriptor")

    def set_cloexec_of(self, file: OpenFile, cloexec: bool) -> None:
        unmodelled(self.kernel, f"{self.pid}:{file}", "FIOCLEX of a real process")
        raise fail("attach.descriptor")

    def _take(self, fd: int) -> int | None:
        try:
            return pidfd_getfd(self.pidfd, fd)
        except OSError as error:
            if error.errno == E.EBADF:
                return None
            raise AttachError(f"descriptor {fd} of process {self.pid}: {error.strerror}") from error


@attrs.define(eq=False)
class LiveLimits:
    """Limits and capabilities of a process, read when asked."""

    pid: int

    @property
    def memlock(self) -> int:
        soft, _ = resource.prlimit(self.pid, resource.RLIMIT_MEMLOCK)
        return (1 << 64) - 1 if soft == resource.RLIM_INFINITY else soft

    def capable(self, cap: int) -> bool:
        values = dict(fields(f"/proc/{self.pid}/status"))
        return bool(int(values["CapEff"], 16) >> cap & 1)


@attrs.define(eq=False)
class LiveTask:
    """A real process as the caller of system calls; see :meth:`attach`."""

    name: str
    pid: int
    pidfd: int
    mm: LiveMm
    files: LiveFiles
    limits: LiveLimits

    @classmethod
    def attach(cls, kernel: Kernel, pid: int, name: str, pages: LivePages, loop: Loop) -> LiveTask:
        """The process as it is now, which must be one this process may trace.

        Raises:
            AttachError: not on Linux, no such process, or not permitted.
        """
        mm = LiveMm(pid, pages, ident=kernel.name("mm:" + name))
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            mm.close()
            raise AttachError(f"process {pid}: {error.strerror}") from error
        return cls(name, pid, pidfd, mm, LiveFiles(kernel, pid, pidfd, loop), LiveLimits(pid))

    @property
    def alive(self) -> bool:
        """False once the process has ended, waited for or not."""
        return not select.select([self.pidfd], [], [], 0)[0]

    def exec_seen(self) -> None:
        """The process has become another program: its address space is a new one, the old one stays as it died.

        Raises:
            AttachError: it is gone, or may not be traced any more.
        """
        self.mm = LiveMm(self.pid, self.mm.pages, ident=self.files.kernel.name("mm:" + self.name))

    def close(self) -> None:
        """Give the descriptors back; the drivers must have let go of the address space."""
        self.mm.close()
        os.close(self.pidfd)
