"""The floor of the simulator: golden cases on simulated kernels, devices and processes.

Theory. Each case gets a simulator of its own with the recorder's three vDPA devices and one process. What the
recorder's program had in its address space besides the buffers, and where, is visible in VA mode, so it is here as
well: a private anonymous mapping, a shared anonymous one, and the stack, in this order, above every buffer. The ioctl
argument buffer lies in the first. Waits are virtual: the devices run to completion, then time is advanced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from vdpasim.conform.floor import ARGUMENT_FILL, ARGUMENT_SIZE, BLOCKED_MS, Answer, Interrupted, Unsupported
from vdpasim.core.fs.file import DriverFile
from vdpasim.core.mm.memory import Memory
from vdpasim.core.ports import PAGE_SIZE
from vdpasim.sim import Simulator, WouldBlock
from vdpasim.sim.errors import os_error, os_errors
from vdpasim.sim.file import MemfdFile
from vdpasim.uapi import errno
from vdpasim.uapi.fcntl import O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, POLLIN
from vdpasim.uapi.mman import PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vdpasim.conform.cases import Case, Setting, Symbols
    from vdpasim.sim import File, Process

T = TypeVar("T")

NS_PER_MS = 1_000_000

DATA_AT = 0x7F00_0000_0000
SHARED_AT = 0x7F80_0000_0000

REGULAR_FILE = "/init"
"""The one regular file of the recording machine, and its size here."""

REGULAR_SIZE = 1 << 16

OTHER_FILE = "/dev/null"
"""A file that is neither eventfd nor socket."""

DEVICES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vhost-vdpa-net": ("vdpa0", "vdpasim_net", {}),
    "vhost-vdpa-blk": ("vdpa1", "vdpasim_blk", {}),
    "vhost-vdpa-net-mac": ("vdpa2", "vdpasim_net", {"mac": "52:54:00:12:34:56", "mtu": 9000}),
}
"""Device kind -> name, management device and parameters, in the order the recorder added them."""

IFF_VNET_HDR = 0x4000

_ACCESS = {"ro": O_RDONLY, "wo": O_WRONLY, "rw": O_RDWR, "rwn": O_RDWR | O_NONBLOCK}
_RW = PROT_READ | PROT_WRITE


class SimulatedFloor:
    """One process on one simulated kernel."""

    def __init__(self, case: Case, setting: Setting) -> None:
        self.sim = Simulator(kernel=setting.profile, abi="x86_64", seed=0)
        # a woken kernel thread takes longer than the next store of the program that woke it
        self.sim.kernel.lazy_workers = True
        self.proc: Process = self.sim.process("case")
        self._dev = case.dev
        self._setting = setting
        self._nodes = {"vhost-net": "/dev/vhost-net"}
        for kind in DEVICES:
            self._add(kind)
        self._files: dict[str, File] = {}
        self._numbers: dict[str, int] = {}
        self._stays: list[Process] = []
        self._holders: list[Process] = []
        self._furnish()

    def _add(self, kind: str) -> None:
        name, mgmtdev, config = DEVICES[kind]
        options: dict[str, Any] = {"use_va": self._setting.use_va, "batch_mapping": self._setting.batch_mapping}
        self._nodes[kind] = self.sim.vdpa.dev_add(name, mgmtdev=mgmtdev, **config, **options).path

    def _furnish(self) -> None:
        # What the recorder's program has mapped besides buffers; every process of the simulator has a stack.
        self.proc.mmap(ARGUMENT_SIZE, addr=DATA_AT)
        self.proc.mmap(PAGE_SIZE, addr=SHARED_AT, shared=True)

    def _memory(self, length: int, **how: Any) -> Memory:
        return Memory(self.sim.pages.unique("buffer"), length, self.sim.pages, **how)

    def _file(self, fd: str) -> File:
        if fd not in self._files:
            raise os_error(errno.EBADF, "vfs.closed")
        return self._files[fd]

    def _keep(self, fd: str, file: File) -> None:
        self._files[fd] = file
        self._numbers[fd] = file.fd

    def _object(self, fd: str) -> Memory:
        memory = self._file(fd).memory
        if memory is None:
            raise os_error(errno.EINVAL)
        return memory

    # -- descriptors --------------------------------------------------------------------------------------------------

    def number(self, fd: str) -> int:
        return self._numbers[fd]

    def open(self, fd: str, dev: str, path: str, flags: str) -> None:
        if path == REGULAR_FILE:
            self._keep(fd, self.proc.install(path, MemfdFile(self._memory(REGULAR_SIZE)), _ACCESS[flags]))
        elif path == OTHER_FILE:
            self._keep(fd, self.proc.install(path, DriverFile(), _ACCESS[flags]))
        else:
            self._keep(fd, self.proc.open_nowait(path or self._nodes[dev], _ACCESS[flags]))

    def close(self, fd: str) -> None:
        self._file(fd).close_nowait()
        del self._files[fd]

    def dup(self, fd: str, old: str) -> None:
        self._keep(fd, self.proc.dup(self._file(old)))

    def argument(self, data: bytes) -> int:
        self.poke(DATA_AT, data.ljust(ARGUMENT_SIZE, bytes([ARGUMENT_FILL])))
        return DATA_AT

    def ioctl(self, fd: str, request: int, arg: int) -> int:
        return int(_call(lambda: self._file(fd).ioctl_nowait(request, arg)))

    def write(self, fd: str, data: bytes) -> int:
        return _call(lambda: self._file(fd).write_nowait(data))

    def write_from(self, fd: str, addr: int, length: int) -> int:
        return _call(lambda: self._file(fd).write_nowait((addr, length)))

    def writev(self, fd: str, parts: Sequence[bytes]) -> int:
        return _call(lambda: self._file(fd).writev_nowait(list(parts)))

    def read(self, fd: str, size: int) -> bytes:
        return self._reading(lambda: bytes(self._file(fd).read_nowait(size)))

    def read_into(self, fd: str, addr: int, size: int) -> int:
        return self._reading(lambda: int(self._file(fd).read_nowait((addr, size))))

    def _reading(self, call: Callable[[], T]) -> T:
        try:
            return _call(call)
        except Interrupted:
            self.sim.advance(BLOCKED_MS * NS_PER_MS)
            raise

    def poll(self, fd: str, events: int, timeout_ms: int) -> int:
        revents = self._file(fd).poll_nowait(events)
        if not revents and timeout_ms:
            self.sleep(timeout_ms)
            revents = self._file(fd).poll_nowait(events)
        return revents

    def eventfd(self, fd: str, init: int) -> None:
        self._keep(fd, self.proc.eventfd(init))

    def eventfd_write(self, fd: str, value: int) -> int:
        return self._file(fd).write_nowait(value.to_bytes(8, "little"))

    def eventfd_read(self, fd: str, timeout_ms: int) -> int:
        self.poll(fd, POLLIN, timeout_ms)
        return int.from_bytes(self._file(fd).read_nowait(8), "little")

    # -- memory -------------------------------------------------------------------------------------------------------

    def buf(self, kind: str, length: int, addr: int) -> None:
        match kind:
            case "anon" | "ro" | "none":
                self.proc.mmap(length, addr=addr, prot={"anon": _RW, "ro": PROT_READ, "none": 0}[kind])
            case "shm" | "roshm":
                self.proc.mmap(length, addr=addr, prot=_RW if kind == "shm" else PROT_READ, shared=True)
            case "huge":
                # Private hugetlb memory is populated at once; the frames are the process's own either way. PA mode asks
                # for frames only, VA mode for VM_SHARED only.
                memory = self._memory(length, folio_pages=512)
                self.proc.mmap(length, memory, addr=addr, shared=not self._setting.use_va)
            case "frag":
                # One mapping a page, as the recorder made them: in VA mode each is an entry of its own
                page = self._memory(PAGE_SIZE)
                for at in range(addr, addr + length, PAGE_SIZE):
                    self.proc.mmap(PAGE_SIZE, page, addr=at)
            case "edge":
                self.proc.mmap(length // 2, addr=addr)
            case "hole":
                pass
            case _:
                raise Unsupported(f"no buffer of kind {kind!r}")

    def poke(self, addr: int, data: bytes) -> None:
        self.proc.write(addr, data)

    def peek(self, addr: int, length: int) -> bytes:
        return self.proc.read(addr, length)

    def wait_u16(self, addr: int, value: int, timeout_ms: int) -> int:
        self.sim.run_idle()
        seen = int.from_bytes(self.peek(addr, 2), "little")
        if seen != value:
            self.sleep(timeout_ms)
            seen = int.from_bytes(self.peek(addr, 2), "little")
        return seen

    def mmap(self, fd: str, length: int, prot: int, flags: int, off: int) -> None:
        self._file(fd).mmap_nowait(length, prot, flags, off)

    def map(self, addr: int, length: int, prot: int, kind: str, fd: str, off: int) -> None:
        anonymous = kind in ("anon", "shanon")
        source = None if anonymous else self._file(fd)
        self.proc.mmap(length, source, addr=addr, prot=prot, shared=kind in ("shanon", "shared"), offset=off)

    def munmap(self, addr: int, length: int) -> None:
        self.proc.munmap(addr, length)

    def mprotect(self, addr: int, length: int, prot: int) -> None:
        self.proc.mprotect(addr, length, prot)

    def mremap(self, addr: int, length: int, new_length: int, to: int) -> None:
        self.proc.mremap(addr, length, new_length, to)

    def memfd(self, fd: str, length: int, *, hugetlb: bool) -> None:
        self._keep(fd, self.proc.memfd(fd, length, hugetlb=hugetlb))

    def ftruncate(self, fd: str, length: int) -> None:
        with os_errors():
            self._object(fd).truncate(length)

    def punch_hole(self, fd: str, off: int, length: int) -> None:
        with os_errors():
            self._object(fd).punch_hole(off, length)

    def pread(self, fd: str, off: int, length: int) -> bytes:
        with os_errors():
            return self._object(fd).pread(off, length)

    def pwrite(self, fd: str, off: int, data: bytes) -> int:
        with os_errors():
            return self._object(fd).pwrite(off, data)

    # -- limits, time, network ----------------------------------------------------------------------------------------

    def sleep(self, ms: int) -> None:
        self.sim.run_idle()
        self.sim.advance(ms * NS_PER_MS)

    def rlimit_memlock(self, soft: int, hard: int) -> None:
        with os_errors():
            self.proc.limits.set_memlock(soft, hard)

    def dropcap(self, cap: int) -> None:
        self.proc.limits.drop_cap(cap)

    def vmpin(self) -> int:
        return self.proc.mm.pinned_vm * PAGE_SIZE >> 10

    def tap(self, fd: str, ifname: str, iff_flags: int) -> None:
        self._keep(fd, self.proc.tap(ifname, vnet_hdr=bool(iff_flags & IFF_VNET_HDR)))

    def tun_unattached(self, fd: str) -> None:
        self._keep(fd, self.proc.socket("tun-unattached"))

    def packet_socket(self, fd: str, ifname: str, dgram: int) -> None:
        self._keep(fd, self.proc.socket("packet-dgram" if dgram else "packet-raw", ifname))

    def socket(self, fd: str, domain: int, kind: int) -> None:
        self._keep(fd, self.proc.socket(f"domain-{domain}"))

    # -- processes ----------------------------------------------------------------------------------------------------

    def _become(self, process: Process) -> None:
        # The descriptors keep their numbers in a forked or new image; the handles are of the process.
        self.proc = process
        self._files = {name: process.file(file.fd) for name, file in self._files.items()}

    def child(self, act: Callable[[], Answer], *, stay: bool) -> Answer:
        parent, files, numbers = self.proc, self._files, dict(self._numbers)
        self._become(parent.fork("child"))
        try:
            return act()
        finally:
            if stay:
                self._stays.append(self.proc)
            else:
                self.proc.exit_nowait()
            self.proc, self._files, self._numbers = parent, files, numbers

    def stay_kill(self) -> None:
        self._stays.pop().exit_nowait()

    def exec(self, cloexec: Sequence[str], symbols: Symbols, following: int) -> None:
        for name, file in self._files.items():
            self.proc.set_cloexec(file.fd, name in cloexec)
        self._files = {name: file for name, file in self._files.items() if name not in cloexec}
        self.proc.exec_nowait()
        self._become(self.proc)
        self._furnish()

    def handover(self, parent: str, parent_closes: Sequence[str]) -> None:
        old, files = self.proc, self._files
        self._become(old.fork("heir"))
        if parent == "exit":
            old.exit_nowait()
            while self._holders:  # the recorder's holder dies with the process that made it
                self.mm_holder_kill()
        for name in parent_closes:
            files[name].close_nowait()

    def mm_holder(self) -> None:
        self._holders.append(self.proc.clone_vm("holder"))

    def mm_holder_kill(self) -> None:
        self._holders.pop().exit_nowait()

    def recreate_device(self) -> None:
        if self._dev in DEVICES:
            self.sim.vdpa.dev_del(DEVICES[self._dev][0])
            self._add(self._dev)


def _call(call: Callable[[], T]) -> T:
    # A call that would block for ever is one that the signal interrupts.
    try:
        return call()
    except WouldBlock:
        raise Interrupted from None
