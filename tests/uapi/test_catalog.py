"""What the header modules declare."""

from __future__ import annotations

from typing import Any

import pytest

from vdpasim.uapi import vhost, vhost_types, virtio_net
from vdpasim.uapi.catalog import HEADERS, constants, structs


def test_structures_are_found_by_name_in_the_order_of_declaration() -> None:
    names = list(structs())
    assert names[:3] == ["vhost_vring_state", "vhost_vring_file", "vhost_vring_addr"]
    assert structs()["vhost_msg"] is vhost_types.vhost_msg
    assert len(names) == 39


@pytest.mark.parametrize("name", structs())
def test_every_structure_says_where_it_is_from_and_what_it_is(name: str) -> None:
    struct = structs()[name]
    assert struct.name == name
    assert struct.header.startswith("linux/")
    assert struct.doc


def test_the_table_cannot_be_changed() -> None:
    table: Any = structs()
    with pytest.raises(TypeError):
        table["vhost_msg"] = None


def test_constants_are_the_integers_of_a_header() -> None:
    assert constants(vhost)["VHOST_VIRTIO"] == 0xAF
    assert constants(virtio_net)["VIRTIO_NET_RSS_HASH_TYPE_IPv4"] == 1
    assert "VHOST_SET_OWNER" not in constants(vhost)
    assert "_HEADER" not in constants(virtio_net)


def test_every_header_has_constants() -> None:
    assert all(constants(module) for module in HEADERS)
