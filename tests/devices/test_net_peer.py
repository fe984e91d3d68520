"""What a pass of ``net_peer`` does to its queues, and how such a device is made; docs/net-peer.md says the same."""

from __future__ import annotations

import contextlib
import io
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rings import rules_hit
from tests.core.support import refused
from vdpasim.devices import frames, net_peer
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi import virtio_net as net
from vdpasim.uapi.virtio_config import VIRTIO_F_RING_PACKED
from vdpasim.uapi.virtio_ring import VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC
from vdpasim.vmm.guest import Buffer
from vdpasim.vmm.net import BUFFER_SIZE, CTRL_AT, HEADER, IOVA, RAM, RING_SIZE, NetVmm
from vdpasim.vmm.ping import echo_request, ping

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from vdpasim.devices.peer_device import NetPeer

FAR4, FAR6 = "192.0.2.1", "2001:db8::1"
PEER_MAC = bytes.fromhex("0200000000fe")


def run(
    story: Callable[[NetVmm, NetPeer], Coroutine[Any, Any, None]],
    *,
    kernel: str = "tip",
    pairs: int = 1,
    without: tuple[int, ...] = (),
    **options: Any,
) -> None:
    """A story about a guest and its device, from boot to end."""

    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", **options)
        await story(await NetVmm.boot(sim.process("vmm"), device.path, pairs=pairs, without=without), device.peer)

    Simulator(kernel, extensions=("net_peer",)).run(main)


def wire(to: str, size: int = 40) -> bytes:
    """A frame for a MAC, of an experimental kind."""
    return frames.ethernet(bytes.fromhex(to), PEER_MAC, 0x88B5, bytes(i & 0xFF for i in range(size)))


OWN, OTHER = "020000000001", "020000000099"


@pytest.mark.parametrize("event_idx", [False, True])
@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("mrg_rxbuf", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_of_rings_carries_frames(packed: bool, mrg_rxbuf: bool, indirect: bool, event_idx: bool) -> None:
    async def story(guest: NetVmm, peer: NetPeer) -> None:
        assert guest.has(VIRTIO_F_RING_PACKED) is packed
        assert guest.has(VIRTIO_RING_F_EVENT_IDX) is event_idx
        assert guest.has(VIRTIO_RING_F_INDIRECT_DESC) is indirect
        assert guest.has(net.VIRTIO_NET_F_MRG_RXBUF) is mrg_rxbuf
        for seq in range(35):
            assert await ping(guest, (FAR4, FAR6)[seq % 2], seq=seq, data=bytes(seq * 30))
        assert (peer.counts.tx, peer.counts.rx, peer.counts.dropped, peer.counts.errors) == (70, 70, 0, 0)

    run(story, packed=packed, event_idx=event_idx, indirect=indirect, mrg_rxbuf=mrg_rxbuf)


class TestReceiving:
    def test_num_buffers_is_one(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            ring = guest.queues[0]
            peer.inject(wire(OWN))
            await guest.process.sim.settle()
            (used,) = ring.ring.used()
            data = guest.ram.read(ring.posted[used.head], used.length)
            assert data == bytes(HEADER - 2) + b"\1\0" + wire(OWN)

        run(story)

    def test_a_frame_may_lie_in_several_buffers(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            frame = wire(OWN)[:14] + bytes(3 * BUFFER_SIZE)
            peer.inject(frame)
            assert await guest.receive() == frame
            assert peer.counts.rx == 1

        run(story, mrg_rxbuf=True, packed=True, mtu=9000)
        run(story, mrg_rxbuf=True, packed=False, mtu=9000)

    def test_without_merging_a_frame_that_is_too_long_is_lost_and_the_buffer_is_not(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            peer.inject(wire(OWN)[:14] + bytes(BUFFER_SIZE))
            peer.inject(wire(OWN))
            assert await guest.receive() == wire(OWN)
            assert (peer.counts.dropped, peer.counts.rx) == (1, 1)

        with rules_hit() as rules:
            run(story, packed=True, mtu=9000)
        assert "peer.rx.small" in rules

    def test_frames_wait_for_buffers_up_to_a_limit(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            for i in range(300):
                peer.inject(wire(OWN) + i.to_bytes(2, "big"))
                await guest.process.sim.settle()
            for i in range(16 + 256):
                frame = await guest.receive()
                assert frame is not None
                assert int.from_bytes(frame[-2:], "big") == i
            assert await guest.receive(1) is None
            assert peer.counts.dropped == 300 - 272

        with rules_hit() as rules:
            run(story, packed=True)
            run(story)
        assert "peer.rx.backlog" in rules

    @pytest.mark.parametrize(("size", "comes"), [(13, False), (14, True), (1518, True), (1519, False)])
    def test_what_is_no_frame_or_too_long_is_lost(self, size: int, comes: bool) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            peer.inject(bytes(wire(OWN, 2000)[:size]))
            assert (await guest.receive(1) is not None) is comes
            assert peer.counts.dropped == (not comes)

        run(story)

    def test_it_waits_for_enough_buffers_to_merge(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            for i in range(14):
                peer.inject(wire(OWN) + bytes([i]))
            long = wire(OWN)[:14] + bytes(2 * BUFFER_SIZE)
            peer.inject(long)
            await guest.process.sim.settle()
            assert peer.counts.rx == 14, "two buffers are left, and three are needed"
            for _ in range(14):
                assert await guest.receive() is not None
            assert await guest.receive() == long

        run(story, mrg_rxbuf=True, packed=True, mtu=9000)
        run(story, mrg_rxbuf=True, mtu=9000)


class TestSending:
    @pytest.mark.parametrize("size", [0, 13, 1500 + 19])
    def test_what_is_no_frame_is_taken_and_lost(self, size: int) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            await guest.send(bytes(size))
            assert await ping(guest, FAR4)
            assert (peer.counts.dropped, peer.counts.tx) == (1, 2)

        run(story)

    def test_a_pass_has_a_budget_and_goes_on_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(net_peer, "BUDGET", 4)

        async def story(guest: NetVmm, peer: NetPeer) -> None:
            passes = peer.passes
            for i in range(10):
                peer.arrive(wire(OWN) + bytes([i]), 0)
            peer.schedule_work()
            await guest.process.sim.settle()
            assert (peer.passes, peer.counts.rx) == (passes + 3, 10)

        run(story)

    def test_one_interrupt_announces_all_of_a_pass(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            before = peer.interrupts
            for _ in range(5):
                peer.arrive(wire(OWN), 0)
            peer.schedule_work()
            await guest.process.sim.settle()
            assert peer.interrupts == before + 1

        run(story, event_idx=False)


class TestBrokenQueues:
    def test_stand_still_and_others_go_on(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            tx = guest.queues[1]
            tx.ring.add(Buffer(IOVA, 8, writable=True))
            for looks in (1, 2):
                await tx.kick.write((1).to_bytes(8, "little"))
                await guest.process.sim.settle()
                assert peer.counts.errors == looks
            peer.inject(wire(OWN))
            assert await guest.receive() == wire(OWN)
            assert peer.status == 0xF
            base = await guest.device.get_vring_base(1)
            assert base == tx.ring.first_base

        with rules_hit() as rules:
            run(story, packed=True)
            run(story)
        assert {"peer.queue.error", "peer.packed.direction", "vringh.chain.direction"} <= rules

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_buffer_outside_the_map_gives_the_chain_back(self, packed: bool) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            before = await guest.states()
            await guest.device.iotlb_invalidate(IOVA, RAM)
            await guest.device.iotlb_update(IOVA, 0x40000, guest.ram.addr)
            await guest.send(echo_request(await guest.mac(), PEER_MAC, FAR4))
            await guest.process.sim.settle()
            assert await guest.states() == before
            await guest.device.iotlb_update(IOVA + 0x40000, RAM - 0x40000, guest.ram.addr + 0x40000)
            await guest.queues[1].kick.write((1).to_bytes(8, "little"))
            assert await guest.receive() is not None
            assert peer.counts.errors

        run(story, packed=packed)

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_used_ring_that_cannot_be_written_loses_nothing(self, packed: bool) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            before = await guest.states()
            await guest.device.iotlb_invalidate(IOVA, RAM)
            await guest.device.iotlb_update(IOVA, RAM, guest.ram.addr, 1)
            await guest.send(echo_request(await guest.mac(), PEER_MAC, FAR4))
            await guest.process.sim.settle()
            assert await guest.states() == before
            assert (peer.counts.tx, len(peer.capture.frames)) == (0, 0)
            await guest.device.iotlb_invalidate(IOVA, RAM)
            await guest.device.iotlb_update(IOVA, RAM, guest.ram.addr)
            await guest.queues[1].kick.write((1).to_bytes(8, "little"))
            assert await guest.receive() is not None

        # on kernels that check the read permission only, the used index of a split ring is written all the same;
        # its element comes first, and is not
        run(story, packed=packed, event_idx=False)


class TestControl:
    def test_commands_are_acked_as_they_went(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            assert await guest.set_rx_mode(net.VIRTIO_NET_CTRL_RX_PROMISC)
            assert await guest.set_mac(bytes.fromhex(OTHER))
            assert await guest.mac() == bytes.fromhex(OTHER)
            assert await guest.set_mac_tables([], [])
            for bad in ((9, 0, b""), (0, 9, b"\1"), (1, 1, b"short"), (1, 2, b""), (4, 0, b"\1\0"), (2, 0, b"\1\0")):
                assert not await guest.command(*bad), bad
            assert peer.filter.mac == bytes.fromhex(OTHER)
            assert peer.counts.commands == 9

        run(story)
        run(story, packed=True)

    def test_what_was_not_negotiated_is_refused(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            assert not await guest.set_rx_mode(net.VIRTIO_NET_CTRL_RX_PROMISC)
            assert not await guest.set_mac_tables([], [])
            assert not await guest.set_mac(bytes.fromhex(OTHER))
            assert not await guest.set_pairs(1)

        missing = (
            net.VIRTIO_NET_F_CTRL_RX,
            net.VIRTIO_NET_F_CTRL_RX_EXTRA,
            net.VIRTIO_NET_F_CTRL_MAC_ADDR,
            net.VIRTIO_NET_F_MQ,
        )
        run(story, max_vqp=2, without=missing)

    def test_the_mac_and_the_modes_decide_what_comes_in(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            async def comes(to: str) -> bool:
                peer.inject(wire(to))
                return await guest.receive(1) is not None

            group = "333300000001"
            assert [await comes(to) for to in (OWN, OTHER, group, "ff" * 6)] == [True, False, False, True]
            await guest.set_rx_mode(net.VIRTIO_NET_CTRL_RX_ALLMULTI)
            assert await comes(group)
            await guest.set_rx_mode(net.VIRTIO_NET_CTRL_RX_PROMISC)
            assert await comes(OTHER)
            await guest.set_rx_mode(net.VIRTIO_NET_CTRL_RX_PROMISC, False)
            await guest.set_mac(bytes.fromhex(OTHER))
            assert [await comes(OTHER), await comes(OWN)] == [True, False]
            assert peer.counts.filtered == 3

        run(story)

    def test_a_command_without_room_for_an_ack_is_done_and_says_so_by_length(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            guest.ram.write(CTRL_AT, bytes([0, 0, 1]))
            queue = guest.queues[2]
            queue.ring.add(Buffer(IOVA + CTRL_AT, 3))
            await guest.kick(2)
            await guest.process.sim.settle()
            assert [used.length for used in queue.ring.used()] == [0]
            assert peer.filter.modes == {"promisc"}

        run(story)

    def test_a_command_longer_than_any_is_refused(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            assert not await guest.command(0, 0, b"\1" + bytes(800))
            table = (64).to_bytes(4, "little") + bytes.fromhex(OTHER) * 64
            assert await guest.command(1, 0, table + table)
            assert not await guest.command(1, 0, table + table + b"\0")

        run(story)


class TestQueuePairs:
    def test_answers_come_on_the_pair_that_asked(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            for pair in range(3):
                await guest.send(echo_request(await guest.mac(), PEER_MAC, FAR4, seq=pair), pair)
                await guest.process.sim.settle()
                states = await guest.states()
                assert [states[2 * i] for i in range(3)] == [int(i <= pair) for i in range(3)]
            for _ in range(3):
                assert await guest.receive() is not None

        run(story, max_vqp=3, pairs=3)

    def test_only_active_pairs_are_served(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            assert await guest.set_pairs(1)
            await guest.send(echo_request(await guest.mac(), PEER_MAC, FAR4), 1)
            assert await guest.receive(1) is None
            assert await guest.set_pairs(2)
            assert await guest.receive() is not None, "what was posted is seen when the pair comes into use"

        run(story, max_vqp=4, pairs=2)

    @pytest.mark.parametrize("pairs", [0, 5, 0x8000])
    def test_a_number_out_of_range_is_refused(self, pairs: int) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            assert not await guest.set_pairs(pairs)
            assert peer.active == 2

        run(story, max_vqp=4, pairs=2)

    def test_the_control_queue_is_behind_all_pairs_or_behind_the_first(self) -> None:
        async def behind_all(guest: NetVmm, peer: NetPeer) -> None:
            assert (guest.control, peer.control) == (8, 8)
            assert [await guest.device.get_vring_group(i) for i in (2, 8)] == [0, 1]

        async def behind_first(guest: NetVmm, peer: NetPeer) -> None:
            assert (guest.control, peer.control) == (2, 2)
            assert [await guest.device.get_vring_group(i) for i in (2, 8)] == [1, 0]
            assert await guest.set_rx_mode(0)

        run(behind_all, max_vqp=4)
        run(behind_first, max_vqp=4, without=(net.VIRTIO_NET_F_MQ,))

    def test_the_control_queue_may_have_an_address_space_of_its_own(self) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", max_vqp=2)
            guest = await NetVmm.create(sim.process("vmm"), device.path)
            await guest.device.set_owner()
            await guest.device.set_backend_features(0xE)
            await guest.negotiate()
            await guest.device.set_group_asid(1, 1)
            await guest.device.iotlb_update(IOVA, RAM, guest.ram.addr, asid=0)
            await guest.device.iotlb_update(IOVA, RAM, guest.ram.addr, asid=1)
            await guest.start(1)
            await guest.device.iotlb_invalidate(IOVA, RAM, asid=0)
            assert await guest.set_rx_mode(0), "only the other address space lost its map"

        Simulator("6.12", extensions=("net_peer",)).run(main)


class TestMaking:
    @pytest.mark.parametrize(
        "options",
        [
            {"max_vqp": 0},
            {"max_vqp": 17},
            {"mtu": 67},
            {"mtu": 0x10000},
            {"mac": "02:00:00:00:00"},
            {"mac": "nonsense"},
            {"mac": "03:00:00:00:00:01"},
            {"peer_mac": "ff:ff:ff:ff:ff:ff"},
            {"ip4": "192.0.2"},
            {"ip4": "224.0.0.1"},
            {"ip6": "2001:db8"},
            {"ip6": "ff02::1"},
            {"packed": "perhaps"},
            {"mq": 1, "ctrl_vq": 0},
            {"device_features": 1},
        ],
    )
    def test_a_value_that_is_none_is_refused(self, options: dict[str, Any]) -> None:
        sim = Simulator(extensions=("net_peer",))
        with refused(E.EINVAL):
            sim.vdpa.dev_add("foo", mgmtdev="net_peer", **options)
        assert sim.vdpa.dev_show() == {}

    @pytest.mark.parametrize(
        ("option", "bits"),
        [
            ("status", [16]),
            ("ctrl_vq", [17, 18, 20, 22, 23]),
            ("mq", [22]),
            ("event_idx", [29]),
            ("indirect", [28]),
            ("packed", [34]),
            ("mrg_rxbuf", [15]),
        ],
    )
    def test_an_option_is_its_features(self, option: str, bits: list[int]) -> None:
        sim = Simulator(extensions=("net_peer",))
        made = [
            sim.vdpa.command(f"dev add name d{on} mgmtdev net_peer max_vqp 2 {option} {on}").device for on in (0, 1)
        ]
        offered = [device.get_device_features() for device in made]
        assert offered[0] ^ offered[1] == sum(1 << bit for bit in bits)
        assert offered[1] & ~offered[0] == offered[0] ^ offered[1]

    def test_queues_are_two_a_pair_and_one_for_control(self) -> None:
        sim = Simulator(extensions=("net_peer",))
        made = [sim.vdpa.command(f"dev add name {name} mgmtdev net_peer {words}") for name, words in (
            ("a", ""), ("b", "max_vqp 16"), ("c", "max_vqp 16 ctrl_vq 0")
        )]  # fmt: skip
        assert [(one.device.nvqs, one.device.ngroups, one.device.nas) for one in made] == [
            (3, 2, 2),
            (33, 2, 2),
            (32, 1, 1),
        ]

    def test_it_is_there_only_when_asked_for(self) -> None:
        with refused(E.ENODEV):
            Simulator().vdpa.dev_add("foo", mgmtdev="net_peer")

    def test_addresses_of_the_far_end_are_options(self) -> None:
        async def story(guest: NetVmm, peer: NetPeer) -> None:
            assert await guest.mac() == bytes.fromhex("020000000011")
            assert await ping(guest, "198.51.100.9")
            assert await ping(guest, "2001:db8:9::9")
            assert not await ping(guest, FAR4, timeout_ns=1)
            assert peer.host.mac == bytes.fromhex("020000000022")

        addresses: dict[str, Any] = {"ip4": "198.51.100.9", "ip6": "2001:db8:9::9"}
        run(story, mac="02:00:00:00:00:11", peer_mac="02:00:00:00:00:22", **addresses)


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 0x300), st.binary(min_size=1, max_size=40)), max_size=12),
)
def test_whatever_a_guest_writes_into_its_rings_the_device_lives(
    packed: bool, event_idx: bool, writes: list[tuple[int, int, bytes]]
) -> None:
    """Nothing escapes from a pass, and a reset makes everything good."""

    async def story(guest: NetVmm, peer: NetPeer) -> None:
        for queue, offset, data in writes:
            guest.ram.write(RING_SIZE * queue + offset, data)
            await guest.queues[queue].kick.write((1).to_bytes(8, "little"))
            peer.inject(wire(OWN))
            await guest.process.sim.settle()
        await guest.device.set_status(0)
        await guest.device.iotlb_invalidate(IOVA, RAM)
        await guest.device.iotlb_update(IOVA, RAM, guest.ram.addr)
        guest.queues.clear()
        await guest.negotiate()
        await guest.start()
        assert await ping(guest, FAR4)

    run(story, packed=packed, event_idx=event_idx)


def test_schedule_points_change_nothing_that_a_guest_sees() -> None:
    async def main(sim: Simulator) -> None:
        sim.kernel.points = True
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=1)
        guest = await NetVmm.boot(sim.process("vmm"), device.path)
        for seq in range(20):
            assert await ping(guest, FAR4, seq=seq)

    Simulator(extensions=("net_peer",)).run(main)


def test_the_example_of_the_page_prints_what_the_page_says(root: Path) -> None:
    page = (root / "docs" / "net-peer.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    printed = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert code is not None
    assert printed is not None
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code[1], "docs/net-peer.md", "exec"), {"__name__": "example"})
    assert out.getvalue() == printed[1]
