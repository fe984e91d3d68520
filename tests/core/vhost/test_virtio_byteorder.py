"""Byte order of rings: little by VERSION_1, else the host's."""

from __future__ import annotations

import pytest

from tests.core.support import ACCESS_PLATFORM, VERSION_1, Machine
from vdpasim.core.vhost.virtio_byteorder import BIG, LITTLE, RingStructs, ring_structs
from vdpasim.uapi import virtio_net
from vdpasim.uapi.abi import ABIS


@pytest.mark.parametrize(
    ("abi", "features", "structs"),
    [
        ("x86_64", 0, LITTLE),
        ("x86_64", VERSION_1, LITTLE),
        ("s390x", 0, BIG),
        ("s390x", VERSION_1, LITTLE),
        ("ppc64", 0, BIG),
        ("aarch64", 0, LITTLE),
    ],
)
def test_only_a_legacy_ring_on_a_big_endian_host_is_big(abi: str, features: int, structs: RingStructs) -> None:
    assert ring_structs(ABIS[abi], features) is structs


def test_the_config_space_follows_what_was_negotiated() -> None:
    machine = Machine(abi="s390x")
    machine.features(ACCESS_PLATFORM)
    assert status(machine) == virtio_net.VIRTIO_NET_S_LINK_UP.to_bytes(2, "big")
    machine.features(ACCESS_PLATFORM | VERSION_1)
    assert status(machine) == virtio_net.VIRTIO_NET_S_LINK_UP.to_bytes(2, "little")


def status(machine: Machine) -> bytes:
    return machine.device.device.get_config(6, 2)
