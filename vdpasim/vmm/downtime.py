"""What a live update costs while the guest stands still, counted on runs.

Theory. Downtime is what lies between the steps ``suspend`` and ``run`` of :mod:`vdpasim.vmm.live_update`, both with
it. A simulator has no time to offer for that, but it has every call: what is counted here is exact, and what one costs
on a machine is for the user to say. :data:`UNITS` are the things counted; :data:`WAYS` the ways to hand a device over,
each a change of the one sequence: a way more is a row more. :func:`measure` plays one way for one guest and counts step
by step; behind it the guest reads a sector that it wrote before, into its last block, so that what was counted is a
hand-over that worked.

A guest is *regions* of memory, one UPDATE each. In VA mode a region is one mapping, so it is one entry of the tree; in
PA mode it is an entry for each run of adjacent frames. In front of them is the block with the ring, which is counted as
well: in VA mode one entry, in PA mode one for each of its pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs

from vdpasim.core.ports import PAGE_SIZE
from vdpasim.core.profiles import parse
from vdpasim.core.vdpa.vdpa_sim import VdpaSim
from vdpasim.core.vhost.vdpa import VhostVdpa as Driver
from vdpasim.core.vhost.vhost import IOTLB_LIMIT
from vdpasim.sim import Simulator
from vdpasim.sim.process import Region
from vdpasim.uapi import errno as E
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import HEADER, HEADER_AT, IOVA, KICK, QUEUE_NUM, RAM, SECTOR, STATUS_AT
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.live_update import STEPS, Block, LiveUpdate, LiveVmm, Variant
from vdpasim.vmm.transport import run_sync

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vdpasim.sim import File
    from vdpasim.sim.vdpa import Device

Mode = Literal["va", "pa"]
Counts = dict[str, int]
"""Unit -> how many."""

UNITS = {
    "ioctl": "ioctls",
    "message": "messages",
    "byte": "bytes",
    "pin": "pinned",
    "unpin": "unpinned",
    "pushed": "pushed",
    "open": "opens",
}
"""What is counted, with the head of its column: bytes of messages, pages pinned and unpinned, entries that the device
was handed (``set_map`` gets the whole table), times the device's file was opened or closed.
"""

FIRST_BLOCK = 1 << 32
"""Where the guest sees the memory behind its first block."""
TEXT = b"written before the update".ljust(SECTOR, b".")


@attrs.frozen
class Guest:
    """Memory behind the block with the ring."""

    regions: int
    """UPDATEs."""
    runs: int
    """Runs of adjacent frames in each; a power of two of pages each."""
    pages: int
    """Pages of a run."""

    @property
    def region_size(self) -> int:
        """Bytes of one region."""
        return self.runs * self.pages * PAGE_SIZE


class NotPossible(Exception):
    """A way does not exist on this kernel; the text says at which step, and why."""


@attrs.frozen
class Run:
    """One update that was played."""

    way: str
    mode: Mode
    kernel: str
    values: dict[str, int]
    """``regions``, ``entries`` and ``pages`` of the whole guest, counted."""
    steps: dict[str, Counts]
    """Step -> what it cost."""


# -- counting


class Meter:
    """Reads the counters of one machine."""

    def __init__(self, sim: Simulator, device: Device) -> None:
        assert isinstance(device.device, VdpaSim)
        self._pages = sim.pages
        self._device = device.device
        self._own: Counts = {"ioctl": 0, "message": 0, "byte": 0, "open": 0}

    def add(self, unit: str, number: int = 1) -> None:
        """The program did something."""
        self._own[unit] += number

    def read(self) -> Counts:
        """All counts so far."""
        memory = self._pages.statistics()
        kernel = {"pin": memory.pinned, "unpin": memory.unpinned, "pushed": self._device.statistics().entries}
        counted = {**self._own, **kernel}
        return {unit: counted[unit] for unit in UNITS}


class CountedFile:
    """A :class:`~vdpasim.vmm.transport.Transport` over a simulated file that counts; nothing in it waits."""

    def __init__(self, file: File, meter: Meter) -> None:
        self._file = file
        self._meter = meter

    async def read(self, size: int) -> bytes:
        data: bytes = self._file.read_nowait(size)
        return data

    async def write(self, data: bytes) -> int:
        self._meter.add("message")
        self._meter.add("byte", len(data))
        return self._file.write_nowait(data)

    async def ioctl(self, request: int, arg: int | bytes | bytearray | None = None) -> Any:
        self._meter.add("ioctl")
        return self._file.ioctl_nowait(request, arg)

    async def mmap(self, length: int, prot: int, flags: int, offset: int = 0) -> Any:
        return self._file.mmap_nowait(length, prot, flags, offset)


# -- the VMM


@attrs.define
class Bench:
    """A machine with one disk, and a VMM that has it open."""

    sim: Simulator
    disk: Device
    meter: Meter
    vmm: LiveVmm

    @classmethod
    def make(cls, kernel: str, mode: Mode, guest: Guest) -> Bench:
        """The guest runs, and has written a sector."""
        sim = Simulator(kernel, options={"use_va": mode == "va"})
        disk = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk")
        meter = Meter(sim, disk)
        process = sim.process("vmm", memlock=1 << 60)
        memfd = process.memfd("ram", RAM)
        ram = process.mmap(RAM, memfd)
        file = process.open_nowait(disk.path)
        eventfds = process.eventfd(), process.eventfd(flags=0)
        device = VhostVdpa(CountedFile(file, meter))
        vmm = LiveVmm(process, file, device, memfd, ram, Virtqueue(ram, IOVA, QUEUE_NUM), *eventfds)
        size = guest.region_size
        memory = process.memfd("memory", guest.regions * size, folio_pages=guest.pages)
        vmm.blocks = [Block(IOVA, RAM, memfd, ram)]
        vmm.blocks += [Block(FIRST_BLOCK + n * size, size, memory, ram) for n in range(guest.regions)]
        _show(vmm, process.mmap(guest.regions * size, memory))
        bench = cls(sim, disk, meter, vmm)
        run_sync(bench.start())
        return bench

    async def start(self) -> None:
        """Become the owner, negotiate, map, let it run, write a sector."""
        device = self.vmm.device
        await device.set_owner()
        await device.set_backend_features(await device.get_backend_features())
        await self.vmm.negotiate()
        await device.batch_begin()
        await self.vmm.map_ram()
        await device.batch_end()
        await self.vmm.start()
        self.vmm.blocks[-1].region.write(0, TEXT)
        self.request(blk.VIRTIO_BLK_T_OUT)
        self.vmm.blocks[-1].region.write(0, bytes(SECTOR))

    def request(self, kind: int) -> None:
        """One sector, out of the last block or into it.

        Raises:
            AssertionError: the device did not answer, or not OK.
        """
        vmm = self.vmm
        vmm.ram.write(HEADER_AT, HEADER.pack(kind, 0, 0))
        vmm.ram.write(STATUS_AT, b"\xff")
        data = Buffer(vmm.blocks[-1].iova, SECTOR, writable=kind == blk.VIRTIO_BLK_T_IN)
        vmm.vq.add(Buffer(vmm.vq.iova(HEADER_AT), HEADER.size), data, Buffer(vmm.vq.iova(STATUS_AT), 1, writable=True))
        vmm.kick.write_nowait(KICK)
        vmm.call.read_nowait(8)
        vmm.vq.used()
        status = vmm.ram.read(STATUS_AT, 1)[0]
        assert status == blk.VIRTIO_BLK_S_OK, f"the disk answered {status}"

    def values(self) -> dict[str, int]:
        """What the guest's memory is."""
        driver = self.vmm.file.open_file.ops
        assert isinstance(driver, Driver)
        pages = sum(block.size for block in self.vmm.blocks) // PAGE_SIZE
        return {"regions": len(self.vmm.blocks), "entries": len(driver.spaces.tables[0]), "pages": pages}


def _show(vmm: LiveVmm, memory: Region) -> None:
    # the blocks behind the first lie in one mapping, one behind the other
    at = memory.addr
    for block in vmm.blocks[1:]:
        block.region = Region(vmm.process, at, block.size)
        at += block.size


async def _exec(update: LiveUpdate) -> None:
    update.vmm.process.exec_nowait()


async def _map_memory(update: LiveUpdate) -> None:
    # as the step of the sequence, but not a mapping for every block
    vmm = update.vmm
    first, behind = vmm.blocks[0], vmm.blocks[1:]
    first.region = vmm.process.mmap(first.size, first.memfd, addr=update.place(0))
    vmm.moved(first.region)
    size = sum(block.size for block in behind)
    _show(vmm, vmm.process.mmap(size, behind[0].memfd, addr=update.place(1)))


# -- the ways


@attrs.frozen
class Way:
    """One way to hand a device over: the sequence, and what is different in it."""

    name: str
    modes: tuple[Mode, ...]
    doc: str
    change: Callable[[Bench, LiveUpdate], None]
    variant: Variant = "resume"


def _as_it_is(bench: Bench, update: LiveUpdate) -> None:
    pass


def _map_anew(bench: Bench, update: LiveUpdate) -> None:
    update.replace("remap", _invalidate_and_update)


def _open_anew(bench: Bench, update: LiveUpdate) -> None:
    async def close(update: LiveUpdate) -> None:
        await update.vmm.device.set_status(0)
        update.vmm.file.close_nowait()
        bench.meter.add("open")

    async def become_owner(update: LiveUpdate) -> None:
        vmm = update.vmm
        vmm.file = vmm.process.open_nowait(bench.disk.path)
        bench.meter.add("open")
        vmm.device = VhostVdpa(CountedFile(vmm.file, bench.meter))
        await vmm.device.set_owner()

    update.skip("check")
    update.replace("reset", close).replace("new-owner", become_owner).replace("remap", _batched(_updates))


def _batched(messages: Callable[[LiveUpdate], Awaitable[None]]) -> Callable[[LiveUpdate], Awaitable[None]]:
    async def step(update: LiveUpdate) -> None:
        await update.vmm.device.batch_begin()
        await messages(update)
        await update.vmm.device.batch_end()

    return step


async def _updates(update: LiveUpdate) -> None:
    await update.vmm.map_ram()


async def _invalidates_and_updates(update: LiveUpdate) -> None:
    for block in update.vmm.blocks:
        await update.vmm.device.iotlb_invalidate(block.iova, block.size)
    await update.vmm.map_ram()


_invalidate_and_update = _batched(_invalidates_and_updates)

WAYS: tuple[Way, ...] = (
    Way("REMAP", ("va",), "NEW_OWNER, then one REMAP for each entry, in a batch", _as_it_is),
    Way("NEW_OWNER only", ("pa",), "the pages stay pinned, only the account changes hands", _as_it_is),
    Way(
        "INVALIDATE+UPDATE",
        ("va", "pa"),
        "NEW_OWNER, then one INVALIDATE and one UPDATE for each region, in one batch",
        _map_anew,
    ),
    Way(
        "reset",
        ("va", "pa"),
        "no series needed: reset, close; the successor opens, becomes owner and sets everything up, UPDATEs in a batch",
        _open_anew,
        "reset",
    ),
)
"""Every way; a way more is a row more."""


def span(variant: Variant) -> list[str]:
    """The steps of the downtime, in their order."""
    names = [step.name for step in STEPS if step.variant in (None, variant)]
    return names[names.index("suspend") : names.index("run") + 1]


def kernel_for(kernel: str, mode: Mode, guest: Guest) -> str:
    """The kernel to run a guest on: without the limit of entries (``F1``) where the guest has more."""
    entries = guest.regions * guest.runs + RAM // PAGE_SIZE if mode == "pa" else guest.regions + 1
    return f"{kernel}-F1" if "F1" in parse(kernel) and entries > IOTLB_LIMIT else kernel


def measure(kernel: str, mode: Mode, way: Way, guest: Guest) -> Run:
    """Play a way and count.

    Raises:
        NotPossible: the kernel, or the device on it, refused a step.
        ProfileError: the kernel.
    """
    name = kernel_for(kernel, mode, guest)
    if mode == "va" and "va-mode" not in parse(name):
        raise NotPossible(f"{kernel} has no devices whose entries hold user addresses")
    bench = Bench.make(name, mode, guest)
    update = LiveUpdate(bench.vmm, way.variant)
    update.replace("hand-over", _exec).replace("map-memory", _map_memory)
    way.change(bench, update)
    counted: dict[str, Counts] = {}
    _count(update, bench.meter, span(way.variant), counted)
    try:
        run_sync(update.run(until="run"))
    except OSError as error:
        at = next(step.name for step in STEPS if step.name not in update.done and step.variant in (None, way.variant))
        raise NotPossible(f"step {at} ends with {E.name(error.errno or 0)}, {error.strerror}") from None
    bench.request(blk.VIRTIO_BLK_T_IN)
    assert bench.vmm.blocks[-1].region.read(0, SECTOR) == TEXT, "the device wrote to other memory"
    return Run(way.name, mode, name, bench.values(), counted)


def _count(update: LiveUpdate, meter: Meter, steps: list[str], counted: dict[str, Counts]) -> None:
    async def start(update: LiveUpdate) -> None:
        before.append(meter.read())

    def stop(name: str) -> Callable[[LiveUpdate], Awaitable[None]]:
        async def action(update: LiveUpdate) -> None:
            old, new = before.pop(), meter.read()
            counted[name] = {unit: new[unit] - old[unit] for unit in UNITS}

        return action

    before: list[Counts] = []
    for name in steps:
        update.before(name, start).after(name, stop(name))
