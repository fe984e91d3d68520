"""The fields of events as JSON values, both ways, and the objects that stand for what a file cannot hold.

Theory. Integers, text and None are themselves; a run of a memory object is ``[object, offset, length]``. An argument of
a call may also be bytes (``{"data": hex, "length": n}``, zeros at the end left out), an address of a process
(``{"addr": n, "length": n}``) or some object of the kernel (``{"name": text}``). Reading takes the field out of its
row and says in :class:`Wrong` what it should have been; what is left in the row is unknown to this version.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import attrs

from vdpasim.core.events import LAYOUT, Kind
from vdpasim.core.ports import U64_MAX, Extent

if TYPE_CHECKING:
    from collections.abc import Callable


BUFFER_MAX = 16 << 20
"""Bytes of the longest buffer that is read."""

Row = dict[str, Any]


class Wrong(ValueError):
    """A field is not what it should be."""


@attrs.define
class Buffer:
    """Bytes a call was given, as read from a file."""

    data: bytes
    """As the call left them, once its EXIT has been read."""
    before: bytes
    """As the call found them."""

    def __str__(self) -> str:
        return self.data.hex() if len(self.data) <= 80 else f"{self.data[:32].hex()}…({len(self.data)})"


@attrs.define
class Place:
    """A buffer at an address of a process."""

    addr: int
    length: int

    def __str__(self) -> str:
        return f"{self.addr:#x}" if self.length == U64_MAX else f"{self.addr:#x}:{self.length}"


@attrs.define
class Named:
    """An object of the simulated kernel, of which a file holds the name."""

    ident: str

    def __str__(self) -> str:
        return self.ident


# -- writing


def encode(arg: Any) -> Any:
    """An argument of a call."""
    data = content(arg)
    if data is not None:
        return encode_bytes(data)
    if arg is None or isinstance(arg, int | str):
        return arg
    if hasattr(arg, "addr") and hasattr(arg, "length"):
        return {"addr": arg.addr, "length": arg.length}
    return {"name": str(getattr(arg, "ident", arg))}


def content(arg: Any) -> bytes | None:
    """The bytes a buffer holds as the call finds them, None for what is no buffer of bytes."""
    data = getattr(arg, "before", getattr(arg, "data", None))
    return bytes(data) if isinstance(data, bytes | bytearray) else None


def encode_bytes(data: bytes) -> Row:
    """A buffer."""
    return {"data": data.rstrip(b"\0").hex(), "length": len(data)}


# -- reading


def number(row: Row, name: str) -> int:
    """An integer.

    Raises:
        Wrong: it is none, or one that no kernel has.
    """
    value = row.pop(name, None)
    if type(value) is not int:
        raise Wrong(f"{name} is no number")
    if not -U64_MAX <= value <= U64_MAX:
        raise Wrong(f"{name} has more than 64 bits")
    return value


def ordinal(row: Row, name: str) -> int:
    """The number of an event.

    Raises:
        Wrong: it is none, or one that no run comes to; JavaScript, which draws reports, tells no larger ones apart.
    """
    value = number(row, name)
    if not 0 <= value < 1 << 53:
        raise Wrong(f"{name} is no number of an event")
    return value


def text(row: Row, name: str) -> str:
    """A string.

    Raises:
        Wrong: it is none.
    """
    value = row.pop(name, None)
    if not isinstance(value, str):
        raise Wrong(f"{name} is no text")
    return value


def array(row: Row, name: str) -> list[Any]:
    """A list of whatever JSON has.

    Raises:
        Wrong: it is none.
    """
    value: Any = row.pop(name, None)
    if not isinstance(value, list):
        raise Wrong(f"{name} is no list")
    return value  # pyright: ignore[reportUnknownVariableType]


def field(row: Row, kind: Kind, name: str) -> Any:
    """A field of an event of a kind.

    Raises:
        Wrong: it is missing, or not what it should be.
    """
    if name not in row:
        raise Wrong(f"{kind.name} without {name}")
    return _SHAPES.get((kind, name), number)(row, name)


def decode_bytes(value: Any) -> bytes:
    """The bytes of a buffer.

    Raises:
        Wrong: it is none.
    """
    match value:
        case {"data": str(digits), "length": int(length)} if length <= BUFFER_MAX and len(digits) <= 2 * length:
            if not re.fullmatch("([0-9a-f]{2})*", digits):
                raise Wrong("data is no hexadecimal")
            return bytes.fromhex(digits).ljust(length, b"\0")
        case _:
            raise Wrong("a buffer is data (hexadecimal) and length")


def apply(changed: Any, args: tuple[Any, ...]) -> None:
    """Put what a call left in its buffers into its arguments.

    Raises:
        Wrong: the call has no such buffer.
    """
    if not isinstance(changed, dict):
        raise Wrong("after is no object")
    for name, value in cast("Row", changed).items():
        if not re.fullmatch(r"[0-9]{1,3}", name) or int(name) >= len(args):
            raise Wrong(f"after: the call has no argument {name}")
        buffer = args[int(name)]
        if not isinstance(buffer, Buffer):
            raise Wrong(f"after: argument {name} is no buffer")
        buffer.data = decode_bytes(value)


def _text_or_none(row: Row, name: str) -> str | None:
    return row.pop(name) if row[name] is None else text(row, name)


def _number_or_none(row: Row, name: str) -> int | None:
    return row.pop(name) if row[name] is None else number(row, name)


def _setting(row: Row, name: str) -> int | str | tuple[int, ...] | None:
    # what a ring was set to: a number, the name of an eventfd or none, addresses
    match row[name]:
        case None | str():
            return _text_or_none(row, name)
        case [*addresses]:
            del row[name]
            return tuple(number({name: address}, name) for address in addresses)
        case _:
            return number(row, name)


def _runs(row: Row, name: str) -> tuple[Extent, ...]:
    return tuple(_run(run, name) for run in array(row, name))


def _run(run: Any, name: str) -> Extent:
    match run:
        case [str(ident), int(offset), int(length)]:
            return Extent(ident, offset, length)
        case _:
            raise Wrong(f"{name} is no list of [object, offset, length]")


def _args(row: Row, name: str) -> tuple[Any, ...]:
    return tuple(_arg(arg) for arg in array(row, name))


def _arg(arg: Any) -> Any:
    match arg:
        case {"data": _}:
            data = decode_bytes(cast("object", arg))
            return Buffer(data, data)
        case {"addr": int(addr), "length": int(length)}:
            return Place(addr, length)
        case {"name": str(ident)}:
            return Named(ident)
        case None | int() | str():
            return arg
        case _:
            raise Wrong("an argument that is neither number, text, buffer, place nor name")


def _shapes() -> dict[tuple[Kind, str], Callable[[Row, str], Any]]:
    by_name: dict[str, Callable[[Row, str], Any]] = {
        **dict.fromkeys(("op", "file", "device", "target", "what", "id", "text"), text),
        **dict.fromkeys(("below", "family", "mm", "name", "object", "to", "why"), text),
        "args": _args,
        "rule": _text_or_none,
        "promise": _runs,
        "place": _runs,
    }
    shapes = {(kind, name): by_name[name] for kind, names in LAYOUT.items() for name in names if name in by_name}
    nobody = dict.fromkeys(((Kind.OWNER, "old"), (Kind.OWNER, "new"), (Kind.SPACE, "mm")), _text_or_none)
    return {**shapes, **nobody, (Kind.USED, "found"): _number_or_none, (Kind.RING, "value"): _setting}


_SHAPES = _shapes()
"""How a field is read that is not a number."""
