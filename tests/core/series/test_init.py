"""Patch series: found by their switch, applied to a file when it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core.support import Machine
from vdpasim.core import series
from vdpasim.core.profiles import parse
from vdpasim.core.switches import SWITCHES
from vdpasim.uapi import vhost
from vdpasim.uapi.vhost_types import VHOST_IOTLB_REMAP

if TYPE_CHECKING:
    from vdpasim.core.vhost.vdpa import VhostVdpa


@pytest.mark.parametrize(
    ("kernel", "names"),
    [
        ("6.12", []),
        ("6.12+lu-advertise", []),
        ("6.12+live-update-v1", ["live-update-v1"]),
        ("tip+live-update-v2", ["live-update-v2"]),
        ("7.1+live-update-v2+live-update-v1", ["live-update-v1", "live-update-v2"]),
    ],
)
def test_a_series_is_active_when_its_switch_is_on(kernel: str, names: list[str]) -> None:
    assert [one.name for one in series.active(parse(kernel))] == names


def test_every_series_is_a_switch() -> None:
    series.active(parse("tip"))
    assert set(series.SERIES) <= set(SWITCHES)


@pytest.mark.parametrize(("kernel", "mask"), [("6.12", 0), ("6.12+live-update-v1", 3 << 9)])
def test_its_backend_feature_bits_become_known(kernel: str, mask: int) -> None:
    assert series.backend_features(parse(kernel)) == mask


def test_a_file_opened_without_it_has_mainline_s_tables() -> None:
    with_it, without = (open_file(kernel) for kernel in ("6.12+live-update-v1", "6.12"))
    assert set(with_it.ioctls) - set(without.ioctls) == {vhost.VHOST_NEW_OWNER.request()}
    assert set(with_it.messages) - set(without.messages) == {VHOST_IOTLB_REMAP}


def open_file(kernel: str) -> VhostVdpa:
    opened = Machine(kernel=kernel).device.node.opened
    assert opened is not None
    return opened


def test_a_name_is_registered_once() -> None:
    series.active(parse("tip"))
    with pytest.raises(ValueError, match="'live-update-v1' is registered twice"):
        series.register(series.SERIES["live-update-v1"])
