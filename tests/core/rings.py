"""Machines whose device has running queues, for tests of what a simulated device does to its rings."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.core.support import ACCESS_PLATFORM, KICK, VERSION_1, Machine
from vdpasim.core import rules
from vdpasim.core.vdpa.vdpa_sim import VdpaSim
from vdpasim.uapi import vhost
from vdpasim.vmm.guest import Buffer, Used, Virtqueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.devices.profile import DeviceProfile

IOVA, RAM = 0x100000, 1 << 20
BUFFERS = 0x10000
"""Offset in RAM behind all rings."""
UNMAPPED = 0xDEAD0000
NEXT, WRITE, INDIRECT = 1, 2, 4
RUNNING = 0xF


@contextmanager
def rules_hit() -> Iterator[set[str]]:
    """The rules that the body exercises."""
    seen: set[str] = set()
    stop = rules.observe(seen.add)
    try:
        yield seen
    finally:
        stop()


def inside(machine: Machine) -> VdpaSim:
    """The device itself."""
    device = machine.device.device
    assert isinstance(device, VdpaSim)
    return device


class Queue:
    """One queue as its driver sees it."""

    def __init__(self, board: Board, index: int, num: int) -> None:
        self.board = board
        self.index = index
        self.ring = Virtqueue(board.ram, board.base, num, offset=0x4000 * index)
        self.kick_fd, self.call_fd = board.process.eventfd(), board.process.eventfd()

    def set_up(self, *, base: int = 0, num: int | None = None) -> None:
        desc, avail, used = self.ring.addresses()
        call, index = self.board.call, self.index
        if num != 0:
            call(vhost.VHOST_SET_VRING_NUM, index, num or self.ring.num)
        call(vhost.VHOST_SET_VRING_ADDR, index, 0, desc, used, avail, 0, code="IIQQQQ")
        call(vhost.VHOST_SET_VRING_BASE, index, base)
        call(vhost.VHOST_SET_VRING_KICK, index, self.kick_fd.fd)
        call(vhost.VHOST_SET_VRING_CALL, index, self.call_fd.fd)

    def enable(self, on: int = 1) -> None:
        self.board.call(vhost.VHOST_VDPA_SET_VRING_ENABLE, self.index, on)

    def post(self, *buffers: Buffer) -> int:
        return self.ring.add(*buffers)

    def kick(self) -> None:
        self.kick_fd.write_nowait(KICK)

    def descriptor(self, slot: int, *fields: int) -> None:
        """Write (address, length, flags, next) into the table."""
        self.board.ram.write(self.ring.desc_at + 16 * slot, struct.pack("<QIHH", *fields))

    def offer(self, head: int) -> None:
        """Put a head into the avail ring, whatever it leads to."""
        idx = self.avail_idx
        self.board.ram.write(self.ring.avail_at + 4 + 2 * (idx % self.ring.num), head.to_bytes(2, "little"))
        self.avail_idx = idx + 1

    @property
    def avail_idx(self) -> int:
        return self._u16(self.ring.avail_at + 2)

    @avail_idx.setter
    def avail_idx(self, value: int) -> None:
        self.board.ram.write(self.ring.avail_at + 2, (value & 0xFFFF).to_bytes(2, "little"))

    @property
    def used_idx(self) -> int:
        return self._u16(self.ring.used_at + 2)

    def _u16(self, offset: int) -> int:
        return int.from_bytes(self.board.ram.read(offset, 2), "little")

    def no_interrupts(self) -> None:
        self.board.ram.write(self.ring.avail_at, b"\1\0")

    def used(self) -> list[Used]:
        """What came back since the last look."""
        return self.ring.used()

    def interrupts(self) -> int:
        """Interrupts since the last look."""
        try:
            return int.from_bytes(self.call_fd.read_nowait(8), "little")
        except BlockingIOError:
            return 0

    @property
    def base(self) -> int:
        """What GET_VRING_BASE tells."""
        return int.from_bytes(self.board.call(vhost.VHOST_GET_VRING_BASE, self.index, 0)[4:], "little")


class Board(Machine):
    """A machine whose process has 1 MiB of memory at IOVA, and driven queues.

    Not ``mapped``, the device was told nothing, and rings and buffers are given by their user addresses.
    """

    def __init__(
        self,
        kind: str | DeviceProfile,
        kernel: str = "6.12",
        *,
        queues: int = 1,
        num: int = 16,
        negotiated: int = ACCESS_PLATFORM | VERSION_1,
        mapped: bool = True,
        start: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(kind, kernel, **options)
        self.ram = self.memory(RAM)
        self.features(negotiated)
        self.base = IOVA if mapped else self.ram.addr
        if mapped:
            self.update(IOVA, RAM, self.ram.addr)
        self.queues = [Queue(self, index, num) for index in range(queues)]
        if start:
            self.start()

    def start(self) -> None:
        for queue in self.queues:
            queue.set_up()
            queue.enable()
        self.status(RUNNING)

    def readable(self, offset: int, data: bytes) -> Buffer:
        """Bytes in RAM as a buffer for the device to read."""
        self.ram.write(BUFFERS + offset, data)
        return Buffer(self.base + BUFFERS + offset, len(data))

    def writable(self, offset: int, length: int) -> Buffer:
        """Bytes of RAM, all 0xEE until the device writes them."""
        self.ram.write(BUFFERS + offset, b"\xee" * length)
        return Buffer(self.base + BUFFERS + offset, length, writable=True)

    def content(self, buffer: Buffer) -> bytes:
        return self.ram.read(buffer.iova - self.base, buffer.length)
