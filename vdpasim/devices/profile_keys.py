"""The kinds of value a device profile's keys may have: what is allowed, how it is read, how it is written.

Theory. A :class:`Kind` is three things: words for a message and the documentation, a function from TOML's value to ours
that raises ValueError, and a function back to TOML's spelling. A key is an attrs field with its kind and its sentence
in the metadata, so the table of keys in the documentation can be held against the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.uapi.vhost_types import (
    VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK,
    VHOST_BACKEND_F_IOTLB_REMAP,
    VHOST_BACKEND_F_NEW_OWNER,
)

if TYPE_CHECKING:
    from collections.abc import Callable

U64_MAX = (1 << 64) - 1
S64_MAX = (1 << 63) - 1
QUEUES_MAX = 64
RING_MAX = 32768
CONFIG_MAX = 4096
"""Bytes of config space; no device type has more than a few hundred."""
KEY = "key"
"""Where a field's metadata has its :class:`Key`."""

BACKEND_BITS = {
    "ENABLE_AFTER_DRIVER_OK": VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK,
    "NEW_OWNER": VHOST_BACKEND_F_NEW_OWNER,
    "IOTLB_REMAP": VHOST_BACKEND_F_IOTLB_REMAP,
}
"""Backend features a device may add; the others follow from the layer or from other keys."""
BACKEND_FIRST_FREE = VHOST_BACKEND_F_IOTLB_REMAP + 1


class DeviceProfileError(ValueError):
    """A profile that is none; the message is one line with the key, what it may be, and what is near."""


@attrs.frozen
class Kind:
    """One kind of value."""

    allowed: str
    """In words, after "it is"."""
    read: Callable[[Any], Any]
    show: Callable[[Any], str]


@attrs.frozen
class Key:
    """What a field's metadata holds."""

    doc: str
    kind: Kind


def key(doc: str, kind: Kind, default: Any = attrs.NOTHING) -> Any:
    """A field of the profile."""
    return attrs.field(default=default, metadata={KEY: Key(doc, kind)})


def _integer(value: object, low: int, high: int) -> int:
    # text is for what is beyond TOML's integers, and for whoever likes hexadecimal
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError  # noqa: TRY004 - every refusal of a value is one kind of error
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        raise ValueError from None
    if not low <= number <= high:
        raise ValueError
    return number


def _power(value: object) -> int:
    number = _integer(value, 1, RING_MAX)
    if number & (number - 1):
        raise ValueError
    return number


def _list(value: object, read: Callable[[Any], Any]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError("no list")  # noqa: TRY004 - as above
    return tuple(read(one) for one in value)  # pyright: ignore[reportUnknownVariableType]


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - as above
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - as above
    return value


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        try:
            data = bytes.fromhex(value)
        except ValueError:
            raise ValueError("no even number of hexadecimal digits") from None
    else:
        data = bytes(_list(value, lambda one: _integer(one, 0, 255)))
    if len(data) > CONFIG_MAX:
        raise ValueError(f"{len(data)} bytes, at most {CONFIG_MAX}")
    return data


def _range(value: object, high: int) -> tuple[int, int]:
    pair = _list(value, lambda one: _integer(one, 0, high))
    if len(pair) != 2 or pair[0] > pair[1]:
        raise ValueError("first and last, in order")
    return pair[0], pair[1]


def _backend(value: object) -> int:
    mask = 0
    for one in _list(value, lambda one: one):
        if isinstance(one, str) and one in BACKEND_BITS:
            mask |= 1 << BACKEND_BITS[one]
        else:
            mask |= 1 << _integer(one, BACKEND_FIRST_FREE, 63)
    return mask


# -- writing


def quoted(text: str) -> str:
    """A TOML basic string."""
    out = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in out) + '"'


def _wide(value: int) -> str:
    return f"0x{value:x}" if value <= S64_MAX else f'"0x{value:x}"'


def _listed(values: tuple[int, ...], show: Callable[[int], str] = str) -> str:
    return "[" + ", ".join(show(value) for value in values) + "]"


def _hex_lines(data: bytes) -> str:
    if len(data) <= 32:
        return f'"{data.hex(" ")}"'
    lines = (data[at : at + 32].hex(" ") for at in range(0, len(data), 32))
    return '"""\n' + "\n".join(lines) + '\n"""'


def _backend_names(mask: int) -> str:
    names = [quoted(name) for name, bit in BACKEND_BITS.items() if mask >> bit & 1]
    names += [str(bit) for bit in range(BACKEND_FIRST_FREE, 64) if mask >> bit & 1]
    return "[" + ", ".join(names) + "]"


# -- the kinds


def number(low: int, high: int) -> Kind:
    """An integer in a range, inclusive."""
    return Kind(f"an integer from {low} to {high}", lambda value: _integer(value, low, high), str)


def numbers(low: int, high: int) -> Kind:
    """A list of integers in a range, inclusive."""
    allowed = f"a list of integers from {low} to {high}"
    return Kind(allowed, lambda value: _list(value, lambda one: _integer(one, low, high)), _listed)


def choice(*words: str) -> Kind:
    """One of some words."""

    def read(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Kind(" or ".join(quoted(word) for word in words), read, quoted)


TEXT = Kind("text", _text, quoted)
FLAG = Kind("true or false", _flag, lambda value: str(value).lower())
U64 = Kind("an integer of 64 bits, or text with one", lambda value: _integer(value, 0, U64_MAX), _wide)
POWER = Kind(f"a power of two from 1 to {RING_MAX}", _power, str)
POWERS = Kind(f"a list of powers of two from 1 to {RING_MAX}", lambda value: _list(value, _power), _listed)
BYTES = Kind("hexadecimal digits, or a list of integers from 0 to 255", _bytes, _hex_lines)
RANGES = Kind(
    "a list of pairs [first, last]",
    lambda value: _list(value, lambda one: _range(one, CONFIG_MAX - 1)),
    lambda value: "[" + ", ".join(_listed(one) for one in value) + "]",
)
IOVA_RANGE = Kind(
    "a pair [first, last] of 64-bit integers",
    lambda value: _range(value, U64_MAX),
    lambda value: _listed(value, _wide),
)
BACKEND = Kind(
    f"a list of {', '.join(map(quoted, BACKEND_BITS))} or bit numbers from {BACKEND_FIRST_FREE} to 63",
    _backend,
    _backend_names,
)
