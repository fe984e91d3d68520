"""What is real, as seen by the kernel: memory, physical pages, eventfds, limits and taps.

Theory. The core decides *what* a driver does; everything it does it *to* comes in through one of these protocols.
``core/mm`` and ``core/fs`` hold the simulated implementations; an attached VMM brings live ones (``/proc/PID/mem``,
real eventfds). Code in ``core/vhost`` and ``core/vdpa`` names only the protocols, so the same driver runs over both.

A device reaches memory in one of three ways, and each ends in one of two address spaces:

=============  =====================================  =====================
target kind    where the address comes from           space
=============  =====================================  =====================
VA             a map entry that holds a user address  the bound :class:`Mm`
PA             a map entry over pinned pages          :class:`Pages`
passthrough    the I/O address itself                 either of the two
=============  =====================================  =====================

Two protocols are about nothing real: :class:`FaultPort`, which says what goes wrong and when, and
:class:`JournalPort`, which is told what comes in.

Ranges are inclusive ``[start, last]``. Addresses are plain integers in 0 .. 2^64-1, sizes and lengths are bytes,
except that ``pin`` counts pages because the kernel does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.core.fs.file import OpenFile
    from vdpasim.core.kernel import Call, Unit

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = ~(PAGE_SIZE - 1)
U64_MAX = (1 << 64) - 1


class Extent(NamedTuple):
    """A run of bytes of one memory object: what an address range really is."""

    object: str
    """Name of the memory object, stable for one run (``qemu/ram``)."""
    offset: int
    """Offset in bytes inside the object."""
    length: int
    """Length in bytes, at least 1."""


class VmaView(NamedTuple):
    """One VMA as the drivers look at it (``struct vm_area_struct``)."""

    start: int
    last: int
    shared: bool
    """VM_SHARED: a MAP_SHARED mapping whose file was open for writing."""
    file: MemoryObject | None
    """The object behind the mapping; None for private anonymous memory."""
    offset: int
    """Offset of ``start`` inside the file, in bytes."""
    special: bool = False
    """VM_IO or VM_PFNMAP: not ordinary pages."""


class Run(NamedTuple):
    """A physically contiguous run of pinned pages."""

    paddr: int
    """Physical address of its first byte, page aligned."""
    npages: int


class Fault(Exception):
    """A user access that touched memory which is not there, or not that way (the kernel's EFAULT of a copy)."""


@runtime_checkable
class MemoryObject(Protocol):
    """Memory with an identity that outlives its mappings: a memfd, shared anonymous memory, a file."""

    name: str

    def get(self) -> None:
        """Take a reference (``get_file``)."""

    def put(self) -> None:
        """Drop a reference (``fput``)."""

    def read(self, offset: int, length: int) -> bytes:
        """What a mapping of it shows: up to ``length`` bytes, fewer behind its last page."""

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        """A store through a mapping of it: the number of bytes stored before the end of its last page."""

    def frame(self, offset: int, *, write: bool) -> tuple[bytearray, int] | None:
        """As :meth:`View.frame`, by offset."""


class Storage(Protocol):
    """What is behind a simulated disk: a memory object or a file."""

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes; fewer at the end, behind which is zero."""

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes; what is behind the end grows."""


class View(Protocol):
    """Memory by address. Reads and writes come up short at the first fault, never raise."""

    @property
    def ident(self) -> str:
        """Stable printable identity, for traces."""

    def read(self, addr: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``addr``; fewer if a page on the way is absent or unreadable."""

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> int:
        """Store ``data`` at ``addr``; the number of bytes stored before the first absent or unwritable page."""

    def frame(self, addr: int, *, write: bool) -> tuple[bytearray, int] | None:
        """The bytes of the frame behind an address and the offset of the address in them, good while the version of
        :class:`Pages` stays; None where only :meth:`read` and :meth:`write` lead.
        """

    def extents(self, addr: int, length: int) -> list[Extent]:
        """Which objects lie under the range, in order; stops early at unmapped memory."""


class Mm(View, Protocol):
    """One address space (``struct mm_struct``)."""

    @property
    def alive(self) -> bool:
        """False once the last user (task or CLONE_VM holder) has gone: ``mmget_not_zero`` would fail."""

    def get_user(self) -> bool:
        """One more user (``mmget_not_zero``); False, and none, once the last has gone."""

    def put_user(self) -> None:
        """One user less (``mmput``)."""

    @property
    def seq(self) -> int:
        """Changes with every change of the map; caches of translations are valid for one value."""

    @property
    def task_size(self) -> int:
        """First address that is not a user address."""

    pinned_vm: int
    """Pages accounted as pinned (``mm->pinned_vm``), moved by the drivers."""

    def vmas(self, addr: int) -> Iterator[VmaView]:
        """The VMAs in address order, beginning with the first whose last byte is at or above ``addr``
        (``find_vma``).
        """

    def pin(self, addr: int, npages: int, *, write: bool) -> list[Run]:
        """Pin pages long-term (``pin_user_pages``), faulting them in; contiguous neighbours share a :class:`Run`.

        Returns fewer than ``npages`` pages when a later page cannot be had.

        Raises:
            Fault: the first page cannot be pinned (unmapped, PROT_NONE, or read-only with ``write``).
        """


class Pages(Protocol):
    """Physical memory: what PA-mode devices and passthrough without an owner address."""

    @property
    def version(self) -> int:
        """Changes whenever an address of any kind may have come to mean another frame, or none."""

    def frame(self, paddr: int, *, write: bool) -> tuple[bytearray, int] | None:
        """The bytes of the frame at an address and the offset of the address in them; None where only :meth:`read` and
        :meth:`write` lead.
        """

    def read(self, paddr: int, length: int) -> bytes:
        """As :meth:`View.read`; short where no memory is."""

    def write(self, paddr: int, data: bytes | bytearray | memoryview) -> int:
        """As :meth:`View.write`; short where no memory is."""

    def extents(self, paddr: int, length: int) -> list[Extent]:
        """As :meth:`View.extents`, by the object that owned the frame when it was allocated."""

    def unpin(self, run: Run, *, dirty: bool) -> None:
        """Release a run got from :meth:`Mm.pin`; a frame whose object has let it go is freed with its last pin."""


class EventFd(Protocol):
    """An eventfd context as drivers hold it."""

    @property
    def count(self) -> int:
        """The counter, never reset by the kernel side."""

    @property
    def freed(self) -> bool:
        """Nobody has a reference any more: the real kernel would touch freed memory."""

    def signal(self) -> None:
        """Add one (``eventfd_signal``); stops at 2^64-1."""

    def get(self) -> None:
        """Take a reference."""

    def put(self) -> None:
        """Drop a reference."""

    def watch(self, callback: Watcher) -> None:
        """Call ``callback`` on every write, also of 0, until :meth:`unwatch`."""

    def unwatch(self, callback: Watcher) -> None:
        """Stop calling ``callback``."""


class Watcher(Protocol):
    """What an eventfd calls on every write."""

    def __call__(self) -> None:
        """Only queue work: the kernel may be in the middle of a step."""


class Files(Protocol):
    """A descriptor table, as drivers look numbers up in it (``fget``)."""

    def eventfd(self, fd: int) -> EventFd:
        """The eventfd behind a number, with a reference taken (``eventfd_ctx_fdget``).

        Raises:
            KernelError: EBADF not open, EINVAL not an eventfd.
        """

    def get(self, fd: int) -> object | None:
        """The open file behind a number, None if there is none."""

    def set_cloexec_of(self, file: OpenFile, cloexec: bool) -> None:
        """FIOCLEX and FIONCLEX: mark every number of the file."""


class Limits(Protocol):
    """Resource limits and capabilities of one task (``rlimit``, ``capable``)."""

    @property
    def memlock(self) -> int:
        """RLIMIT_MEMLOCK soft limit in bytes."""

    def capable(self, cap: int) -> bool:
        """Whether the task has the capability (14 is CAP_IPC_LOCK)."""


class Caller(Protocol):
    """Who makes a system call (``current``): a task of the simulation, or one of a real process."""

    @property
    def name(self) -> str:
        """Its name, as traces print it."""

    @property
    def mm(self) -> Mm:
        """Its address space at this moment."""

    @property
    def files(self) -> Files:
        """Its descriptor table."""

    @property
    def limits(self) -> Limits:
        """Its limits and capabilities."""


class Strike(NamedTuple):
    """What befalls one occurrence of an operation."""

    errno: int = 0
    """It fails with this; 0: it does not fail."""
    delay_ns: int = 0
    """It happens that much later."""
    drop: bool = False
    """It does not happen, and nobody is told."""


class FaultPort(Protocol):
    """Decides what goes wrong; ``core/faults.py`` asks it and carries out what it says."""

    def strike(self, op: str, device: str) -> Strike | None:
        """Called once for each occurrence of an operation; None: it goes its way.

        ``op`` is a request's name, a message type, ``open``, ``set_map``, ``dma_map``, ``dma_unmap``, ``kick``,
        ``call``, ``config``, ``dma.read`` or ``dma.write``; ``device`` is the name events give the device.
        """


class JournalPort(Protocol):
    """Is told of what goes into a kernel, before it has an effect; ``sim/journal.py`` writes it down."""

    def submitted(self, call: Call) -> None:
        """A system call is queued."""

    def stepped(self, index: int) -> None:
        """The index-th ready unit runs next."""

    def advanced(self, time: int) -> None:
        """Virtual time is this now."""

    def interrupted(self, unit: Unit) -> None:
        """A signal for the task of a call."""

    def opened(self, file: OpenFile) -> None:
        """There is a new open file."""


class Tap(Protocol):
    """The far end of a tap device: frames out of and into the simulated host."""

    def transmit(self, frame: bytes) -> None:
        """A frame the kernel side sends out."""
