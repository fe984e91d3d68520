"""Fields of events as JSON: what is refused, and how a call's two events find each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.core.events import Kind
from vdpasim.trace.fields import (
    BUFFER_MAX,
    Buffer,
    Named,
    Place,
    Wrong,
    apply,
    array,
    content,
    decode_bytes,
    encode,
    encode_bytes,
    field,
    number,
    text,
)


class TestBytes:
    @given(st.binary(max_size=40), st.integers(0, 5))
    def test_come_back(self, data: bytes, zeros: int) -> None:
        assert decode_bytes(encode_bytes(data + bytes(zeros))) == data + bytes(zeros)

    def test_leave_out_the_zeros_at_their_end(self) -> None:
        assert encode_bytes(b"\x01" + bytes(4095)) == {"data": "01", "length": 4096}

    @pytest.mark.parametrize(
        "value",
        [
            None,
            [],
            {"data": "01"},
            {"data": "0", "length": 1},
            {"data": "zz", "length": 1},
            {"data": "0102", "length": 1},
            {"data": "01\n", "length": 2},
            {"data": "", "length": BUFFER_MAX + 1},
            {"data": "", "length": -1},
            {"data": 1, "length": 1},
        ],
    )
    def test_that_are_none_are_refused(self, value: Any) -> None:
        with pytest.raises(Wrong):
            decode_bytes(value)


class TestArguments:
    def test_are_told_apart(self) -> None:
        class Object:
            ident = "eventfd-1"

        class User:
            addr, length = 0x1000, 8

        assert encode(None) is None
        assert (encode(5), encode("x")) == (5, "x")
        assert encode(Buffer(b"\x06", b"\x05")) == {"data": "05", "length": 1}
        assert encode(User()) == {"addr": 0x1000, "length": 8}
        assert encode(Object()) == {"name": "eventfd-1"}

    def test_a_buffer_holds_what_it_was_before_the_call(self) -> None:
        buffer = Buffer(b"\x02", b"\x01")
        assert (content(buffer), content(3), content("x")) == (b"\x01", None, None)
        assert str(buffer) == "02"
        assert str(Buffer(bytes(100), b"")) == f"{'00' * 32}…(100)"

    def test_places_and_names_read_as_text(self) -> None:
        shown = [str(arg) for arg in (Place(0x1000, 8), Place(0x1000, (1 << 64) - 1), Named("a"))]
        assert shown == ["0x1000:8", "0x1000", "a"]

    @pytest.mark.parametrize("arg", [{"addr": 1}, {"addr": 1, "length": "x"}, {"name": 1}, {}, [], 1.5])
    def test_of_no_known_shape_are_refused(self, arg: Any) -> None:
        with pytest.raises(Wrong, match="neither number"):
            field({"args": [arg]}, Kind.ENTER, "args")


class TestValues:
    @pytest.mark.parametrize("value", [None, "1", 1.0, True, 1 << 64, -(1 << 64), []])
    def test_a_number_is_an_integer_of_64_bits(self, value: Any) -> None:
        with pytest.raises(Wrong, match=r"n (is no|has more)"):
            number({"n": value}, "n")

    def test_what_is_read_is_taken_out(self) -> None:
        row = {"n": 1, "t": "a", "l": [1], "more": 2}
        assert (number(row, "n"), text(row, "t"), array(row, "l")) == (1, "a", [1])
        assert row == {"more": 2}

    def test_text_and_lists_are_what_they_are_called(self) -> None:
        with pytest.raises(Wrong, match="t is no text"):
            text({"t": 1}, "t")
        with pytest.raises(Wrong, match="l is no list"):
            array({"l": "abc"}, "l")

    def test_a_missing_field_is_named_with_its_kind(self) -> None:
        with pytest.raises(Wrong, match="KICK without queue"):
            field({"device": "d"}, Kind.KICK, "queue")

    @pytest.mark.parametrize("run", [[], ["a", 0], ["a", "0", 1], [1, 0, 1], "a+0"])
    def test_a_run_is_object_offset_and_length(self, run: Any) -> None:
        with pytest.raises(Wrong, match="place is no list of"):
            field({"place": [run]}, Kind.DMA, "place")

    def test_owners_and_rules_may_be_none(self) -> None:
        assert field({"old": None}, Kind.OWNER, "old") is None
        assert field({"rule": "a.b"}, Kind.EXIT, "rule") == "a.b"


class TestApply:
    def test_puts_what_a_call_left_into_its_buffers(self) -> None:
        buffer = Buffer(b"\x00", b"\x00")
        apply({"1": {"data": "ff", "length": 1}}, (5, buffer))
        assert (buffer.data, buffer.before) == (b"\xff", b"\x00")

    @pytest.mark.parametrize("changed", [[], {"0": {}}, {"1": {}}, {"x": {}}, {"-1": {}}, {"9999": {}}])
    def test_refuses_what_does_not_fit_the_call(self, changed: Any) -> None:
        with pytest.raises(Wrong):
            apply(changed, (5, Buffer(b"", b"")))
