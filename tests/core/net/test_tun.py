"""Taps and packet sockets: which are backends, and where a frame goes."""

from __future__ import annotations

import pytest

from tests.core.support import refused
from vdpasim.core.net.tun import INBOX_MAX, VNET_HDR, SocketFile
from vdpasim.sim import Simulator, WouldBlock
from vdpasim.uapi import errno as E
from vdpasim.uapi.fcntl import O_NONBLOCK, O_RDWR


@pytest.mark.parametrize(
    ("kind", "backend", "attached"),
    [
        ("tap", True, True),
        ("tun-unattached", True, False),
        ("packet-raw", True, True),
        ("packet-dgram", False, True),
        ("inet-stream", False, True),
    ],
)
def test_vhost_net_takes_raw_packet_sockets_and_taps(kind: str, backend: bool, attached: bool) -> None:
    file = SocketFile(kind)
    assert (file.backend, file.attached) == (backend, attached)


@pytest.mark.parametrize(("vnet_hdr", "skipped"), [(True, VNET_HDR), (False, 0)])
def test_a_frame_out_reaches_every_listener_without_the_tap_s_header(vnet_hdr: bool, skipped: int) -> None:
    tap = SocketFile("tap", "tap0", vnet_hdr)
    ears = [SocketFile("packet-raw", "tap0", peer=tap) for _ in range(2)]
    data = bytes(range(60))
    tap.transmit(data)
    assert [ear.peek_frame() for ear in ears] == [data[skipped:]] * 2
    assert tap.peek_frame() is None


def test_a_frame_in_waits_in_order_and_tells_who_polls() -> None:
    tap = SocketFile("tap", "tap0")
    told: list[int] = []
    tap.waiting["queue"] = lambda: told.append(len(tap.inbox))
    for frame in (b"first", b"second"):
        tap.deliver(frame)
    assert told == [1, 2]
    assert tap.peek_frame() == b"first"
    tap.take_frame()
    assert tap.peek_frame() == b"second"


def test_who_stops_polling_while_told_does_not_disturb_the_others() -> None:
    tap = SocketFile("tap", "tap0")
    told: list[str] = []

    def once() -> None:
        told.append("once")
        del tap.waiting["once"]

    tap.waiting["once"] = once
    tap.waiting["always"] = lambda: told.append("always")
    tap.deliver(b"1")
    tap.deliver(b"2")
    assert told == ["once", "always", "always"]


def test_a_full_tap_loses_its_oldest_frame() -> None:
    tap = SocketFile("tap", "tap0")
    for n in range(INBOX_MAX + 3):
        tap.deliver(n.to_bytes(2, "big"))
    assert len(tap.inbox) == INBOX_MAX
    assert tap.peek_frame() == (3).to_bytes(2, "big")


def test_a_process_talks_to_the_guest_through_a_packet_socket() -> None:
    sim = Simulator()
    tap = sim.process("vmm").tap("tap0")
    wire = sim.process("host").socket("packet-raw", "tap0")
    assert wire.write_nowait(b"to the guest") == 12
    inside = tap.open_file.ops
    assert isinstance(inside, SocketFile)
    assert inside.peek_frame() == b"to the guest"
    inside.transmit(bytes(VNET_HDR) + b"from the guest")
    assert wire.read_nowait(4) == b"from", "cut to the buffer, the rest is gone"
    with pytest.raises(WouldBlock):
        wire.read_nowait(64)


def test_a_socket_that_does_not_block_says_so() -> None:
    sim = Simulator()
    host = sim.process("host")
    sim.process("vmm").tap("tap0")
    wire = host.socket("packet-raw", "tap0")
    wire.open_file.flags = O_RDWR | O_NONBLOCK
    with refused(E.EAGAIN, "net.socket.empty"):
        wire.read_nowait(64)


def test_a_reader_is_woken_by_a_frame() -> None:
    async def story(sim: Simulator) -> bytes:
        tap = sim.process("vmm").tap("tap0", vnet_hdr=False)
        wire = sim.process("host").socket("packet-raw", "tap0")
        inside = tap.open_file.ops
        assert isinstance(inside, SocketFile)

        async def later() -> None:
            inside.transmit(b"late")

        sim.spawn(later)
        data: bytes = await wire.read(64)
        return data

    assert Simulator().run(story) == b"late"


def test_a_tap_itself_and_an_unbound_socket_are_not_read_or_written_here() -> None:
    process = Simulator().process("p")
    for file in (process.tap("tap0"), process.socket("packet-raw")):
        with refused(E.EINVAL, "vfs.no-read"):
            file.read_nowait(64)
        with refused(E.EINVAL, "vfs.no-write"):
            file.write_nowait(b"frame")


class FarEnd:
    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def transmit(self, frame: bytes) -> None:
        self.frames.append(frame)


def test_the_far_end_gets_the_frame_and_each_is_counted() -> None:
    far = FarEnd()
    tap = SocketFile("tap", "tap0", vnet_hdr=True, far_end=far)
    tap.transmit(bytes(VNET_HDR) + b"out")
    for _ in range(INBOX_MAX + 2):
        tap.deliver(b"in")
    assert far.frames == [b"out"]
    assert (tap.sent, tap.received, tap.dropped) == (1, INBOX_MAX + 2, 2)


def test_a_reader_that_sleeps_is_woken_by_the_frame_itself() -> None:
    async def story(sim: Simulator) -> bytes:
        tap = sim.process("vmm").tap("tap0", vnet_hdr=False)
        wire = sim.process("host").socket("packet-raw", "tap0")
        inside = tap.open_file.ops
        assert isinstance(inside, SocketFile)
        got: list[bytes] = []

        async def reader() -> None:
            got.append(await wire.read(64))

        sim.spawn(reader)
        await sim.sleep(1_000)
        assert not got, "it sleeps, so only the wake-up can end it"
        inside.transmit(b"late")
        await sim.sleep(1_000)
        return b"".join(got)

    assert Simulator().run(story) == b"late"
