"""A small VMM with one vhost-net queue, and the wire behind its tap.

Theory. :class:`VhostNetVmm` owns one shared memory object (the guest's RAM) with a ring in it, a tap as backend, and a
packet socket on the host that is bound to the same interface: what the guest sends is read there, what is written there
the guest receives. ``boot`` does what a VMM behind a virtual IOMMU does at start: ring and frames are I/O addresses. A
story that wants to do a step itself, or leave it out, calls the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.uapi.virtio_config import VIRTIO_F_ACCESS_PLATFORM
from vdpasim.vmm.blk import IOVA, KICK, RAM
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.handles import VhostNet

if TYPE_CHECKING:
    from vdpasim.sim import File, Process, Region, Simulator

RX, TX = 0, 1
ACCESS_PLATFORM = 1 << VIRTIO_F_ACCESS_PLATFORM
HEADER = bytes(10)
"""The virtio-net header of a guest that negotiated nothing."""
FRAME_AT = 0x8000


@attrs.define
class VhostNetVmm:
    """A VMM process with a vhost-net device."""

    process: Process
    file: File
    net: VhostNet
    ram: Region
    ring: Virtqueue
    queue: int
    kick: File
    tap: File
    wire: File
    """The host's end of the interface."""

    @classmethod
    async def create(cls, sim: Simulator, *, queue: int = TX) -> VhostNetVmm:
        """Open the device and map guest memory into the process; nothing is said to the device yet."""
        process = sim.process("vmm")
        ram = process.mmap(RAM, process.memfd("ram", RAM))
        tap, kick = process.tap("tap0"), process.eventfd()
        wire = sim.wire("tap0")
        file = await process.open("/dev/vhost-net")
        device = VhostNet(file, abi=process.sim.kernel.abi)
        return cls(process, file, device, ram, Virtqueue(ram, IOVA), queue, kick, tap, wire)

    @classmethod
    async def boot(cls, sim: Simulator, *, queue: int = TX, features: int = ACCESS_PLATFORM) -> VhostNetVmm:
        """Create, negotiate, map guest memory and start the queue."""
        vmm = await cls.create(sim, queue=queue)
        await vmm.negotiate(features)
        await vmm.map_ram()
        await vmm.set_up_ring()
        await vmm.attach()
        return vmm

    async def negotiate(self, features: int = ACCESS_PLATFORM) -> None:
        """Become the owner, say the features, and give a memory table, which nothing begins without."""
        await self.net.set_owner()
        await self.net.set_features(features)
        await self.net.set_mem_table([])

    async def map_ram(self) -> None:
        """One UPDATE for all of guest memory."""
        await self.net.iotlb_update(IOVA, RAM, self.ram.addr)

    async def set_up_ring(self) -> None:
        """Size, addresses, kick eventfd."""
        await self.net.set_vring_num(self.queue, self.ring.num)
        await self.net.set_vring_addr(self.queue, *self.ring.addresses())
        await self.net.set_vring_kick(self.queue, self.kick.fd)

    async def attach(self) -> None:
        """The tap becomes the backend: the queue is live."""
        await self.net.set_backend(self.queue, self.tap.fd)

    async def detach(self) -> None:
        """The queue has no backend any more."""
        await self.net.set_backend(self.queue, -1)

    async def kick_device(self) -> None:
        """Write the kick eventfd."""
        await self.kick.write(KICK)

    def post(self, frame: bytes) -> None:
        """Put one frame into the ring without a kick."""
        self.ram.write(FRAME_AT, HEADER + frame)
        self.ring.add(Buffer(IOVA + FRAME_AT, len(HEADER) + len(frame)))

    async def send(self, frame: bytes) -> bytes:
        """Send one frame; what came out on the host."""
        self.post(frame)
        await self.kick_device()
        return bytes(await self.wire.read(1 << 16))
