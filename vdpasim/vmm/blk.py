"""A small VMM with one block queue: enough of a driver to set a device up, do I/O and be handed over.

Theory. :class:`BlkVmm` owns one shared memory object (the guest's RAM), maps it into its process, gives it to the
device at ``IOVA`` and keeps the ring, request headers and data inside it. ``boot`` does what a VMM does at start;
``request`` posts one chain, kicks, waits for the call eventfd and returns status and data. Steps that a story wants to
do itself, or leave out, are methods of their own.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Self

import attrs

from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.vhost_types import (
    VHOST_BACKEND_F_IOTLB_BATCH,
    VHOST_BACKEND_F_IOTLB_MSG_V2,
    VHOST_BACKEND_F_IOTLB_REMAP,
    VHOST_BACKEND_F_NEW_OWNER,
    VHOST_BACKEND_F_RESUME,
    VHOST_BACKEND_F_SUSPEND,
)
from vdpasim.uapi.virtio_config import (
    VIRTIO_CONFIG_S_ACKNOWLEDGE,
    VIRTIO_CONFIG_S_DRIVER,
    VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FEATURES_OK,
    VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_F_VERSION_1,
)
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.handles import VhostVdpa

if TYPE_CHECKING:
    from vdpasim.sim import File, Process, Region

RAM = 1 << 20
IOVA = 0x10_0000
"""Where the guest sees its RAM."""
QUEUE_NUM = 16
HEADER_AT, DATA_AT, STATUS_AT = 0x8000, 0x9000, 0xF000
"""Offsets in RAM of the one request that is under way."""
HEADER = Struct("<IIQ")
KICK = (1).to_bytes(8, "little")
FEATURES = 1 << VIRTIO_F_ACCESS_PLATFORM | 1 << VIRTIO_F_VERSION_1
SECTOR = 512
KNOWN = sum(
    1 << bit
    for bit in (
        VHOST_BACKEND_F_IOTLB_MSG_V2,
        VHOST_BACKEND_F_IOTLB_BATCH,
        VHOST_BACKEND_F_SUSPEND,
        VHOST_BACKEND_F_RESUME,
        VHOST_BACKEND_F_NEW_OWNER,
        VHOST_BACKEND_F_IOTLB_REMAP,
    )
)
"""Backend features it knows how to use."""


@attrs.define
class BlkVmm:
    """A VMM process with a vDPA block device."""

    process: Process
    file: File
    device: VhostVdpa
    memfd: File
    ram: Region
    vq: Virtqueue
    kick: File
    call: File

    @classmethod
    async def create(cls, process: Process, path: str, *, shared: bool = True) -> Self:
        """Open the device, as a program of the kernel's own ABI, and map guest memory; nothing is said to it yet."""
        memfd = process.memfd("ram", RAM)
        ram = process.mmap(RAM, memfd, shared=shared)
        file = await process.open(path)
        kick, call = process.eventfd(), process.eventfd(flags=0)
        device = VhostVdpa(file, abi=process.sim.kernel.abi)
        return cls(process, file, device, memfd, ram, Virtqueue(ram, IOVA, QUEUE_NUM), kick, call)

    @classmethod
    async def boot(cls, process: Process, path: str, *, backend_features: int | None = None) -> Self:
        """Create, become the owner, negotiate, map guest memory and start the queue.

        Without ``backend_features`` it acks what it knows how to use, as far as the device offers it.
        """
        vmm = await cls.create(process, path)
        await vmm.device.set_owner()
        await vmm.ack(backend_features)
        await vmm.negotiate()
        await vmm.map_ram()
        await vmm.start()
        return vmm

    async def ack(self, backend_features: int | None = None) -> None:
        """SET_BACKEND_FEATURES: these, or what it knows how to use of those that are offered."""
        if backend_features is None:
            backend_features = await self.device.get_backend_features() & KNOWN
        await self.device.set_backend_features(backend_features)

    async def negotiate(self, features: int = FEATURES) -> None:
        """Status and features up to FEATURES_OK."""
        await self.device.set_status(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
        await self.device.set_features(features)
        status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK
        await self.device.set_status(status)

    async def map_ram(self) -> None:
        """One UPDATE for all of guest memory."""
        await self.device.iotlb_update(IOVA, RAM, self.ram.addr)

    async def set_up_ring(self, base: int = 0) -> None:
        """Size, addresses, base, eventfds."""
        device = self.device
        await device.set_vring_num(0, QUEUE_NUM)
        await device.set_vring_addr(0, *self.vq.addresses())
        await device.set_vring_base(0, base)
        await device.set_vring_call(0, self.call.fd)
        await device.set_vring_kick(0, self.kick.fd)

    async def start(self) -> None:
        """Set the ring up, enable it, DRIVER_OK."""
        await self.set_up_ring()
        await self.device.set_vring_enable(0)
        await self.device.set_status(await self.device.get_status() | VIRTIO_CONFIG_S_DRIVER_OK)

    # -- I/O

    def post(self, kind: int, sector: int, data: bytes | int) -> int:
        """Put one request into the ring without a kick; bytes are written to the disk, a length is read."""
        self.ram.write(HEADER_AT, HEADER.pack(kind, 0, sector))
        self.ram.write(STATUS_AT, b"\xff")
        chain = [Buffer(self.vq.iova(HEADER_AT), HEADER.size)]
        if isinstance(data, bytes):
            self.ram.write(DATA_AT, data)
            chain.append(Buffer(self.vq.iova(DATA_AT), len(data)))
        else:
            chain.append(Buffer(self.vq.iova(DATA_AT), data, writable=True))
        return self.vq.add(*chain, Buffer(self.vq.iova(STATUS_AT), 1, writable=True))

    async def kick_device(self) -> None:
        """Write the kick eventfd."""
        await self.kick.write(KICK)

    async def wait(self) -> int:
        """Wait for the call eventfd; the status byte of the request."""
        await self.call.read(8)
        self.vq.used()
        return self.ram.read(STATUS_AT, 1)[0]

    async def request(self, kind: int, sector: int, data: bytes | int) -> tuple[int, bytes]:
        """One request from post to completion: (status, data read)."""
        self.post(kind, sector, data)
        await self.kick_device()
        status = await self.wait()
        return status, self.ram.read(DATA_AT, data) if isinstance(data, int) else b""

    async def write_sector(self, sector: int, data: bytes) -> None:
        """Write whole sectors.

        Raises:
            AssertionError: the device answered anything but OK.
        """
        status, _ = await self.request(blk.VIRTIO_BLK_T_OUT, sector, data)
        assert status == blk.VIRTIO_BLK_S_OK, f"OUT answered {status}"

    async def read_sector(self, sector: int, length: int = SECTOR) -> bytes:
        """Read whole sectors; as :meth:`write_sector`."""
        status, data = await self.request(blk.VIRTIO_BLK_T_IN, sector, length)
        assert status == blk.VIRTIO_BLK_S_OK, f"IN answered {status}"
        return data

    # -- handover

    async def exec(self, addr: int) -> None:
        """Become a new image: same descriptors, guest memory at another address."""
        await self.process.exec()
        self.moved(self.process.mmap(RAM, self.memfd, addr=addr))

    def moved(self, ram: Region) -> None:
        """Use guest memory through another mapping."""
        self.ram = ram
        self.vq.region = ram
