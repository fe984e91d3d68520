"""The one interface below the interpreter of golden cases: a process that makes system calls.

Theory. The interpreter turns a step into one call of this protocol and the result back into the step's outputs. A floor
keeps the descriptors under the names the case gives them, the buffers at the addresses the interpreter chooses, and the
processes. There are two: the simulator (``simulated``) and real descriptors (``live``).

A call that fails raises ``OSError`` with the kernel's errno; a floor that knows why adds ``rule`` and ``handler_errno``
attributes. A call that blocked until a signal came raises :class:`Interrupted`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vdpasim.conform.cases import Symbols, Value

BLOCKED_MS = 400
"""How long the recorder let a call block before it sent the signal."""

ARGUMENT_SIZE = 1 << 16
"""Size of the buffer that ioctl arguments are passed in."""

ARGUMENT_FILL = 0xAA
"""What the rest of that buffer is filled with."""

PROT_LETTERS = {"r": 1, "w": 2, "x": 4, "-": 0}


class Interrupted(Exception):
    """The call blocked for :data:`BLOCKED_MS` and a signal ended it."""


class Unsupported(Exception):
    """The floor cannot do this step at all; the message says what is missing."""


@attrs.define
class Answer:
    """What a step gave."""

    outputs: dict[str, Value]
    """``ret``, ``errno`` and the outputs of the operation."""
    rule: str = ""
    """Id of the kernel rule that refused the call, where the floor knows it."""
    handler_errno: int = 0
    """The errno inside the kernel, where it differs from the visible one."""


class Floor(Protocol):
    """A process under test. ``fd`` arguments are the case's names of descriptors; lengths are bytes."""

    def number(self, fd: str) -> int:
        """The number of a descriptor."""

    def open(self, fd: str, dev: str, path: str, flags: str) -> None:
        """Open a device by kind, or a path; flags are ro, rw, wo, with n for O_NONBLOCK."""

    def close(self, fd: str) -> None:
        """close(2)."""

    def dup(self, fd: str, old: str) -> None:
        """dup(2) of ``old`` as ``fd``."""

    def argument(self, data: bytes) -> int:
        """Put ``data`` into the argument buffer, the rest filled with 0xaa; its address."""

    def ioctl(self, fd: str, request: int, arg: int) -> int:
        """ioctl(2) with an address or 0."""

    def write(self, fd: str, data: bytes) -> int:
        """write(2)."""

    def write_from(self, fd: str, addr: int, length: int) -> int:
        """write(2) from an address of the process."""

    def writev(self, fd: str, parts: Sequence[bytes]) -> int:
        """writev(2)."""

    def read(self, fd: str, size: int) -> bytes:
        """read(2)."""

    def read_into(self, fd: str, addr: int, size: int) -> int:
        """read(2) to an address of the process."""

    def poll(self, fd: str, events: int, timeout_ms: int) -> int:
        """poll(2) of one descriptor; its revents."""

    def eventfd(self, fd: str, init: int) -> None:
        """A non-blocking eventfd."""

    def eventfd_write(self, fd: str, value: int) -> int:
        """Add to the counter; 8."""

    def eventfd_read(self, fd: str, timeout_ms: int) -> int:
        """Wait for readability, then take the counter."""

    def buf(self, kind: str, length: int, addr: int) -> None:
        """A buffer of a kind of FORMAT at a fixed address."""

    def poke(self, addr: int, data: bytes) -> None:
        """Store bytes in the process's memory."""

    def peek(self, addr: int, length: int) -> bytes:
        """Load bytes of the process's memory."""

    def wait_u16(self, addr: int, value: int, timeout_ms: int) -> int:
        """Wait until the little-endian u16 is ``value``; what it was last."""

    def sleep(self, ms: int) -> None:
        """Let time pass and the devices work."""

    def rlimit_memlock(self, soft: int, hard: int) -> None:
        """setrlimit(2) of RLIMIT_MEMLOCK."""

    def dropcap(self, cap: int) -> None:
        """Give up a capability."""

    def vmpin(self) -> int:
        """VmPin of the process, in KiB."""

    def tap(self, fd: str, ifname: str, iff_flags: int) -> None:
        """An attached tap whose interface is up."""

    def tun_unattached(self, fd: str) -> None:
        """/dev/net/tun without an interface."""

    def packet_socket(self, fd: str, ifname: str, dgram: int) -> None:
        """A packet socket bound to an interface."""

    def socket(self, fd: str, domain: int, kind: int) -> None:
        """socket(2)."""

    def mmap(self, fd: str, length: int, prot: int, flags: int, off: int) -> None:
        """mmap(2) of a device, anywhere."""

    def map(self, addr: int, length: int, prot: int, kind: str, fd: str, off: int) -> None:
        """mmap(2) with MAP_FIXED; kind is shared, private, anon or shanon, ``fd`` may be empty."""

    def munmap(self, addr: int, length: int) -> None:
        """munmap(2)."""

    def mprotect(self, addr: int, length: int, prot: int) -> None:
        """mprotect(2)."""

    def mremap(self, addr: int, length: int, new_length: int, to: int) -> None:
        """mremap(2) with MREMAP_MAYMOVE and MREMAP_FIXED."""

    def memfd(self, fd: str, length: int, *, hugetlb: bool) -> None:
        """memfd_create(2) and ftruncate(2)."""

    def ftruncate(self, fd: str, length: int) -> None:
        """ftruncate(2)."""

    def punch_hole(self, fd: str, off: int, length: int) -> None:
        """fallocate(2) with PUNCH_HOLE and KEEP_SIZE."""

    def pread(self, fd: str, off: int, length: int) -> bytes:
        """pread(2)."""

    def pwrite(self, fd: str, off: int, data: bytes) -> int:
        """pwrite(2)."""

    def child(self, act: Callable[[], Answer], *, stay: bool) -> Answer:
        """Fork; the child acts, and exits or (``stay``) lives on idle. Nothing it opened is the parent's."""

    def stay_kill(self) -> None:
        """Kill the latest child that stayed."""

    def exec(self, cloexec: Sequence[str], symbols: Symbols, following: int) -> None:
        """A new image: another mm, the descriptors in ``cloexec`` closed.

        A floor whose image really changes resumes the case there at step ``following`` and does not return.
        """

    def handover(self, parent: str, parent_closes: Sequence[str]) -> None:
        """Fork; from here on the child is the process under test, the parent exits or waits."""

    def mm_holder(self) -> None:
        """A process without files that shares the present mm and sleeps."""

    def mm_holder_kill(self) -> None:
        """Kill it."""

    def recreate_device(self) -> None:
        """Delete and add the device under test."""
