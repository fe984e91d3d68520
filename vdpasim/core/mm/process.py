"""Tasks and descriptor tables: fork, exec, exit (mirrors kernel/fork.c, fs/exec.c, kernel/exit.c, fs/file.c).

Theory. A :class:`Task` is what calls the kernel: a name, a number, an address space, a descriptor table and limits.
Threads are tasks that share the first two objects. A driver knows its owner by the *address space*, so exec (new
address space, same descriptors but those marked close-on-exec) and fork (copy of both) change who is the owner without
any call to the driver. At exec and exit the address space goes first and the descriptors after it, as in the kernel: a
release that runs then finds its owner's memory gone.

Not modelled: signals other than an interrupted wait, process groups, credentials beyond capabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.core.events import Kind
from vdpasim.core.fs.eventfd_file import EventFdFile
from vdpasim.core.rules import fail

if TYPE_CHECKING:
    from vdpasim.core.fs.eventfd import EventFdCtx
    from vdpasim.core.fs.file import OpenFile
    from vdpasim.core.kernel import Call, Kernel, Steps
    from vdpasim.core.mm.mm import AddressSpace
    from vdpasim.core.mm.rlimit import Rlimits


@attrs.define(eq=False)
class Descriptor:
    """One slot of a descriptor table."""

    file: OpenFile
    cloexec: bool = False


@attrs.define(eq=False)
class FileTable:
    """Descriptor numbers of one process (``struct files_struct``), the simulated :class:`~vdpasim.core.ports.Files`."""

    slots: dict[int, Descriptor] = attrs.Factory(dict["int", "Descriptor"])

    def install(self, file: OpenFile, *, cloexec: bool = False, at: int | None = None) -> int:
        """Put a file (whose reference is handed over) at the lowest free number, or at ``at``."""
        fd = at if at is not None else next(n for n in range(3, len(self.slots) + 4) if n not in self.slots)
        self.slots[fd] = Descriptor(file, cloexec)
        return fd

    def get(self, fd: int) -> OpenFile | None:
        slot = self.slots.get(fd)
        return slot.file if slot else None

    def remove(self, fd: int) -> OpenFile | None:
        """Take the number out; its reference goes to the caller."""
        slot = self.slots.pop(fd, None)
        return slot.file if slot else None

    def eventfd(self, fd: int) -> EventFdCtx:
        file = self.get(fd)
        if file is None:
            raise fail("eventfd.bad-fd")
        if not isinstance(file.ops, EventFdFile):
            raise fail("eventfd.not-eventfd")
        file.ops.ctx.get()
        return file.ops.ctx

    def set_cloexec_of(self, file: OpenFile, cloexec: bool) -> None:
        """FIOCLEX and FIONCLEX: mark every number of the file."""
        for slot in self.slots.values():
            if slot.file is file:
                slot.cloexec = cloexec

    def copy(self) -> FileTable:
        """A table with the same files, each with one more reference (``dup_fd``)."""
        for slot in self.slots.values():
            slot.file.get()
        return FileTable({fd: Descriptor(slot.file, slot.cloexec) for fd, slot in self.slots.items()})


@attrs.define(eq=False)
class Task:
    """A task of the simulated machine (``struct task_struct``)."""

    name: str
    tid: int
    mm: AddressSpace
    files: FileTable
    limits: Rlimits
    alive: bool = True

    def __str__(self) -> str:
        return self.name

    def get(self) -> None:
        """Nothing to count: a task calls on itself."""

    def put(self, call: Call) -> Steps | None:
        """Nothing to release."""
        return None

    def syscall(self, call: Call) -> Steps:
        """exec() and exit(), which are calls on the task itself."""
        return begin_new_exec(self, call, *call.args) if call.op == "exec" else do_exit(self, call)


def fork(kernel: Kernel, parent: Task, name: str, tid: int) -> Task:
    """A child with a copy of the address space and of the descriptor table; limits are inherited."""
    mm = parent.mm.fork(name)
    return Task(name, tid, mm, parent.files.copy(), parent.limits.copy())


def begin_new_exec(task: Task, call: Call, mm: AddressSpace) -> Steps:
    """Replace the address space, then close what is marked close-on-exec."""
    old, task.mm = task.mm, mm
    _leave(call, old)
    for fd in [fd for fd, slot in task.files.slots.items() if slot.cloexec]:
        yield from _close(task, call, fd)
    return 0


def do_exit(task: Task, call: Call) -> Steps:
    """Give up the address space, then every descriptor."""
    task.alive = False
    _leave(call, task.mm)
    for fd in list(task.files.slots):
        yield from _close(task, call, fd)
    return 0


def _leave(call: Call, mm: AddressSpace) -> None:
    # exec_mmap() and exit_mm(): one user less
    mm.put_user()
    if not mm.alive and call.kernel.sink:
        call.kernel.emit(Kind.GONE, "mm", mm.ident)


def _close(task: Task, call: Call, fd: int) -> Steps:
    file = task.files.remove(fd)
    release = file.put(call) if file else None
    if release is not None:
        yield from release
