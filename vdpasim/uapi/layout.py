"""C structures as field tables, and their layout per ABI (what a C compiler does with a kernel header).

Theory. A :class:`Struct` lists its members as the header does. :func:`layout` computes what the compiler would: every
member at the next multiple of its alignment, the whole padded to the largest alignment. The bytes left over are
*holes*; they matter, because a hole in the middle of ``vhost_msg`` is why a 32-bit program's messages are misread by a
64-bit kernel. A layout carries a ``struct.Struct`` over the whole structure in which holes are pad bytes, so packing writes
zeroes there and unpacking skips them.

The members of an anonymous union or structure belong to the structure around it, as in C. A union is packed and
unpacked by its first member; :meth:`Struct.choose` gives the same structure read by another member.

Byte order is the ABI's, except where a header says ``__le32`` or ``__virtio32``: such structures are little-endian
(``byteorder="little"``).

Not modelled: bit fields, ``long`` and pointers (no message or ioctl here has one), and the byte order of legacy virtio,
whose ``__virtio32`` is the guest's.
"""

from __future__ import annotations

import dataclasses
import keyword
import struct as _struct
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from vdpasim.uapi.abi import Abi, ByteOrder

Buffer = bytes | bytearray | memoryview
Plain = int | bytes


@dataclass(frozen=True, slots=True)
class Scalar:
    """An integer type: its kernel name, its :mod:`struct` code and its size in bytes."""

    name: str
    code: str
    size: int


u8 = Scalar("__u8", "B", 1)
s8 = Scalar("__s8", "b", 1)
u16 = Scalar("__u16", "H", 2)
s16 = Scalar("__s16", "h", 2)
u32 = Scalar("__u32", "I", 4)
s32 = Scalar("__s32", "i", 4)
u64 = Scalar("__u64", "Q", 8)
s64 = Scalar("__s64", "q", 8)


@dataclass(frozen=True, slots=True)
class ByteArray:
    """``__u8 name[count]``, handled as one bytes value."""

    count: int


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """``type name[count]``, handled as a tuple."""

    type: Type
    count: int


@dataclass(frozen=True, slots=True)
class Alternatives:
    """A union; the first member is the one packed and unpacked."""

    members: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One member; the name is empty for an anonymous union or structure."""

    name: str
    type: Type
    flexible: bool = False
    """An array without a size at the end: has an offset, adds nothing to the size."""


@dataclass(frozen=True, eq=False, init=False)
class Struct:
    """A structure of a kernel header, as a table of members."""

    name: str
    fields: tuple[Field, ...]
    header: str
    doc: str
    since: str
    """Kernel version or series that brought it; empty when it has always been there."""
    packed: bool
    """``__attribute__((packed))``: no padding at all."""
    byteorder: ByteOrder | None
    """The order of the members, None for that of the machine."""

    def __init__(
        self,
        name: str,
        *fields: Field,
        header: str = "",
        doc: str = "",
        since: str = "",
        packed: bool = False,
        byteorder: ByteOrder | None = None,
    ) -> None:
        """Check the table.

        Raises:
            ValueError: a name occurs twice, or a flexible array is not last.
        """
        for key, value in (
            ("name", name), ("fields", fields), ("header", header), ("doc", doc), ("since", since),
            ("packed", packed), ("byteorder", byteorder),
        ):  # fmt: skip
            object.__setattr__(self, key, value)
        names = list(_member_names(fields))
        if len(names) != len(set(names)):
            raise ValueError(f"struct {name} has two members of one name")
        if any(field.flexible for field in fields[:-1]):
            raise ValueError(f"struct {name} has a flexible array that is not its last member")

    def choose(self, member: str) -> Struct:
        """The same structure, its union read and written by another member.

        Raises:
            ValueError: no union here has such a member.
        """
        fields = tuple(_prefer(field, member) for field in self.fields)
        if fields == self.fields and member not in _first_members(self.fields):
            raise ValueError(f"no union of struct {self.name} has a member {member}")
        return Struct(
            self.name,
            *fields,
            header=self.header,
            doc=self.doc,
            since=self.since,
            packed=self.packed,
            byteorder=self.byteorder,
        )


Type = Scalar | ByteArray | ArrayOf | Alternatives | Struct


def U8(name: str) -> Field:
    """A ``__u8`` member."""
    return Field(name, u8)


def S8(name: str) -> Field:
    """A ``__s8`` member."""
    return Field(name, s8)


def U16(name: str) -> Field:
    """A ``__u16`` member."""
    return Field(name, u16)


def S16(name: str) -> Field:
    """A ``__s16`` member."""
    return Field(name, s16)


def U32(name: str) -> Field:
    """A ``__u32`` or ``unsigned int`` member."""
    return Field(name, u32)


def S32(name: str) -> Field:
    """A ``__s32`` or ``int`` member."""
    return Field(name, s32)


def U64(name: str) -> Field:
    """A ``__u64`` member."""
    return Field(name, u64)


def S64(name: str) -> Field:
    """A ``__s64`` member."""
    return Field(name, s64)


def Bytes(name: str, count: int) -> Field:
    """A ``__u8 name[count]`` member, one bytes value; a shorter one is filled with zeroes."""
    return Field(name, ByteArray(count))


def Array(name: str, elem: Type, count: int) -> Field:
    """An ``elem name[count]`` member, a tuple of ``count`` values."""
    return Field(name, ArrayOf(elem, count))


def Nested(name: str, struct: Struct) -> Field:
    """A structure inside; with an empty name its members belong to the structure around it."""
    return Field(name, struct)


def Union(*members: Field | str) -> Field:
    """A union: members, behind a name unless it is anonymous (``Union("u", U32("a"), …)``, ``Union(U32("a"), …)``)."""
    name = members[0] if members and isinstance(members[0], str) else ""
    fields = tuple(member for member in members if isinstance(member, Field))
    if not fields:
        raise ValueError("a union needs a member")
    return Field(name, Alternatives(fields))


def Flex(name: str, elem: Type) -> Field:
    """``elem name[]``, last: what follows the structure; neither packed nor counted."""
    return Field(name, elem, flexible=True)


def _member_names(fields: Sequence[Field]) -> list[str]:
    names: list[str] = []
    for field in fields:
        if field.name:
            names.append(field.name)
        elif isinstance(field.type, Alternatives):
            names += _member_names(field.type.members)
        elif isinstance(field.type, Struct):
            names += _member_names(field.type.fields)
    return names


def _first_members(fields: Sequence[Field]) -> list[str]:
    return [field.type.members[0].name for field in fields if isinstance(field.type, Alternatives)]


def _prefer(field: Field, member: str) -> Field:
    if not isinstance(field.type, Alternatives):
        return field
    chosen = [one for one in field.type.members if one.name == member]
    others = [one for one in field.type.members if one.name != member]
    return dataclasses.replace(field, type=Alternatives((*chosen, *others)))


class FieldLayout(NamedTuple):
    """Where one member is. Members of a named inner structure have dotted names."""

    name: str
    offset: int
    size: int
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
        self._offsets = {field.name: field.offset for field in self.fields}
        order: ByteOrder = struct.byteorder or abi.byteorder
        self.struct = _struct.Struct(("<" if order == "little" else ">") + _format(struct, abi))
        self._shape = _Shape(struct)

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
        flat: list[Plain] = []
        self._shape.flatten(values, self.name, flat)
        try:
            return self.struct.pack(*flat)
        except _struct.error as error:
            raise ValueError(f"struct {self.name}: {error}") from None

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
        return self._shape.build(iter(flat).__next__)


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
    for field, offset, size, field_align in _members(struct, abi):
        last = offset if field.flexible else offset + size
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
        if struct.packed:
            align = 1
        offset = _round_up(offset, align)
        rows.append((field, offset, size, align))
        offset += size
    return rows


def _place(struct: Struct, abi: Abi, base: int, prefix: str) -> list[FieldLayout]:
    rows: list[FieldLayout] = []
    for field, offset, size, align in _members(struct, abi):
        rows += _place_field(field, abi, base + offset, 0 if field.flexible else size, align, prefix)
    return rows


def _place_field(field: Field, abi: Abi, offset: int, size: int, align: int, prefix: str) -> list[FieldLayout]:
    rows: list[FieldLayout] = []
    if field.name:
        rows.append(FieldLayout(prefix + field.name, offset, size, align, _spell(field)))
        prefix += field.name + "."
    if field.flexible:
        return rows
    if isinstance(field.type, Struct):
        rows += _place(field.type, abi, offset, prefix)
    elif isinstance(field.type, Alternatives):
        for member in field.type.members:
            rows += _place_field(member, abi, offset, *measure(member.type, abi), prefix)
    return rows


def _spell(field: Field) -> str:
    if field.flexible:
        return spell(field.type) + "[]"
    return spell(field.type)


def spell(type_: Type) -> str:
    """A type as C writes it."""
    match type_:
        case Scalar(name=name):
            return name
        case ByteArray(count=count):
            return f"__u8[{count}]"
        case ArrayOf(type=inner, count=count):
            return f"{spell(inner)}[{count}]"
        case Alternatives():
            return "union"
        case Struct(name=name):
            return f"struct {name}"


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
    match type_:
        case Struct():
            for field, offset, _, _ in _members(type_, abi):
                if not field.flexible:
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
        if field.flexible:
            break
        text += _pad(offset - at) + _format(field.type, abi)
        at = offset + size
    size, _ = measure(struct, abi)
    return text + _pad(size - at)


def _pad(count: int) -> str:
    return f"{count}x" if count else ""


class _Shape:
    # Between the flat values of struct.Struct and the nested named tuples of users. Independent of the ABI.

    def __init__(self, struct: Struct) -> None:
        self.parts: list[tuple[str, Type]] = list(_parts(struct.fields))
        # `class` is a member of virtio_net_ctrl_hdr
        self.names = [name + "_" if keyword.iskeyword(name) else name for name, _ in self.parts]
        make: Any = namedtuple(struct.name or "anonymous", self.names)  # type: ignore[misc]  # noqa: PYI024, made from the table
        self.make: Callable[[list[Any]], Any] = make._make
        self.inner = [_shape_of(type_) for _, type_ in self.parts]

    def flatten(self, values: Mapping[str, Any], where: str, flat: list[Plain]) -> None:
        for name in values:
            if name not in self.names:
                raise TypeError(f"struct {where} has no member {name}; it has {', '.join(self.names)}")
        for name, (_, type_), inner in zip(self.names, self.parts, self.inner, strict=True):
            _flatten(type_, inner, values.get(name), f"{where}.{name}", flat)

    def build(self, take: Callable[[], Any]) -> Any:
        return self.make([_build(type_, inner, take) for (_, type_), inner in zip(self.parts, self.inner, strict=True)])


def _parts(fields: Sequence[Field]) -> list[tuple[str, Type]]:
    # The members a structure is packed by: of a union the first; anonymous ones replaced by their members.
    parts: list[tuple[str, Type]] = []
    for field in fields:
        if field.flexible:
            continue
        if isinstance(field.type, Alternatives):
            first = field.type.members[0]
            parts += [(field.name, first.type)] if field.name else _parts([first])
        elif isinstance(field.type, Struct) and not field.name:
            parts += _parts(field.type.fields)
        else:
            parts.append((field.name, field.type))
    return parts


def _shape_of(type_: Type) -> _Shape | None:
    while isinstance(type_, ArrayOf):
        type_ = type_.type
    return _Shape(type_) if isinstance(type_, Struct) else None


def _flatten(type_: Type, inner: _Shape | None, value: Any, where: str, flat: list[Plain]) -> None:
    match type_:
        case Scalar():
            flat.append(_fit(type_, 0 if value is None else value, where))
        case ByteArray(count=count):
            data = bytes(value or b"")
            if len(data) > count:
                raise ValueError(f"{where}: {len(data)} bytes do not fit {count}")
            flat.append(data)
        case ArrayOf(type=element, count=count):
            items = list(value or ())
            if len(items) > count:
                raise ValueError(f"{where}: {len(items)} values do not fit {count}")
            for item in items + [None] * (count - len(items)):
                _flatten(element, inner, item, where, flat)
        case Struct() | Alternatives():
            if inner is None:
                raise TypeError(f"{where}: a union inside a union has no value of its own")
            inner.flatten(_named(value, inner), where, flat)


def _named(value: Any, inner: _Shape) -> Mapping[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value  # pyright: ignore[reportUnknownVariableType]
    return dict(zip(inner.names, value, strict=True))


def _fit(scalar: Scalar, value: Any, where: str) -> int:
    bits = 8 * scalar.size
    low, high = (0, (1 << bits) - 1) if scalar.code.isupper() else (-(1 << bits - 1), (1 << bits - 1) - 1)
    number = int(value)
    if not low <= number <= high:
        raise ValueError(f"{where}: {number} does not fit {scalar.name}")
    return number


def _build(type_: Type, inner: _Shape | None, take: Callable[[], Any]) -> Any:
    match type_:
        case Scalar() | ByteArray():
            return take()
        case ArrayOf(type=element, count=count):
            return tuple(_build(element, inner, take) for _ in range(count))
        case Struct() | Alternatives():
            if inner is None:
                raise TypeError("a union inside a union has no value of its own")
            return inner.build(take)
