"""What an administrator does with a ``net_peer``: link, frames from the wire, and the file of what passed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import dpkt
import pytest

from vdpasim.sim import Simulator, UsageError
from vdpasim.vmm.net import NetVmm
from vdpasim.vmm.ping import ping

if TYPE_CHECKING:
    from pathlib import Path


def test_the_capture_is_a_file_with_virtual_time(tmp_path: Path) -> None:
    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
        guest = await NetVmm.boot(sim.process("vmm"), device.path)
        assert await ping(guest, "192.0.2.1")
        await sim.sleep(2_500_000_001)
        assert await ping(guest, "2001:db8::1")
        device.write_pcap(tmp_path / "net.pcap")

    Simulator(extensions=("net_peer",)).run(main)
    frames = list(dpkt.pcap.Reader(io.BytesIO((tmp_path / "net.pcap").read_bytes())))
    assert [round(float(stamp) * 10**9) for stamp, _ in frames] == [0] * 4 + [2_500_000_001] * 4
    kinds = [type(dpkt.ethernet.Ethernet(data).data).__name__ for _, data in frames]
    assert kinds == ["ARP", "ARP", "IP", "IP", "IP6", "IP6", "IP6", "IP6"]


def test_the_same_story_gives_the_same_file() -> None:
    def capture() -> bytes:
        async def main(sim: Simulator) -> bytes:
            device = sim.vdpa.dev_add("foo", mgmtdev="net_peer", packed=1)
            guest = await NetVmm.boot(sim.process("vmm"), device.path)
            for seq in range(5):
                await ping(guest, "192.0.2.1", seq=seq)
            return device.peer.pcap()

        return bytes(Simulator(extensions=("net_peer",)).run(main))

    assert capture() == capture()


async def test_the_link_can_be_changed_from_a_trio_task() -> None:
    sim = Simulator(extensions=("net_peer",))
    device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
    guest = await NetVmm.boot(sim.process("vmm"), device.path)
    assert await ping(guest, "192.0.2.1")
    device.set_link(False)
    assert int.from_bytes(await guest.config_call.read(8), "little") == 1
    device.set_link(True)
    device.inject(b"\xff" * 6 + bytes(20))
    assert await guest.receive() == b"\xff" * 6 + bytes(20)


def test_of_another_device_there_is_none(tmp_path: Path) -> None:
    device = Simulator().vdpa.dev_add("foo", mgmtdev="vdpasim_blk")
    for refused in (lambda: device.write_pcap(tmp_path / "x"), lambda: device.inject(b""), lambda: device.peer):
        with pytest.raises(UsageError, match="foo is no net_peer"):
            refused()
    assert list(tmp_path.iterdir()) == []


def test_extensions_may_be_combined() -> None:
    shown = Simulator(extensions=("net_peer", "vhost-vdpa+miss")).vdpa.mgmtdev_show()
    assert {"net_peer", "vdpasim_net+miss"} <= set(shown)
    assert {"mac", "mtu", "max_vqp"} <= set(shown["net_peer"]["attributes"])
