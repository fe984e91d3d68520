"""C structures as field tables: what a kernel header says, before any machine has laid it out.

Theory. A :class:`Struct` lists its members as the header does. The members of an anonymous union or structure belong
to the structure around it, as in C. A union is packed and unpacked by its first member.

Byte order is the machine's, except where a header says ``__le32`` or ``__virtio32``: such structures are
little-endian (``byteorder="little"``).

Not modelled: bit fields, ``long`` and pointers (no message or ioctl here has one), and the byte order of legacy
virtio, whose ``__virtio32`` is the guest's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdpasim.uapi.abi import ByteOrder


@dataclass(frozen=True, slots=True)
class Scalar:
    """An integer type: its kernel name, its :mod:`struct` code and its size in bytes."""

    name: str
    code: str
    size: int

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest value."""
        bits = 8 * self.size
        return (0, (1 << bits) - 1) if self.code.isupper() else (-1 << bits - 1, (1 << bits - 1) - 1)


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
    """A structure of a kernel header, as a table of members. Compared by identity."""

    name: str
    """Empty for a structure the header gives no name."""
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
        values = (name, fields, header, doc, since, packed, byteorder)
        for field, value in zip(dataclasses.fields(self), values, strict=True):
            object.__setattr__(self, field.name, value)
        names = member_names(fields)
        if len(names) != len(set(names)):
            raise ValueError(f"struct {name} has two members of one name")
        if any(field.flexible for field in fields[:-1]):
            raise ValueError(f"struct {name} has a flexible array that is not its last member")


Type = Scalar | ByteArray | ArrayOf | Alternatives | Struct


def member_names(fields: Sequence[Field]) -> list[str]:
    """Names one can write behind the dot: the fields', with those of anonymous unions and structures in their place."""
    names: list[str] = []
    for field in fields:
        if field.name:
            names.append(field.name)
        elif isinstance(field.type, Alternatives):
            names += member_names(field.type.members)
        elif isinstance(field.type, Struct):
            names += member_names(field.type.fields)
    return names


def spell(type_: Type) -> str:
    """A type as C writes it: ``__u64``, ``__u8[64]``, ``struct vhost_iotlb_msg``."""
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
            return f"struct {name}".rstrip()


# -- makers


def U8(name: str) -> Field:
    """A ``__u8`` member."""
    return Field(name, u8)


def U16(name: str) -> Field:
    """A ``__u16`` member."""
    return Field(name, u16)


def U32(name: str) -> Field:
    """A ``__u32`` or ``unsigned int`` member."""
    return Field(name, u32)


def S32(name: str) -> Field:
    """A ``__s32`` or ``int`` member."""
    return Field(name, s32)


def U64(name: str) -> Field:
    """A ``__u64`` member."""
    return Field(name, u64)


def Bytes(name: str, count: int) -> Field:
    """A ``__u8 name[count]`` member, one bytes value; a shorter one is filled with zeroes."""
    return Field(name, ByteArray(count))


def Array(name: str, elem: Type, count: int) -> Field:
    """An ``elem name[count]`` member, a tuple of ``count`` values; a shorter one is filled with zeroes."""
    return Field(name, ArrayOf(elem, count))


def Nested(name: str, struct: Struct) -> Field:
    """A structure inside; with an empty name its members belong to the structure around it."""
    return Field(name, struct)


def Union(*members: Field | str) -> Field:
    """A union: members, behind a name unless it is anonymous (``Union("u", U32("a"), …)``, ``Union(U32("a"), …)``).

    Raises:
        ValueError: no member.
    """
    name = members[0] if members and isinstance(members[0], str) else ""
    fields = tuple(member for member in members if isinstance(member, Field))
    if not fields:
        raise ValueError("a union needs a member")
    return Field(name, Alternatives(fields))


def Flex(name: str, elem: Type) -> Field:
    """``elem name[]``, last: what follows the structure; neither packed nor counted."""
    return Field(name, elem, flexible=True)
