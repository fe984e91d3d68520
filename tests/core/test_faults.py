"""Where faults meet the drivers: each place, and what a strike does there; no plan but a list."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.rings import IOVA, RUNNING, Board
from tests.core.support import KICK, Machine, refused
from vdpasim.core.events import Event, Kind
from vdpasim.core.faults import action
from vdpasim.core.ports import Strike
from vdpasim.sim import UsageError, WouldBlock
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.uapi.fcntl import O_NONBLOCK
from vdpasim.uapi.vhost_types import VHOST_IOTLB_BATCH_BEGIN, VHOST_IOTLB_BATCH_END

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.sim import File

PAGE = 4096
DROP, EIO, LATE = Strike(drop=True), Strike(E.EIO), Strike(delay_ns=1000)


class Struck:
    """A port that strikes one operation, and remembers what it was asked."""

    def __init__(self, op: str, strike: Strike) -> None:
        self.op = op
        self.fate = strike
        self.asked: list[tuple[str, str]] = []

    def strike(self, op: str, device: str) -> Strike | None:
        self.asked.append((op, device))
        return self.fate if op == self.op else None


def strike(machine: Machine, op: str, what: Strike) -> list[Event]:
    """Install a port; the FAULT events from then on."""
    events: list[Event] = []
    machine.sim.listen(lambda event: events.append(event) if event[3] == Kind.FAULT else None)
    machine.sim.kernel.faults = Struck(op, what)
    return events


@pytest.mark.parametrize(
    ("strike", "text"),
    [
        (EIO, "EIO"),
        (DROP, "drop"),
        (LATE, "delay=1000ns"),
        (Strike(E.EIO, 5, drop=True), "delay=5ns+EIO"),
        (Strike(E.ENOTSUPP), "ENOTSUPP"),
    ],
)
def test_what_a_strike_does_is_told_in_the_notation_of_plans(strike: Strike, text: str) -> None:
    assert action(strike) == text


@pytest.mark.parametrize("kind", ["vdpasim_net", "vhost-net"])
class TestRequest:
    def test_fails_before_anything_was_done(self, kind: str) -> None:
        one = Machine(kind, owner=False)
        events = strike(one, "VHOST_SET_OWNER", Strike(E.ENOMEM))
        with refused(E.ENOMEM, "fault.injected"):
            one.call(vhost.VHOST_SET_OWNER)
        assert events[0][4:] == (self.name(kind), "VHOST_SET_OWNER:ENOMEM", E.ENOMEM)
        one.sim.kernel.faults = None
        one.call(vhost.VHOST_SET_OWNER)

    def test_is_swallowed(self, kind: str) -> None:
        one = Machine(kind, owner=False)
        strike(one, "VHOST_SET_OWNER", DROP)
        one.call(vhost.VHOST_SET_OWNER)
        one.sim.kernel.faults = None
        one.call(vhost.VHOST_SET_OWNER)

    def test_that_no_table_names_is_not_asked_about(self, kind: str) -> None:
        one = Machine(kind)
        port = one.sim.kernel.faults = Struck("", DROP)
        with refused(E.ENOTTY):
            one.file.ioctl_nowait(0xAF7A, bytes(8))
        assert port.asked == []

    def test_with_an_errno_no_caller_sees_is_enotty(self, kind: str) -> None:
        one = Machine(kind)
        strike(one, "VHOST_GET_FEATURES", Strike(E.ENOIOCTLCMD))
        with refused(E.ENOTTY, "fault.injected"):
            one.number(vhost.VHOST_GET_FEATURES, 8)

    def test_that_is_late_cannot_be_had_at_once(self, kind: str) -> None:
        one = Machine(kind, owner=False)
        strike(one, "VHOST_SET_OWNER", LATE)
        with pytest.raises(WouldBlock):
            one.call(vhost.VHOST_SET_OWNER)
        one.sim.kernel.faults = None
        one.call(vhost.VHOST_SET_OWNER)  # the signal left nothing behind

    @staticmethod
    def name(kind: str) -> str:
        return "vhost-net-0" if kind == "vhost-net" else "vhost-vdpa-0"


def test_a_late_request_takes_virtual_time() -> None:
    one = Machine(owner=False)
    strike(one, "VHOST_SET_OWNER", LATE)

    async def main(_: object) -> int:
        await one.file.ioctl(vhost.VHOST_SET_OWNER.request())
        return one.sim.kernel.now

    assert one.sim.run(main) == 1000


class TestOpen:
    @pytest.mark.parametrize(("kind", "name"), [("vdpasim_net", "vhost-vdpa-0"), ("vhost-net", "vhost-net")])
    def test_fails(self, kind: str, name: str) -> None:
        one = Machine(kind)
        one.file.close_nowait()
        events = strike(one, "open", Strike(E.EMFILE))
        with refused(E.EMFILE, "fault.injected"):
            one.process.open_nowait(one.path)
        assert events[0][4:] == (name, "open:EMFILE", E.EMFILE)

    def test_of_no_device_is_not_asked_about(self) -> None:
        one = Machine()
        port = one.sim.kernel.faults = Struck("open", EIO)
        with refused(E.ENOENT):
            one.process.open_nowait("/dev/vhost-vdpa-7")
        assert port.asked == []


class TestMessage:
    @pytest.mark.parametrize("kind", ["vdpasim_net", "vhost-net"])
    def test_fails_as_efault_whatever_the_handler_says(self, kind: str) -> None:
        one = Machine(kind)
        strike(one, "UPDATE", Strike(E.ENOSPC))
        with refused(E.EFAULT, "fault.injected", inside=E.ENOSPC):
            one.update(0, PAGE, one.memory().addr)

    def test_that_is_swallowed_answers_its_size_and_does_nothing(self) -> None:
        one = Machine()
        strike(one, "UPDATE", DROP)
        ram = one.memory()
        assert one.update(0, PAGE, ram.addr) == 72
        one.sim.kernel.faults = None
        one.update(0, PAGE, ram.addr)  # would be EEXIST

    @pytest.mark.parametrize(
        ("kind", "name"), [(2, "UPDATE"), (3, "INVALIDATE"), (5, "BATCH_BEGIN"), (6, "BATCH_END"), (7, "REMAP")]
    )
    def test_each_type_has_its_name(self, kind: int, name: str) -> None:
        one = Machine()
        port = one.sim.kernel.faults = Struck(name, DROP)
        one.message(kind, size=PAGE)
        assert port.asked == [(name, "vhost-vdpa-0")]

    @pytest.mark.parametrize("kind", [1, 99])
    def test_what_is_no_message_to_the_kernel_is_not_asked_about(self, kind: int) -> None:
        one = Machine()
        port = one.sim.kernel.faults = Struck("MISS", DROP)
        with refused(E.EFAULT):
            one.message(kind, size=PAGE)
        assert port.asked == []


class TestMap:
    def test_a_device_that_refuses_its_map_keeps_the_one_it_had(self) -> None:
        one = Machine()
        ram = one.memory()
        one.update(0, PAGE, ram.addr)
        strike(one, "set_map", Strike(E.ENOMEM))
        with refused(E.EFAULT, "fault.injected", inside=E.ENOMEM):
            one.update(PAGE, PAGE, ram.addr)
        assert held(one) == [0]

    def test_a_device_that_only_says_it_took_the_map(self) -> None:
        one = Machine()
        strike(one, "set_map", DROP)
        one.update(0, PAGE, one.memory().addr)
        assert held(one) == [0]  # the identity it began with
        assert passthrough(one)

    def test_batch_end_does_not_notice_a_refusal(self) -> None:
        one = Machine()
        events = strike(one, "set_map", EIO)
        one.message(VHOST_IOTLB_BATCH_BEGIN)
        one.update(0, PAGE, one.memory().addr)
        one.message(VHOST_IOTLB_BATCH_END)
        assert [event[5] for event in events] == ["set_map:EIO"]
        assert passthrough(one)

    def test_dma_map_fails(self) -> None:
        one = Machine(batch_mapping=False)
        strike(one, "dma_map", EIO)
        ram = one.memory()
        with refused(E.EFAULT, inside=E.EIO):
            one.update(0, PAGE, ram.addr)
        one.sim.kernel.faults = None
        one.update(0, PAGE, ram.addr)
        assert held(one) == [0]

    @pytest.mark.parametrize("what", [EIO, DROP])
    def test_nobody_notices_that_dma_unmap_failed(self, what: Strike) -> None:
        one = Machine(batch_mapping=False)
        one.update(0, PAGE, one.memory().addr)
        strike(one, "dma_unmap", what)
        one.invalidate(0, PAGE)
        assert held(one) == [0]

    def test_dma_map_that_is_swallowed(self) -> None:
        one = Machine(batch_mapping=False)
        strike(one, "dma_map", DROP)
        one.update(0, PAGE, one.memory().addr)
        assert passthrough(one)


def held(machine: Machine) -> list[int]:
    """First addresses of what the device has in its first map."""
    maps = machine.device.device.maps  # type: ignore[attr-defined]
    return sorted({entry.start for entry in maps[0].table} - {1 << 63})


def passthrough(machine: Machine) -> bool:
    return bool(machine.device.device.maps[0].passthrough)  # type: ignore[attr-defined]


def read_sector(board: Board) -> None:
    """Post a read of the disk's first sector, and kick."""
    queue = board.queues[0]
    queue.post(
        board.readable(0, bytes(16)),
        board.writable(0x100, 512),
        board.writable(0x400, 1),
    )
    queue.kick()


class TestNotification:
    def test_a_kick_is_lost(self) -> None:
        board = Board("vdpasim_blk")
        events = strike(board, "kick", DROP)
        read_sector(board)
        assert board.queues[0].used() == []
        assert events[0][4:] == ("vhost-vdpa-0", "kick:drop", 0)
        assert board.device.node.opened is not None
        assert board.device.node.opened.statistics().kicks == 0

    def test_a_kick_is_late(self) -> None:
        board = Board("vdpasim_blk")
        strike(board, "kick", LATE)
        read_sector(board)
        board.sim.advance(999)
        assert board.queues[0].used() == []
        board.sim.advance(1)
        assert len(board.queues[0].used()) == 1

    def test_a_late_kick_is_lost_if_nobody_listens_any_more(self) -> None:
        board = Board("vdpasim_blk")
        strike(board, "kick", LATE)
        read_sector(board)
        board.file.close_nowait()
        board.sim.advance(1000)
        assert board.queues[0].used() == []

    def test_an_interrupt_is_lost(self) -> None:
        board = Board("vdpasim_blk")
        strike(board, "call", DROP)
        read_sector(board)
        assert (len(board.queues[0].used()), board.queues[0].interrupts()) == (1, 0)

    def test_an_interrupt_is_late(self) -> None:
        board = Board("vdpasim_blk")
        strike(board, "call", LATE)
        read_sector(board)
        assert board.queues[0].interrupts() == 0
        board.sim.advance(1000)
        assert board.queues[0].interrupts() == 1

    @pytest.mark.parametrize(("what", "now", "then"), [(DROP, 0, 0), (LATE, 0, 1), (Strike(), 1, 1)])
    def test_a_config_interrupt(self, what: Strike, now: int, then: int) -> None:
        one = Machine()
        eventfd = one.process.eventfd()
        one.call(vhost.VHOST_VDPA_SET_CONFIG_CALL, eventfd.fd)
        strike(one, "config", what)
        file = one.device.node.opened
        assert file is not None
        assert file.config_ctx is not None
        ctx = file.config_ctx
        file.config_changed()
        one.sim.run_idle()
        assert ctx.count == now
        one.sim.advance(1000)
        assert ctx.count == then

    def test_what_has_no_eventfd_is_not_asked_about(self) -> None:
        board = Board("vdpasim_blk")
        board.call(vhost.VHOST_SET_VRING_CALL, 0, 0xFFFFFFFF)
        port = board.sim.kernel.faults = Struck("", DROP)
        file = board.device.node.opened
        assert file is not None
        file.config_changed()
        file.vqs[0].signal_call()
        assert port.asked == []


class TestMiss:
    def test_is_never_queued(self) -> None:
        board = Board("vdpasim_blk+miss", mapped=False)
        strike(board, "MISS", DROP)
        board.queues[0].kick()
        with pytest.raises(BlockingIOError):
            nonblocking(board).read_nowait(72)
        board.sim.kernel.faults = None
        board.queues[0].kick()
        assert len(board.file.read_nowait(72)) == 72


def nonblocking(machine: Machine) -> File:
    machine.file.open_file.flags |= O_NONBLOCK
    return machine.file


class TestDma:
    @pytest.mark.parametrize("op", ["dma.read", "dma.write"])
    def test_that_is_cut_short_is_a_fault_for_the_device(self, op: str) -> None:
        board = Board("vdpasim_blk")
        events = strike(board, op, Strike(E.EFAULT))
        read_sector(board)
        assert board.queues[0].used() == []
        assert events[0][4:] == ("dev", f"{op}:EFAULT", E.EFAULT)

    def test_strikes_a_device_whose_ring_was_found_before(self) -> None:
        board = Board("vdpasim_blk")
        read_sector(board)
        assert len(board.queues[0].used()) == 1
        board.sim.kernel.faults = Struck("dma.write", Strike(E.EFAULT))
        read_sector(board)
        assert board.queues[0].used() == []

    def test_of_vhost_net(self) -> None:
        net = NetBoard()
        strike(net, "dma.read", Strike(E.EFAULT))
        with refused(E.EFAULT, "net.backend.used"):
            net.call(vhost.VHOST_NET_SET_BACKEND, 1, net.process.tap("tap0").fd)


class NetBoard(Machine):
    """vhost-net with a TX ring in user memory."""

    def __init__(self) -> None:
        super().__init__("vhost-net")
        ram = self.memory()
        self.call(vhost.VHOST_SET_MEM_TABLE, 0, code="Q")
        self.call(vhost.VHOST_SET_VRING_NUM, 1, 16)
        addresses = (ram.addr, ram.addr + 0x800, ram.addr + 0x400)
        self.call(vhost.VHOST_SET_VRING_ADDR, 1, 0, *addresses, 0, code="IIQQQQ")


STRIKES = st.builds(Strike, st.sampled_from([0, E.EIO, E.EFAULT]), st.integers(0, 2000), st.booleans())


@given(st.lists(st.none() | STRIKES))
def test_whatever_strikes_the_machine_stays_whole(strikes: list[Strike | None]) -> None:
    class Port:
        def strike(self, op: str, device: str) -> Strike | None:
            return strikes.pop() if strikes else None

    board = Board("vdpasim_blk")
    board.sim.kernel.faults = Port()
    steps: list[Callable[[], object]] = [
        partial(read_sector, board),
        lambda: board.invalidate(IOVA, PAGE),
        lambda: board.call(vhost.VHOST_VDPA_SUSPEND),
        lambda: board.status(0),
        lambda: board.update(IOVA, PAGE, board.ram.addr),
        lambda: board.call(vhost.VHOST_SET_VRING_NUM, 0, 16),
        lambda: board.status(RUNNING),
        lambda: board.queues[0].kick_fd.write_nowait(KICK),
        board.file.close_nowait,
        lambda: board.process.open_nowait(board.path),
    ]
    for step in steps:
        try:
            step()
        except (OSError, UsageError, WouldBlock):
            pass
        board.sim.advance(1000)
    board.sim.kernel.faults = None
    if not board.device.node.opened:
        board.process.open_nowait(board.path)
