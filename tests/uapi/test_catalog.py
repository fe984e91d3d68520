"""What the header modules declare."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.uapi import vhost, vhost_types
from vdpasim.uapi.abi import ABIS, PPC64, Abi
from vdpasim.uapi.catalog import HEADERS, by_request, near, requests, structs
from vdpasim.uapi.ioctl import Ioctl


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
    tables: list[Any] = [structs(), requests()]
    for table in tables:
        with pytest.raises(TypeError):
            table["vhost_msg"] = None


class TestRequests:
    def test_are_found_by_name_in_the_order_of_declaration(self) -> None:
        declared = [name for module in HEADERS for name, value in vars(module).items() if isinstance(value, Ioctl)]
        assert list(requests()) == declared
        assert requests()["VHOST_SET_OWNER"] is vhost.VHOST_SET_OWNER

    @pytest.mark.parametrize("abi", ABIS.values(), ids=ABIS.keys())
    @pytest.mark.parametrize("name", requests())
    def test_are_found_by_their_numbers(self, name: str, abi: Abi) -> None:
        one = requests()[name]
        assert by_request(one.request(abi), abi) is one

    @given(st.integers(0, 2**32 - 1).filter(lambda number: number >> 8 & 0xFF != 0xAF))
    def test_of_other_drivers_are_not(self, request_: int) -> None:
        assert by_request(request_) is None


class TestNear:
    def test_the_4_19_headers_get_backend_features_had_the_wrong_direction(self) -> None:
        (found,) = near(0x4008AF26)
        assert found.ioctl is vhost.VHOST_GET_BACKEND_FEATURES
        assert found.difference == "direction _IOW instead of _IOR"

    def test_a_wrong_size(self) -> None:
        (found,) = near(0x4004AF10)
        assert (found.ioctl.name, found.difference) == ("VHOST_SET_VRING_NUM", "size 4 instead of 8")

    def test_both(self) -> None:
        (found,) = near(0x8004AF10)
        assert found.difference == "direction _IOR instead of _IOW, size 4 instead of 8"

    def test_direction_bits_without_a_meaning(self) -> None:
        (found,) = near(0x0008AF10, PPC64)
        assert found.difference == "direction invalid instead of _IOW"

    def test_requests_that_share_a_number_are_each_other_s_relatives(self) -> None:
        assert [one.ioctl.name for one in near(0x4008AF00)] == ["VHOST_GET_FEATURES"]
        assert {one.ioctl.name for one in near(0x4004AF83)} == {"VHOST_GET_FEATURES_ARRAY", "VHOST_SET_FEATURES_ARRAY"}

    def test_a_known_request_is_not_its_own_relative(self) -> None:
        assert near(vhost.VHOST_SET_OWNER.request()) == []

    def test_an_unknown_number_has_none(self) -> None:
        assert near(0x4008AFFE) == []
