"""The bus: what makes a device, what it is called, what its management device takes, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.core.support import refused
from vdpasim.core.rules import KernelError
from vdpasim.core.vdpa import vdpa_sim_blk, vdpa_sim_net
from vdpasim.core.vdpa.vdpa import MgmtDev, bad_value, number
from vdpasim.core.vhost.vdpa import VhostVdpaNode
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from vdpasim.core.vdpa.vdpa import Attributes, VdpaBus, VdpaDevice

NET, BLK = "vdpasim_net", "vdpasim_blk"


@pytest.fixture
def sim() -> Simulator:
    return Simulator("6.12")


def config(sim: Simulator, offset: int, length: int) -> bytes:
    return sim.vdpa.bus.devices["d"].get_config(offset, length)


# -- kinds


@pytest.mark.parametrize(
    ("mgmtdev", "device_id", "nvqs", "ngroups", "nas", "size"), [(NET, 1, 3, 2, 2, 24), (BLK, 2, 1, 1, 1, 96)]
)
def test_each_kind_has_its_constants(
    sim: Simulator, mgmtdev: str, device_id: int, nvqs: int, ngroups: int, nas: int, size: int
) -> None:
    device = sim.vdpa.dev_add("d", mgmtdev=mgmtdev).device
    assert (device.device_id, device.nvqs, device.ngroups, device.nas) == (device_id, nvqs, ngroups, nas)
    assert (device.get_config_size(), device.get_vq_num_max()) == (size, 256)
    assert device.get_iova_range() == (0, 2**64 - 1)


@pytest.mark.parametrize(
    ("kernel", "mgmtdev", "features"),
    [("6.1", NET, 0x308820028), ("6.12", NET, 0x308830028), ("tip", NET, 0x308830028)]
    + [(kernel, BLK, 0x308007646) for kernel in ("6.1", "6.12", "7.1", "tip")],
)
def test_features_offered(kernel: str, mgmtdev: str, features: int) -> None:
    assert Simulator(kernel).vdpa.dev_add("d", mgmtdev=mgmtdev).device.get_device_features() == features


def test_the_block_device_of_6_1_knows_no_zones() -> None:
    assert Simulator("6.1").vdpa.dev_add("d", mgmtdev=BLK).device.get_config_size() == 72


def test_management_devices_say_what_they_take() -> None:
    options = {"use_va", "batch_mapping", "max_iotlb_entries", "advertise"}
    disk = {"backing", "write_through"}
    for mgmt, attributes, more in (
        (vdpa_sim_net.MGMTDEV, {"mac", "mtu"}, set[str]()),
        (vdpa_sim_blk.MGMTDEV, set[str](), disk),
    ):
        assert mgmt.attributes == attributes | {"device_features"}
        assert mgmt.options == options | more
        assert (mgmt.node, mgmt.node_class) == ("vhost-vdpa", VhostVdpaNode)


# -- attributes


@pytest.mark.parametrize(("given", "value"), [(None, bytes(6)), ("02:00:00:0a:FF:1", bytes([2, 0, 0, 10, 255, 1]))])
def test_the_address_of_a_network_device(sim: Simulator, given: str | None, value: bytes) -> None:
    sim.vdpa.dev_add("d", mgmtdev=NET, mac=given)
    assert config(sim, 0, 6) == value


@pytest.mark.parametrize(("given", "value"), [(None, 1500), (68, 68), ("9000", 9000), (65535, 65535)])
def test_the_mtu_of_a_network_device(sim: Simulator, given: int | str | None, value: int) -> None:
    sim.vdpa.dev_add("d", mgmtdev=NET, mtu=given)
    assert config(sim, 10, 2) == value.to_bytes(2, "little")


def test_everything_else_in_its_config_space_is_zero_but_the_link(sim: Simulator) -> None:
    sim.vdpa.dev_add("d", mgmtdev=NET)
    assert config(sim, 0, 24) == bytes(6) + b"\1\0" + bytes(2) + (1500).to_bytes(2, "little") + bytes(12)


@pytest.mark.parametrize(
    ("mgmtdev", "attributes"),
    [
        (NET, {"mac": "02:00:00:00:00"}),
        (NET, {"mac": "02:00:00:00:00:01:02"}),
        (NET, {"mac": "02:00:00:00:00:100"}),
        (NET, {"mac": ""}),
        (NET, {"mtu": -1}),
        (NET, {"mtu": 65536}),
        (NET, {"mtu": "much"}),
        (BLK, {"device_features": "all"}),
        (BLK, {"max_iotlb_entries": 1}),
        (BLK, {"max_iotlb_entries": 0}),
        (NET, {"max_iotlb_entries": "few"}),
        (NET, {"use_va": "maybe"}),
        (BLK, {"batch_mapping": 2}),
    ],
)
def test_malformed_values_are_einval_and_leave_nothing(
    sim: Simulator, mgmtdev: str, attributes: dict[str, Any]
) -> None:
    with refused(E.EINVAL, "vdpa.dev.value"):
        sim.vdpa.dev_add("d", mgmtdev=mgmtdev, **attributes)
    assert (sim.vdpa.bus.devices, sim.vdpa.bus.paths, list(sim.nodes)) == ({}, {}, ["/dev/vhost-net"])


@pytest.mark.parametrize(
    ("mgmtdev", "attribute"), [(BLK, "mac"), (BLK, "mtu"), (NET, "max_vqp"), (NET, "name"), (BLK, "shared_backend")]
)
def test_attributes_of_other_kinds_are_not_supported(sim: Simulator, mgmtdev: str, attribute: str) -> None:
    with pytest.raises(KernelError) as caught:
        sim.vdpa.bus.dev_add("d", mgmtdev, {attribute: "1"})
    assert (caught.value.errno, caught.value.rule) == (E.EOPNOTSUPP, "vdpa.dev.attr")


def test_an_unsupported_attribute_is_told_before_a_malformed_one(sim: Simulator) -> None:
    with refused(E.EOPNOTSUPP, "vdpa.dev.attr"):
        sim.vdpa.dev_add("d", mgmtdev=NET, mtu="much", colour="red")


# -- names and nodes


@pytest.mark.parametrize("mgmtdev", [NET, BLK])
def test_a_name_is_used_once_on_the_whole_bus(sim: Simulator, mgmtdev: str) -> None:
    sim.vdpa.dev_add("d", mgmtdev=NET)
    with refused(E.EEXIST, "vdpa.dev.exists"):
        sim.vdpa.dev_add("d", mgmtdev=mgmtdev)
    sim.vdpa.dev_del("d")
    sim.vdpa.dev_add("d", mgmtdev=mgmtdev)


def test_there_is_no_other_management_device(sim: Simulator) -> None:
    with refused(E.ENODEV, "vdpa.dev.mgmtdev"):
        sim.vdpa.dev_add("d", mgmtdev="vdpasim")


def test_the_lowest_free_number_is_the_nodes(sim: Simulator) -> None:
    paths = [sim.vdpa.dev_add(name, mgmtdev=NET).path for name in "abcd"]
    assert paths == [f"/dev/vhost-vdpa-{n}" for n in range(4)]
    for name in "bc":
        sim.vdpa.dev_del(name)
    assert [sim.vdpa.dev_add(name, mgmtdev=BLK).path for name in "xyz"] == [paths[1], paths[2], "/dev/vhost-vdpa-4"]
    assert sim.vdpa.bus.paths["x"] == paths[1]


def test_a_device_that_was_deleted_is_unknown(sim: Simulator) -> None:
    sim.vdpa.dev_add("d", mgmtdev=NET)
    sim.vdpa.dev_del("d")
    with refused(E.ENODEV, "vdpa.dev.absent"):
        sim.vdpa.dev_del("d")
    with refused(E.ENOENT):
        sim.process("vmm").open_nowait("/dev/vhost-vdpa-0")


def test_an_open_device_stays_with_everything_it_has(sim: Simulator) -> None:
    device = sim.vdpa.dev_add("d", mgmtdev=NET)
    file = sim.process("vmm").open_nowait(device.path)
    with refused(E.EBUSY, "vdpa.dev.open"):
        sim.vdpa.dev_del("d")
    assert (sim.vdpa.bus.devices["d"], sim.nodes[device.path]) == (device.device, device.node)
    file.close_nowait()
    sim.vdpa.dev_del("d")
    assert (sim.vdpa.bus.devices, sim.vdpa.bus.paths, list(sim.nodes)) == ({}, {}, ["/dev/vhost-net"])


# -- a management device of one's own


class Node(VhostVdpaNode):
    pass


def make_blk(bus: VdpaBus, name: str, attributes: Attributes) -> VdpaDevice:
    if "broken" in attributes:
        raise bad_value()
    return vdpa_sim_blk.make(bus, name, {})


def test_a_management_device_chooses_node_and_numbers_apart(sim: Simulator) -> None:
    mine = MgmtDev("mine", 2, frozenset({"broken"}), frozenset({"option"}), make_blk, "my-vdpa", Node)
    sim.vdpa.bus.mgmtdevs["mine"] = mine
    sim.vdpa.dev_add("a", mgmtdev=NET)
    node = sim.vdpa.bus.dev_add("b", "mine", {"option": 1})
    assert (type(node), node.path) == (Node, "/dev/my-vdpa-0")
    with refused(E.EINVAL, "vdpa.dev.value"):
        sim.vdpa.dev_add("c", mgmtdev="mine", broken=1)
    assert sorted(sim.vdpa.bus.devices) == ["a", "b"]


@pytest.mark.parametrize(("attributes", "value"), [({}, 7), ({"n": 3}, 3), ({"n": "12"}, 12), ({"n": True}, 1)])
def test_a_number_may_be_missing(attributes: dict[str, Any], value: int) -> None:
    assert number(attributes, "n", 7) == value


def test_an_operation_is_asked_for_by_name(sim: Simulator) -> None:
    device = sim.vdpa.dev_add("d", mgmtdev=NET).device
    assert device.supports("suspend")
    assert not device.supports("teleport")
