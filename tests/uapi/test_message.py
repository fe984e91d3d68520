"""Bytes read as messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.uapi import vhost_types as t
from vdpasim.uapi.abi import ABIS, ARM, I386, PPC64, RISCV32, S390X, X86_64, Abi
from vdpasim.uapi.layout import layout
from vdpasim.uapi.message import (
    TYPE_NAMES,
    Message,
    decode_message,
    describe,
    encode_message,
    message_size,
    needed,
)

if TYPE_CHECKING:
    from vdpasim.uapi.table import Struct

UPDATE = {"iova": 0x1000, "size": 0x2000, "uaddr": 0x7F0000000000, "perm": 3, "type": t.VHOST_IOTLB_UPDATE}
formats = pytest.mark.parametrize("format_", [t.vhost_msg, t.vhost_msg_v2], ids=lambda one: one.name)
abis = pytest.mark.parametrize("abi", ABIS.values(), ids=ABIS.keys())


def message(format_: Struct, abi: Abi, **iotlb: int) -> bytes:
    word = t.VHOST_IOTLB_MSG if format_ is t.vhost_msg else t.VHOST_IOTLB_MSG_V2
    return layout(format_, abi).pack(type=word, iotlb={**UPDATE, **iotlb})


class TestTheBytesOfAProgram:
    @pytest.mark.parametrize(
        ("abi", "version", "size", "offset"),
        [(X86_64, 2, 72, 8), (X86_64, 1, 72, 8), (I386, 2, 72, 8), (I386, 1, 68, 4)],
    )
    def test_sizes_and_offsets_of_the_formats(self, abi: Abi, version: int, size: int, offset: int) -> None:
        data = encode_message(abi, Message(version, 0, 0x1122, 0, 0, 0, 0))
        assert (len(data), data.index(b"\x22\x11")) == (size, offset)

    @pytest.mark.parametrize("name", sorted(ABIS))
    @given(data=st.data())
    def test_what_was_written_is_read(self, name: str, data: st.DataObject) -> None:
        u64s, u8s = st.integers(0, (1 << 64) - 1), st.integers(0, 255)
        version = data.draw(st.sampled_from([1, 2]))
        asid = data.draw(st.integers(0, (1 << 32) - 1)) if version == 2 else 0
        iova, size, uaddr = (data.draw(u64s) for _ in range(3))
        message = Message(version, asid, iova, size, uaddr, data.draw(u8s), data.draw(u8s))
        encoded = encode_message(ABIS[name], message)
        assert len(encoded) <= message_size(ABIS[name])
        assert decode_message(ABIS[name], encoded) == message

    @pytest.mark.parametrize("data", [b"", b"\2\0\0", b"\3" + bytes(71), bytes(72)])
    def test_other_bytes_are_no_message(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="not a vhost message"):
            decode_message(X86_64, data)

    def test_a_message_may_be_too_short(self) -> None:
        with pytest.raises(ValueError, match="33 bytes are too short"):
            decode_message(X86_64, encode_message(X86_64, Message(2, 0, 0, 0, 0, 0, 0))[:33])


class TestAWholeMessage:
    @abis
    @formats
    def test_is_understood_on_the_machine_that_made_it(self, format_: Struct, abi: Abi) -> None:
        found = describe(message(format_, abi), abi)
        assert (found.ok, found.format, found.problems, found.notes) == (True, format_.name, (), ())
        assert {name: found.value(f"iotlb.{name}") for name in UPDATE} == UPDATE

    def test_names_its_values(self) -> None:
        found = describe(message(t.vhost_msg_v2, X86_64), X86_64)
        assert [(member.name, member.offset, member.size, member.text) for member in found.members] == [
            ("type", 0, 4, "VHOST_IOTLB_MSG_V2"),
            ("asid", 4, 4, ""),
            ("iotlb.iova", 8, 8, ""),
            ("iotlb.size", 16, 8, ""),
            ("iotlb.uaddr", 24, 8, ""),
            ("iotlb.perm", 32, 1, "VHOST_ACCESS_RW"),
            ("iotlb.type", 33, 1, "VHOST_IOTLB_UPDATE"),
        ]

    @pytest.mark.parametrize("type_", TYPE_NAMES)
    def test_may_be_of_any_type(self, type_: int) -> None:
        perm = 0 if type_ == t.VHOST_IOTLB_REMAP else 3
        assert describe(message(t.vhost_msg_v2, X86_64, type=type_, perm=perm), X86_64).ok

    def test_has_no_value_for_what_is_not_in_it(self) -> None:
        assert describe(message(t.vhost_msg, X86_64), X86_64).value("asid") is None


class TestNotes:
    def test_a_kernel_reads_no_more_than_the_payload(self) -> None:
        found = describe(message(t.vhost_msg, X86_64)[:40], X86_64)
        assert found.ok
        assert found.notes == ("40 of 72 bytes: a kernel reads 40 and answers 72",)

    def test_a_hole_that_is_not_zero_leaks(self) -> None:
        data = bytearray(message(t.vhost_msg, X86_64))
        data[6] = 0xA5
        assert describe(bytes(data), X86_64).notes == ("hole at 4..7 is not zero: left-over memory of the sender",)

    def test_an_asid_needs_a_feature(self) -> None:
        data = bytearray(message(t.vhost_msg_v2, X86_64))
        data[4] = 1
        assert describe(bytes(data), X86_64).notes == (
            "asid is read only after IOTLB_ASID has been acked, else it is 0",
        )

    @pytest.mark.parametrize(
        ("members", "word"),
        [
            ({"type": t.VHOST_IOTLB_REMAP, "perm": 0}, "never merged"),
            ({"type": t.VHOST_IOTLB_INVALIDATE, "size": 0}, "EINVAL from 5.17 to 6.5"),
            ({"perm": 0}, "neither read nor write"),
        ],
    )
    def test_what_a_reader_should_know(self, members: dict[str, int], word: str) -> None:
        found = describe(message(t.vhost_msg_v2, X86_64, **members), X86_64)
        assert found.ok
        assert len(found.notes) == 1
        assert word in found.notes[0]


class TestProblems:
    @pytest.mark.parametrize("length", range(4))
    def test_the_type_word_is_cut(self, length: int) -> None:
        found = describe(b"\2\0\0\0"[:length], X86_64)
        assert found.problems == (f"{length} bytes are too few for the type word, which has 4",)
        assert (found.format, found.members) == ("", ())

    @abis
    @formats
    def test_a_byte_less_than_the_payload_is_einval(self, format_: Struct, abi: Abi) -> None:
        least = needed(format_, abi)
        assert describe(message(format_, abi)[:least], abi).ok
        found = describe(message(format_, abi)[: least - 1], abi)
        assert found.problems == (f"{least - 1} bytes, and a kernel wants {least} at least: EINVAL",)

    def test_needed_bytes_are_those_a_kernel_reads(self) -> None:
        assert [needed(t.vhost_msg, abi) for abi in (X86_64, I386)] == [40, 32]
        assert [needed(t.vhost_msg_v2, abi) for abi in (X86_64, I386)] == [40, 36]

    def test_members_cut_off_are_not_shown(self) -> None:
        found = describe(message(t.vhost_msg_v2, X86_64)[:20], X86_64)
        assert [member.name for member in found.members] == ["type", "asid", "iotlb.iova"]

    def test_bytes_behind_a_message_are_not_read(self) -> None:
        found = describe(message(t.vhost_msg_v2, X86_64) * 2, X86_64)
        assert found.problems == ("72 bytes behind the message: one write is one message, the rest is not read",)

    @pytest.mark.parametrize(("word", "shown"), [(0, "0x0"), (3, "0x3"), (-1, "0xffffffff")])
    def test_an_unknown_type_word(self, word: int, shown: str) -> None:
        found = describe(word.to_bytes(4, "little", signed=True) + bytes(68), X86_64)
        assert found.problems == (f"type word {shown} is neither VHOST_IOTLB_MSG (1) nor VHOST_IOTLB_MSG_V2 (2)",)

    @pytest.mark.parametrize(("made", "read"), [(S390X, X86_64), (X86_64, PPC64)], ids=lambda abi: abi.name)
    def test_the_other_byte_order_is_recognised(self, made: Abi, read: Abi) -> None:
        found = describe(message(t.vhost_msg_v2, made), read)
        assert found.problems[1] == (
            f"it is one in {made.byteorder}-endian byte order, and {read.name} is {read.byteorder}-endian"
        )

    @pytest.mark.parametrize(
        ("members", "complaint"),
        [
            ({"type": 0}, "iotlb.type 0 is no VHOST_IOTLB_*"),
            ({"type": 8}, "iotlb.type 8 is no VHOST_IOTLB_*"),
            ({"perm": 4}, "iotlb.perm 4 is no VHOST_ACCESS_*"),
            ({"size": 0}, "VHOST_IOTLB_UPDATE of size 0 is refused"),
            (
                {"type": t.VHOST_IOTLB_REMAP},
                "VHOST_IOTLB_REMAP with perm 3 is refused: it keeps the permission, so perm is 0",
            ),
            ({"iova": 2**64 - 1, "size": 2}, "iova 0xffffffffffffffff and size 0x2 reach beyond the last address"),
        ],
    )
    def test_values_that_mean_nothing(self, members: dict[str, int], complaint: str) -> None:
        assert describe(message(t.vhost_msg_v2, X86_64, **members), X86_64).problems == (complaint,)

    def test_the_last_address_can_be_mapped(self) -> None:
        assert describe(message(t.vhost_msg_v2, X86_64, iova=2**64 - 1, size=1), X86_64).ok

    def test_a_batch_has_no_range(self) -> None:
        assert describe(message(t.vhost_msg_v2, X86_64, type=t.VHOST_IOTLB_BATCH_END, size=0), X86_64).ok


class TestMessagesOfAnotherMachine:
    def test_an_i386_message_read_as_x86_64(self) -> None:
        found = describe(message(t.vhost_msg, I386), X86_64)
        assert found.problems == (
            "an i386 vhost_msg of 68 bytes; that of x86_64 has 72",
            "read as i386 it is VHOST_IOTLB_UPDATE iova=0x1000 size=0x2000 uaddr=0x7f0000000000 perm=3",
            "x86_64 reads the payload from 8 instead of 4 and finds type 0",
        )

    def test_also_in_a_buffer_of_the_right_size(self) -> None:
        found = describe(message(t.vhost_msg, I386) + bytes(4), X86_64)
        assert found.problems[0] == "an i386 vhost_msg of 68 bytes; that of x86_64 has 72"

    def test_also_when_x86_64_finds_it_sensible_but_its_length_is_i386s(self) -> None:
        # Chosen so that the bytes at x86_64's places are a valid permission and type, too.
        data = bytearray(message(t.vhost_msg, I386))
        data[32:34] = bytes((3, t.VHOST_IOTLB_INVALIDATE))
        assert describe(bytes(data) + bytes(4), X86_64).ok
        assert describe(bytes(data), X86_64).problems[0].startswith("an i386 vhost_msg")

    def test_an_x86_64_message_read_as_i386(self) -> None:
        found = describe(message(t.vhost_msg, X86_64), I386)
        assert found.problems[0] == "an x86_64 vhost_msg of 72 bytes; that of i386 has 68"
        assert found.problems[2].endswith("finds type 127")

    @pytest.mark.parametrize("abi", [X86_64, ARM, RISCV32], ids=lambda abi: abi.name)
    def test_the_second_format_is_everyones(self, abi: Abi) -> None:
        assert describe(message(t.vhost_msg_v2, I386), abi).ok

    def test_nonsense_is_not_called_anybodys(self) -> None:
        found = describe(b"\1\0\0\0" + b"\xff" * 68, X86_64)
        assert found.problems == ("iotlb.type 255 is no VHOST_IOTLB_*", "iotlb.perm 255 is no VHOST_ACCESS_*")


@given(
    st.integers(0, 2**64 - 1),
    st.integers(1, 2**48),
    st.integers(0, 2**47),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 2, 3, 4]),
)
def test_every_i386_message_is_refused_or_explained(iova: int, size: int, uaddr: int, perm: int, type_: int) -> None:
    data = message(t.vhost_msg, I386, iova=iova, size=size, uaddr=uaddr, perm=perm, type=type_)
    own = describe(data, I386)
    foreign = describe(data, X86_64)
    assert not foreign.ok
    if own.ok:
        assert foreign.problems[0] == "an i386 vhost_msg of 68 bytes; that of x86_64 has 72"


@given(st.binary(max_size=100), st.sampled_from(list(ABIS.values())))
def test_any_bytes_have_a_description(data: bytes, abi: Abi) -> None:
    found = describe(data, abi)
    assert found.length == len(data)
    assert found.ok == (not found.problems)
    assert all(member.offset + member.size <= len(data) for member in found.members)
