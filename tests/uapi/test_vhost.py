"""vhost's requests, number by number as strace prints them."""

from __future__ import annotations

import pytest

from vdpasim.uapi import vhost
from vdpasim.uapi.abi import I386, X86_64
from vdpasim.uapi.catalog import requests
from vdpasim.uapi.ioctl import Ioctl

# The values of x86_64, which are those of every ABI with the generic layout of request numbers.
VALUES = {
    "VHOST_GET_FEATURES": 0x8008AF00,
    "VHOST_SET_FEATURES": 0x4008AF00,
    "VHOST_SET_OWNER": 0x0000AF01,
    "VHOST_RESET_OWNER": 0x0000AF02,
    "VHOST_SET_MEM_TABLE": 0x4008AF03,
    "VHOST_SET_LOG_BASE": 0x4008AF04,
    "VHOST_SET_LOG_FD": 0x4004AF07,
    "VHOST_NEW_WORKER": 0x8004AF08,
    "VHOST_FREE_WORKER": 0x4004AF09,
    "VHOST_SET_VRING_NUM": 0x4008AF10,
    "VHOST_SET_VRING_ADDR": 0x4028AF11,
    "VHOST_SET_VRING_BASE": 0x4008AF12,
    "VHOST_GET_VRING_BASE": 0xC008AF12,
    "VHOST_SET_VRING_ENDIAN": 0x4008AF13,
    "VHOST_GET_VRING_ENDIAN": 0x4008AF14,
    "VHOST_ATTACH_VRING_WORKER": 0x4008AF15,
    "VHOST_GET_VRING_WORKER": 0xC008AF16,
    "VHOST_SET_VRING_KICK": 0x4008AF20,
    "VHOST_SET_VRING_CALL": 0x4008AF21,
    "VHOST_SET_VRING_ERR": 0x4008AF22,
    "VHOST_SET_VRING_BUSYLOOP_TIMEOUT": 0x4008AF23,
    "VHOST_GET_VRING_BUSYLOOP_TIMEOUT": 0x4008AF24,
    "VHOST_SET_BACKEND_FEATURES": 0x4008AF25,
    "VHOST_GET_BACKEND_FEATURES": 0x8008AF26,
    "VHOST_NEW_OWNER": 0x0000AF27,
    "VHOST_NET_SET_BACKEND": 0x4008AF30,
    "VHOST_SCSI_SET_ENDPOINT": 0x40E8AF40,
    "VHOST_SCSI_CLEAR_ENDPOINT": 0x40E8AF41,
    "VHOST_SCSI_GET_ABI_VERSION": 0x4004AF42,
    "VHOST_SCSI_SET_EVENTS_MISSED": 0x4004AF43,
    "VHOST_SCSI_GET_EVENTS_MISSED": 0x4004AF44,
    "VHOST_VSOCK_SET_GUEST_CID": 0x4008AF60,
    "VHOST_VSOCK_SET_RUNNING": 0x4004AF61,
    "VHOST_VDPA_GET_DEVICE_ID": 0x8004AF70,
    "VHOST_VDPA_GET_STATUS": 0x8001AF71,
    "VHOST_VDPA_SET_STATUS": 0x4001AF72,
    "VHOST_VDPA_GET_CONFIG": 0x8008AF73,
    "VHOST_VDPA_SET_CONFIG": 0x4008AF74,
    "VHOST_VDPA_SET_VRING_ENABLE": 0x4008AF75,
    "VHOST_VDPA_GET_VRING_NUM": 0x8002AF76,
    "VHOST_VDPA_SET_CONFIG_CALL": 0x4004AF77,
    "VHOST_VDPA_GET_IOVA_RANGE": 0x8010AF78,
    "VHOST_VDPA_GET_CONFIG_SIZE": 0x8004AF79,
    "VHOST_VDPA_GET_AS_NUM": 0x8004AF7A,
    "VHOST_VDPA_GET_VRING_GROUP": 0xC008AF7B,
    "VHOST_VDPA_SET_GROUP_ASID": 0x4008AF7C,
    "VHOST_VDPA_SUSPEND": 0x0000AF7D,
    "VHOST_VDPA_RESUME": 0x0000AF7E,
    "VHOST_VDPA_GET_VRING_DESC_GROUP": 0xC008AF7F,
    "VHOST_VDPA_GET_VQS_COUNT": 0x8004AF80,
    "VHOST_VDPA_GET_GROUP_NUM": 0x8004AF81,
    "VHOST_VDPA_GET_VRING_SIZE": 0xC008AF82,
    "VHOST_GET_FEATURES_ARRAY": 0x8008AF83,
    "VHOST_SET_FEATURES_ARRAY": 0x4008AF83,
    "VHOST_SET_FORK_FROM_OWNER": 0x4001AF84,
    "VHOST_GET_FORK_FROM_OWNER": 0x8001AF85,
}


@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_a_request_has_its_number(name: str, value: int) -> None:
    assert getattr(vhost, name).request() == value


@pytest.mark.parametrize("name", VALUES)
def test_no_request_depends_on_the_alignment_of_u64(name: str) -> None:
    one: Ioctl = getattr(vhost, name)
    assert one.request(I386) == one.request(X86_64)


def test_there_are_no_others() -> None:
    assert [one.name for one in requests().values() if one.type == vhost.VHOST_VIRTIO] == [
        name for name, value in vars(vhost).items() if isinstance(value, Ioctl)
    ]
    assert {name for name, value in vars(vhost).items() if isinstance(value, Ioctl)} == set(VALUES)


def test_a_request_is_called_what_its_variable_is() -> None:
    assert all(getattr(vhost, name).name == name for name in VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_every_request_says_what_it_is_for(name: str) -> None:
    assert getattr(vhost, name).doc


def test_the_live_update_series_is_marked() -> None:
    assert vhost.VHOST_NEW_OWNER.since == "live-update series, never merged"


@pytest.mark.parametrize("number", [0x00, 0x12, 0x83])
def test_three_pairs_share_a_number_and_differ_in_direction(number: int) -> None:
    pair = [one for one in requests().values() if (one.type, one.nr) == (0xAF, number)]
    assert len(pair) == 2
    assert pair[0].direction != pair[1].direction
