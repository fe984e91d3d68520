"""ioctl numbers: encoding and decoding (mirrors asm/ioctl.h).

Theory. A request number carries a direction, the size of its argument, a type (the driver's letter) and a number. A
driver compares the whole 32 bits, so a header that got the direction or the size wrong makes a different request.
That is not idle: VHOST_GET_BACKEND_FEATURES was declared ``_IOW`` in 4.19 and ``_IOR`` since, and programs built with
the old header get ENOTTY. ``catalog.py`` looks requests up, and finds such relatives.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from vdpasim.uapi.abi import X86_64
from vdpasim.uapi.layout import measure
from vdpasim.uapi.table import spell

if TYPE_CHECKING:
    from vdpasim.uapi.abi import Abi
    from vdpasim.uapi.table import Type


class Direction(enum.Flag):
    """Where the argument goes, as the number says; the handler may do otherwise."""

    NONE = 0
    WRITE = 1
    """User to kernel."""
    READ = 2
    """Kernel to user."""
    READ_WRITE = 3

    @property
    def macro(self) -> str:
        """The macro that makes such a number."""
        return _MACROS[self]


_MACROS = {Direction.NONE: "_IO", Direction.WRITE: "_IOW", Direction.READ: "_IOR", Direction.READ_WRITE: "_IOWR"}


@dataclass(frozen=True, eq=False)
class Ioctl:
    """One request as its header declares it."""

    name: str
    direction: Direction
    type: int
    nr: int
    arg: Type | None
    """Type of the argument, None where the number carries no size."""
    doc: str = ""
    since: str = ""

    def request(self, abi: Abi = X86_64) -> int:
        """The 32-bit number on an ABI."""
        return _request(self, abi)

    def spelling(self) -> str:
        """The declaration, ``_IOW(0xaf, 0x00, __u64)``."""
        arg = "" if self.arg is None else f", {spell(self.arg)}"
        return f"{self.direction.macro}({self.type:#04x}, {self.nr:#04x}{arg})"


class Parts(NamedTuple):
    """A decoded request number; ``direction`` is None when the direction bits have no meaning on the ABI."""

    direction: Direction | None
    type: int
    nr: int
    size: int


@cache
def _request(ioctl: Ioctl, abi: Abi) -> int:
    size = 0 if ioctl.arg is None else measure(ioctl.arg, abi)[0]
    return encode(ioctl.direction, ioctl.type, ioctl.nr, size, abi)


def _direction_bits(direction: Direction, abi: Abi) -> int:
    ioc = abi.ioc
    bits = ioc.write if Direction.WRITE in direction else 0
    bits |= ioc.read if Direction.READ in direction else 0
    return bits or ioc.none


def encode(direction: Direction, type_: int, nr: int, size: int, abi: Abi = X86_64) -> int:
    """The number of a request (``_IOC``).

    Raises:
        ValueError: a part does not fit its bits.
    """
    ioc = abi.ioc
    for what, value, bits in (("type", type_, ioc.type_bits), ("nr", nr, ioc.nr_bits), ("size", size, ioc.size_bits)):
        if not 0 <= value < 1 << bits:
            raise ValueError(f"ioctl {what} {value} does not fit {bits} bits on {abi.name}")
    return _direction_bits(direction, abi) << ioc.dir_shift | size << ioc.size_shift | type_ << ioc.nr_bits | nr


def decode(request: int, abi: Abi = X86_64) -> Parts:
    """The parts of a request number.

    Raises:
        ValueError: more than 32 bits.
    """
    if not 0 <= request < 1 << 32:
        raise ValueError(f"{request:#x} is no 32-bit request number")
    ioc = abi.ioc
    meaning = {_direction_bits(direction, abi): direction for direction in _MACROS}
    return Parts(
        meaning.get(request >> ioc.dir_shift),
        request >> ioc.nr_bits & 0xFF,
        request & 0xFF,
        request >> ioc.size_shift & (1 << ioc.size_bits) - 1,
    )


# -- makers


def io(name: str, type_: int, nr: int, doc: str = "", since: str = "") -> Ioctl:
    """A request without an argument (``_IO``)."""
    return Ioctl(name, Direction.NONE, type_, nr, None, doc, since)


def ior(name: str, type_: int, nr: int, arg: Type, doc: str = "", since: str = "") -> Ioctl:
    """A request whose argument the kernel fills (``_IOR``)."""
    return Ioctl(name, Direction.READ, type_, nr, arg, doc, since)


def iow(name: str, type_: int, nr: int, arg: Type, doc: str = "", since: str = "") -> Ioctl:
    """A request whose argument the kernel reads (``_IOW``)."""
    return Ioctl(name, Direction.WRITE, type_, nr, arg, doc, since)


def iowr(name: str, type_: int, nr: int, arg: Type, doc: str = "", since: str = "") -> Ioctl:
    """A request whose argument goes both ways (``_IOWR``)."""
    return Ioctl(name, Direction.READ_WRITE, type_, nr, arg, doc, since)
