"""The vDPA bus in iproute2's grammar."""

from __future__ import annotations

import pytest

from vdpasim.sim import Simulator, UsageError
from vdpasim.sim.vdpa import Device
from vdpasim.uapi import errno as E
from vdpasim.vmm.handles import VhostVdpa


@pytest.fixture
def sim() -> Simulator:
    return Simulator()


def refusal(sim: Simulator, line: str) -> tuple[int | None, str]:
    with pytest.raises(OSError) as caught:
        sim.vdpa.command(line)
    return caught.value.errno, caught.value.rule  # type: ignore[attr-defined]


class TestAdding:
    def test_a_line_makes_a_device_with_a_node(self, sim: Simulator) -> None:
        device = sim.vdpa.command("dev add name foo mgmtdev vdpasim_blk")
        assert isinstance(device, Device)
        assert (device.name, device.path, device.device.device_id) == ("foo", "/dev/vhost-vdpa-0", 2)
        assert device.path in sim.nodes

    def test_words_may_come_in_any_order(self, sim: Simulator) -> None:
        sim.vdpa.command("dev add mgmtdev vdpasim_net mtu 1400 name foo mac 02:00:00:00:00:07")
        config = sim.vdpa.bus.devices["foo"].get_config(0, 12)
        assert config[:6] == bytes([2, 0, 0, 0, 0, 7])
        assert int.from_bytes(config[10:12], "little") == 1400

    def test_module_options_are_taken_per_device_in_any_base(self, sim: Simulator) -> None:
        sim.vdpa.command("dev add name foo mgmtdev vdpasim_blk use_va 0 batch_mapping 0 max_iotlb_entries 0x10")
        device = sim.vdpa.bus.devices["foo"]
        assert (device.use_va, device.supports("set_map"), device.supports("dma_map")) == (False, False, True)

    def test_nodes_are_numbered_and_numbers_are_used_again(self, sim: Simulator) -> None:
        paths = [sim.vdpa.command(f"dev add name d{i} mgmtdev vdpasim_net").path for i in range(3)]
        assert paths == [f"/dev/vhost-vdpa-{i}" for i in range(3)]
        sim.vdpa.command("dev del d1")
        assert sim.vdpa.command("dev add name again mgmtdev vdpasim_blk").path == "/dev/vhost-vdpa-1"

    @pytest.mark.parametrize(
        ("line", "errno"),
        [
            ("dev add name foo mgmtdev vdpasim_net", E.EEXIST),
            ("dev add name bar mgmtdev mlx5", E.ENODEV),
            ("dev add name bar mgmtdev vdpasim_blk mac 02:00:00:00:00:01", E.EOPNOTSUPP),
            ("dev add name bar mgmtdev vdpasim_net colour red", E.EOPNOTSUPP),
            ("dev add name bar mgmtdev vdpasim_net mac nonsense", E.EINVAL),
            ("dev add name bar mgmtdev vdpasim_net mtu large", E.EINVAL),
            ("dev add name bar mgmtdev vdpasim_blk device_features all", E.EINVAL),
            ("dev add name bar mgmtdev vdpasim_blk max_iotlb_entries 1", E.EINVAL),
        ],
    )
    def test_refusals_are_the_kernel_s_and_leave_nothing(self, sim: Simulator, line: str, errno: int) -> None:
        sim.vdpa.command("dev add name foo mgmtdev vdpasim_blk")
        assert refusal(sim, line)[0] == errno
        assert list(sim.vdpa.dev_show()) == ["foo"]
        assert len(sim.nodes) == 2


class TestDeleting:
    def test_the_node_goes_at_once(self, sim: Simulator) -> None:
        sim.vdpa.command("dev add name foo mgmtdev vdpasim_blk")
        assert sim.vdpa.command("dev del foo") is None
        with pytest.raises(FileNotFoundError):
            sim.process("vmm").open_nowait("/dev/vhost-vdpa-0")

    def test_of_nothing_is_enodev(self, sim: Simulator) -> None:
        assert refusal(sim, "dev del foo") == (E.ENODEV, "vdpa.dev.absent")

    def test_of_an_open_device_is_ebusy_until_it_is_closed(self, sim: Simulator) -> None:
        path = sim.vdpa.command("dev add name foo mgmtdev vdpasim_blk").path
        file = sim.process("vmm").open_nowait(path)
        assert refusal(sim, "dev del foo") == (E.EBUSY, "vdpa.dev.open")
        file.close_nowait()
        sim.vdpa.command("dev del foo")
        assert sim.vdpa.dev_show() == {}


class TestShowing:
    def test_devices(self, sim: Simulator) -> None:
        sim.vdpa.command("dev add name foo mgmtdev vdpasim_net")
        sim.vdpa.command("dev add name bar mgmtdev vdpasim_blk")
        shown = sim.vdpa.command("dev show")
        assert [(name, one["type"], one["max_vqs"], one["max_vq_size"]) for name, one in shown.items()] == [
            ("foo", "network", 3, 256),
            ("bar", "block", 1, 256),
        ]
        assert all(one["mgmtdev"] for one in shown.values())

    def test_management_devices(self, sim: Simulator) -> None:
        shown = sim.vdpa.command("mgmtdev show")
        assert {name: one["supported_classes"] for name, one in shown.items()} == {
            "vdpasim_net": ["net"],
            "vdpasim_blk": ["block"],
        }
        assert "mac" in shown["vdpasim_net"]["attributes"]

    def test_of_an_extension_too(self) -> None:
        shown = Simulator(extensions=("vhost-vdpa+miss",)).vdpa.mgmtdev_show()
        assert list(shown) == ["vdpasim_net", "vdpasim_blk", "vdpasim_net+miss", "vdpasim_blk+miss"]


class TestGrammar:
    @pytest.mark.parametrize(
        "line",
        [
            "",
            "dev",
            "dev add",
            "dev add name foo",
            "dev add mgmtdev vdpasim_net",
            "dev add name foo mgmtdev vdpasim_net mac",
            "dev del",
            "dev del foo bar",
            "dev show foo",
            "device show",
            "mgmtdev",
        ],
    )
    def test_what_is_not_in_it_shows_it(self, sim: Simulator, line: str) -> None:
        with pytest.raises(UsageError, match=r"not understood: .*; it is dev add name NAME mgmtdev MGMTDEV"):
            sim.vdpa.command(line)
        assert sim.vdpa.dev_show() == {}


def test_an_absent_attribute_may_be_given_as_none(sim: Simulator) -> None:
    sim.vdpa.dev_add("foo", mgmtdev="vdpasim_blk", mac=None, use_va=None)
    assert sim.vdpa.bus.devices["foo"].use_va


async def test_a_device_that_was_added_answers(sim: Simulator) -> None:
    path = sim.vdpa.dev_add("foo", mgmtdev="vdpasim_net").path
    file = await sim.process("vmm").open(path)
    assert await VhostVdpa(file).get_device_id() == 1
    await file.aclose()


async def test_a_device_changes_its_config_by_itself_and_interrupts() -> None:
    sim = Simulator()
    card = sim.vdpa.dev_add("card", profile="mlx5-like")
    vmm = sim.process("vmm")
    device, event = VhostVdpa(await vmm.open(card.path)), vmm.eventfd()
    await device.set_config_call(event.fd)
    card.change_config(6, b"\0\0")
    assert await device.get_config(6, 2) == b"\0\0"
    card.config_changed()
    assert int.from_bytes(await event.read(8), "little") == 2
