"""Making a device: the features it may offer, module options per device, what a kernel's driver can do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.support import refused
from vdpasim.core.vdpa.vdpa_sim_create import ADVERTISED, flag
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E

NET, BLK = "vdpasim_net", "vdpasim_blk"


@pytest.fixture
def sim() -> Simulator:
    return Simulator("6.12")


# -- features


@pytest.mark.parametrize("features", [0, 1 << 33, 0x308830028])
def test_features_can_be_restricted(sim: Simulator, features: int) -> None:
    device = sim.vdpa.dev_add("d", mgmtdev=NET, device_features=features).device
    assert device.get_device_features() == features
    device.set_driver_features(0x308830028 | 1 << 40)
    assert device.get_driver_features() == features


@pytest.mark.parametrize(("mgmtdev", "features"), [(NET, 1), (NET, 0x308830028 | 1 << 34), (BLK, 1 << 17)])
def test_but_never_widened(sim: Simulator, mgmtdev: str, features: int) -> None:
    with refused(E.EINVAL, "sim.dev.features"):
        sim.vdpa.dev_add("d", mgmtdev=mgmtdev, device_features=features)
    assert sim.vdpa.bus.devices == {}


@pytest.mark.parametrize(
    ("given", "bits"),
    [
        (0, []),
        (1 << 9, [9]),
        ("NEW_OWNER", [9]),
        ("NEW_OWNER,IOTLB_REMAP", [9, 10]),
        ("IOTLB_REMAP NEW_OWNER", [9, 10]),
    ],
)
def test_what_it_advertises_is_a_mask_or_names(sim: Simulator, given: int | str, bits: list[int]) -> None:
    device = sim.vdpa.dev_add("d", mgmtdev=BLK, advertise=given).device
    told = device.get_backend_features()
    assert [bit for bit in ADVERTISED.values() if told >> bit & 1] == bits


def test_a_name_of_nothing_is_refused(sim: Simulator) -> None:
    with refused(E.EINVAL, "vdpa.dev.value"):
        sim.vdpa.dev_add("d", mgmtdev=BLK, advertise="NEW_OWNER,REMAP")


# -- module options, per device


YES, NO = (True, 1, "1", "y", "Yes", "on", "true", "T"), (False, 0, "0", "n", "No", "off", "false", "F")


@pytest.mark.parametrize("word", [*YES, *NO])
def test_a_switch_is_on_in_the_kernels_words(sim: Simulator, word: Any) -> None:
    sim.vdpa.dev_add("d", mgmtdev=NET, use_va=word, batch_mapping=word)
    device = sim.vdpa.bus.devices["d"]
    on = any(word is one for one in YES)
    assert (device.use_va, device.supports("set_map"), device.supports("dma_map")) == (on, on, not on)


def test_a_whole_map_device_by_user_address_is_the_default(sim: Simulator) -> None:
    device = sim.vdpa.dev_add("d", mgmtdev=NET).device
    assert (device.use_va, device.supports("set_map"), device.supports("dma_map")) == (True, True, False)


@pytest.mark.parametrize("batch_mapping", [True, False])
@pytest.mark.parametrize(
    ("kernel", "newer"), [("6.1", set[str]()), ("6.12", {"resume", "reset_map"}), ("tip", {"resume", "reset_map"})]
)
def test_optional_operations(kernel: str, newer: set[str], batch_mapping: bool) -> None:
    device = Simulator(kernel).vdpa.dev_add("d", mgmtdev=NET, batch_mapping=batch_mapping).device
    mapping = {"set_map"} if batch_mapping else {"dma_map", "get_vq_size"}
    assert device.ops == {"get_backend_features", "get_vq_group", "set_group_asid", "suspend"} | mapping | newer


def test_6_1_maps_by_pages_whatever_it_is_told() -> None:
    assert not Simulator("6.1").vdpa.dev_add("d", mgmtdev=NET, use_va=True).device.use_va


def test_options_of_the_machine_hold_for_devices_that_say_nothing() -> None:
    sim = Simulator(options={"use_va": False})
    assert not sim.vdpa.dev_add("a", mgmtdev=BLK).device.use_va
    assert sim.vdpa.dev_add("b", mgmtdev=BLK, use_va=True).device.use_va


def test_a_switch_that_is_not_given_is_on() -> None:
    assert flag({}, "use_va")
