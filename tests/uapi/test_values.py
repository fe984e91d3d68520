"""From given values to the order of the format, and back to named tuples."""

from __future__ import annotations

from typing import Any

import pytest

from vdpasim.uapi.table import (
    U8,
    U16,
    U32,
    Alternatives,
    Array,
    ArrayOf,
    Bytes,
    Field,
    Flex,
    Nested,
    Struct,
    Union,
    s8,
    u8,
    u16,
)
from vdpasim.uapi.values import Shape

POINT = Struct("point", U16("x"), U16("y"))
NESTED = Struct("nested", U8("kind"), Nested("at", POINT), Bytes("name", 4), Array("all", u16, 3), Flex("rest", u8))


def flat(struct: Struct, **values: Any) -> list[int | bytes]:
    return list(Shape(struct).flatten(values, struct.name))


class TestFlatten:
    def test_absent_members_are_zero(self) -> None:
        assert flat(NESTED) == [0, 0, 0, b"", 0, 0, 0]

    def test_values_come_in_the_order_of_the_table(self) -> None:
        assert flat(NESTED, all=[7, 8, 9], name=b"abcd", at={"y": 2, "x": 1}, kind=5) == [5, 1, 2, b"abcd", 7, 8, 9]

    @pytest.mark.parametrize("at", [(1, 2), [1, 2], {"x": 1, "y": 2}], ids=["tuple", "list", "mapping"])
    def test_an_inner_structure_is_a_mapping_or_its_values(self, at: Any) -> None:
        assert flat(NESTED, at=at)[1:3] == [1, 2]

    def test_an_inner_structure_may_be_an_unpacked_one(self) -> None:
        assert flat(NESTED, at=Shape(POINT).build((3, 4)))[1:3] == [3, 4]

    def test_a_shorter_array_is_filled_up(self) -> None:
        assert flat(NESTED, all=[7])[-3:] == [7, 0, 0]

    def test_an_array_of_structures(self) -> None:
        struct = Struct("path", Array("points", POINT, 2))
        assert flat(struct, points=[(1, 2)]) == [1, 2, 0, 0]

    def test_too_few_values_of_an_inner_structure(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            flat(NESTED, at=(1,))

    @pytest.mark.parametrize("name", ["nope", "x", "rest"])
    def test_an_unknown_member_is_named(self, name: str) -> None:
        with pytest.raises(TypeError, match=f"struct nested has no member {name}; it has kind, at, name, all"):
            flat(NESTED, **{name: 1})

    def test_an_unknown_inner_member_is_named_with_its_place(self) -> None:
        with pytest.raises(TypeError, match=r"struct nested\.at has no member z; it has x, y"):
            flat(NESTED, at={"z": 1})

    @pytest.mark.parametrize(
        ("member", "value", "complaint"),
        [
            ("kind", 256, r"nested\.kind: 256 does not fit __u8"),
            ("kind", -1, r"nested\.kind: -1 does not fit __u8"),
            ("at", {"x": 65536}, r"nested\.at\.x: 65536 does not fit __u16"),
            ("name", b"abcde", r"nested\.name: 5 values do not fit 4"),
            ("all", [1, 2, 3, 4], r"nested\.all: 4 values do not fit 3"),
        ],
    )
    def test_a_value_that_does_not_fit_is_named(self, member: str, value: Any, complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            flat(NESTED, **{member: value})

    def test_signed_members_take_negative_values(self) -> None:
        assert flat(Struct("s", Field("a", s8)), a=-128) == [-128]


class TestBuild:
    def test_a_value_has_the_names_of_the_table(self) -> None:
        value = Shape(NESTED).build((5, 1, 2, b"abcd", 7, 8, 9))
        assert value == (5, (1, 2), b"abcd", (7, 8, 9))
        assert value.at.y == 2
        assert type(value).__name__ == "nested"
        assert value._fields == ("kind", "at", "name", "all")

    def test_a_structure_without_a_name_is_anonymous(self) -> None:
        assert type(Shape(Struct("", U8("a"))).build((1,))).__name__ == "anonymous"

    def test_a_python_keyword_gets_an_underscore(self) -> None:
        shape = Shape(Struct("s", U8("class"), U8("cmd")))
        assert shape.build((1, 2)).class_ == 1
        assert list(shape.flatten({"class_": 1}, "s")) == [1, 0]

    def test_names_that_tuples_use_are_the_members(self) -> None:
        assert Shape(Struct("s", U32("index"), U32("count"))).build((3, 4)).index == 3


class TestUnions:
    def test_an_anonymous_union_is_its_first_member(self) -> None:
        assert Shape(Struct("s", Union(Nested("at", POINT), Bytes("raw", 4)))).build((1, 2)).at == (1, 2)

    def test_an_anonymous_structure_in_it_is_its_members(self) -> None:
        value = Shape(Struct("s", Union(Nested("", POINT), Bytes("raw", 4)))).build((1, 2))
        assert (value.x, value.y) == (1, 2)

    def test_a_named_union_has_the_value_of_its_first_member(self) -> None:
        assert Shape(Struct("s", Union("u", U8("a"), U16("b")))).build((1,)).u == 1

    def test_so_has_an_array_of_unions(self) -> None:
        unions = ArrayOf(Alternatives((Field("p", POINT), U8("b"))), 2)
        assert Shape(Struct("s", Field("all", unions))).build((1, 2, 3, 4)).all == ((1, 2), (3, 4))
