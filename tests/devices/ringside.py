"""A driver's ring and a device's ring over the same memory, with nothing between them, for tests of both."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vdpasim.core.vhost.iotlb import Iotlb
from vdpasim.core.vhost.vringh import DeviceMap
from vdpasim.devices.packed import PackedRing
from vdpasim.devices.split_event import SplitRing
from vdpasim.sim import Simulator
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.packed import PackedVirtqueue

if TYPE_CHECKING:
    from vdpasim.core.vhost.vringh import Iov

IOVA, SIZE = 0x100000, 0x40000
BUFFERS = 0x20000
"""Offset behind the ring and its tables."""
READ, WRITE, RW = 1, 2, 3


class Ringside:
    """One queue from both sides; ``packed`` says which kind."""

    def __init__(
        self, packed: bool, num: int = 8, *, event_idx: bool = False, indirect: bool = False, kernel: str = "tip"
    ) -> None:
        self.sim = Simulator(kernel)
        self.ram = self.sim.process("guest").mmap(SIZE)
        make = PackedVirtqueue if packed else Virtqueue
        self.driver = make(self.ram, IOVA, num, event_idx=event_idx, indirect=indirect)
        self.table = Iotlb(64)
        self.map = DeviceMap(self.table)
        self.grant(IOVA, SIZE)
        self.accesses: list[tuple[int, int, int]] = []
        self.device: PackedRing | SplitRing
        if packed:
            self.device = PackedRing(self.sim.kernel, self.map, self.sim.pages, on_dma=self._dma)
            self.device.indirect = indirect
        else:
            self.device = SplitRing(self.sim.kernel, self.map, self.sim.pages, on_dma=self._dma)
        self.device.event_idx = event_idx
        assert self.device.init(num, *self.driver.addresses(), self.ram.process.mm)

    def _dma(self, iova: int, length: int, access: int, entry: object, place: object) -> None:
        self.accesses.append((iova, length, access))

    def watch(self) -> None:
        """Report every access from now on."""
        self.sim.listen(lambda event: None)

    def grant(self, iova: int, size: int, perm: int = RW) -> None:
        self.table.add_range(iova, iova + size - 1, self.ram.addr + iova - IOVA, perm, 1)
        self.map.version += 1

    def revoke(self) -> None:
        self.table.reset()
        self.map.version += 1

    def slot(self, index: int) -> tuple[int, int, int, int]:
        """A descriptor as it lies in memory."""
        address, length, third, fourth = struct.unpack("<QIHH", self.ram.read(16 * index, 16))
        return address, length, third, fourth

    def put_slot(self, index: int, *fields: int) -> None:
        self.ram.write(16 * index, struct.pack("<QIHH", *fields))

    def u16(self, offset: int) -> int:
        return int.from_bytes(self.ram.read(offset, 2), "little")

    def put_u16(self, offset: int, value: int) -> None:
        self.ram.write(offset, value.to_bytes(2, "little"))

    def take(self, *, readable: bool = True, writable: bool = True) -> tuple[int, Iov, Iov]:
        """A chain that must be there."""
        chain = self.device.getdesc(readable=readable, writable=writable)
        assert chain is not None
        return chain

    def read(self, iov: Iov) -> bytes:
        return self.device.pull(iov, 1 << 16)


def readable(offset: int, length: int) -> Buffer:
    return Buffer(IOVA + BUFFERS + offset, length)


def writable(offset: int, length: int) -> Buffer:
    return Buffer(IOVA + BUFFERS + offset, length, writable=True)
