"""Devices at work against a straight-line loop: what a request costs beyond what its bytes must cost.

The floor is one Python function without a call of ours: for every access that the kernel's device makes it bisects a
list of mappings, checks bounds and permission, and unpacks, packs or copies in one bytearray. That is avail index, ring
entry, each descriptor, the payload, the status byte, used element, used index, the interrupt flags and the interrupt of
each request, in passes of five.

* *read*: 4 KiB block reads, kicked in batches of 1, 8 and 64, with 1, 100 or 16384 mappings.
* *loopback*: 1514-byte frames from the TX to the RX queue of the simulated network device.
* *growth*: the same reads in units of the smallest number of mappings, the smallest ring, a single queue.
"""

from __future__ import annotations

import gc
import struct
import time
from bisect import bisect_left
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from bench.ab import Experiment, Goal, Measures
from vdpasim.devices.profile import DeviceProfile, load
from vdpasim.sim import Simulator
from vdpasim.uapi import vhost
from vdpasim.vmm.guest import Buffer, Virtqueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.uapi.ioctl import Ioctl

PAGE = 4096
IOVA = 0x100000
RAM = 64 << 20
MANY = 512 << 20
"""Guest memory where 1e5 pages are mapped one by one; only what is touched costs anything."""
HEADERS, STATUSES, DATA = 0x40000, 0x50000, 0x100000
"""Offsets in guest memory, behind all rings."""
FRAME = 1514
DESC, USED, U16, REQUEST = struct.Struct("<QIHH"), struct.Struct("<II"), struct.Struct("<H"), struct.Struct("<IIQ")
FEATURES = (1 << 33 | 1 << 32).to_bytes(8, "little")
KICK = (1).to_bytes(8, "little")


class Rig:
    """A started device of the simulator."""

    def __init__(self, kind: str, queues: int, num: int, mappings: int, ram: int = RAM) -> None:
        # without F1 a table may be as large as one likes
        self.sim = sim = Simulator("6.12-F1")
        stock = {"profile": _disk(queues)} if kind == "vdpasim_blk" and queues > 1 else {"mgmtdev": kind}
        path = sim.vdpa.dev_add("dev", **stock).path
        self.vmm = vmm = sim.process("vmm")
        self.ram = vmm.mmap(ram, vmm.memfd("ram", ram, folio_pages=512))
        self.file = vmm.open_nowait(path)
        self.call(vhost.VHOST_SET_OWNER)
        self.call(vhost.VHOST_SET_FEATURES, FEATURES)
        self._map(mappings)
        self.rings = [Virtqueue(self.ram, IOVA, num, offset=0x10000 * queue) for queue in range(queues)]
        self.kicks = [self._start(queue) for queue in range(queues)]
        self.call(vhost.VHOST_VDPA_SET_STATUS, b"\x0f")

    def call(self, request: Ioctl, data: bytes | None = None) -> None:
        self.file.ioctl_nowait(request.request(), data)

    def _map(self, mappings: int) -> None:
        size = self.ram.size
        step = size // mappings & -PAGE
        pack = struct.Struct("<IIQQQBB38x").pack
        self.file.write_nowait(pack(2, 0, 0, 0, 0, 0, 5))
        for at in range(0, size, step):
            self.file.write_nowait(pack(2, 0, IOVA + at, min(step, size - at), self.ram.addr + at, 3, 2))
        self.file.write_nowait(pack(2, 0, 0, 0, 0, 0, 6))

    def _start(self, queue: int) -> Any:
        desc, avail, used = self.rings[queue].addresses()
        kick, call = self.vmm.eventfd(), self.vmm.eventfd()
        self.call(vhost.VHOST_SET_VRING_NUM, struct.pack("<II", queue, self.rings[queue].num))
        self.call(vhost.VHOST_SET_VRING_ADDR, struct.pack("<IIQQQQ", queue, 0, desc, used, avail, 0))
        self.call(vhost.VHOST_SET_VRING_CALL, struct.pack("<II", queue, call.fd))
        self.call(vhost.VHOST_SET_VRING_KICK, struct.pack("<II", queue, kick.fd))
        self.call(vhost.VHOST_VDPA_SET_VRING_ENABLE, struct.pack("<II", queue, 1))
        return kick


def served(post: Callable[[int], None], kick: Callable[[], object], requests: int, batch: int) -> float:
    """CPU nanoseconds of one request from kick to completion, posting apart."""
    post(batch)
    kick()  # the first batch finds where everything is
    took = 0
    gc.collect()
    gc.disable()
    for _ in range(0, requests, batch):
        post(batch)
        began = time.thread_time_ns()
        kick()
        took += time.thread_time_ns() - began
    gc.enable()
    return took / requests


def _disk(queues: int) -> DeviceProfile:
    disk = load("vdpasim_blk-6.12")
    return attrs.evolve(disk, name="disk", queues=queues, queue_groups=(0,) * queues)


def read_ours(
    batch: int, mappings: int = 1, num: int = 256, requests: int = 3200, ram: int = RAM, queues: int = 1
) -> Measures:
    """4 KiB reads through the simulator, on the last queue."""
    rig = Rig("vdpasim_blk", queues, num, mappings, ram)
    ring, kick = rig.rings[-1], rig.kicks[-1]
    for i in range(batch):
        rig.ram.write(HEADERS + 16 * i, REQUEST.pack(0, 0, 8 * i))

    def post(count: int) -> None:
        for i in range(count):
            header = Buffer(IOVA + HEADERS + 16 * i, 16)
            data = Buffer(IOVA + DATA + PAGE * i, PAGE, writable=True)
            ring.add(header, data, Buffer(IOVA + STATUSES + i, 1, writable=True))

    return {"request": served(post, lambda: kick.write_nowait(KICK), requests, batch)}


def loopback_ours(batch: int, mappings: int = 1, requests: int = 3200) -> Measures:
    """Frames through the simulator."""
    rig = Rig("vdpasim_net", 2, 256, mappings)
    rx, tx = rig.rings
    for i in range(batch):
        rig.ram.write(DATA + PAGE * i, bytes(12) + b"\xff" * (FRAME - 12))

    def post(count: int) -> None:
        for i in range(count):
            rx.add(Buffer(IOVA + DATA + PAGE * (batch + i), FRAME, writable=True))
            tx.add(Buffer(IOVA + DATA + PAGE * i, FRAME))

    return {"frame": served(post, lambda: rig.kicks[1].write_nowait(KICK), requests, batch)}


class Floor:
    """Guest memory, mappings and rings of the straight-line loops."""

    def __init__(self, mappings: int, num: int = 256) -> None:
        self.num = num
        self.ram = memoryview(bytearray(RAM))
        step = RAM // mappings & -PAGE
        self.maps = [(IOVA + at, IOVA + min(at + step, RAM) - 1, at, 3) for at in range(0, RAM, step)]
        self.lasts = [last for _, last, _, _ in self.maps]
        self.free = [0, 0]
        self.avail_idx = [0, 0]

    def ring(self, queue: int) -> tuple[int, int, int]:
        """I/O addresses of the three areas, as the driver of ours lays them out."""
        desc = IOVA + 0x10000 * queue
        avail = desc + 16 * self.num
        return desc, avail, (avail + 6 + 2 * self.num + 3) & ~3

    def add(self, queue: int, *buffers: tuple[int, int, int]) -> None:
        """Post a chain of (address, length, WRITE or 0)."""
        desc, avail, _ = (at - IOVA for at in self.ring(queue))
        head = self.free[queue] % self.num
        for i, (addr, length, flags) in enumerate(buffers):
            slot = (self.free[queue] + i) % self.num
            more = 1 if i + 1 < len(buffers) else 0
            DESC.pack_into(self.ram, desc + 16 * slot, addr, length, flags | more, (slot + 1) % self.num)
        self.free[queue] += len(buffers)
        U16.pack_into(self.ram, avail + 4 + 2 * (self.avail_idx[queue] % self.num), head)
        self.avail_idx[queue] = self.avail_idx[queue] + 1 & 0xFFFF
        U16.pack_into(self.ram, avail + 2, self.avail_idx[queue])


def read_floor(batch: int, mappings: int = 1, requests: int = 3200) -> Measures:
    """The same reads, straight-line."""
    floor = Floor(mappings)
    ram, maps, lasts, mask = floor.ram, floor.maps, floor.lasts, floor.num - 1
    desc, avail, used = floor.ring(0)
    disk = memoryview(bytearray(1 << 20))
    taken = returned = interrupts = 0
    for i in range(batch):
        REQUEST.pack_into(ram, HEADERS + 16 * i, 0, 0, 8 * i)

    def post(count: int) -> None:
        for i in range(count):
            data = (IOVA + DATA + PAGE * i, PAGE, 2)
            floor.add(0, (IOVA + HEADERS + 16 * i, 16, 0), data, (IOVA + STATUSES + i, 1, 2))

    def kick() -> None:
        nonlocal taken, returned, interrupts
        get16, put16, get_desc, put_used = U16.unpack_from, U16.pack_into, DESC.unpack_from, USED.pack_into
        budget = 5
        while True:
            if not budget:
                budget = 5
            budget -= 1
            at = avail + 2
            first, last, to, perm = maps[bisect_left(lasts, at)]
            if at < first or at + 1 > last or not perm & 1:
                return
            if get16(ram, to + at - first)[0] == taken:
                return
            at = avail + 4 + 2 * (taken & mask)
            first, last, to, perm = maps[bisect_left(lasts, at)]
            if at < first or at + 1 > last or not perm & 1:
                return
            (head,) = get16(ram, to + at - first)
            taken = taken + 1 & 0xFFFF
            i, chain = head, []
            while i <= mask:
                at = desc + 16 * i
                first, last, to, perm = maps[bisect_left(lasts, at)]
                if at < first or at + 15 > last or not perm & 1:
                    return
                addr, length, flags, i = get_desc(ram, to + at - first)
                chain.append((addr, length, flags))
                if not flags & 1:
                    break
            (at, size, _), (data, length, _), (status, _, _) = chain
            first, last, to, perm = maps[bisect_left(lasts, at)]
            if at < first or at + size - 1 > last or not perm & 1:
                return
            kind, _, sector = REQUEST.unpack_from(ram, to + at - first)
            if kind or sector * 512 + length > len(disk):
                return
            first, last, to, perm = maps[bisect_left(lasts, data)]
            if data < first or data + length - 1 > last or not perm & 2:
                return
            ram[to + data - first : to + data - first + length] = disk[sector * 512 : sector * 512 + length]
            first, last, to, perm = maps[bisect_left(lasts, status)]
            if status < first or status > last or not perm & 2:
                return
            ram[to + status - first] = 0
            at = used + 4 + 8 * (returned & mask)
            first, last, to, perm = maps[bisect_left(lasts, at)]
            if at < first or at + 7 > last or not perm & 2:
                return
            put_used(ram, to + at - first, head, length + 1)
            returned = returned + 1 & 0xFFFF
            at = used + 2
            first, last, to, perm = maps[bisect_left(lasts, at)]
            if at < first or at + 1 > last or not perm & 2:
                return
            put16(ram, to + at - first, returned)
            first, last, to, perm = maps[bisect_left(lasts, avail)]
            if avail < first or avail + 1 > last or not perm & 1:
                return
            if not get16(ram, to + avail - first)[0] & 1:
                interrupts += 1

    took = served(post, kick, requests, batch)
    assert interrupts >= requests, "every request was served"
    return {"request": took}


def loopback_floor(batch: int, mappings: int = 1, requests: int = 3200) -> Measures:
    """The same frames, straight-line: each look-up written out, in the order of the device."""
    floor = Floor(mappings)
    ram, maps, lasts, mask = floor.ram, floor.maps, floor.lasts, floor.num - 1
    rings = [floor.ring(0), floor.ring(1)]
    taken, returned = [0, 0], [0, 0]
    interrupts = 0
    for i in range(batch):
        ram[DATA + PAGE * i : DATA + PAGE * i + FRAME] = bytes(12) + b"\xff" * (FRAME - 12)

    def post(count: int) -> None:
        for i in range(count):
            floor.add(0, (IOVA + DATA + PAGE * (batch + i), FRAME, 2))
            floor.add(1, (IOVA + DATA + PAGE * i, FRAME, 0))

    def kick() -> None:
        nonlocal interrupts
        get16, put16, get_desc, put_used = U16.unpack_from, U16.pack_into, DESC.unpack_from, USED.pack_into
        while True:
            chains = []
            for queue in (1, 0):
                desc, avail, _ = rings[queue]
                at = avail + 2
                first, last, to, perm = maps[bisect_left(lasts, at)]
                if at < first or at + 1 > last or not perm & 1 or get16(ram, to + at - first)[0] == taken[queue]:
                    return
                at = avail + 4 + 2 * (taken[queue] & mask)
                first, last, to, perm = maps[bisect_left(lasts, at)]
                if at < first or at + 1 > last or not perm & 1:
                    return
                (head,) = get16(ram, to + at - first)
                taken[queue] = taken[queue] + 1 & 0xFFFF
                at = desc + 16 * head
                first, last, to, perm = maps[bisect_left(lasts, at)]
                if head > mask or at < first or at + 15 > last or not perm & 1:
                    return
                chains.append((head, *get_desc(ram, to + at - first)))
            (head, at, size, flags, _), (rx_head, target, room, rx_flags, _) = chains
            first, last, to, perm = maps[bisect_left(lasts, at)]
            if flags or rx_flags != 2 or at < first or at + size - 1 > last or not perm & 1:
                return
            source = to + at - first
            first, last, to, perm = maps[bisect_left(lasts, target)]
            if size > room or not ram[source + 12] & 1 or target < first or target + size - 1 > last or not perm & 2:
                return
            ram[to + target - first : to + target - first + size] = ram[source : source + size]
            for queue, slot, length in ((1, head, 0), (0, rx_head, size)):
                _, avail, used = rings[queue]
                at = used + 4 + 8 * (returned[queue] & mask)
                first, last, to, perm = maps[bisect_left(lasts, at)]
                if at < first or at + 7 > last or not perm & 2:
                    return
                put_used(ram, to + at - first, slot, length)
                returned[queue] = returned[queue] + 1 & 0xFFFF
                at = used + 2
                first, last, to, perm = maps[bisect_left(lasts, at)]
                if at < first or at + 1 > last or not perm & 2:
                    return
                put16(ram, to + at - first, returned[queue])
                first, last, to, perm = maps[bisect_left(lasts, avail)]
                if avail < first or avail + 1 > last or not perm & 1:
                    return
                if not get16(ram, to + avail - first)[0] & 1:
                    interrupts += 1

    took = served(post, kick, requests, batch)
    assert interrupts >= 2 * requests, "every frame was delivered"
    return {"frame": took}


def _against_floor(
    name: str, ours: Callable[..., Measures], floor: Callable[..., Measures], operation: str, mappings: int
) -> list[Experiment]:
    found = []
    for batch in (1, 8, 64):
        # with one mapping there is nothing to search, and Python's cost of a pass stands alone
        goals = [Goal("floor", operation, at_least=1 / 1.5)] if batch == 64 and mappings > 1 else []
        candidates = {"ours": partial(ours, batch, mappings), "floor": partial(floor, batch, mappings)}
        found.append(Experiment(f"{name} b={batch} m={mappings}", candidates, goals))
    return found


def experiments() -> list[Experiment]:
    """All of them."""
    found = []
    for mappings in (1, 100, 16384):
        found += _against_floor("read", read_ours, read_floor, "request", mappings)
        found += _against_floor("loopback", loopback_ours, loopback_floor, "frame", mappings)
    by_maps = {f"m={m}": partial(read_ours, 64, m, ram=MANY) for m in (100, 1_000, 10_000, 100_000)}
    by_queues = {f"q={q}": partial(read_ours, 16, 100, queues=q) for q in (1, 4, 8)}
    by_size = {f"num={n}": partial(read_ours, 16, 100, n) for n in (64, 256)}
    found.append(Experiment("growth mappings", by_maps, rounds=3))
    found.append(Experiment("growth ring", by_size, rounds=3))
    found.append(Experiment("growth queues", by_queues, rounds=3))
    return found
