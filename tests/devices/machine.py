"""A machine with one device of any kind whose queues have been set up, for tests of device models and profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vdpasim.sim import Simulator
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK
from vdpasim.vmm.guest import Virtqueue
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.transport import NowaitTransport, run_sync

if TYPE_CHECKING:
    from vdpasim.core.events import Event

PAGE = 4096
IOVA = 0x10_0000
NUM = 16
RING = 8 * PAGE
"""Bytes of memory for each queue: its ring, then room for buffers from ``DATA`` on."""
DATA = 2 * PAGE
KICK = (1).to_bytes(8, "little")


class Machine:
    """One process that drives some queues of a device; every queue's memory follows the one before it."""

    def __init__(self, kernel: str = "tip", *, queues: int = 1, map_memory: bool = True, **what: Any) -> None:
        self.sim = Simulator(kernel)
        self.events: list[Event] = []
        self.added = self.sim.vdpa.dev_add("dev", **what)
        self.device: Any = self.added.device
        self.process = self.sim.process("vmm")
        self.ram = self.process.mmap(queues * RING, self.process.memfd("ram", queues * RING))
        self.file = self.process.open_nowait(self.added.path)
        self.vdpa = VhostVdpa(NowaitTransport(self.file))
        self.vqs = [Virtqueue(self.ram, IOVA, NUM, offset=index * RING) for index in range(queues)]
        self.kicks = [self.process.eventfd() for _ in self.vqs]
        self.calls = [self.process.eventfd() for _ in self.vqs]
        run_sync(self._own(map_memory))

    async def _own(self, map_memory: bool) -> None:
        await self.vdpa.set_owner()
        if map_memory:
            await self.vdpa.iotlb_update(IOVA, self.ram.size, self.ram.addr)

    def start(self, features: int | None = None, *, base: int | None = None) -> None:
        """Negotiate, set the rings up, DRIVER_OK; ``base`` is where the device finds memory, IOVA by default."""
        run_sync(self._start(features, IOVA if base is None else base))

    async def _start(self, features: int | None, base: int) -> None:
        vdpa = self.vdpa
        await vdpa.set_features(await vdpa.get_features() if features is None else features)
        for index, vq in enumerate(self.vqs):
            vq.base = base
            await vdpa.set_vring_num(index, NUM)
            await vdpa.set_vring_addr(index, *vq.addresses())
            await vdpa.set_vring_kick(index, self.kicks[index].fd)
            await vdpa.set_vring_call(index, self.calls[index].fd)
            await vdpa.set_vring_enable(index)
        await vdpa.set_status(0xB | VIRTIO_CONFIG_S_DRIVER_OK)

    def kick(self, index: int = 0) -> None:
        self.kicks[index].write_nowait(KICK)

    def data(self, index: int = 0, slot: int = 0) -> int:
        """The offset in memory of a buffer of a queue."""
        return index * RING + DATA + slot * PAGE

    def at(self, index: int = 0, slot: int = 0) -> int:
        """Its I/O address."""
        return self.vqs[index].iova(self.data(index, slot))
