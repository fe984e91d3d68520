"""The layout of C structures per ABI: what a compiler makes of a kernel header.

Theory. Every member goes to the next multiple of its alignment, and the whole is padded to the largest alignment. The
bytes left over are *holes*; they matter, because a hole in the middle of ``vhost_msg`` is why a 32-bit program's
messages are misread by a 64-bit kernel. A :class:`Layout` carries a ``struct.Struct`` over the whole structure in
which holes are pad bytes, so packing writes zeroes there and unpacking skips them. Field tables are made in
``table.py``.
"""

from __future__ import annotations

import struct as _struct
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from vdpasim.uapi.table import Alternatives, ArrayOf, ByteArray, Field, Scalar, Struct, Type, spell
from vdpasim.uapi.values import Shape

if TYPE_CHECKING:
    from vdpasim.uapi.abi import Abi

Buffer = bytes | bytearray | memoryview


class FieldLayout(NamedTuple):
    """Where one member is. Members of a named inner structure have dotted names."""

    name: str
    offset: int
    size: int
    """Bytes; 0 for a flexible array."""
    align: int
    type: str
    """As C writes it: ``__u64``, ``__u8[64]``, ``struct vhost_iotlb_msg``."""


class Layout:
    """What one ABI makes of a :class:`Struct`; made by :func:`layout`, which caches it."""

    def __init__(self, struct: Struct, abi: Abi) -> None:
        self.name = struct.name
        self.abi = abi
        self.size, self.align = measure(struct, abi)
        self.fields: tuple[FieldLayout, ...] = tuple(_place(struct, abi, 0, ""))
        self.holes: tuple[tuple[int, int], ...] = tuple(_holes(struct, abi, self.size))
        """(offset, size) of the bytes no member covers, padding at the end included."""
        self._offsets = {field.name: field.offset for field in self.fields}
        order = {"little": "<", "big": ">", None: abi.prefix}[struct.byteorder]
        self.struct = _struct.Struct(order + _format(struct, abi))
        """Over the whole structure, holes as pad bytes; for hot paths."""
        self._shape = Shape(struct)

    def __repr__(self) -> str:
        return f"<layout of struct {self.name} on {self.abi.name}: {self.size} bytes>"

    def offset(self, name: str) -> int:
        """The offset of a member in bytes; ``iotlb.iova`` for a member of an inner structure.

        Raises:
            KeyError: no such member.
        """
        return self._offsets[name]

    def pack(self, **values: Any) -> bytes:
        """The structure as bytes. Members not given are zero, and so are the holes.

        Raises:
            TypeError: a member that does not exist (or belongs to a union that is packed by another member).
            ValueError: a value that does not fit its member.
        """
        return self.struct.pack(*self._shape.flatten(values, self.name))

    def unpack(self, buffer: Buffer, offset: int = 0) -> Any:
        """The structure at an offset of a buffer, as a named tuple with the members' own names.

        Raises:
            ValueError: the buffer has too few bytes.
        """
        try:
            flat = self.struct.unpack_from(buffer, offset)
        except _struct.error:
            have = max(len(buffer) - offset, 0)
            raise ValueError(f"struct {self.name} on {self.abi.name} is {self.size} bytes, here are {have}") from None
        return self._shape.build(flat)


@cache
def layout(struct: Struct, abi: Abi) -> Layout:
    """The layout of a structure on an ABI; computed once."""
    return Layout(struct, abi)


# -- sizes and offsets


def measure(type_: Type, abi: Abi) -> tuple[int, int]:
    """(size, alignment) of a type in bytes."""
    match type_:
        case Scalar(size=size):
            return size, abi.u64_align if size == 8 else size
        case ByteArray(count=count):
            return count, 1
        case ArrayOf(type=inner, count=count):
            size, align = measure(inner, abi)
            return size * count, align
        case Alternatives(members=members):
            sizes = [measure(member.type, abi) for member in members]
            align = max(align for _, align in sizes)
            return _round_up(max(size for size, _ in sizes), align), align
        case Struct():
            return _measure_struct(type_, abi)


def _measure_struct(struct: Struct, abi: Abi) -> tuple[int, int]:
    last, align = 0, 1
    for _, offset, size, field_align in _members(struct, abi):
        last = offset + size
        align = max(align, field_align)
    return _round_up(last, align), align


def _round_up(value: int, align: int) -> int:
    return (value + align - 1) // align * align


def _members(struct: Struct, abi: Abi) -> list[tuple[Field, int, int, int]]:
    # (field, offset, size, alignment) of the direct members.
    rows: list[tuple[Field, int, int, int]] = []
    offset = 0
    for field in struct.fields:
        size, align = measure(field.type, abi)
        align = 1 if struct.packed else align
        size = 0 if field.flexible else size
        offset = _round_up(offset, align)
        rows.append((field, offset, size, align))
        offset += size
    return rows


def _place(struct: Struct, abi: Abi, base: int, prefix: str) -> list[FieldLayout]:
    rows: list[FieldLayout] = []
    for field, offset, size, align in _members(struct, abi):
        rows += _place_field(field, abi, FieldLayout(prefix, base + offset, size, align, ""))
    return rows


def _place_field(field: Field, abi: Abi, at: FieldLayout) -> list[FieldLayout]:
    # `at` says where, and the name it is under.
    rows: list[FieldLayout] = []
    prefix = at.name
    if field.name:
        rows.append(at._replace(name=prefix + field.name, type=spell(field.type) + "[]" * field.flexible))
        prefix += field.name + "."
    if field.flexible:
        return rows
    if isinstance(field.type, Struct):
        rows += _place(field.type, abi, at.offset, prefix)
    elif isinstance(field.type, Alternatives):
        for member in field.type.members:
            rows += _place_field(member, abi, FieldLayout(prefix, at.offset, *measure(member.type, abi), ""))
    return rows


def _holes(struct: Struct, abi: Abi, size: int) -> list[tuple[int, int]]:
    covered = bytearray(size)
    _cover(struct, abi, 0, covered)
    holes: list[tuple[int, int]] = []
    for at, used in enumerate(covered):
        if used:
            continue
        if holes and sum(holes[-1]) == at:
            holes[-1] = (holes[-1][0], holes[-1][1] + 1)
        else:
            holes.append((at, 1))
    return holes


def _cover(type_: Type, abi: Abi, base: int, covered: bytearray) -> None:
    # Mark the bytes that some alternative of the type uses.
    match type_:
        case Struct():
            for field, offset, size, _ in _members(type_, abi):
                if size:
                    _cover(field.type, abi, base + offset, covered)
        case Alternatives(members=members):
            for member in members:
                _cover(member.type, abi, base, covered)
        case ArrayOf(type=inner, count=count):
            step, _ = measure(inner, abi)
            for index in range(count):
                _cover(inner, abi, base + index * step, covered)
        case Scalar() | ByteArray():
            size, _ = measure(type_, abi)
            covered[base : base + size] = b"\1" * size


# -- the struct module's view


def _format(type_: Type, abi: Abi) -> str:
    # The codes of a type, padded to its full size.
    match type_:
        case Scalar(code=code):
            return code
        case ByteArray(count=count):
            return f"{count}s"
        case ArrayOf(type=inner, count=count):
            return _format(inner, abi) * count
        case Alternatives(members=members):
            size, _ = measure(type_, abi)
            first, _ = measure(members[0].type, abi)
            return _format(members[0].type, abi) + _pad(size - first)
        case Struct():
            return _format_struct(type_, abi)


def _format_struct(struct: Struct, abi: Abi) -> str:
    text, at = "", 0
    for field, offset, size, _ in _members(struct, abi):
        if size:
            text += _pad(offset - at) + _format(field.type, abi)
            at = offset + size
    size, _ = measure(struct, abi)
    return text + _pad(size - at)


def _pad(count: int) -> str:
    return f"{count}x" if count else ""
