"""Request numbers: encoding and decoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.uapi import vhost
from vdpasim.uapi.abi import ABIS, I386, PPC64, X86_64, Abi
from vdpasim.uapi.ioctl import Direction, Ioctl, decode, encode, io, ior, iow, iowr
from vdpasim.uapi.table import U8, U64, Flex, Struct, u8, u16, u32, u64

abis = pytest.mark.parametrize("abi", ABIS.values(), ids=ABIS.keys())
models = st.sampled_from(list(ABIS.values()))


class TestEncoding:
    @pytest.mark.parametrize(
        ("direction", "size", "x86", "ppc"),
        [
            (Direction.NONE, 0, 0x00005401, 0x20005401),
            (Direction.WRITE, 4, 0x40045401, 0x80045401),
            (Direction.READ, 4, 0x80045401, 0x40045401),
            (Direction.READ_WRITE, 4, 0xC0045401, 0xC0045401),
        ],
    )
    def test_directions_are_the_architectures_own(self, direction: Direction, size: int, x86: int, ppc: int) -> None:
        assert encode(direction, ord("T"), 1, size, X86_64) == x86
        assert encode(direction, ord("T"), 1, size, PPC64) == ppc

    def test_x86_64_is_the_default(self) -> None:
        assert encode(Direction.WRITE, 0xAF, 0, 8) == 0x4008AF00

    @pytest.mark.parametrize(
        ("type_", "nr", "size", "complaint"),
        [
            (256, 0, 0, "type 256 does not fit 8 bits on x86_64"),
            (0, 256, 0, "nr 256 does not fit 8 bits"),
            (0, 0, 1 << 14, "size 16384 does not fit 14 bits"),
            (-1, 0, 0, "type -1 does not fit"),
        ],
    )
    def test_parts_that_do_not_fit_are_refused(self, type_: int, nr: int, size: int, complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            encode(Direction.NONE, type_, nr, size)

    def test_powerpc_has_a_bit_less_for_the_size(self) -> None:
        assert decode(encode(Direction.READ, 0, 0, 8191, PPC64), PPC64).size == 8191
        with pytest.raises(ValueError, match="size 8192 does not fit 13 bits on ppc64"):
            encode(Direction.READ, 0, 0, 8192, PPC64)

    @given(st.sampled_from(list(Direction)), st.integers(0, 255), st.integers(0, 255), st.integers(0, 8191), models)
    def test_decoding_undoes_it(self, direction: Direction, type_: int, nr: int, size: int, abi: Abi) -> None:
        assert decode(encode(direction, type_, nr, size, abi), abi) == (direction, type_, nr, size)


class TestDecoding:
    @given(st.integers(0, 2**32 - 1))
    def test_every_32_bits_have_parts_on_x86(self, request_: int) -> None:
        parts = decode(request_)
        assert parts.direction is not None
        assert encode(parts.direction, parts.type, parts.nr, parts.size) == request_

    @given(st.integers(0, 2**32 - 1))
    def test_powerpc_has_direction_bits_without_a_meaning(self, request_: int) -> None:
        assert (decode(request_, PPC64).direction is None) == (request_ >> 29 in {0, 3, 5, 7})

    @pytest.mark.parametrize("request_", [-1, 1 << 32])
    def test_other_numbers_are_no_requests(self, request_: int) -> None:
        with pytest.raises(ValueError, match="is no 32-bit request number"):
            decode(request_)


class TestIoctl:
    def test_the_size_is_that_of_the_argument(self) -> None:
        struct = Struct("arg", U64("a"), Flex("rest", u64))
        assert iow("TEST_W", 0xAA, 1, struct).request() == 0x4008AA01
        assert ior("TEST_R", 0xAA, 2, u16).request() == 0x8002AA02
        assert iowr("TEST_RW", 0xAA, 3, u32).request() == 0xC004AA03
        assert io("TEST_N", 0xAA, 4).request() == 0x0000AA04

    def test_the_size_is_the_abis(self) -> None:
        odd = iow("TEST_ODD", 0xAA, 2, Struct("odd", U64("a"), U8("b")))
        assert (odd.request(X86_64), odd.request(I386)) == (0x4010AA02, 0x400CAA02)

    @pytest.mark.parametrize(
        ("one", "spelling"),
        [
            (vhost.VHOST_SET_OWNER, "_IO(0xaf, 0x01)"),
            (vhost.VHOST_SET_FEATURES, "_IOW(0xaf, 0x00, __u64)"),
            (vhost.VHOST_GET_VRING_BASE, "_IOWR(0xaf, 0x12, struct vhost_vring_state)"),
        ],
        ids=lambda one: getattr(one, "name", ""),
    )
    def test_it_is_spelled_as_in_the_header(self, one: Ioctl, spelling: str) -> None:
        assert one.spelling() == spelling

    def test_it_keeps_what_is_said_of_it(self) -> None:
        one = ior("TEST_R", 0xAA, 2, u8, "A test", "never")
        assert (one.name, one.doc, one.since) == ("TEST_R", "A test", "never")
