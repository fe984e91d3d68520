"""A small VMM with a network device: queue pairs and a control queue, split or packed, and what a guest does with them.

Theory. :class:`NetVmm` owns one shared memory object (the guest's RAM), gives it to the device at ``IOVA`` and keeps
all rings and buffers inside. ``boot`` does what a VMM and its guest do at start; the guest then sends and receives
whole frames. Every wait is for an eventfd, in virtual time: ``receive`` gives up after ``timeout_ns``, ``command``
waits for its ack, ``config_change`` for the config interrupt. One eventfd serves all RX queues, one the control queue,
one config changes; TX asks for no interrupts, its buffers are looked at when more are needed.

``suspend`` takes the state of every queue, ``resume`` goes on in place, and ``state_in`` hands the state to another
open or another device over the same memory. What the guest has posted stays in the rings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.uapi import virtio_net as net
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.virtio_config import (
    VIRTIO_CONFIG_S_ACKNOWLEDGE,
    VIRTIO_CONFIG_S_DRIVER,
    VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FEATURES_OK,
    VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_VERSION_1,
)
from vdpasim.uapi.virtio_ring import VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC
from vdpasim.vmm.blk import KNOWN
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.packed import PackedVirtqueue

if TYPE_CHECKING:
    from vdpasim.sim import File, Process, Region
    from vdpasim.vmm.guest import Ring

RAM = 4 << 20
IOVA = 0x10_0000
"""Where the guest sees its RAM."""
QUEUE_NUM = 16
RING_SIZE = 0x1000
"""Bytes set aside for a ring with its indirect tables."""
BUFFER_SIZE = 0x800
BUFFERS_AT = 0x4_0000
CTRL_AT = 0x3_F000
HEADER = 12
"""Bytes of virtio_net_hdr_v1; num_buffers are the last two."""
STATUS_AT, MAX_PAIRS_AT = 6, 8
KICK = (1).to_bytes(8, "little")
STATUS = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER

REQUIRED = (VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM)
UNDERSTOOD = (
    *REQUIRED,
    net.VIRTIO_NET_F_MTU,
    net.VIRTIO_NET_F_MAC,
    net.VIRTIO_NET_F_STATUS,
    net.VIRTIO_NET_F_CTRL_VQ,
    net.VIRTIO_NET_F_CTRL_RX,
    net.VIRTIO_NET_F_CTRL_RX_EXTRA,
    net.VIRTIO_NET_F_CTRL_MAC_ADDR,
    net.VIRTIO_NET_F_MQ,
    net.VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_F_RING_PACKED,
)
"""What this guest can do; what it uses is the part of it that the device offers and ``without`` does not name."""


@attrs.define(eq=False)
class GuestQueue:
    """One queue of the guest: its ring, its buffers, and which chain lies in which buffer."""

    index: int
    ring: Ring
    kick: File
    buffers: list[int]
    """Offsets in RAM of buffers that are free."""
    posted: dict[int, int] = attrs.Factory(dict["int", "int"])
    """Head or buffer id -> offset of its buffer."""


@attrs.define(eq=False)
class NetVmm:
    """A VMM process with a vDPA network device, and its guest."""

    process: Process
    file: File
    device: VhostVdpa
    memfd: File
    ram: Region
    rx_call: File
    ctrl_call: File
    config_call: File
    features: int = 0
    pairs: int = 1
    max_pairs: int = 1
    queues: dict[int, GuestQueue] = attrs.Factory(dict["int", "GuestQueue"])
    received: list[bytes] = attrs.Factory(list["bytes"])
    """Frames that came and were not asked for yet."""
    _parts: list[bytes] = attrs.field(init=False, factory=list["bytes"])

    @classmethod
    async def create(cls, process: Process, path: str, memfd: File | None = None) -> NetVmm:
        """Open the device and map guest memory into the process; nothing is said to the device yet."""
        memfd = memfd or process.memfd("ram", RAM)
        ram = process.mmap(RAM, memfd)
        file = await process.open(path)
        rx_call, ctrl_call, config_call = process.eventfd(), process.eventfd(), process.eventfd()
        device = VhostVdpa(file, abi=process.sim.kernel.abi)
        return cls(process, file, device, memfd, ram, rx_call, ctrl_call, config_call)

    @classmethod
    async def boot(
        cls,
        process: Process,
        path: str,
        *,
        pairs: int = 1,
        without: tuple[int, ...] = (),
        backend_features: int | None = None,
    ) -> NetVmm:
        """Create, become the owner, negotiate all but the features ``without``, and start ``pairs`` queue pairs.

        Without ``backend_features`` it acks what it knows how to use, as far as the device offers it.
        """
        vmm = await cls.create(process, path)
        await vmm.device.set_owner()
        if backend_features is None:
            backend_features = await vmm.device.get_backend_features() & KNOWN
        await vmm.device.set_backend_features(backend_features)
        await vmm.negotiate(without)
        await vmm.device.iotlb_update(IOVA, RAM, vmm.ram.addr)
        await vmm.start(pairs)
        return vmm

    def has(self, bit: int) -> bool:
        """Whether a feature was negotiated."""
        return bool(self.features >> bit & 1)

    async def negotiate(self, without: tuple[int, ...] = ()) -> None:
        """Status and features up to FEATURES_OK."""
        await self.device.set_status(STATUS)
        wanted = sum(1 << bit for bit in UNDERSTOOD if bit not in without)
        self.features = wanted & await self.device.get_features()
        if self.has(net.VIRTIO_NET_F_MQ):
            self.max_pairs = int.from_bytes(await self.device.get_config(MAX_PAIRS_AT, 2), "little")
        await self.accept(self.features)

    async def accept(self, features: int) -> None:
        """Store these features, then FEATURES_OK."""
        self.features = features
        await self.device.set_features(features)
        await self.device.set_status(STATUS | VIRTIO_CONFIG_S_FEATURES_OK)

    async def start(self, pairs: int = 1) -> None:
        """Lay the rings out, set them up, post RX buffers, DRIVER_OK; with several pairs, say so."""
        self.pairs = pairs
        for index in self.indices():
            self.queues[index] = self.new_queue(index)
        for pair in range(pairs):
            self.refill(self.queues[2 * pair])
        await self.set_up({index: queue.ring.first_base for index, queue in self.queues.items()})
        await self.set_driver_ok()
        if pairs > 1:
            assert await self.set_pairs(pairs), f"the device refused {pairs} queue pairs"

    def indices(self) -> list[int]:
        """The queues in use: all pairs, then the control queue if there is one."""
        data = list(range(2 * self.pairs))
        return data if self.control is None else [*data, self.control]

    @property
    def control(self) -> int | None:
        """Index of the control queue: with MQ it is the last of all that the device has."""
        if not self.has(net.VIRTIO_NET_F_CTRL_VQ):
            return None
        return 2 * self.max_pairs if self.has(net.VIRTIO_NET_F_MQ) else 2

    def new_queue(self, index: int) -> GuestQueue:
        """A queue of the guest with an empty ring, laid out as was negotiated, and all its buffers free."""
        make = PackedVirtqueue if self.has(VIRTIO_F_RING_PACKED) else Virtqueue
        event_idx, indirect = self.has(VIRTIO_RING_F_EVENT_IDX), self.has(VIRTIO_RING_F_INDIRECT_DESC)
        offset = RING_SIZE * index
        ring = make(self.ram, IOVA, QUEUE_NUM, offset, event_idx=event_idx, indirect=indirect)
        assert ring.last_offset < offset + RING_SIZE
        first = BUFFERS_AT + BUFFER_SIZE * QUEUE_NUM * index
        free = [first + BUFFER_SIZE * i for i in range(QUEUE_NUM)]
        return GuestQueue(index, ring, self.process.eventfd(), [] if index == self.control else free)

    async def set_up(self, bases: dict[int, int]) -> None:
        """Size, addresses, state, eventfds of every queue, and enable it."""
        device = self.device
        for index, queue in self.queues.items():
            await device.set_vring_num(index, QUEUE_NUM)
            await device.set_vring_addr(index, *queue.ring.addresses())
            await device.set_vring_base(index, bases[index])
            if index == self.control:
                await device.set_vring_call(index, self.ctrl_call.fd)
            elif index % 2 == 0:
                await device.set_vring_call(index, self.rx_call.fd)
            else:
                queue.ring.want_interrupt(None)
            await device.set_vring_kick(index, queue.kick.fd)
            await device.set_vring_enable(index)
        await device.set_config_call(self.config_call.fd)

    async def set_driver_ok(self) -> None:
        """DRIVER_OK."""
        await self.device.set_status(await self.device.get_status() | VIRTIO_CONFIG_S_DRIVER_OK)

    # -- frames

    def post(self, frame: bytes, pair: int = 0) -> None:
        """Put one frame into the TX ring without a kick.

        Raises:
            ValueError: no TX buffer is free, or the frame is larger than one.
        """
        queue = self.queues[2 * pair + 1]
        self._take_back(queue)
        if not queue.buffers or len(frame) > BUFFER_SIZE - HEADER:
            raise ValueError(f"no room for a frame of {len(frame)} bytes: {len(queue.buffers)} buffers are free")
        offset = queue.buffers.pop(0)
        self.ram.write(offset, bytes(HEADER) + frame)
        if self.has(VIRTIO_RING_F_INDIRECT_DESC):
            # header and frame apart, as most drivers have them
            chain = [Buffer(IOVA + offset, HEADER), Buffer(IOVA + offset + HEADER, len(frame))]
        else:
            chain = [Buffer(IOVA + offset, HEADER + len(frame))]
        queue.posted[queue.ring.add(*chain)] = offset

    async def kick(self, index: int) -> None:
        """Write a queue's kick eventfd if the device wants to be told."""
        queue = self.queues[index]
        if queue.ring.need_kick():
            await queue.kick.write(KICK)

    async def send(self, frame: bytes, pair: int = 0) -> None:
        """Post one frame and kick; as :meth:`post`."""
        self.post(frame, pair)
        await self.kick(2 * pair + 1)

    async def receive(self, timeout_ns: int = 10**9) -> bytes | None:
        """The next frame, waited for; None after the timeout."""
        kernel = self.process.sim.kernel
        deadline = kernel.now + timeout_ns
        while not self.received:
            await self.collect()
            for pair in range(self.pairs):
                self.queues[2 * pair].ring.want_interrupt()
            await self.collect()  # what came before the interrupt was asked for
            if self.received:
                break
            if not await self.rx_call.poll(POLLIN, max(deadline - kernel.now, 0)):
                return None
            await self.rx_call.read(8)
        return self.received.pop(0)

    async def collect(self) -> None:
        """Take what the RX rings hold and give their buffers back to the device."""
        for pair in range(self.pairs):
            queue = self.queues[2 * pair]
            for offset, length in self._take_back(queue):
                self._assemble(self.ram.read(offset, length))
            self.refill(queue)
            await self.kick(2 * pair)

    def _assemble(self, data: bytes) -> None:
        # with MRG_RXBUF a frame may lie in several buffers
        self._parts.append(data)
        wanted = int.from_bytes(self._parts[0][HEADER - 2 : HEADER], "little")
        assert wanted == 1 or self.has(net.VIRTIO_NET_F_MRG_RXBUF), f"num_buffers is {wanted}"
        if len(self._parts) == wanted:
            self.received.append(b"".join(self._parts)[HEADER:])
            self._parts.clear()

    @staticmethod
    def refill(queue: GuestQueue) -> None:
        """Post every free buffer of an RX queue."""
        while queue.buffers:
            offset = queue.buffers.pop(0)
            queue.posted[queue.ring.add(Buffer(IOVA + offset, BUFFER_SIZE, writable=True))] = offset

    @staticmethod
    def _take_back(queue: GuestQueue) -> list[tuple[int, int]]:
        # (offset, bytes written) of the buffers that came back; they are free again
        back = [(queue.posted.pop(used.head), used.length) for used in queue.ring.used()]
        queue.buffers += [offset for offset, _ in back]
        return back

    # -- control

    async def command(self, kind: int, command: int, payload: bytes) -> bool:
        """One control command, waited for; whether the device acked it.

        Raises:
            ValueError: there is no control queue.
        """
        if self.control is None:
            raise ValueError("the control queue was not negotiated")
        queue = self.queues[self.control]
        data = bytes([kind, command]) + payload
        self.ram.write(CTRL_AT, data + b"\xff")
        ack = CTRL_AT + len(data)
        queue.ring.want_interrupt()
        queue.ring.add(Buffer(IOVA + CTRL_AT, len(data)), Buffer(IOVA + ack, 1, writable=True))
        await self.kick(self.control)
        while not queue.ring.used():
            await self.ctrl_call.poll(POLLIN)
            await self.ctrl_call.read(8)
        return self.ram.read(ack, 1)[0] == net.VIRTIO_NET_OK

    async def set_pairs(self, pairs: int) -> bool:
        """CTRL_MQ: use so many queue pairs."""
        return await self.command(
            net.VIRTIO_NET_CTRL_MQ, net.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, pairs.to_bytes(2, "little")
        )

    async def set_mac(self, mac: bytes) -> bool:
        """CTRL_MAC: the address frames must have to come in."""
        return await self.command(net.VIRTIO_NET_CTRL_MAC, net.VIRTIO_NET_CTRL_MAC_ADDR_SET, mac)

    async def set_mac_tables(self, unicast: list[bytes], multicast: list[bytes]) -> bool:
        """CTRL_MAC: further addresses."""
        tables = [len(table).to_bytes(4, "little") + b"".join(table) for table in (unicast, multicast)]
        return await self.command(net.VIRTIO_NET_CTRL_MAC, net.VIRTIO_NET_CTRL_MAC_TABLE_SET, b"".join(tables))

    async def set_rx_mode(self, mode: int, on: bool = True) -> bool:
        """CTRL_RX: one of the modes ``VIRTIO_NET_CTRL_RX_…``."""
        return await self.command(net.VIRTIO_NET_CTRL_RX, mode, bytes([on]))

    # -- config space

    async def mac(self) -> bytes:
        """The device's address."""
        return await self.device.get_config(0, 6)

    async def link_up(self) -> bool:
        """What the status word says; a device without one has its link up."""
        if not self.has(net.VIRTIO_NET_F_STATUS):
            return True
        status = int.from_bytes(await self.device.get_config(STATUS_AT, 2), "little")
        return bool(status & net.VIRTIO_NET_S_LINK_UP)

    async def config_change(self, timeout_ns: int = 10**9) -> bool:
        """Wait for the config interrupt; False after the timeout."""
        if not await self.config_call.poll(POLLIN, timeout_ns):
            return False
        await self.config_call.read(8)
        return True

    # -- suspend and handover

    async def states(self) -> dict[int, int]:
        """GET_VRING_BASE of every queue, whether the device runs or not."""
        return {index: await self.device.get_vring_base(index) for index in self.queues}

    async def suspend(self) -> dict[int, int]:
        """Stop the device; the state of every queue."""
        await self.device.suspend()
        return await self.states()

    async def resume(self) -> None:
        """Go on in place."""
        await self.device.resume()

    @classmethod
    async def take_over(cls, old: NetVmm, process: Process, path: str, states: dict[int, int]) -> NetVmm:
        """A new VMM over the memory of one that has closed its device: same guest, same rings, these states."""
        vmm = await cls.create(process, path, process.receive(old.memfd))
        vmm.pairs, vmm.max_pairs, vmm.received = old.pairs, old.max_pairs, old.received
        vmm.queues = {index: attrs.evolve(queue, kick=process.eventfd()) for index, queue in old.queues.items()}
        vmm.moved(vmm.ram)
        await vmm.device.set_owner()
        await vmm.device.set_status(STATUS)
        await vmm.accept(old.features)
        await vmm.device.iotlb_update(IOVA, RAM, vmm.ram.addr)
        await vmm.set_up(states)
        await vmm.set_driver_ok()
        if vmm.pairs > 1:
            assert await vmm.set_pairs(vmm.pairs), f"the device refused {vmm.pairs} queue pairs"
        return vmm

    async def exec(self, addr: int) -> None:
        """Become a new image: same descriptors, guest memory at another address."""
        await self.process.exec()
        self.moved(self.process.mmap(RAM, self.memfd, addr=addr))

    def moved(self, ram: Region) -> None:
        """Use guest memory through another mapping."""
        self.ram = ram
        for queue in self.queues.values():
            queue.ring.region = ram
