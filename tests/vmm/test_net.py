"""The network VMM and its guest, against ``net_peer``; and against the kernel's own device where that suffices."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_net as net
from vdpasim.uapi.virtio_config import VIRTIO_F_RING_PACKED
from vdpasim.vmm.net import BUFFER_SIZE, HEADER, NetVmm
from vdpasim.vmm.ping import echo_request, ping

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

FAR4 = "192.0.2.1"
PEER_MAC = bytes.fromhex("0200000000fe")


def run(main: Callable[[Simulator], Coroutine[Any, Any, None]], kernel: str = "tip") -> None:
    Simulator(kernel, extensions=("net_peer",)).run(main)


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.1", "tip"])
@pytest.mark.parametrize("options", [{}, {"use_va": 0}, {"batch_mapping": 0}])
def test_it_boots_on_every_kernel_in_every_mode(kernel: str, options: dict[str, Any]) -> None:
    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", max_vqp=16, packed=1, **options)
        guest = await NetVmm.boot(sim.process("vmm"), device.path, pairs=16)
        for pair in range(16):
            assert await ping(guest, FAR4, pair=pair)

    run(main, kernel)


def test_it_drives_the_kernel_s_device_too() -> None:
    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="vdpasim_net", mac="02:00:00:00:00:01")
        guest = await NetVmm.boot(sim.process("vmm"), device.path, without=(net.VIRTIO_NET_F_CTRL_VQ,))
        assert (guest.control, sorted(guest.queues)) == (None, [0, 1])
        guest.post(b"\xff" * 6 + bytes(54))
        await guest.kick(1)
        await sim.settle()
        (used,) = guest.queues[0].ring.used()
        assert used.length == HEADER + 60
        assert await guest.link_up()

    run(main)


def test_features_can_be_left_out() -> None:
    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=1)
        guest = await NetVmm.boot(sim.process("vmm"), device.path, without=(VIRTIO_F_RING_PACKED,))
        assert not guest.has(VIRTIO_F_RING_PACKED)
        assert await ping(guest, FAR4)

    run(main)


class TestReceiving:
    def test_waits_in_virtual_time(self) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
            guest = await NetVmm.boot(sim.process("vmm"), device.path)
            assert await guest.receive(5000) is None
            assert sim.kernel.now == 5000

            async def later() -> None:
                await sim.sleep(700)
                device.inject(b"\xff" * 6 + bytes(20))

            sim.spawn(later)
            assert await guest.receive(10**6) == b"\xff" * 6 + bytes(20)
            assert sim.kernel.now == 5700

        run(main)

    @pytest.mark.parametrize("packed", [False, True])
    def test_asks_for_one_interrupt_a_wait(self, packed: bool) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=packed)
            guest = await NetVmm.boot(sim.process("vmm"), device.path)
            for _ in range(50):
                device.inject(b"\xff" * 6 + bytes(20))
                assert await guest.receive(0) is not None
            assert device.peer.interrupts <= 50
            for _ in range(3):
                device.inject(b"\xff" * 6 + bytes(20))
                await sim.settle()
            assert device.peer.interrupts <= 52, "with event index the second and third are not told"

        run(main)


class TestSending:
    @pytest.mark.parametrize("packed", [False, True])
    def test_many_frames_reuse_the_buffers(self, packed: bool) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=packed)
            guest = await NetVmm.boot(sim.process("vmm"), device.path)
            mac = await guest.mac()
            for seq in range(1000):
                await guest.send(echo_request(mac, PEER_MAC, FAR4, seq=seq))
                frame = await guest.receive()
                assert frame is not None
                assert int.from_bytes(frame[40:42], "big") == seq

        run(main)

    def test_without_room_it_says_so(self) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
            guest = await NetVmm.boot(sim.process("vmm"), device.path)
            await guest.suspend()
            for _ in range(16):
                guest.post(bytes(60))
            with pytest.raises(ValueError, match="0 buffers are free"):
                guest.post(bytes(60))
            with pytest.raises(ValueError, match="no room"):
                guest.post(bytes(BUFFER_SIZE))

        run(main)


def test_commands_need_a_control_queue() -> None:
    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", ctrl_vq=0)
        guest = await NetVmm.boot(sim.process("vmm"), device.path)
        with pytest.raises(ValueError, match="not negotiated"):
            await guest.set_pairs(1)

    run(main)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("event_idx", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_no_order_of_events_loses_a_wake_up(packed: bool, event_idx: bool, seed: int) -> None:
    """Points in every pass, units stepped in a random order, frames coming in on their own, several guests' tasks."""

    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=packed, event_idx=event_idx, max_vqp=2)
        guest = await NetVmm.boot(sim.process("vmm"), device.path, pairs=2)
        mac = await guest.mac()
        draw = Random(seed)
        sim.kernel.points = True
        sim.kernel.chooser = lambda ready: draw.randrange(len(ready))

        async def wire() -> None:
            for i in range(40):
                device.inject(b"\xff" * 6 + bytes(20) + bytes([i]), i % 2)
                await sim.sleep(draw.randrange(3))

        async def sender() -> None:
            for seq in range(40):
                await guest.send(echo_request(mac, PEER_MAC, FAR4, seq=seq), seq % 2)
                await sim.sleep(draw.randrange(3))

        tasks = [sim.spawn(wire), sim.spawn(sender)]
        frames = [await guest.receive() for _ in range(80)]
        assert None not in frames, f"after {frames.index(None)} frames nothing came"
        for task in tasks:
            await task.join()
        assert device.peer.counts.dropped == 0

    run(main)


class TestHandover:
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("done", [0, 1, 7, 8, 15])
    def test_a_new_vmm_goes_on_with_what_was_posted(self, packed: bool, done: int) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=packed, max_vqp=2)
            old = await NetVmm.boot(sim.process("old"), device.path, pairs=2)
            for seq in range(done):
                assert await ping(old, FAR4, seq=seq, pair=seq % 2)
            states = await old.suspend()
            mac = await old.mac()
            for seq in range(8):
                old.post(echo_request(mac, PEER_MAC, FAR4, seq=seq), seq % 2)
            await old.file.aclose()
            new = await NetVmm.take_over(old, sim.process("new"), device.path, states)
            await old.process.exit()
            seen = set()
            for _ in range(8):
                frame = await new.receive()
                assert frame is not None
                seen.add(int.from_bytes(frame[40:42], "big"))
            assert seen == set(range(8))
            assert await ping(new, FAR4, pair=1)

        run(main, "6.12")

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_device_resumes_in_place(self, packed: bool) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=packed)
            guest = await NetVmm.boot(sim.process("vmm"), device.path)
            for seq in range(20):
                states = await guest.suspend()
                assert await guest.states() == states
                await guest.send(echo_request(await guest.mac(), PEER_MAC, FAR4, seq=seq))
                assert await guest.receive(1) is None
                await guest.resume()
                assert await guest.receive() is not None

        run(main, "6.12")
