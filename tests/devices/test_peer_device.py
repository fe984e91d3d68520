"""The state of ``net_peer``: features, queue state, config space, link, reset."""

from __future__ import annotations

import pytest

from tests.core.rings import rules_hit
from tests.core.support import refused
from vdpasim.sim import Simulator, UsageError
from vdpasim.uapi import errno as E
from vdpasim.uapi import virtio_net as net
from vdpasim.uapi.virtio_config import VIRTIO_F_RING_PACKED
from vdpasim.vmm.net import IOVA, RAM, NetVmm
from vdpasim.vmm.ping import echo_request, ping

FAR4 = "192.0.2.1"
PEER_MAC = bytes.fromhex("0200000000fe")
REQUIRED = 1 << 32 | 1 << 33


@pytest.fixture
def sim() -> Simulator:
    return Simulator(extensions=("net_peer",))


class TestFeatures:
    def test_version_1_is_required(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            vmm = await NetVmm.create(sim.process("vmm"), sim.vdpa.dev_add("foo", mgmtdev="net_peer").path)
            await vmm.device.set_owner()
            with refused(E.EINVAL, "peer.features.version-1"):
                await vmm.device.set_features(1 << 33)
            with refused(E.EINVAL, "sim.features.platform"):
                await vmm.device.set_features(1 << 32)
            await vmm.device.set_features(REQUIRED)

        sim.run(main)

    @pytest.mark.parametrize("bit", [18, 20, 22, 23])
    def test_what_needs_the_control_queue_needs_it(self, sim: Simulator, bit: int) -> None:
        async def main(sim: Simulator) -> None:
            vmm = await NetVmm.create(sim.process("vmm"), sim.vdpa.dev_add("foo", mgmtdev="net_peer").path)
            await vmm.device.set_owner()
            with refused(E.EINVAL, "peer.features.ctrl-vq"):
                await vmm.device.set_features(REQUIRED | 1 << bit)
            await vmm.device.set_features(REQUIRED | 1 << bit | 1 << 17)

        sim.run(main)


    def test_without_any_it_takes_nothing(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
            vmm = await NetVmm.create(sim.process("vmm"), device.path)
            await vmm.device.set_owner()
            await vmm.device.iotlb_update(IOVA, RAM, vmm.ram.addr)
            await vmm.start()
            await vmm.send(echo_request(await vmm.mac(), PEER_MAC, FAR4))
            await sim.settle()
            assert (device.peer.passes > 0, await vmm.states()) == (True, {0: 0, 1: 0})

        sim.run(main)


class TestQueueState:
    def test_a_packed_ring_starts_at_wrap_one(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            vmm = await NetVmm.create(sim.process("vmm"), sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=1).path)
            await vmm.device.set_owner()
            await vmm.device.set_features(REQUIRED | 1 << VIRTIO_F_RING_PACKED)
            assert await vmm.device.get_vring_base(0) == 0x80008000
            await vmm.device.set_features(REQUIRED)
            assert await vmm.device.get_vring_base(0) == 0

        sim.run(main)

    @pytest.mark.parametrize("base", [0, 0x80008000, 0x00030005, 0x8001000F, 0xFFFFFFFF])
    def test_what_is_set_is_got(self, sim: Simulator, base: int) -> None:
        async def main(sim: Simulator) -> None:
            vmm = await NetVmm.create(sim.process("vmm"), sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=1).path)
            await vmm.device.set_owner()
            await vmm.device.set_features(REQUIRED | 1 << VIRTIO_F_RING_PACKED)
            await vmm.device.set_vring_base(1, base)
            assert await vmm.device.get_vring_base(1) == base

        sim.run(main)

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("suspended", [False, True])
    def test_is_told_running_and_suspended(self, sim: Simulator, packed: bool, suspended: bool) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=packed)
            vmm = await NetVmm.boot(sim.process("vmm"), device.path)
            for seq in range(9):
                await ping(vmm, FAR4, seq=seq)
            states = await vmm.suspend() if suspended else await vmm.states()
            if packed:  # indirect: a slot a frame; 18 frames are a lap and two
                assert states == {0: 0x00020002, 1: 0x00020002, 2: 0x80008000}
            else:
                assert states == {0: 18, 1: 18, 2: 0}

        sim.run(main)

    @pytest.mark.parametrize("packed", [False, True])
    def test_can_be_changed_under_a_suspended_device(self, sim: Simulator, packed: bool) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=packed)
            vmm = await NetVmm.boot(sim.process("vmm"), device.path)
            await ping(vmm, FAR4)
            states = await vmm.suspend()
            for index, base in states.items():
                await vmm.device.set_vring_enable(index, False)
                await vmm.device.set_vring_base(index, 0)
                await vmm.device.set_vring_base(index, base)
                await vmm.device.set_vring_enable(index)
            await vmm.resume()
            assert await ping(vmm, FAR4)

        sim.run(main)

    def test_outside_the_ring_it_leaves_the_queue_disabled(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=1)
            vmm = await NetVmm.boot(sim.process("vmm"), device.path)
            await vmm.suspend()
            await vmm.device.set_vring_enable(1, False)
            await vmm.device.set_vring_base(1, 0x80108010)
            await vmm.device.set_vring_enable(1)
            assert not device.peer.vqs[1].ready

        with rules_hit() as rules:
            sim.run(main)
        assert "peer.enable.refused" in rules

    @pytest.mark.parametrize("packed", [False, True])
    def test_what_was_posted_while_suspended_needs_no_kick(self, sim: Simulator, packed: bool) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=packed)
            vmm = await NetVmm.boot(sim.process("vmm"), device.path)
            await vmm.suspend()
            vmm.post(echo_request(await vmm.mac(), PEER_MAC, FAR4))
            await vmm.resume()
            await sim.settle()
            assert (device.peer.kicks, device.peer.counts.tx, device.peer.counts.rx) == (0, 1, 1)

        sim.run(main)

    def test_a_queue_that_is_enabled_late_is_looked_at(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
            vmm = await NetVmm.boot(sim.process("vmm"), device.path)
            await vmm.device.set_vring_enable(1, False)
            vmm.post(echo_request(await vmm.mac(), PEER_MAC, FAR4))
            await vmm.device.set_vring_enable(1)
            await sim.settle()
            assert (device.peer.kicks, device.peer.counts.tx) == (0, 1)

        sim.run(main)


class TestConfigSpace:
    def test_has_mac_status_pairs_and_mtu(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", mac="02:11:22:33:44:55", mtu=9000, max_vqp=5)
            vmm = await NetVmm.create(sim.process("vmm"), device.path)
            assert await vmm.device.get_config_size() == 24
            config = await vmm.device.get_config(0, 24)
            assert config == bytes.fromhex("021122334455" + "0100" + "0500" + "2823").ljust(24, b"\0")
            assert await vmm.device.get_config(7, 3) == b"\0\5\0"

        sim.run(main)

    @pytest.mark.parametrize("abi", ["x86_64", "s390x"])
    def test_is_little_endian_everywhere(self, abi: str) -> None:
        sim = Simulator(abi=abi, extensions=("net_peer",))
        assert sim.vdpa.dev_add("foo", mgmtdev="net_peer", mtu=9000).device.get_config(10, 2) == b"\x28\x23"

    def test_cannot_be_written(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            vmm = await NetVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("foo", mgmtdev="net_peer").path)
            before = await vmm.mac()
            await vmm.device.set_config(0, bytes(24))
            assert (await vmm.mac(), await vmm.link_up()) == (before, True)

        with rules_hit() as rules:
            sim.run(main)
        assert "peer.config.read-only" in rules


class TestLink:
    def test_a_change_is_a_config_interrupt(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
            vmm = await NetVmm.boot(sim.process("vmm"), device.path)
            for up in (False, True):
                device.set_link(up)
                assert await vmm.config_change(1)
                assert await vmm.link_up() is up
                device.set_link(up)
                assert not await vmm.config_change(1), "nothing changed"

        sim.run(main)

    def test_without_the_feature_there_is_no_interrupt_but_no_link_either(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", status=0)
            vmm = await NetVmm.boot(sim.process("vmm"), device.path)
            device.set_link(False)
            assert not await vmm.config_change(1)
            assert not await ping(vmm, FAR4, timeout_ns=1)

        sim.run(main)

    def test_before_the_driver_is_there_nobody_is_told(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
            device.set_link(False)
            vmm = await NetVmm.boot(sim.process("vmm"), device.path)
            assert not await vmm.link_up()
            assert not await vmm.config_change(1)

        sim.run(main)

    def test_down_it_loses_what_waits_and_what_comes(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
            vmm = await NetVmm.boot(sim.process("vmm"), device.path)
            await vmm.suspend()
            device.inject(b"\xff" * 6 + bytes(40))
            device.set_link(False)
            await vmm.resume()
            assert await vmm.receive(1) is None
            device.inject(b"\xff" * 6 + bytes(40))
            await vmm.send(echo_request(await vmm.mac(), PEER_MAC, FAR4))
            await sim.settle()
            assert (device.peer.counts.dropped, device.peer.counts.tx) == (3, 0)

        sim.run(main)

    def test_under_a_suspended_device_it_waits(self, sim: Simulator) -> None:
        async def main(sim: Simulator) -> None:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
            vmm = await NetVmm.boot(sim.process("vmm"), device.path)
            await vmm.suspend()
            device.set_link(False)
            assert await vmm.link_up()
            await vmm.resume()
            assert not await vmm.link_up()
            assert await vmm.config_change(1)

        with rules_hit() as rules:
            sim.run(main)
        assert "peer.link.deferred" in rules


def test_a_reset_forgets_what_the_driver_commanded(sim: Simulator) -> None:
    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=1, max_vqp=2)
        vmm = await NetVmm.boot(sim.process("vmm"), device.path, pairs=2)
        mac = await vmm.mac()
        await ping(vmm, FAR4)
        await vmm.set_mac(b"\2" * 6)
        await vmm.set_rx_mode(net.VIRTIO_NET_CTRL_RX_PROMISC)
        await vmm.device.set_status(0)
        peer = device.peer
        assert (await vmm.mac(), peer.active, peer.filter.modes) == (mac, 1, set())
        assert {(vq.vring.last_avail_idx, vq.vring.last_used_idx) for vq in peer.vqs} == {(0, 0)}

    sim.run(main)


def test_frames_of_pairs_that_go_out_of_use_are_lost(sim: Simulator) -> None:
    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", max_vqp=2)
        vmm = await NetVmm.boot(sim.process("vmm"), device.path, pairs=2)
        await vmm.device.set_vring_enable(2, False)
        device.inject(b"\xff" * 6 + bytes(40), 1)
        assert await vmm.set_pairs(1)
        assert device.peer.counts.dropped == 1

    sim.run(main)


def test_a_frame_for_a_pair_that_is_not_in_use_comes_in_on_the_first(sim: Simulator) -> None:
    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", max_vqp=2)
        vmm = await NetVmm.boot(sim.process("vmm"), device.path)
        device.inject(b"\xff" * 6 + bytes(40), 1)
        assert await vmm.receive() is not None

    sim.run(main)


def test_another_kind_of_device_has_no_far_end() -> None:
    device = Simulator().vdpa.dev_add("foo", mgmtdev="vdpasim_net")
    with pytest.raises(UsageError, match="foo is no net_peer"):
        device.set_link(False)
