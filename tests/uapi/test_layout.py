"""Layouts of field tables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdpasim.uapi.abi import AARCH64, ABIS, ARM, I386, PPC64, S390X, X86_64, Abi
from vdpasim.uapi.catalog import structs
from vdpasim.uapi.layout import Layout, layout, measure
from vdpasim.uapi.table import (
    U8,
    U16,
    U32,
    U64,
    Alternatives,
    Array,
    ArrayOf,
    ByteArray,
    Bytes,
    Field,
    Flex,
    Nested,
    Scalar,
    Struct,
    Type,
    Union,
    s8,
    s16,
    s32,
    s64,
    u8,
    u16,
    u32,
    u64,
)

MIXED = Struct("mixed", U8("a"), U64("b"), U16("c"), header="test")


class TestPlacement:
    def test_a_member_goes_to_the_next_multiple_of_its_alignment(self) -> None:
        shape = layout(MIXED, X86_64)
        assert [(field.name, field.offset, field.size, field.align) for field in shape.fields] == [
            ("a", 0, 1, 1),
            ("b", 8, 8, 8),
            ("c", 16, 2, 2),
        ]
        assert (shape.size, shape.align) == (24, 8)

    def test_u64_is_aligned_to_four_on_i386(self) -> None:
        shape = layout(MIXED, I386)
        assert (shape.offset("b"), shape.size, shape.align) == (4, 16, 4)

    def test_arm_is_32_bit_and_aligns_u64_to_eight(self) -> None:
        assert layout(MIXED, ARM).offset("b") == 8

    def test_holes_are_what_no_member_covers(self) -> None:
        assert layout(MIXED, X86_64).holes == ((1, 7), (18, 6))
        assert layout(MIXED, I386).holes == ((1, 3), (14, 2))

    def test_a_packed_structure_has_no_holes(self) -> None:
        shape = layout(Struct("tight", U8("a"), U64("b"), U16("c"), packed=True), X86_64)
        assert (shape.size, shape.align, shape.holes) == (11, 1, ())
        assert shape.offset("c") == 9

    def test_an_inner_structure_brings_its_alignment_and_dotted_names(self) -> None:
        shape = layout(Struct("outer", U8("first"), Nested("m", MIXED)), X86_64)
        assert shape.offset("m") == 8
        assert shape.offset("m.c") == 24
        assert shape.holes == ((1, 7), (9, 7), (26, 6))

    def test_members_of_an_anonymous_structure_are_the_outer_ones(self) -> None:
        shape = layout(Struct("outer", U8("first"), Nested("", MIXED)), X86_64)
        assert [field.name for field in shape.fields] == ["first", "a", "b", "c"]

    def test_a_union_has_the_size_of_its_largest_member(self) -> None:
        shape = layout(Struct("s", U8("a"), Union(U16("small"), Bytes("large", 5))), X86_64)
        assert (shape.offset("small"), shape.offset("large"), shape.size) == (2, 2, 8)
        assert shape.holes == ((1, 1), (7, 1))

    def test_a_union_is_padded_to_its_alignment_before_the_next_member(self) -> None:
        shape = layout(Struct("s", Union("u", U32("a"), Bytes("b", 5)), U8("c")), X86_64)
        assert (shape.offset("c"), shape.size, shape.holes) == (8, 12, ((5, 3), (9, 3)))

    def test_members_of_a_named_union_are_behind_its_name(self) -> None:
        shape = layout(Struct("s", Union("u", U16("a"), U32("b"))), X86_64)
        assert [field.name for field in shape.fields] == ["u", "u.a", "u.b"]

    def test_a_flexible_array_has_an_offset_and_no_size(self) -> None:
        shape = layout(Struct("s", U8("count"), Flex("rest", u64)), X86_64)
        assert (shape.offset("rest"), shape.size, shape.align) == (8, 8, 8)
        assert shape.fields[-1].size == 0
        assert shape.holes == ((1, 7),)

    def test_an_array_of_structures_repeats_their_padding(self) -> None:
        shape = layout(Struct("s", Array("all", MIXED, 2)), I386)
        assert (shape.size, shape.holes) == (32, ((1, 3), (14, 2), (17, 3), (30, 2)))

    def test_an_unknown_member_has_no_offset(self) -> None:
        with pytest.raises(KeyError):
            layout(MIXED, X86_64).offset("d")


class TestCaching:
    def test_a_layout_is_made_once(self) -> None:
        assert layout(MIXED, X86_64) is layout(MIXED, X86_64)

    def test_per_abi(self) -> None:
        assert layout(MIXED, X86_64) is not layout(MIXED, AARCH64)

    def test_it_says_what_it_is(self) -> None:
        assert repr(layout(MIXED, I386)) == "<layout of struct mixed on i386: 16 bytes>"


class TestBytes:
    def test_holes_are_packed_as_zero(self) -> None:
        assert layout(MIXED, I386).pack(a=1, b=2, c=3) == bytes.fromhex("01000000 0200000000000000 0300 0000")

    def test_holes_are_skipped_when_unpacking(self) -> None:
        value = layout(MIXED, I386).unpack(bytes.fromhex("01ffffff 0200000000000000 0300 ffff"))
        assert value == (1, 2, 3)
        assert value.b == 2

    def test_byte_order_is_the_machines(self) -> None:
        word = Struct("word", U32("w"))
        assert layout(word, X86_64).pack(w=1) == b"\1\0\0\0"
        assert layout(word, S390X).pack(w=1) == b"\0\0\0\1"

    def test_unless_the_header_says_little_endian(self) -> None:
        word = Struct("word", U32("w"), byteorder="little")
        assert layout(word, PPC64).pack(w=1) == b"\1\0\0\0"

    def test_members_not_given_are_zero(self) -> None:
        assert layout(MIXED, X86_64).pack() == bytes(24)

    def test_unpacking_starts_where_told(self) -> None:
        assert layout(Struct("word", Field("w", s16)), X86_64).unpack(b"\0\0\0\xff\xff", 3).w == -1

    @pytest.mark.parametrize(
        "buffer", [b"\1\2", bytearray(b"\1\2"), memoryview(b"\1\2")], ids=lambda b: type(b).__name__
    )
    def test_any_buffer_will_do(self, buffer: bytes | bytearray | memoryview) -> None:
        assert layout(Struct("word", U16("w")), X86_64).unpack(buffer).w == 0x0201

    @pytest.mark.parametrize(("have", "offset", "left"), [(23, 0, 23), (30, 8, 22), (0, 0, 0), (4, 9, 0)])
    def test_too_few_bytes_are_refused(self, have: int, offset: int, left: int) -> None:
        with pytest.raises(ValueError, match=f"struct mixed on x86_64 is 24 bytes, here are {left}$"):
            layout(MIXED, X86_64).unpack(bytes(have), offset)

    def test_what_follows_is_left_alone(self) -> None:
        assert layout(MIXED, X86_64).unpack(bytes(24) + b"more") == (0, 0, 0)

    def test_the_struct_module_can_be_used_directly(self) -> None:
        shape = layout(MIXED, X86_64)
        assert shape.struct.size == shape.size
        assert shape.struct.unpack_from(shape.pack(a=1, b=2, c=3)) == (1, 2, 3)


# -- any table at all

SCALARS = (u8, s8, u16, s16, u32, s32, u64, s64)


def types(depth: int = 2) -> st.SearchStrategy[Type]:
    plain: st.SearchStrategy[Type] = st.one_of(st.sampled_from(SCALARS), st.builds(ByteArray, st.integers(1, 9)))
    if depth == 0:
        return plain
    return st.one_of(
        plain,
        st.builds(ArrayOf, types(depth - 1), st.integers(1, 3)),
        tables(depth - 1),
        st.lists(types(depth - 1), min_size=1, max_size=3).map(
            lambda members: Alternatives(tuple(Field(f"u{i}", type_) for i, type_ in enumerate(members)))
        ),
    )


def tables(depth: int = 2) -> st.SearchStrategy[Struct]:
    return st.builds(
        lambda members, packed: Struct("any", *(Field(f"m{i}", t) for i, t in enumerate(members)), packed=packed),
        st.lists(types(depth), min_size=1, max_size=4),
        st.booleans(),
    )


def values(type_: Type) -> st.SearchStrategy[Any]:
    match type_:
        case Scalar():
            return st.integers(*type_.bounds)
        case ByteArray(count=count):
            return st.binary(min_size=count, max_size=count)
        case ArrayOf(type=inner, count=count):
            return st.lists(values(inner), min_size=count, max_size=count).map(tuple)
        case Alternatives(members=members):
            return values(members[0].type)
        case Struct():
            return st.tuples(*(values(one) for one in packed_types(type_)))


def packed_types(struct: Struct) -> list[Type]:
    found: list[Type] = []
    for field in struct.fields:
        if field.flexible:
            continue
        inner = field.type.members[0].type if isinstance(field.type, Alternatives) else field.type
        found += packed_types(inner) if isinstance(inner, Struct) and _anonymous(field) else [inner]
    return found


def _anonymous(field: Field) -> bool:
    # Either itself, or as a union whose first member has no name.
    first = field.type.members[0] if isinstance(field.type, Alternatives) else field
    return not first.name


def pack(shape: Layout, struct: Struct, value: tuple[Any, ...]) -> bytes:
    names = shape.unpack(bytes(shape.size))._fields
    return shape.pack(**dict(zip(names, value, strict=True)))


@given(st.data(), tables(), st.sampled_from(list(ABIS.values())))
def test_what_is_packed_is_unpacked(data: st.DataObject, struct: Struct, abi: Abi) -> None:
    shape = layout(struct, abi)
    value = data.draw(values(struct))
    packed = pack(shape, struct, value)
    assert len(packed) == shape.size
    assert shape.unpack(packed) == value


@given(tables(), st.sampled_from(list(ABIS.values())))
def test_sizes_are_multiples_of_alignments(struct: Struct, abi: Abi) -> None:
    size, align = measure(struct, abi)
    assert size % align == 0
    assert struct.packed <= (align == 1)
    for field in layout(struct, abi).fields:
        if not struct.packed and "." not in field.name:
            assert field.offset % field.align == 0
        assert field.offset + field.size <= size


@given(tables(), st.sampled_from(list(ABIS.values())))
def test_no_hole_touches_a_scalar(struct: Struct, abi: Abi) -> None:
    shape = layout(struct, abi)
    scalars = {"__u8", "__s8", "__u16", "__s16", "__u32", "__s32", "__u64", "__s64"}
    for offset, size in shape.holes:
        for field in shape.fields:
            if field.type in scalars:
                assert field.offset + field.size <= offset or offset + size <= field.offset


@given(tables())
def test_i386_differs_only_where_u64_is_involved(struct: Struct) -> None:
    if "__u64" not in repr(struct) and "__s64" not in repr(struct):
        assert layout(struct, I386).fields == layout(struct, X86_64).fields


# -- every structure of the headers, on every ABI


@pytest.mark.parametrize("name", structs())
@settings(max_examples=15)
@given(data=st.data())
def test_header_structures_go_round(name: str, data: st.DataObject) -> None:
    struct = structs()[name]
    value = data.draw(values(struct))
    for abi in ABIS.values():
        shape = layout(struct, abi)
        packed = pack(shape, struct, value)
        assert len(packed) == shape.size == shape.struct.size
        assert shape.unpack(packed) == value
        for offset, size in shape.holes:
            assert packed[offset : offset + size] == bytes(size)


@pytest.mark.parametrize("name", structs())
@settings(max_examples=15)
@given(data=st.data())
def test_header_structures_do_not_read_their_holes(name: str, data: st.DataObject) -> None:
    struct = structs()[name]
    noise = data.draw(st.binary(min_size=300, max_size=300))
    for abi in ABIS.values():
        shape = layout(struct, abi)
        quiet = bytearray(noise[: shape.size])
        for offset, size in shape.holes:
            quiet[offset : offset + size] = bytes(size)
        assert shape.unpack(quiet) == shape.unpack(noise)


@pytest.mark.parametrize("name", structs())
def test_members_are_packed_where_they_are_said_to_be(name: str) -> None:
    struct = structs()[name]
    for abi in ABIS.values():
        shape = layout(struct, abi)
        for member, type_ in zip(shape.unpack(bytes(shape.size))._fields, packed_types(struct), strict=True):
            if not isinstance(type_, Scalar):
                continue
            packed = shape.pack(**{member: type_.bounds[1]})
            offset = shape.offset(member.rstrip("_"))
            raw = packed[offset : offset + type_.size]
            order = struct.byteorder or abi.byteorder
            assert int.from_bytes(raw, order, signed=type_.code.islower()) == type_.bounds[1]
            assert packed.replace(raw, b"", 1).strip(b"\0") == b""
