"""The floor of real descriptors: golden cases on a real kernel, its devices and this process.

Theory. Every call is the C library's own, by ctypes, for Python's wrappers retry interrupted calls and refuse odd
arguments. Memory is moved by the kernel too: ``peek`` writes from the address into a memfd and reads that, so a bad
address is EFAULT and not the end of the process. A read that blocks is ended by a timer signal. Children are forked
and report by a pipe; ``exec`` executes this interpreter again, with the state of the case in an inherited memfd
(``live_run`` continues there).

Not modelled. ``mm_holder``: a process that shares the address space but not the descriptors cannot be made from Python;
``live_run`` lists such cases as not run.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno as host_errno
import fcntl
import json
import mmap
import os
import resource
import select
import signal
import socket as sockets
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NoReturn, cast

from vdpasim.conform.floor import (
    ARGUMENT_FILL,
    ARGUMENT_SIZE,
    BLOCKED_MS,
    Answer,
    Interrupted,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from vdpasim.conform.cases import Symbols

OWN_FDS = 500
"""Descriptors of our own have this number or a higher one."""

PAGE = 4096
MAP_FIXED = 0x10
MAP_HUGETLB = 0x40000
MAP_FIXED_NOREPLACE = 0x100000
MREMAP_MAYMOVE_FIXED = 3
FALLOC_KEEP_PUNCH = 3
TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x1002
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
CAPABILITY_VERSION_3 = 0x20080522

_FLAGS = {"ro": os.O_RDONLY, "wo": os.O_WRONLY, "rw": os.O_RDWR, "rwn": os.O_RDWR | os.O_NONBLOCK}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = _libc.mremap.restype = ctypes.c_void_p
_libc.read.restype = _libc.write.restype = ctypes.c_ssize_t
_FAILED = ctypes.c_void_p(-1).value


def _check(ret: int | None) -> int:
    # The result of a call of the C library, or its errno as OSError. Mappings at 0 come as None.
    if ret in (-1, _FAILED):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return ret or 0


def _mmap(addr: int, length: int, prot: int, flags: int, fd: int = -1, off: int = 0) -> int:
    args = ctypes.c_void_p(addr), ctypes.c_size_t(length), prot, flags, fd, ctypes.c_long(off)
    return _check(cast("int | None", _libc.mmap(*args)))


def high(fd: int) -> int:
    """Move a descriptor of our own out of the way: numbers the case has closed must stay closed."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OWN_FDS)
    os.close(fd)
    return moved


@contextlib.contextmanager
def _alarm() -> Generator[None]:
    # A signal after BLOCKED_MS; the handler does nothing, the call just ends with EINTR.
    previous = signal.signal(signal.SIGALRM, lambda _number, _frame: None)
    signal.setitimer(signal.ITIMER_REAL, BLOCKED_MS / 1000)
    try:
        yield
    except InterruptedError:
        raise Interrupted from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class LiveFloor:
    """This process, on the kernel it runs on."""

    def __init__(self, devices: dict[str, str], recreate: str = "") -> None:
        """``devices``: device kind -> path; ``recreate``: shell command that recreates the device under test."""
        self.devices = devices
        self.recreate = recreate
        self.numbers: dict[str, int] = {}
        self.resume: Callable[[Symbols, int], int] | None = None
        """Gives a descriptor with the state of the case, for the next image."""
        self._stays: list[int] = []
        self._scratch = high(os.memfd_create("vdpasim-scratch"))
        prot, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._argument = _mmap(0, ARGUMENT_SIZE, prot, flags)

    # -- descriptors --------------------------------------------------------------------------------------------------

    def number(self, fd: str) -> int:
        return self.numbers[fd]

    def open(self, fd: str, dev: str, path: str, flags: str) -> None:
        self.numbers[fd] = os.open(path or self.devices[dev], _FLAGS[flags] | os.O_CLOEXEC)

    def close(self, fd: str) -> None:
        os.close(self.numbers[fd])

    def dup(self, fd: str, old: str) -> None:
        self.numbers[fd] = os.dup(self.numbers[old])

    def argument(self, data: bytes) -> int:
        self.poke(self._argument, data.ljust(ARGUMENT_SIZE, bytes([ARGUMENT_FILL])))
        return self._argument

    def ioctl(self, fd: str, request: int, arg: int) -> int:
        return _check(_libc.ioctl(self.numbers[fd], ctypes.c_ulong(request), ctypes.c_void_p(arg)))

    def write(self, fd: str, data: bytes) -> int:
        with _alarm():
            return _check(_libc.write(self.numbers[fd], data, ctypes.c_size_t(len(data))))

    def write_from(self, fd: str, addr: int, length: int) -> int:
        with _alarm():
            return _check(_libc.write(self.numbers[fd], ctypes.c_void_p(addr), ctypes.c_size_t(length)))

    def writev(self, fd: str, parts: Sequence[bytes]) -> int:
        return os.writev(self.numbers[fd], parts)

    def read(self, fd: str, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(max(size, 1))
        with _alarm():
            got = _check(_libc.read(self.numbers[fd], buffer, ctypes.c_size_t(size)))
        return buffer.raw[:got]

    def read_into(self, fd: str, addr: int, size: int) -> int:
        with _alarm():
            return _check(_libc.read(self.numbers[fd], ctypes.c_void_p(addr), ctypes.c_size_t(size)))

    def poll(self, fd: str, events: int, timeout_ms: int) -> int:
        poller = select.poll()
        poller.register(self.numbers[fd], events)
        return next((revents for _fd, revents in poller.poll(timeout_ms)), 0)

    def eventfd(self, fd: str, init: int) -> None:
        self.numbers[fd] = os.eventfd(init, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def eventfd_write(self, fd: str, value: int) -> int:
        return os.write(self.numbers[fd], value.to_bytes(8, sys.byteorder))

    def eventfd_read(self, fd: str, timeout_ms: int) -> int:
        self.poll(fd, select.POLLIN, timeout_ms)
        return os.eventfd_read(self.numbers[fd])

    # -- memory -------------------------------------------------------------------------------------------------------

    def buf(self, kind: str, length: int, addr: int) -> None:
        make = _KINDS.get(kind)
        if make is None:
            raise Unsupported(f"no buffer of kind {kind!r}")
        make(addr, length)

    def poke(self, addr: int, data: bytes) -> None:
        os.ftruncate(self._scratch, 0)
        os.pwrite(self._scratch, data, 0)
        os.lseek(self._scratch, 0, os.SEEK_SET)
        got = _check(_libc.read(self._scratch, ctypes.c_void_p(addr), ctypes.c_size_t(len(data))))
        if got < len(data):
            raise OSError(host_errno.EFAULT, os.strerror(host_errno.EFAULT))

    def peek(self, addr: int, length: int) -> bytes:
        os.ftruncate(self._scratch, 0)
        os.lseek(self._scratch, 0, os.SEEK_SET)
        got = _check(_libc.write(self._scratch, ctypes.c_void_p(addr), ctypes.c_size_t(length)))
        if got < length:
            raise OSError(host_errno.EFAULT, os.strerror(host_errno.EFAULT))
        return os.pread(self._scratch, length, 0)

    def wait_u16(self, addr: int, value: int, timeout_ms: int) -> int:
        deadline = time.monotonic() + timeout_ms / 1000
        while (seen := int.from_bytes(self.peek(addr, 2), "little")) != value and time.monotonic() < deadline:
            time.sleep(0.001)
        return seen

    def map(self, addr: int, length: int, prot: int, kind: str, fd: str, off: int) -> None:
        sharing = mmap.MAP_SHARED if kind in ("shared", "shanon") else mmap.MAP_PRIVATE
        anonymous = 0 if kind in ("shared", "private") else mmap.MAP_ANONYMOUS
        _mmap(addr, length, prot, sharing | anonymous | MAP_FIXED, self.numbers[fd] if fd else -1, off)

    def munmap(self, addr: int, length: int) -> None:
        _check(_libc.munmap(ctypes.c_void_p(addr), ctypes.c_size_t(length)))

    def mprotect(self, addr: int, length: int, prot: int) -> None:
        _check(_libc.mprotect(ctypes.c_void_p(addr), ctypes.c_size_t(length), prot))

    def mremap(self, addr: int, length: int, new_length: int, to: int) -> None:
        sizes = ctypes.c_size_t(length), ctypes.c_size_t(new_length)
        _check(cast("int", _libc.mremap(ctypes.c_void_p(addr), *sizes, MREMAP_MAYMOVE_FIXED, ctypes.c_void_p(to))))

    def mmap(self, fd: str, length: int, prot: int, flags: int, off: int) -> None:
        _mmap(0, length, prot, flags, self.numbers[fd], off)

    def memfd(self, fd: str, length: int, *, hugetlb: bool) -> None:
        flags = os.MFD_CLOEXEC | (os.MFD_HUGETLB if hugetlb else 0)
        self.numbers[fd] = os.memfd_create(fd, flags)
        os.ftruncate(self.numbers[fd], length)

    def ftruncate(self, fd: str, length: int) -> None:
        os.ftruncate(self.numbers[fd], length)

    def punch_hole(self, fd: str, off: int, length: int) -> None:
        _check(_libc.fallocate(self.numbers[fd], FALLOC_KEEP_PUNCH, ctypes.c_long(off), ctypes.c_long(length)))

    def pread(self, fd: str, off: int, length: int) -> bytes:
        return os.pread(self.numbers[fd], length, off)

    def pwrite(self, fd: str, off: int, data: bytes) -> int:
        return os.pwrite(self.numbers[fd], data, off)

    # -- limits, time, network ----------------------------------------------------------------------------------------

    def sleep(self, ms: int) -> None:
        time.sleep(ms / 1000)

    def rlimit_memlock(self, soft: int, hard: int) -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))

    def dropcap(self, cap: int) -> None:
        header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
        sets = ctypes.create_string_buffer(24)
        _check(_libc.capget(header, sets))
        words = list(struct.unpack("=6I", sets.raw))
        half = 3 * (cap // 32)
        for index in range(half, half + 3):  # effective, permitted, inheritable
            words[index] &= ~(1 << cap % 32)
        _check(_libc.capset(header, struct.pack("=6I", *words)))

    def vmpin(self) -> int:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - no Path in a forked child
            return next((int(line.split()[1]) for line in status if line.startswith("VmPin:")), 0)

    def tap(self, fd: str, ifname: str, iff_flags: int) -> None:
        self.tun_unattached(fd)
        fcntl.ioctl(self.numbers[fd], TUNSETIFF, struct.pack("=16sH22x", ifname.encode(), IFF_TAP_NO_PI | iff_flags))
        with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as control:
            reply = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("=16s24x", ifname.encode()))
            flags = struct.unpack_from("=H", reply, 16)[0] | IFF_UP
            fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("=16sH22x", ifname.encode(), flags))

    def tun_unattached(self, fd: str) -> None:
        self.numbers[fd] = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)

    def packet_socket(self, fd: str, ifname: str, dgram: int) -> None:
        kind = sockets.SOCK_DGRAM if dgram else sockets.SOCK_RAW
        with sockets.socket(sockets.AF_PACKET, kind | sockets.SOCK_NONBLOCK, sockets.htons(3)) as packet:
            packet.bind((ifname, 0))
            self.numbers[fd] = packet.detach()

    def socket(self, fd: str, domain: int, kind: int) -> None:
        with sockets.socket(domain, kind) as made:
            self.numbers[fd] = made.detach()

    # -- processes ----------------------------------------------------------------------------------------------------

    def child(self, act: Callable[[], Answer], *, stay: bool) -> Answer:
        source, sink = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(act, sink, stay=stay)
        os.close(sink)
        with os.fdopen(source, "rb") as report:
            line = report.readline()
        if stay:
            self._stays.append(pid)
        else:
            os.waitpid(pid, 0)
        if not line:
            return Answer({"errno": "the child died before it answered"})
        data = json.loads(line)
        return Answer(data["outputs"])

    def stay_kill(self) -> None:
        pid = self._stays.pop()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def exec(self, cloexec: Sequence[str], symbols: Symbols, following: int) -> None:
        if self.resume is None:
            raise Unsupported("nothing here can continue the case in a new image")
        state = self.resume(symbols, following)
        for name, number in self.numbers.items():
            with contextlib.suppress(OSError):  # closed ones
                os.set_inheritable(number, name not in cloexec)
        os.execv(sys.executable, [sys.executable, "-m", "vdpasim.conform.live_run", str(state)])

    def handover(self, parent: str, parent_closes: Sequence[str]) -> None:
        old = os.getpid()
        if os.fork() == 0:
            while parent == "exit" and os.getppid() == old:
                time.sleep(0.001)
            return
        if parent == "exit":
            os._exit(0)
        for name in parent_closes:
            os.close(self.numbers[name])
        _idle()

    def mm_holder(self) -> None:
        raise Unsupported("a process that shares the address space without files cannot be made from Python")

    def mm_holder_kill(self) -> None:
        raise Unsupported("there is no mm_holder")

    def recreate_device(self) -> None:
        if not self.recreate:
            raise Unsupported("no command to recreate the device was given")
        subprocess.run(self.recreate, shell=True, check=True, stdout=subprocess.DEVNULL)


def _child(act: Callable[[], Answer], sink: int, *, stay: bool) -> NoReturn:
    # The forked child: answer, then leave or stay. It never returns into the caller's frames.
    try:
        os.write(sink, json.dumps({"outputs": act().outputs}).encode() + b"\n")
        os.close(sink)
        if stay:
            _idle()
    finally:
        os._exit(0)


def _idle() -> NoReturn:
    # Alive with its address space and descriptors until the group is killed at the end of the case. Standard output and
    # error are let go: a reader of theirs must not wait for this process.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    while True:
        signal.pause()


def _anonymous(addr: int, length: int, prot: int, extra: int = 0) -> None:
    _mmap(addr, length, prot, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | extra)


def _shared(addr: int, length: int, prot: int, pages: int = 1) -> None:
    # A memfd mapped `pages` times in a row, each time all of it.
    backing = os.memfd_create("vdpasim-buffer")
    try:
        os.ftruncate(backing, length // pages)
        for index in range(pages):
            where = addr + index * (length // pages)
            _mmap(where, length // pages, prot, mmap.MAP_SHARED | MAP_FIXED_NOREPLACE, backing)
    finally:
        os.close(backing)


_RW = mmap.PROT_READ | mmap.PROT_WRITE

_KINDS: dict[str, Callable[[int, int], None]] = {
    "huge": lambda addr, length: _anonymous(addr, length, _RW, MAP_HUGETLB | mmap.MAP_POPULATE),
    "anon": lambda addr, length: _anonymous(addr, length, _RW),
    "ro": lambda addr, length: _anonymous(addr, length, mmap.PROT_READ),
    "none": lambda addr, length: _anonymous(addr, length, 0),
    "hole": lambda addr, length: None,
    "edge": lambda addr, length: _anonymous(addr, length // 2, _RW),
    "shm": lambda addr, length: _shared(addr, length, _RW),
    "roshm": lambda addr, length: _shared(addr, length, mmap.PROT_READ),
    "frag": lambda addr, length: _shared(addr, length, _RW, length // PAGE),
}
