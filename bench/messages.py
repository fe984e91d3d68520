"""IOTLB messages through write(), against what cannot be avoided, and misses answered over the channel.

* *messages*: INVALIDATE and UPDATE of a page in turn, by ``write_nowait`` on vhost-net; the floor parses the same bytes
  with one ``struct`` and changes the same table, with nothing around it.
* *misses*: a blk request on ``vhost-vdpa+miss`` whose data page is not mapped: kick, a blocked reader wakes with the
  MISS, answers with UPDATE, the request completes and its call eventfd wakes the guest; two trio tasks. The unit is one
  hop through an unbuffered trio memory channel.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import trio

from bench.ab import Experiment, Goal, Measures, timed
from vdpasim.core.vhost.iotlb import Iotlb
from vdpasim.sim import Simulator
from vdpasim.uapi import vhost
from vdpasim.uapi.vhost_types import VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_UPDATE
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.handles import VhostVdpa

if TYPE_CHECKING:
    from vdpasim.sim import File, Region

PAGE = 4096
MESSAGES = 20_000
ROUND_TRIPS = 400
RW = 3
V2 = struct.Struct("<IIQQQBB6x32x")
ACCESS_PLATFORM = 1 << 33
VERSION_1 = 1 << 32
KICK = (1).to_bytes(8, "little")


def _bytes() -> list[bytes]:
    out = []
    for i in range(MESSAGES // 2):
        iova = i % 1000 * PAGE
        out.append(V2.pack(2, 0, iova, PAGE, 0, 0, VHOST_IOTLB_INVALIDATE))
        out.append(V2.pack(2, 0, iova, PAGE, 0x10000 + iova, RW, VHOST_IOTLB_UPDATE))
    return out


def written() -> Measures:
    """The messages written to a simulated /dev/vhost-net."""
    file = Simulator("6.12").process("vmm").open_nowait("/dev/vhost-net")
    file.ioctl_nowait(vhost.VHOST_SET_FEATURES.request(), ACCESS_PLATFORM.to_bytes(8, "little"))
    messages = _bytes()

    def work() -> None:
        write = file.write_nowait
        for message in messages:
            write(message)

    work()
    return {"write": timed(work, MESSAGES)}


def floor() -> Measures:
    """The same messages parsed, and the same table changed."""
    table = Iotlb(2048, retire=True)
    messages = _bytes()

    def work() -> None:
        unpack = V2.unpack_from
        for message in messages:
            _, _, iova, size, uaddr, perm, kind = unpack(message)
            if kind == VHOST_IOTLB_UPDATE:
                table.add_range(iova, iova + size - 1, uaddr, perm)
            else:
                table.del_range(iova, iova + size - 1)

    work()
    return {"write": timed(work, MESSAGES)}


class _Guest:
    """A VMM with one queue whose ring is mapped and whose data page is not."""

    IOVA = 0x10_0000
    DATA = 0x8000

    def __init__(self, device: VhostVdpa, ram: Region, kick: File, call: File) -> None:
        self.device, self.ram, self.kick, self.call = device, ram, kick, call
        self.vq = Virtqueue(ram, self.IOVA, 16)
        ram.write(self.DATA, (8).to_bytes(4, "little") + bytes(12))

    @classmethod
    async def boot(cls) -> _Guest:
        sim = Simulator("6.12", extensions=("vhost-vdpa+miss",))
        node = sim.vdpa.dev_add("foo", mgmtdev="vdpasim_blk+miss")
        process = sim.process("vmm")
        ram = process.mmap(1 << 20, process.memfd("ram", 1 << 20))
        device = VhostVdpa(await process.open(node.path))
        await device.set_owner()
        await device.set_features(ACCESS_PLATFORM | VERSION_1)
        guest = cls(device, ram, process.eventfd(), process.eventfd(flags=0))
        await device.set_vring_num(0, 16)
        await device.set_vring_addr(0, *guest.vq.addresses())
        await device.set_vring_kick(0, guest.kick.fd)
        await device.set_vring_call(0, guest.call.fd)
        await device.iotlb_update(cls.IOVA, PAGE, ram.addr)
        await device.set_vring_enable(0)
        await device.set_status(0xF)
        return guest

    async def serve(self) -> None:
        """The VMM's thread: answer every miss."""
        while True:
            miss = await self.device.read_miss()
            page = miss.iova & -PAGE
            await self.device.iotlb_update(page, PAGE, self.ram.addr + page - self.IOVA)

    async def request(self) -> None:
        """One request whose data page was just unmapped."""
        data = self.IOVA + self.DATA
        await self.device.iotlb_invalidate(data, PAGE)
        self.vq.add(Buffer(data, 16), Buffer(data + 64, 20, writable=True), Buffer(data + 128, 1, writable=True))
        await self.kick.write(KICK)
        await self.call.read(8)


def misses() -> Measures:
    """Round trips of a miss."""

    async def main() -> None:
        guest = await _Guest.boot()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guest.serve)
            for _ in range(ROUND_TRIPS):
                await guest.request()
            nursery.cancel_scope.cancel()

    return {"round trip": timed(lambda: trio.run(main), ROUND_TRIPS)}


def hops() -> Measures:
    """Hops through an unbuffered memory channel."""

    async def main() -> None:
        send, receive = trio.open_memory_channel[int](0)

        async def drain() -> None:
            async for _ in receive:
                pass

        async with trio.open_nursery() as nursery, send:
            nursery.start_soon(drain)
            for i in range(ROUND_TRIPS):
                await send.send(i)

    return {"round trip": timed(lambda: trio.run(main), ROUND_TRIPS)}


def experiments() -> list[Experiment]:
    """What ``python -m bench`` runs of this file."""
    return [
        Experiment(
            "messages",
            {"write_nowait": written, "parse and update": floor},
            [Goal("parse and update", "write", at_least=0.5)],
        ),
        Experiment("misses", {"miss round trip": misses, "trio channel hop": hops}),
    ]
