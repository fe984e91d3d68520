"""Simulated processes: memory, descriptors, fork, exec, exit.

Theory. A :class:`Process` is a task of the simulated kernel with what a program does to itself: map memory, make
memfds and eventfds, pass descriptors, become another program. Its memory calls are immediate (nothing waits for them);
whatever can close a file is a call like any other, with a ``_nowait`` form. After :meth:`exec` the same Process has a
new address space and is nobody's owner any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.core.fs.eventfd import EventFdCtx
from vdpasim.core.fs.eventfd_file import EventFdFile
from vdpasim.core.fs.file import FileOperations, NodeOpen, OpenFile
from vdpasim.core.mm import process as core
from vdpasim.core.mm.memory import Memory
from vdpasim.core.net.tun import SocketFile
from vdpasim.sim import hosts
from vdpasim.sim.errors import call_error, os_error, os_errors
from vdpasim.sim.file import File, MemfdFile
from vdpasim.sim.journal import Recorder, journaled
from vdpasim.uapi import errno as E
from vdpasim.uapi.fcntl import O_ACCMODE, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR
from vdpasim.uapi.mman import PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call
    from vdpasim.core.mm.mm import AddressSpace
    from vdpasim.core.mm.rlimit import Rlimits
    from vdpasim.sim.simulator import Simulator

PROT_RW = PROT_READ | PROT_WRITE
HUGE_PAGES = 512
"""4 KiB pages of a huge page."""


@attrs.frozen
class Region:
    """A mapping a process made: an address with a size, and access through it."""

    process: Process
    addr: int
    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the region, as the process sees them."""
        return self.process.read(self.addr + offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes, as the process."""
        self.process.write(self.addr + offset, data)


class Process:
    """A simulated process."""

    def __init__(self, sim: Simulator, task: core.Task) -> None:
        self.sim = sim
        self.task = task

    def __repr__(self) -> str:
        return f"<Process {self.name}>"

    @property
    def name(self) -> str:
        """Its name, as traces print it."""
        return self.task.name

    @property
    def mm(self) -> AddressSpace:
        """Its present address space."""
        return self.task.mm

    @property
    def recorder(self) -> Recorder | None:
        """Who writes the journal."""
        return self.sim.recorder

    @property
    def key(self) -> list[Any]:
        """What a journal calls it."""
        return ["process", next(number for number, one in enumerate(self.sim.processes) if one is self)]

    @property
    def limits(self) -> Rlimits:
        """Its resource limits and capabilities."""
        return self.task.limits

    # -- descriptors

    async def open(self, path: str, flags: int = O_RDWR) -> File:
        """open(2) of a device node.

        Raises:
            OSError: ENOENT, then the driver's (EBUSY).
        """
        call = await hosts.wait(self.sim.kernel, lambda: self._open(path, flags))
        return self._opened(call, flags)

    def open_nowait(self, path: str, flags: int = O_RDWR) -> File:
        """As :meth:`open`, without waiting."""
        return self._opened(hosts.call_nowait(self.sim.kernel, lambda: self._open(path, flags)), flags)

    def _open(self, path: str, flags: int) -> Call:
        kernel = self.sim.kernel
        return kernel.submit(self.task, NodeOpen(kernel, self.sim.nodes, path), "open", (flags,))

    def _opened(self, call: Call, flags: int) -> File:
        if call.ret < 0:
            raise call_error(call)
        return self.installed(call, flags)

    @journaled
    def installed(self, call: Call, flags: int) -> File:
        """The descriptor of what an open() made."""
        return File(self, self.task.files.install(call.out, cloexec=bool(flags & O_CLOEXEC)))

    @journaled
    def install(self, path: str, ops: FileOperations, flags: int = O_RDWR) -> File:
        """Give the process a descriptor of a file made outside (an eventfd, a memfd, a socket)."""
        opened = OpenFile(self.sim.kernel, path, flags, ops)
        return File(self, self.task.files.install(opened, cloexec=bool(flags & O_CLOEXEC)))

    @journaled
    def eventfd(self, init: int = 0, flags: int = O_NONBLOCK) -> File:
        """eventfd(2)."""
        name = self.sim.kernel.name("eventfd")
        return self.install(name, EventFdFile(EventFdCtx(init, name=name)), O_RDWR | flags)

    @journaled
    def memfd(self, name: str, length: int, *, hugetlb: bool = False, folio_pages: int = 0) -> File:
        """memfd_create(2) and ftruncate(2): shared memory with a name.

        ``folio_pages`` says how many neighbouring pages are physically adjacent (a power of two; 512 with ``hugetlb``);
        by default none are.
        """
        pages = folio_pages or (HUGE_PAGES if hugetlb else 1)
        memory = Memory(self.sim.pages.unique(f"{self.name}/{name}"), length, self.sim.pages, folio_pages=pages)
        return self.install("memfd:" + name, MemfdFile(memory))

    @journaled
    def socket(self, kind: str, ifname: str = "") -> File:
        """A file as vhost-net's SET_BACKEND looks at it; see :class:`vdpasim.core.net.tun.SocketFile`."""
        return self.install(f"{kind}:{ifname}", SocketFile(kind, ifname, peer=self.sim.taps.get(ifname)))

    @journaled
    def tap(self, ifname: str, *, vnet_hdr: bool = True) -> File:
        """/dev/net/tun attached to an interface."""
        tap = SocketFile("tap", ifname, vnet_hdr)
        self.sim.taps[ifname] = tap
        return self.install(f"tap:{ifname}", tap)

    def file(self, fd: int) -> File:
        """The File of a descriptor number."""
        return File(self, fd)

    def dup(self, file: File, *, at: int | None = None) -> File:
        """dup(2): another number for the same open file."""
        return self.receive(file, at=at)

    @journaled
    def receive(self, file: File, *, at: int | None = None) -> File:
        """Get a file from another process, as SCM_RIGHTS does: the same open file under a number of ours."""
        opened = file.open_file
        if at is not None and at in self.task.files.slots:
            self.file(at).close_nowait()  # dup2(2) closes what was there
        opened.get()
        return File(self, self.task.files.install(opened, at=at))

    @journaled
    def set_cloexec(self, fd: int, cloexec: bool) -> None:
        """fcntl(F_SETFD)."""
        slot = self.task.files.slots.get(fd)
        if slot is None:
            raise os_error(E.EBADF, "vfs.closed")
        slot.cloexec = cloexec

    # -- memory

    @journaled
    def mmap(
        self,
        length: int,
        source: File | Memory | None = None,
        *,
        addr: int | None = None,
        prot: int = PROT_RW,
        shared: bool | None = None,
        offset: int = 0,
    ) -> Region:
        """mmap(2): of a memfd or memory (shared unless told otherwise), or anonymous (private unless told otherwise).

        ``addr`` is taken as MAP_FIXED. Devices are mapped by :meth:`File.mmap`.

        Raises:
            OSError: EBADF, ENODEV a file without memory, then as mmap(2).
        """
        memory = source.memory if isinstance(source, File) else source
        if memory is None and source is not None:
            raise os_error(E.ENODEV, "vfs.no-mmap")
        with os_errors():
            at = self.mm.mmap(
                addr,
                length,
                prot,
                shared=memory is not None if shared is None else shared,
                obj=memory,
                offset=offset,
                fixed=addr is not None,
                file_writable=not isinstance(source, File) or source.open_file.flags & O_ACCMODE != O_RDONLY,
            )
        return Region(self, at, length)

    @journaled
    def munmap(self, addr: int, length: int) -> None:
        """munmap(2)."""
        with os_errors():
            self.mm.munmap(addr, length)

    @journaled
    def mprotect(self, addr: int, length: int, prot: int) -> None:
        """mprotect(2)."""
        with os_errors():
            self.mm.mprotect(addr, length, prot)

    @journaled
    def mremap(self, addr: int, length: int, new_length: int, to: int | None = None) -> int:
        """mremap(2), with ``to`` as MREMAP_FIXED; the new address."""
        with os_errors():
            return self.mm.mremap(addr, length, new_length, to)

    def read(self, addr: int, length: int) -> bytes:
        """Load from the process's memory.

        Raises:
            OSError: EFAULT where the process itself would get SIGSEGV or SIGBUS.
        """
        data = self.mm.read(addr, length)
        if len(data) < length:
            raise os_error(E.EFAULT, "uaccess.from-user")
        return data

    @journaled
    def write(self, addr: int, data: bytes) -> None:
        """Store to the process's memory; as :meth:`read`."""
        if self.mm.write(addr, data) < len(data):
            raise os_error(E.EFAULT, "uaccess.to-user")

    # -- life

    @journaled
    def fork(self, name: str) -> Process:
        """fork(2): a child with a copy of the memory and the same open files."""
        return self.sim.adopt(core.fork(self.sim.kernel, self.task, name, self.sim.next_tid()))

    @journaled
    def clone_vm(self, name: str) -> Process:
        """clone(CLONE_VM) without files: somebody who keeps this address space alive."""
        self.mm.get_user()
        files = core.FileTable()
        task = core.Task(name, self.sim.next_tid(), self.mm, files, self.limits.copy())
        return self.sim.adopt(task)

    async def exec(self) -> None:
        """execve(2): a new address space; descriptors stay, but those marked close-on-exec."""
        await hosts.wait(self.sim.kernel, self._exec)

    def exec_nowait(self) -> None:
        """As :meth:`exec`, without waiting."""
        hosts.call_nowait(self.sim.kernel, self._exec)

    def _exec(self) -> Call:
        mm = self.sim.new_mm(self.name)
        return self.sim.kernel.submit(self.task, self.task, "exec", (mm,))

    async def exit(self) -> None:
        """exit(2): the address space goes, then every descriptor."""
        await hosts.wait(self.sim.kernel, self._exit)

    def exit_nowait(self) -> None:
        """As :meth:`exit`, without waiting."""
        hosts.call_nowait(self.sim.kernel, self._exit)

    def _exit(self) -> Call:
        return self.sim.kernel.submit(self.task, self.task, "exit", ())
