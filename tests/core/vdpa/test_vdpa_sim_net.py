"""The simulated network device: what is looped back, what is filtered, what its control queue believes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.rings import BUFFERS, IOVA, NEXT, UNMAPPED, WRITE, Board, Queue, inside, rules_hit
from tests.core.support import ACCESS_PLATFORM, VERSION_1
from vdpasim.vmm.guest import Buffer, Used

CTRL_VQ = 1 << 17
HEADER = bytes(range(12))
BROADCAST = b"\xff" * 6
MINE = "02:00:00:00:00:07"
OWN = bytes([2, 0, 0, 0, 0, 7])
OK, ERR = 0, 1
KERNELS = ["6.1", "6.12", "7.1", "tip"]


class Wire(Board):
    """A running network device with RX and TX, and control if it was negotiated."""

    def __init__(self, kernel: str = "6.12", *, features: int = ACCESS_PLATFORM | VERSION_1, **how: Any) -> None:
        control = bool(features & CTRL_VQ)
        super().__init__("vdpasim_net", kernel, queues=2 + control, negotiated=features, **how)
        self.rx, self.tx = self.queues[:2]
        self.posted = 0

    @property
    def control(self) -> Queue:
        return self.queues[2]

    def _offset(self) -> int:
        self.posted += 1
        return 0x2000 * self.posted

    def receive(self, *lengths: int) -> list[Buffer]:
        """Post one RX chain of buffers of these lengths."""
        at = self._offset()
        buffers = [self.writable(at + sum(lengths[:i]), length) for i, length in enumerate(lengths)]
        self.rx.post(*buffers)
        return buffers

    def send(self, destination: bytes, payload: bytes = b"", header: bytes = HEADER) -> bytes:
        """Post one TX chain, header and frame apart; what it says in all."""
        at = self._offset()
        frame = destination + payload
        self.tx.post(self.readable(at, header), self.readable(at + 0x100, frame))
        return header + frame

    def heard(self) -> list[int]:
        """Lengths of what has been received."""
        return [length for _, length in self.rx.used()]

    def command(self, data: bytes, space: int = 1) -> Buffer:
        """Post one control command; where its ack goes."""
        at = self._offset()
        ack = self.writable(at + 0x100, space)
        self.control.post(self.readable(at, data), *([ack] if space else []))
        return ack

    @property
    def address(self) -> bytes:
        return inside(self).get_config(0, 6)


def control_wire(kernel: str = "6.12") -> Wire:
    return Wire(kernel, features=ACCESS_PLATFORM | VERSION_1 | CTRL_VQ)


# -- loopback


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_frame_comes_back_with_its_header_as_it_is(kernel: str) -> None:
    wire = Wire(kernel)
    (buffer,) = wire.receive(2048)
    sent = wire.send(BROADCAST, b"hello")
    wire.tx.kick()
    assert (wire.tx.used(), wire.rx.used()) == ([Used(0, 0)], [Used(0, len(sent))])
    assert wire.content(buffer) == sent + b"\xee" * (2048 - len(sent)), "num_buffers is not set to 1"
    assert (wire.tx.interrupts(), wire.rx.interrupts()) == (1, 1)


def test_a_frame_is_spread_over_the_buffers_of_a_chain() -> None:
    wire = Wire()
    buffers = wire.receive(5, 0, 7, 100)
    sent = wire.send(BROADCAST, b"0123456789")
    wire.tx.kick()
    assert b"".join(wire.content(one) for one in buffers)[: len(sent)] == sent
    assert wire.heard() == [len(sent)]


@pytest.mark.parametrize("space", [1, 12, 27])
def test_a_frame_is_cut_to_the_rx_chain(space: int) -> None:
    wire = Wire()
    (buffer,) = wire.receive(space)
    sent = wire.send(BROADCAST, b"0123456789")
    wire.tx.kick()
    assert (wire.heard(), wire.content(buffer)) == ([space], sent[:space])


@pytest.mark.parametrize(("payload", "received"), [(4077, 4095), (4078, 4096), (4079, 4096), (8000, 4096)])
def test_header_and_frame_are_cut_to_4096_bytes_without_a_word(payload: int, received: int) -> None:
    wire = Wire()
    wire.receive(8192)
    frame = wire.readable(0x10000, HEADER + BROADCAST + bytes(payload))
    wire.tx.post(frame)
    wire.tx.kick()
    assert wire.heard() == [received]


def test_frames_keep_their_order_and_each_has_a_chain() -> None:
    wire = Wire()
    buffers = [wire.receive(64)[0] for _ in range(3)]
    sent = [wire.send(BROADCAST, bytes([n]) * n) for n in range(3)]
    wire.tx.kick()
    assert [wire.content(buffer)[: len(one)] for buffer, one in zip(buffers, sent, strict=True)] == sent
    assert [head for head, _ in wire.rx.used()] == [0, 1, 2]


@pytest.mark.parametrize(("silent", "interrupts"), [("rx", (1, 0)), ("tx", (0, 1))])
def test_each_queue_has_its_own_say_about_interrupts(silent: str, interrupts: tuple[int, int]) -> None:
    wire = Wire()
    {"rx": wire.rx, "tx": wire.tx}[silent].no_interrupts()
    wire.receive(64)
    wire.send(BROADCAST)
    wire.tx.kick()
    assert (len(wire.tx.used()), len(wire.rx.used())) == (1, 1)
    assert (wire.tx.interrupts(), wire.rx.interrupts()) == interrupts


@pytest.mark.parametrize("missing", [0, 1])
def test_nothing_moves_unless_both_queues_are_enabled(missing: int) -> None:
    wire = Wire()
    wire.receive(64)
    wire.send(BROADCAST)
    wire.queues[missing].enable(0)
    wire.queues[1 - missing].kick()
    assert (wire.tx.used(), wire.rx.used()) == ([], [])
    wire.queues[missing].enable(1)
    wire.tx.kick()
    assert wire.heard() == [18]


# -- the filter


@pytest.mark.parametrize(
    ("mac", "destination", "accepted"),
    [
        (MINE, OWN, True),
        (MINE, BROADCAST, True),
        (MINE, b"\x01\0\x5e\0\0\1", True),
        (MINE, b"\x03\0\0\0\0\0", True),
        (MINE, b"\x04\0\0\0\0\7", False),
        (MINE, b"\x02\1\0\0\0\7", False),
        # what lies behind a zero byte both share is not compared
        (MINE, b"\x02\0\xff\xff\xff\xff", True),
        ("02:11:22:33:44:55", b"\x02\x11\x22\x33\x44\x55", True),
        ("02:11:22:33:44:55", b"\x02\x11\x22\x33\x44\x56", False),
        ("02:11:00:33:44:55", b"\x02\x11\0\x99\x99\x99", True),
        ("02:11:00:33:44:55", b"\x02\x11\1\x33\x44\x55", False),
        (None, bytes(6), True),
        (None, b"\0\1\2\3\4\5", True),
        (None, b"\2\0\0\0\0\0", False),
    ],
)
def test_the_destination_decides(mac: str | None, destination: bytes, accepted: bool) -> None:
    wire = Wire(mac=mac)
    wire.receive(64)
    wire.send(destination)
    with rules_hit() as hit:
        wire.tx.kick()
    assert wire.heard() == ([18] if accepted else [])
    assert ("sim.net.filter" in hit) != accepted
    assert (wire.tx.used(), wire.tx.interrupts()) == ([Used(0, 0)], 1), "a dropped frame counts as sent"


@pytest.mark.parametrize(
    ("features", "length", "accepted"),
    [
        (ACCESS_PLATFORM | VERSION_1, 17, False),
        (ACCESS_PLATFORM | VERSION_1, 18, True),
        (ACCESS_PLATFORM, 15, False),
        (ACCESS_PLATFORM, 16, True),
    ],
)
def test_a_frame_without_a_whole_destination_is_dropped(features: int, length: int, accepted: bool) -> None:
    wire = Wire(features=features)
    wire.receive(64)
    wire.tx.post(wire.readable(0x10000, b"\xff" * length))
    wire.tx.kick()
    assert wire.heard() == ([length] if accepted else [])
    assert wire.tx.used() == [Used(0, 0)]


def test_the_destination_stands_behind_a_header_whose_size_was_negotiated() -> None:
    wire = Wire(features=ACCESS_PLATFORM, mac=MINE)
    wire.receive(64)
    wire.receive(64)
    wire.send(OWN, header=bytes(10))
    wire.send(OWN, header=bytes(12))
    wire.tx.kick()
    assert wire.heard() == [16]


def test_a_dropped_frame_costs_no_rx_buffer_and_the_pass_goes_on() -> None:
    wire = Wire(mac=MINE)
    (buffer,) = wire.receive(64)
    wire.send(b"\4" * 6)
    mine = wire.send(OWN, b"for me")
    wire.tx.kick()
    assert (wire.heard(), len(wire.tx.used())) == ([len(mine)], 2)
    assert wire.content(buffer)[: len(mine)] == mine


def test_the_config_space_is_the_filter() -> None:
    wire = Wire(mac=MINE)
    inside(wire).set_config(0, b"\4")
    wire.receive(64)
    wire.send(OWN)
    wire.send(b"\4\0\0\0\0\7")
    wire.tx.kick()
    assert wire.heard() == [18]


# -- what goes wrong


def test_without_an_rx_buffer_the_frame_is_lost_and_those_behind_it_are_stranded() -> None:
    wire = Wire()
    for _ in range(3):
        wire.send(BROADCAST)
    with rules_hit() as hit:
        wire.tx.kick()
    assert "sim.net.overrun" in hit
    assert (wire.tx.used(), wire.tx.interrupts()) == ([Used(0, 0)], 1)
    wire.receive(64)
    assert wire.heard() == []
    wire.rx.kick()
    assert (wire.heard(), len(wire.tx.used())) == ([18], 2), "one more delivered, one more lost"


def test_a_broken_rx_chain_is_an_overrun_too() -> None:
    wire = Wire()
    wire.rx.post(wire.readable(0, bytes(64)))  # the wrong direction
    wire.receive(64)
    wire.send(BROADCAST)
    with rules_hit() as hit:
        wire.tx.kick()
    assert {"vringh.chain.direction", "sim.net.overrun"} <= hit
    assert (wire.tx.used(), wire.rx.used(), wire.rx.base) == ([Used(0, 0)], [], 1)


def test_a_broken_tx_chain_stops_the_pass_and_never_comes_back() -> None:
    wire = Wire()
    wire.receive(64)
    wire.tx.post(wire.writable(0, 64))
    wire.send(BROADCAST)
    with rules_hit() as hit:
        wire.tx.kick()
    assert {"vringh.chain.direction", "sim.net.tx-broken"} <= hit
    assert (wire.tx.used(), wire.rx.used(), wire.tx.base) == ([], [], 1)
    wire.tx.kick()
    assert (wire.tx.used(), wire.heard()) == ([Used(1, 0)], [18])


@pytest.mark.parametrize("broken", [Buffer(UNMAPPED, 64), Buffer(IOVA + BUFFERS, 0)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_failed_or_empty_gather_is_completed_and_nothing_stale_is_looped_back(kernel: str, broken: Buffer) -> None:
    wire = Wire(kernel)
    first, second = wire.receive(64)[0], wire.receive(64)[0]
    secret = wire.send(BROADCAST, b"secret")
    wire.tx.post(broken)
    last = wire.send(BROADCAST)
    with rules_hit() as hit:
        wire.tx.kick()
    assert "sim.net.tx-failed" in hit
    assert len(wire.tx.used()) == 3
    assert wire.heard() == [len(secret), len(last)]
    assert wire.content(first)[: len(secret)] == secret
    assert b"secret" not in wire.content(second)


@pytest.mark.parametrize(("kernel", "reported"), [("6.12", False), ("6.12-F11", True), ("7.1", True), ("tip", False)])
def test_where_a_kernel_would_leak_its_memory_that_is_reported(kernel: str, reported: bool) -> None:
    wire = Wire(kernel)
    wire.tx.post(Buffer(UNMAPPED, 64))
    wire.tx.kick()
    assert [ident for ident, _ in wire.sim.kernel.violations] == ["kernel.leak"] * reported


@pytest.mark.parametrize("buffer", [Buffer(UNMAPPED, 64, writable=True), Buffer(IOVA, 0, writable=True)])
def test_an_rx_buffer_that_cannot_be_written_leaks_both_chains(buffer: Buffer) -> None:
    wire = Wire()
    wire.rx.post(buffer)
    wire.receive(64)
    wire.send(BROADCAST)
    wire.send(BROADCAST, b"second")
    with rules_hit() as hit:
        wire.tx.kick()
    assert "sim.net.rx-failed" in hit
    assert (wire.tx.used(), wire.rx.used(), wire.tx.interrupts()) == ([], [], 0)
    assert (wire.tx.base, wire.rx.base) == (1, 1)
    wire.tx.kick()
    assert (wire.tx.used(), wire.heard()) == ([Used(2, 0)], [24])
    assert wire.tx.used_idx == 1


# -- how much in one pass


@pytest.mark.parametrize(("frames", "passes"), [(4, 1), (5, 2), (9, 2), (10, 3)])
def test_after_a_fifth_delivered_frame_the_worker_comes_again(frames: int, passes: int) -> None:
    wire = Wire()
    for _ in range(frames):
        wire.rx.post(wire.writable(0, 64))
        wire.send(BROADCAST)
    wire.tx.kick()
    assert (wire.heard(), inside(wire).statistics().passes) == ([18] * frames, passes)


@pytest.mark.parametrize(("kernel", "passes"), [("6.1", 1), ("6.12", 2), ("tip", 2)])
def test_a_dropped_frame_counts_too_but_on_6_1(kernel: str, passes: int) -> None:
    wire = Wire(kernel, mac=MINE)
    wire.receive(64)
    for _ in range(4):
        wire.send(b"\4" * 6)
    wire.send(OWN)
    wire.tx.kick()
    assert (wire.heard(), inside(wire).statistics().passes) == ([18], passes)


def test_only_a_delivered_frame_ends_a_pass() -> None:
    wire = Wire(mac=MINE)
    for _ in range(7):
        wire.send(b"\4" * 6)
    wire.tx.kick()
    assert (len(wire.tx.used()), inside(wire).statistics().passes) == (7, 1)


# -- control


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_address_is_set_by_command_even_if_that_was_not_negotiated(kernel: str) -> None:
    wire = control_wire(kernel)
    ack = wire.command(b"\1\1" + OWN)
    wire.control.kick()
    assert (wire.content(ack), wire.address, wire.control.used()) == (b"\0", OWN, [Used(0, 1)])


@pytest.mark.parametrize(
    ("data", "ack"),
    [
        (b"\1\1" + OWN + b"more", OK),
        (b"\1\0" + OWN, ERR),
        (b"\1\2" + OWN, ERR),
        (b"\0\1" + OWN, ERR),
        (b"\2\0", ERR),
        (b"\4\0" + OWN, ERR),
        (b"\1\1", ERR),
    ],
)
def test_everything_else_is_an_error(data: bytes, ack: int) -> None:
    wire = control_wire()
    at = wire.command(data)
    wire.control.kick()
    assert wire.content(at)[0] == ack
    assert wire.address == (OWN if ack == OK else bytes(6))


def test_of_a_short_address_the_bytes_that_were_there_are_stored() -> None:
    wire = control_wire()
    inside(wire).set_config(0, b"\x22" * 6)
    ack = wire.command(b"\1\1\4\5\6")
    with rules_hit() as hit:
        wire.control.kick()
    assert "sim.net.ctrl-partial" in hit
    assert (wire.content(ack)[0], wire.address) == (ERR, b"\4\5\6\x22\x22\x22")


@pytest.mark.parametrize(
    ("kernel", "address"), [("tip", b"\4\5\6\x22\x22\x22"), ("tip-bug-ctrl-partial-mac", b"\x22" * 6)]
)
def test_of_an_address_that_faults_the_bytes_before_the_fault_are_stored(kernel: str, address: bytes) -> None:
    wire = control_wire(kernel)
    inside(wire).set_config(0, b"\x22" * 6)
    command, ack = wire.readable(0, b"\1\1\4\5\6"), wire.writable(0x100, 1)
    wire.control.post(command, Buffer(UNMAPPED, 3), ack)
    wire.control.kick()
    assert (wire.content(ack)[0], wire.address) == (ERR, address)


def test_an_ack_carries_over_to_an_unknown_command_of_the_same_pass() -> None:
    wire = control_wire()
    acks = [wire.command(data) for data in (b"\7\0", b"\1\1" + OWN, b"\7\0", b"\1\7", b"\7\0")]
    wire.control.kick()
    assert [wire.content(ack)[0] for ack in acks] == [ERR, OK, OK, ERR, ERR]


def test_but_not_to_the_next_pass() -> None:
    wire = control_wire()
    wire.command(b"\1\1" + OWN)
    wire.control.kick()
    ack = wire.command(b"\7\0")
    wire.control.kick()
    assert wire.content(ack)[0] == ERR


@pytest.mark.parametrize("data", [b"", b"\1"])
def test_a_short_header_is_consumed_and_stops_control_for_the_pass(data: bytes) -> None:
    wire = control_wire()
    wire.command(data)
    ack = wire.command(b"\1\1" + OWN)
    with rules_hit() as hit:
        wire.control.kick()
    assert "sim.net.ctrl-short" in hit
    assert (wire.control.used(), wire.content(ack)) == ([], b"\xee")
    wire.control.kick()
    assert (wire.control.used(), wire.content(ack)) == ([Used(2, 1)], b"\0")


def test_control_comes_first_and_decides_about_frames_of_the_same_pass() -> None:
    wire = control_wire()
    wire.receive(64)
    wire.send(OWN)
    wire.command(b"\1\1" + OWN)
    wire.tx.kick()
    assert wire.heard() == [18]


def test_control_works_while_the_others_are_disabled_and_without_a_budget() -> None:
    wire = control_wire()
    for queue in (wire.rx, wire.tx):
        queue.enable(0)
    for _ in range(8):
        wire.command(b"\1\1" + OWN)
    wire.control.kick()
    assert (len(wire.control.used()), inside(wire).statistics().passes) == (8, 1)


def test_control_interrupts_also_when_it_was_asked_not_to() -> None:
    wire = control_wire()
    wire.control.no_interrupts()
    wire.command(b"\1\1" + OWN)
    wire.control.kick()
    assert wire.control.interrupts() == 1


def test_without_the_feature_there_is_no_control() -> None:
    board = Board("vdpasim_net", queues=3)
    control = board.queues[2]
    control.post(board.readable(0, b"\1\1" + OWN), board.writable(0x100, 1))
    control.kick()
    assert (control.used(), control.base) == ([], 0)


@pytest.mark.parametrize(
    ("buffers", "length"),
    [((), 0), ((Buffer(IOVA, 0, writable=True),), 0), ((Buffer(UNMAPPED, 1, writable=True),), 2**32 - 14)],
)
def test_the_used_length_is_whatever_the_push_of_the_ack_returned(buffers: tuple[Buffer, ...], length: int) -> None:
    wire = control_wire()
    wire.control.post(wire.readable(0, b"\1\1" + OWN), *buffers)
    wire.control.kick()
    assert (wire.control.used(), wire.address) == ([Used(0, length)], OWN)
    assert wire.control.interrupts() == 1


def test_an_address_that_cannot_be_read_is_an_error_and_changes_nothing() -> None:
    wire = control_wire()
    ack = wire.writable(0x100, 1)
    wire.control.post(wire.readable(0, b"\1\1"), Buffer(UNMAPPED, 6), ack)
    wire.control.kick()
    assert (wire.content(ack)[0], wire.address) == (ERR, bytes(6))


def test_the_ack_goes_to_the_first_writable_byte() -> None:
    wire = control_wire()
    ack = wire.command(b"\1\1" + OWN, space=4)
    wire.control.kick()
    assert (wire.content(ack), wire.control.used()) == (b"\0\xee\xee\xee", [Used(0, 1)])


@pytest.mark.parametrize("queue", [0, 1])
def test_a_descriptor_that_turns_back_is_a_broken_chain(queue: int) -> None:
    wire = Wire()
    other = wire.queues[1 - queue]
    other.post(wire.writable(0, 64) if queue else wire.readable(0, HEADER + BROADCAST))
    wire.queues[queue].descriptor(0, IOVA + BUFFERS, 64, NEXT | (0 if queue else WRITE), 0)
    wire.queues[queue].offer(0)
    with rules_hit() as hit:
        wire.tx.kick()
    assert "vringh.chain.loop" in hit
    assert (wire.rx.used(), wire.queues[queue].base) == ([], 1)


@pytest.mark.parametrize("lengths", [[0], [30, 0], [0, 30]])
def test_of_old_an_empty_descriptor_was_never_got_past_wherever_it_is(lengths: list[int]) -> None:
    wire = Wire("6.12+bug-zero-length-segment")
    wire.tx.post(*[Buffer(IOVA + BUFFERS, length) for length in lengths])
    wire.tx.kick()
    assert [name for name, _ in wire.sim.kernel.violations] == ["kernel.hang"]
