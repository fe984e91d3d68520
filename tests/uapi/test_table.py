"""Field tables."""

from __future__ import annotations

import pytest

from vdpasim.uapi.table import (
    S32,
    U8,
    U16,
    Alternatives,
    Array,
    ArrayOf,
    ByteArray,
    Field,
    Flex,
    Nested,
    Scalar,
    Struct,
    Union,
    member_names,
    s8,
    s32,
    s64,
    spell,
    u8,
    u16,
    u32,
)

POINT = Struct("point", U16("x"), U16("y"))


class TestStruct:
    def test_keeps_what_it_is_told(self) -> None:
        struct = Struct("s", U8("a"), header="linux/s.h", doc="One byte", since="5.1", packed=True, byteorder="little")
        assert (struct.name, struct.fields) == ("s", (Field("a", u8),))
        assert (struct.header, struct.doc, struct.since) == ("linux/s.h", "One byte", "5.1")
        assert (struct.packed, struct.byteorder) == (True, "little")

    def test_is_itself_and_no_other(self) -> None:
        assert Struct("point", U16("x"), U16("y")) != POINT

    def test_refuses_two_members_of_one_name(self) -> None:
        with pytest.raises(ValueError, match="struct s has two members of one name"):
            Struct("s", U8("a"), U16("a"))

    def test_refuses_a_name_that_an_anonymous_union_brings_again(self) -> None:
        with pytest.raises(ValueError, match="two members"):
            Struct("s", U8("a"), Union(U16("b"), U8("a")))

    def test_refuses_a_flexible_array_in_the_middle(self) -> None:
        with pytest.raises(ValueError, match="flexible array that is not its last member"):
            Struct("s", Flex("rest", u8), U8("a"))

    def test_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            POINT.name = "other"  # type: ignore[misc]


class TestMemberNames:
    def test_of_named_members_are_their_own(self) -> None:
        assert member_names([U8("a"), Nested("p", POINT), Union("u", U8("b"))]) == ["a", "p", "u"]

    def test_of_anonymous_ones_are_their_members(self) -> None:
        assert member_names([Nested("", POINT), Union(U8("b"), Nested("", Struct("", U8("c"))))]) == [
            "x",
            "y",
            "b",
            "c",
        ]


class TestMakers:
    def test_scalars_carry_their_kernel_names(self) -> None:
        assert [S32("n").type, U8("n").type] == [s32, u8]
        assert (s64.name, s64.code, s64.size) == ("__s64", "q", 8)

    def test_arrays_and_flexible_arrays(self) -> None:
        assert Array("a", u16, 3) == Field("a", ArrayOf(u16, 3))
        assert Flex("a", u16) == Field("a", u16, flexible=True)

    def test_a_union_is_anonymous_unless_named(self) -> None:
        assert Union(U8("a")).name == ""
        assert Union("u", U8("a")).name == "u"

    @pytest.mark.parametrize("members", [(), ("u",)])
    def test_a_union_needs_a_member(self, members: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="a union needs a member"):
            Union(*members)


@pytest.mark.parametrize(
    ("scalar", "bounds"),
    [(u8, (0, 255)), (s8, (-128, 127)), (u32, (0, 2**32 - 1)), (s64, (-(2**63), 2**63 - 1))],
)
def test_bounds_of_a_scalar(scalar: Scalar, bounds: tuple[int, int]) -> None:
    assert scalar.bounds == bounds


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (u8, "__u8"),
        (ByteArray(64), "__u8[64]"),
        (ArrayOf(u16, 2), "__u16[2]"),
        (Alternatives((U8("a"),)), "union"),
        (POINT, "struct point"),
        (Struct("", U8("a")), "struct"),
    ],
)
def test_types_are_spelled_as_in_c(type_: Scalar, text: str) -> None:
    assert spell(type_) == text
