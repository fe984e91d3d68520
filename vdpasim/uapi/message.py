"""Vhost messages: made of integers, read as integers, and described with words for what is odd (no kernel header).

Theory. A program makes and reads a :class:`Message` in the layout of the ABI it was compiled for.

A message says in its first word which format it has, and nothing says which machine laid it out. A 64-bit
kernel reads the 68 bytes of an i386 ``vhost_msg`` with the payload four bytes too late: ``iova`` takes the upper half
of the address and the lower half of the size, and the type byte falls into the padding, where it is 0. So
:func:`describe` looks at the message as the ABI it is told; if that gives no sensible type and permission, it looks
whether another data model does, and says so.

*Problems* are what no kernel would take as the sender meant it, *notes* are what it takes but a reader should know.

Not modelled: what a driver's handler refuses (overlaps, limits, ownership); that takes a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vdpasim.uapi import vhost_types as t
from vdpasim.uapi.abi import I386, X86_64
from vdpasim.uapi.layout import layout

if TYPE_CHECKING:
    from vdpasim.uapi.abi import Abi, ByteOrder
    from vdpasim.uapi.table import Struct

FORMATS: dict[int, Struct] = {t.VHOST_IOTLB_MSG: t.vhost_msg, t.VHOST_IOTLB_MSG_V2: t.vhost_msg_v2}
FORMAT_NAMES = {t.VHOST_IOTLB_MSG: "VHOST_IOTLB_MSG", t.VHOST_IOTLB_MSG_V2: "VHOST_IOTLB_MSG_V2"}

TYPE_NAMES: dict[int, str] = {
    getattr(t, f"VHOST_IOTLB_{name}"): f"VHOST_IOTLB_{name}"
    for name in ("MISS", "UPDATE", "INVALIDATE", "ACCESS_FAIL", "BATCH_BEGIN", "BATCH_END", "REMAP")
}
PERM_NAMES: dict[int, str] = {0: "none", 1: "VHOST_ACCESS_RO", 2: "VHOST_ACCESS_WO", 3: "VHOST_ACCESS_RW"}

# The two ways little-endian machines lay messages out. Byte order shows in the type word already.
_MODELS = (I386, X86_64)
_U64_MAX = (1 << 64) - 1
_WITH_RANGE = (t.VHOST_IOTLB_UPDATE, t.VHOST_IOTLB_INVALIDATE, t.VHOST_IOTLB_REMAP)


class Message(NamedTuple):
    """What a program puts into a message and takes out of it."""

    version: int
    """1 or 2."""
    asid: int
    iova: int
    size: int
    uaddr: int
    perm: int
    type: int


def encode_message(abi: Abi, message: Message) -> bytes:
    """The bytes a program of that ABI writes."""
    version, asid, *iotlb = message
    head = (version, asid) if version == t.VHOST_IOTLB_MSG_V2 else (version,)
    return layout(FORMATS[version], abi).struct.pack(*head, *iotlb)


def decode_message(abi: Abi, data: bytes) -> Message:
    """What a program of that ABI sees in the bytes it read.

    Raises:
        ValueError: too short, or neither version.
    """
    version = int.from_bytes(data[:4], abi.byteorder) if len(data) >= 4 else 0
    if version not in FORMATS:
        raise ValueError(f"not a vhost message: {data[:8].hex()}")
    if len(data) < needed(FORMATS[version], abi):
        raise ValueError(f"{len(data)} bytes are too short for a vhost message")
    shape = layout(FORMATS[version], abi)
    _, *fields = shape.struct.unpack(data[: shape.size].ljust(shape.size, b"\0"))
    return Message(version, *fields) if version == t.VHOST_IOTLB_MSG_V2 else Message(version, 0, *fields)


def message_size(abi: Abi) -> int:
    """Bytes to read for one message of either version."""
    return max(layout(format_, abi).size for format_ in FORMATS.values())


class Member(NamedTuple):
    """One member of a message."""

    name: str
    offset: int
    size: int
    value: int
    text: str
    """The value's name or meaning; empty when the number says it all."""


@dataclass(frozen=True)
class Description:
    """What :func:`describe` found."""

    abi: Abi
    length: int
    format: str
    """``vhost_msg``, ``vhost_msg_v2``, or empty when the type word is neither's."""
    members: tuple[Member, ...]
    """Those whose bytes are all there."""
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether it is a message, whole and meaningful."""
        return not self.problems

    def value(self, name: str) -> int | None:
        """The value of a member, None if its bytes are missing."""
        return next((member.value for member in self.members if member.name == name), None)


def describe(data: bytes, abi: Abi) -> Description:
    """Read bytes as the message a kernel of an ABI would see."""
    word = int.from_bytes(data[:4], abi.byteorder, signed=True) if len(data) >= 4 else None
    if word not in FORMATS:
        return Description(abi, len(data), "", (), tuple(_no_format(data, word, abi)), ())
    members = _members(data, FORMATS[word], abi)
    message = Description(abi, len(data), FORMATS[word].name, members, (), ())
    problems = _length_problems(message) + _value_problems(message)
    if problems or len(data) < layout(FORMATS[word], abi).size:
        problems = _foreign(data, message) or problems
    notes = () if problems else tuple(_notes(data, message))
    return Description(abi, len(data), message.format, members, tuple(problems), notes)


def needed(format_: Struct, abi: Abi) -> int:
    """Bytes of a message a kernel looks at; what follows them in the union is never read."""
    shape = layout(format_, abi)
    return shape.offset("iotlb") + layout(t.vhost_iotlb_msg, abi).size


# -- members


def _members(data: bytes, format_: Struct, abi: Abi) -> tuple[Member, ...]:
    found: list[Member] = []
    for field in layout(format_, abi).fields:
        name = field.name.removeprefix("iotlb.")
        raw = data[field.offset : field.offset + field.size]
        if field.name in ("iotlb", "padding") or len(raw) < field.size:
            continue
        value = int.from_bytes(raw, abi.byteorder)
        inner = field.name.startswith("iotlb.")
        found.append(
            Member(f"iotlb.{name}" if inner else name, field.offset, field.size, value, _name(field.name, value))
        )
    return tuple(found)


def _name(name: str, value: int) -> str:
    names = {"type": FORMAT_NAMES, "iotlb.type": TYPE_NAMES, "iotlb.perm": PERM_NAMES}.get(name, {})
    return names.get(value, "")


# -- problems


def _no_format(data: bytes, word: int | None, abi: Abi) -> list[str]:
    if word is None:
        return [f"{len(data)} bytes are too few for the type word, which has 4"]
    lines = [f"type word {word & 0xFFFF_FFFF:#x} is neither VHOST_IOTLB_MSG (1) nor VHOST_IOTLB_MSG_V2 (2)"]
    other: ByteOrder = "big" if abi.byteorder == "little" else "little"
    if int.from_bytes(data[:4], other) in FORMATS:
        lines.append(f"it is one in {other}-endian byte order, and {abi.name} is {abi.byteorder}-endian")
    return lines


def _length_problems(message: Description) -> list[str]:
    format_ = getattr(t, message.format)
    size, least = layout(format_, message.abi).size, needed(format_, message.abi)
    if message.length < least:
        return [f"{message.length} bytes, and a kernel wants {least} at least: EINVAL"]
    if message.length > size:
        return [f"{message.length - size} bytes behind the message: one write is one message, the rest is not read"]
    return []


def _value_problems(message: Description) -> list[str]:
    lines: list[str] = []
    type_, perm = message.value("iotlb.type"), message.value("iotlb.perm")
    if type_ is not None and type_ not in TYPE_NAMES:
        lines.append(f"iotlb.type {type_} is no VHOST_IOTLB_*")
    if perm is not None and perm not in PERM_NAMES:
        lines.append(f"iotlb.perm {perm} is no VHOST_ACCESS_*")
    if type_ == t.VHOST_IOTLB_REMAP and perm:
        lines.append(f"VHOST_IOTLB_REMAP with perm {perm} is refused: it keeps the permission, so perm is 0")
    iova, size = message.value("iotlb.iova"), message.value("iotlb.size")
    if not lines and type_ in _WITH_RANGE and iova is not None and size is not None:
        lines += _range_problems(type_, iova, size)
    return lines


def _range_problems(type_: int, iova: int, size: int) -> list[str]:
    if size == 0 and type_ != t.VHOST_IOTLB_INVALIDATE:
        return [f"{TYPE_NAMES[type_]} of size 0 is refused"]
    if size and iova + size - 1 > _U64_MAX:
        return [f"iova {iova:#x} and size {size:#x} reach beyond the last address"]
    return []


def _sane(data: bytes, abi: Abi) -> Description | None:
    # The message, if the bytes make sense on the ABI.
    word = int.from_bytes(data[:4], abi.byteorder)
    if word not in FORMATS or len(data) < needed(FORMATS[word], abi):
        return None
    message = Description(abi, len(data), FORMATS[word].name, _members(data, FORMATS[word], abi), (), ())
    return None if _value_problems(message) else message


def _foreign(data: bytes, message: Description) -> list[str]:
    # Of a message that makes no sense: whether it does on a machine that lays it out differently.
    here = _sane(data, message.abi)
    own = layout(getattr(t, message.format), message.abi)
    for model in _MODELS:
        shape = layout(getattr(t, message.format), model)
        same = shape.offset("iotlb") == own.offset("iotlb")
        there = None if same else _sane(data, model)
        if there is not None and (here is None or message.length == shape.size):
            wrong = f"reads the payload from {own.offset('iotlb')} instead of {shape.offset('iotlb')}"
            return [
                f"an {model.name} {there.format} of {shape.size} bytes; that of {message.abi.name} has {own.size}",
                f"read as {model.name} it is {_summary(there)}",
                f"{message.abi.name} {wrong} and finds type {message.value('iotlb.type')}",
            ]
    return []


def _summary(message: Description) -> str:
    values = {member.name.removeprefix("iotlb."): member.value for member in message.members}
    return (
        f"{TYPE_NAMES[values['type']]} iova={values['iova']:#x} size={values['size']:#x} "
        f"uaddr={values['uaddr']:#x} perm={values['perm']}"
    )


# -- notes


def _notes(data: bytes, message: Description) -> list[str]:
    format_ = getattr(t, message.format)
    shape = layout(format_, message.abi)
    least = needed(format_, message.abi)
    lines: list[str] = []
    if message.length < shape.size:
        lines.append(f"{message.length} of {shape.size} bytes: a kernel reads {least} and answers {shape.size}")
    lines += [
        f"hole at {offset}..{offset + size - 1} is not zero: left-over memory of the sender"
        for offset, size in shape.holes
        if any(data[offset : offset + size])
    ]
    if message.value("asid"):
        lines.append("asid is read only after IOTLB_ASID has been acked, else it is 0")
    type_ = message.value("iotlb.type")
    if type_ == t.VHOST_IOTLB_REMAP:
        lines.append("VHOST_IOTLB_REMAP is the live-update series', never merged")
    if type_ == t.VHOST_IOTLB_INVALIDATE and message.value("iotlb.size") == 0:
        lines.append("INVALIDATE of size 0 was EINVAL from 5.17 to 6.5")
    if type_ == t.VHOST_IOTLB_UPDATE and message.value("iotlb.perm") == 0:
        lines.append("perm 0: the device may neither read nor write")
    return lines
