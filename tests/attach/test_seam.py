"""One core, two worlds: the same story over a real process and over a simulated one leaves the same events."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tests.attach.program import SIZE, lay_out
from vdpasim.core.events import Kind
from vdpasim.core.fs.file import NodeOpen, OpenFile
from vdpasim.core.uaccess import MmBuffer
from vdpasim.core.vdpa import vdpa_sim_blk
from vdpasim.core.vdpa.vdpa import VdpaBus
from vdpasim.devices import stock
from vdpasim.devices.profile import load
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi.fcntl import O_RDWR
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.transport import run_sync

if TYPE_CHECKING:
    from tests.attach.conftest import Machine, RealProgram
    from vdpasim.core.events import Event
    from vdpasim.core.fs.file import CharDev
    from vdpasim.core.kernel import Call
    from vdpasim.core.ports import Pages

IOVA = 0x100000
SCRATCH = 0xF000
"""Offset in RAM where the program puts the arguments of its system calls."""


class RealWorld:
    def __init__(self, machine: Machine, program: RealProgram) -> None:
        self.kernel, self.task, self.at, self.do = machine.kernel, machine.task, program.at, program.do
        self.nodes: dict[str, CharDev] = {}
        self.loop = machine.loop
        self.pages: Pages = machine.pages
        self.events = machine.events

    def kick(self) -> None:
        self.do("kick")
        assert self.loop.poll(10) == 1
        self.kernel.run()


class SimulatedWorld:
    def __init__(self) -> None:
        self.sim = Simulator("tip")
        self.kernel, self.nodes = self.sim.kernel, self.sim.nodes
        self.pages: Pages = self.sim.pages
        self.events: list[Event] = []
        self.sim.listen(self.events.append)
        process = self.sim.process("vmm")
        self.task = process.task
        self.ram = process.mmap(SIZE, process.memfd("ram", SIZE))
        self.kick_file, self.call_file = process.eventfd(), process.eventfd()
        self.at = {"addr": self.ram.addr, "kick": self.kick_file.fd, "call": self.call_file.fd}

    def do(self, name: str, *args: Any) -> Any:
        return getattr(self, name)(*args)

    def poke(self, offset: int, data: str) -> None:
        self.ram.write(offset, bytes.fromhex(data))

    def peek(self, offset: int, length: int) -> str:
        return self.ram.read(offset, length).hex()

    def lay_out(self, iova: int) -> list[int]:
        self.vq = lay_out(self.ram, iova)
        return list(self.vq.addresses())

    def kick(self) -> None:
        # the context itself: a real process's write to its eventfd is no call of ours either
        self.task.files.eventfd(self.kick_file.fd).write(1)
        self.kernel.run()

    def wait_call(self) -> int:
        return self.task.files.eventfd(self.call_file.fd).read()

    def used(self) -> list[list[int]]:
        return [list(used) for used in self.vq.used()]


World = RealWorld | SimulatedWorld


class Calls:
    """System calls of the program, with every argument in the program's own memory."""

    def __init__(self, world: World) -> None:
        self.world = world
        opened = self.submit(NodeOpen(world.kernel, world.nodes, "/dev/vhost-vdpa-0"), "open", O_RDWR)
        assert isinstance(opened.out, OpenFile)
        self.file = opened.out

    def submit(self, file: Any, op: str, *args: Any) -> Call:
        call = self.world.kernel.submit(self.world.task, file, op, args)
        self.world.kernel.run()
        if call.ret < 0:
            raise OSError(-call.ret, call.rule)
        return call

    async def ioctl(self, request: int, arg: int | bytes | bytearray | None = None) -> Any:
        data = arg if isinstance(arg, bytes) else b""
        self.world.do("poke", SCRATCH, data.hex())
        self.submit(self.file, "ioctl", request, self.world.at["addr"] + SCRATCH)
        return bytes.fromhex(self.world.do("peek", SCRATCH, len(data)))

    async def write(self, data: bytes) -> int:
        self.world.do("poke", SCRATCH, data.hex())
        buffer = MmBuffer(self.world.task.mm, self.world.at["addr"] + SCRATCH, len(data))
        return self.submit(self.file, "write", buffer).ret

    async def read(self, size: int) -> bytes:
        raise NotImplementedError

    async def mmap(self, length: int, prot: int, flags: int, offset: int = 0) -> Any:
        return self.submit(self.file, "mmap", length, prot, flags, offset).ret


def set_up(world: World, *, mode: str) -> Calls:
    """A block device opened by the program, its RAM mapped, its ring enabled, DRIVER_OK."""
    bus = VdpaBus(world.kernel, world.pages, world.nodes)
    if mode == "file":
        bus.add("foo", stock.mgmtdev(attrs.evolve(load("vdpasim_blk-7.1"), addresses="file", identity=0)), {})
    else:
        bus.add("foo", vdpa_sim_blk.MGMTDEV, {"use_va": mode == "va"})
    calls = Calls(world)
    run_sync(_set_up(VhostVdpa(calls), world))
    return calls


async def _set_up(vdpa: VhostVdpa, world: World) -> None:
    await vdpa.set_owner()
    await vdpa.set_features(await vdpa.get_features())
    await vdpa.set_backend_features(await vdpa.get_backend_features())
    await vdpa.iotlb_update(IOVA, SIZE, world.at["addr"])
    desc, avail, used = world.do("lay_out", IOVA)
    await vdpa.set_vring_num(0, 16)
    await vdpa.set_vring_base(0, 0)
    await vdpa.set_vring_addr(0, desc, avail, used)
    await vdpa.set_vring_kick(0, world.at["kick"])
    await vdpa.set_vring_call(0, world.at["call"])
    await vdpa.set_vring_enable(0)
    await vdpa.set_status(0xF)


def story(world: World, *, mode: str) -> dict[str, Any]:
    """Set up, one request, close: what the program sees of it."""
    calls = set_up(world, mode=mode)
    world.kick()
    seen = {
        "call": world.do("wait_call"),
        "used": world.do("used"),
        "data": world.do("peek", 0x3000, 512),
        "status": world.do("peek", 0x4000, 1),
    }
    with pytest.raises(OSError) as refused:
        run_sync(VhostVdpa(calls).set_owner())
    assert refused.value.errno == E.EBUSY
    calls.submit(calls.file, "close")
    return seen


def normal(value: Any, base: int) -> Any:
    """A field of an event without what belongs to one world: addresses in RAM and the name of its object."""
    if isinstance(value, MmBuffer):
        return "buffer", normal(value.addr, base), value.length
    if isinstance(value, tuple):
        return tuple(normal(one, base) for one in value)
    if isinstance(value, int) and base <= value < base + SIZE:
        return "ram", value - base
    if isinstance(value, str) and ("ram" in value):
        return "the ram object"
    return value


def normalised(world: World, *, mode: str) -> list[Any]:
    found = []
    for event in world.events:
        if event[3] == Kind.MAP and mode == "pa":
            # which frames a page lies in is each world's own
            event = (*event[:9], "a frame", *event[10:])
        if event[3] == Kind.UNPIN:
            event = (*event[:6], "a frame", *event[7:])
        if event[3] == Kind.RING and event[6] in ("kick", "call"):
            # and so is what an eventfd is called: the simulation numbers its own
            event = (*event[:7], "an eventfd")
        found.append(normal(event, world.at["addr"]))
    return found


@pytest.mark.parametrize("mode", ["va", "pa", "file"])
def test_a_real_process_and_a_simulated_one_leave_the_same_events(
    machine: Machine, program: RealProgram, mode: str
) -> None:
    real, simulated = RealWorld(machine, program), SimulatedWorld()
    seen_there, seen_here = story(real, mode=mode), story(simulated, mode=mode)
    assert seen_there == {"call": 1, "used": [[0, 513]], "data": "00" * 512, "status": "00"}
    assert seen_here == seen_there
    there, here = normalised(real, mode=mode), normalised(simulated, mode=mode)
    assert there == here
    kinds = {event[3] for event in there}
    assert {Kind.MAP, Kind.PUSH, Kind.KICK, Kind.DMA, Kind.SIGNAL, Kind.OWNER, Kind.UNMAP, Kind.STATUS} <= kinds


class TestThePromisesOfTheTwoModes:
    """What DMA does when the program goes away decides between VA and PA; it must not be an accident of the port."""

    def test_a_device_in_va_mode_does_nothing_for_an_address_space_that_died(
        self, machine: Machine, program: RealProgram
    ) -> None:
        world = RealWorld(machine, program)
        set_up(world, mode="va")
        program.do("kick")
        program.kill()
        assert machine.loop.poll(10) == 1
        del machine.events[:]
        machine.kernel.run()
        assert [event[4:] for event in machine.events if event[3] != Kind.KICK] == [("foo", -1, "dead-mm")], "only IDLE"

    def test_exec_kills_the_owner_though_the_process_lives(self, machine: Machine, program: RealProgram) -> None:
        world = RealWorld(machine, program)
        calls = set_up(world, mode="va")
        owner = machine.task.mm
        program.do("exec")
        machine.task.exec_seen()
        assert machine.task.alive
        assert not owner.alive
        assert machine.task.mm.alive
        call = machine.kernel.submit(machine.task, calls.file, "write", (_message(machine),))
        machine.kernel.run()
        assert (call.ret, call.handler_errno, call.rule) == (-E.EFAULT, E.EPERM, "vdpa.msg.owner")
        owner.close()

    def test_a_device_in_pa_mode_writes_to_pages_that_the_program_has_unmapped(
        self, machine: Machine, program: RealProgram
    ) -> None:
        world = RealWorld(machine, program)
        set_up(world, mode="pa")
        program.do("kick")
        (obj,) = machine.pages.objects.values()
        assert obj.fd is not None
        assert len(obj.pins) == SIZE // 4096
        program.do("unmap")
        program.kill()
        assert machine.loop.poll(10) == 1
        machine.kernel.run()
        writes = [event for event in machine.events if event[3] == Kind.DMA and event[8] == 2]
        assert (IOVA + 0x4000, 1) in [event[6:8] for event in writes]
        first = machine.events[[event[3] for event in machine.events].index(Kind.MAP)][9]
        assert machine.pages.read(first + 2 * 4 * 4096, 1) == b"\0"

    def test_the_last_close_lets_the_pages_go(self, machine: Machine, program: RealProgram) -> None:
        world = RealWorld(machine, program)
        calls = set_up(world, mode="pa")
        (obj,) = machine.pages.objects.values()
        assert machine.task.mm.pinned_vm == SIZE // 4096
        calls.submit(calls.file, "close")
        assert (obj.fd, obj.pins) == (None, {})
        assert machine.task.mm.pinned_vm == 0

    def test_a_device_that_goes_by_files_needs_no_program_any_more(
        self, machine: Machine, program: RealProgram
    ) -> None:
        world = RealWorld(machine, program)
        set_up(world, mode="file")
        program.do("kick")
        (obj,) = machine.pages.objects.values()
        program.kill()
        assert machine.loop.poll(10) == 1
        machine.kernel.run()
        assert Kind.SIGNAL in {event[3] for event in machine.events}
        assert obj.read(0x3000, 0x1001) == bytes(512) + b"\xff" * (0x1000 - 512) + b"\0", "the sector, and the status"

    @pytest.mark.parametrize("mode", ["va", "file"])
    def test_the_last_close_gives_the_files_back(self, machine: Machine, program: RealProgram, mode: str) -> None:
        calls = set_up(RealWorld(machine, program), mode=mode)
        (obj,) = machine.pages.objects.values()
        assert obj.refs == {"va": 1, "file": 2}[mode]
        fd = obj.fd
        assert fd is not None
        os.fstat(fd)
        calls.submit(calls.file, "close")
        assert obj.refs == 0
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def _message(machine: Machine) -> Any:
    from vdpasim.core.uaccess import BytesBuffer
    from vdpasim.uapi.abi import X86_64
    from vdpasim.uapi.message import Message, encode_message
    from vdpasim.uapi.vhost_types import VHOST_IOTLB_INVALIDATE

    return BytesBuffer(encode_message(X86_64, Message(2, 0, 0, 4096, 0, 0, VHOST_IOTLB_INVALIDATE)))
