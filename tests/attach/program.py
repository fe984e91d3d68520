"""A small VMM as a process of its own: RAM in a memfd, two eventfds, a ring it lays out itself.

Started by the tests; obeys one JSON command a line on standard input and answers one line each.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import select
import sys
from typing import Any

from vdpasim.vmm.guest import Buffer, Virtqueue

SIZE = 1 << 16


class Ram:
    """The memory, with the two calls a guest driver wants of a region."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, SIZE)
        self.map = mmap.mmap(self.fd, SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    @property
    def addr(self) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(self.map))

    def read(self, offset: int, length: int) -> bytes:
        return self.map[offset : offset + length]

    def write(self, offset: int, data: bytes) -> None:
        self.map[offset : offset + len(data)] = data


def lay_out(region: Any, iova: int) -> Virtqueue:
    """A ring, and one read of a sector: header, data, status. Both stories use this."""
    vq = Virtqueue(region, iova, 16)
    region.write(0x2000, bytes(16))
    region.write(0x3000, b"\xff" * 0x1001)  # what the device must overwrite
    vq.add(Buffer(vq.iova(0x2000), 16), Buffer(vq.iova(0x3000), 512, True), Buffer(vq.iova(0x4000), 1, True))
    return vq


class Program:
    def __init__(self) -> None:
        self.ram = Ram()
        self.kick_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.call_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.pipe = os.pipe()
        self.private = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.vq: Virtqueue | None = None

    def hello(self) -> dict[str, int]:
        return {
            "addr": self.ram.addr,
            "ram": self.ram.fd,
            "kick": self.kick_fd,
            "call": self.call_fd,
            "pipe": self.pipe[0],
            "private": ctypes.addressof(ctypes.c_char.from_buffer(self.private)),
        }

    def poke(self, offset: int, data: str) -> None:
        self.ram.write(offset, bytes.fromhex(data))

    def peek(self, offset: int, length: int) -> str:
        return self.ram.read(offset, length).hex()

    def lay_out(self, iova: int) -> list[int]:
        self.vq = lay_out(self.ram, iova)
        return list(self.vq.addresses())

    def kick(self) -> None:
        os.eventfd_write(self.kick_fd, 1)

    def wait_call(self) -> int:
        """What the call eventfd holds, 0 if nobody signals it."""
        return os.eventfd_read(self.call_fd) if select.select([self.call_fd], [], [], 10)[0] else 0

    def used(self) -> list[tuple[int, int]]:
        assert self.vq is not None
        return list(self.vq.used())

    def protect(self, offset: int, length: int, prot: int) -> int:
        libc = ctypes.CDLL(None)
        return int(libc.mprotect(ctypes.c_void_p(self.ram.addr + offset), ctypes.c_size_t(length), prot))

    def truncate(self, length: int) -> None:
        os.ftruncate(self.ram.fd, length)

    def unmap(self) -> int:
        libc = ctypes.CDLL(None)
        return int(libc.munmap(ctypes.c_void_p(self.ram.addr), ctypes.c_size_t(SIZE)))

    def exec(self) -> None:
        os.execv(sys.executable, [sys.executable, "-c", "print('0', flush=True); input()"])


def say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    program = Program()
    say(program.hello())
    for line in sys.stdin:
        name, *args = json.loads(line)
        say(getattr(program, name)(*args))
        if name == "unmap":
            sys.stdin.read()
            os._exit(0)  # the interpreter would touch the mapping on its way out


if __name__ == "__main__":
    main()
