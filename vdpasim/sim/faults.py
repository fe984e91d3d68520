"""Fault plans: what goes wrong, where and when, in one notation (no kernel file).

Theory. A fault is one word, ``OP[@DEV][:N|:N-M|:every][:ERRNO|:delay=T|:drop]``: which operation of which device,
which occurrences of it, and what happens to them. :data:`OPS` lists the operations; what can befall each depends on
its *place*: a request can fail, wait or be swallowed, an interrupt can be late or lost, a DMA can only move nothing.
What has no meaning at a place is refused when the word is read.

A :class:`FaultPlan` is the port the simulated kernel asks (``core/faults.py``). It counts the occurrences of each
fault's operation per device from the moment the fault was injected, starting at 1. Faults that meet at one occurrence
add up: delays are summed, and the first errno beats a drop. A fault that never fired is a mistake of the plan, and
:meth:`Injected.complaint` says what came instead.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.ports import Strike
from vdpasim.sim.errors import UsageError
from vdpasim.uapi import errno as E
from vdpasim.uapi.catalog import requests
from vdpasim.uapi.vhost import VHOST_VIRTIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GRAMMAR = "OP[@DEV][:N|:N-M|:every][:ERRNO|:delay=T|:drop]"

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
"""Suffix of a time -> nanoseconds."""


@attrs.frozen
class Place:
    """A kind of operation, and what can befall it."""

    name: str
    title: str
    errno: int = 0
    """What it fails with if a fault says nothing; 0: it cannot fail."""
    only_errno: bool = False
    """It can fail with no other errno."""
    delay: bool = False
    drop: bool = False
    failing: str = "fails with {}"
    """In words, what failing means; ``{}`` is the errno."""
    dropped: str = ""
    """In words, what dropping means."""

    @property
    def takes(self) -> str:
        """The actions a fault here may name, as in the notation; the first is what happens if it names none."""
        words = [("EFAULT" if self.only_errno else "ERRNO") if self.errno else "", "drop" if self.drop else ""]
        return ", ".join(word for word in [*words, "delay=T" if self.delay else ""] if word)


_SWALLOWED = "is swallowed: nothing is done and success is returned"
REQUEST = Place("request", "Requests (ioctl)", E.EIO, delay=True, drop=True, dropped=_SWALLOWED)
MESSAGE = Place(
    "message", "IOTLB messages (write)", E.EIO, delay=True, drop=True, dropped=_SWALLOWED,
    failing="fails with {} in its handler, which write() reports as EFAULT",
)  # fmt: skip
OPEN = Place("open", "Opening a device", E.EIO, delay=True)
MAP = Place(
    "map", "What vhost-vdpa tells the device of a map", E.EIO, drop=True,
    failing="is refused by the device with {}, which keeps the map it had",
    dropped="is answered with success by the device, which keeps the map it had",
)  # fmt: skip
NOTICE = Place("notification", "Notifications", delay=True, drop=True, dropped="is lost")
MISS = Place("miss", "Misses (read)", drop=True, dropped="is never queued")
DMA = Place(
    "DMA", "Accesses of a device to memory", E.EFAULT, only_errno=True,
    failing="moves no byte: the device meets {}",
)  # fmt: skip
PLACES = (REQUEST, MESSAGE, MISS, OPEN, MAP, NOTICE, DMA)


@attrs.frozen
class Op:
    """An operation that faults can name."""

    name: str
    place: Place
    doc: str


_NAMED = (
    Op("UPDATE", MESSAGE, "Map a range"),
    Op("INVALIDATE", MESSAGE, "Unmap a range"),
    Op("BATCH_BEGIN", MESSAGE, "Hold back what the device is told"),
    Op("BATCH_END", MESSAGE, "Tell the device"),
    Op("REMAP", MESSAGE, "Give an entry another address (live-update series)"),
    Op("MISS", MISS, "The device asks for a mapping"),
    Op("open", OPEN, "Open the device node"),
    Op("set_map", MAP, "The whole map, at an UPDATE, INVALIDATE or BATCH_END"),
    Op("dma_map", MAP, "One entry more, of a device with batch_mapping=0"),
    Op("dma_unmap", MAP, "One entry less, of such a device; the kernel ignores a refusal"),
    Op("kick", NOTICE, "The driver's write to a kick eventfd"),
    Op("call", NOTICE, "The device's interrupt of a ring"),
    Op("config", NOTICE, "The device's interrupt for a config change"),
    Op("dma", DMA, "Any access, ring metadata included"),
    Op("dma.read", DMA, "The device reads"),
    Op("dma.write", DMA, "The device writes"),
)


def _ops() -> Iterator[Op]:
    for ioctl in requests().values():
        if ioctl.type == VHOST_VIRTIO:
            yield Op(ioctl.name, REQUEST, ioctl.doc)
    yield from _NAMED


OPS: Mapping[str, Op] = MappingProxyType({op.name: op for op in _ops()})
"""Every operation by its name, in the order they are listed."""


@attrs.frozen
class Fault:
    """One fault. ``str()`` gives its full notation, which :func:`parse` reads back."""

    op: str
    device: str = ""
    """Name of a device in traces, of a vDPA device, or path of a node; empty: every device."""
    first: int = 1
    last: int | None = 1
    """None: no last one."""
    errno: int = 0
    delay_ns: int = 0
    drop: bool = False

    def __str__(self) -> str:
        where = f"@{self.device}" if self.device else ""
        if self.last is None:
            when = "every"
        else:
            when = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.op}{where}:{when}:{self._action()}"

    def _action(self) -> str:
        if self.delay_ns:
            return f"delay={_time(self.delay_ns)}"
        return "drop" if self.drop else _errno_name(self.errno)

    @property
    def strike(self) -> Strike:
        """What it does to an occurrence."""
        return Strike(self.errno, self.delay_ns, self.drop)

    def names(self, op: str) -> bool:
        """Whether the operation is the one it is about; ``dma`` is about both directions."""
        return op == self.op or (self.op == "dma" and op in ("dma.read", "dma.write"))

    def strikes_at(self, count: int) -> bool:
        """Whether the count-th occurrence is one of its own."""
        return count >= self.first and (self.last is None or count <= self.last)

    def words(self) -> str:
        """What it would do, as a sentence."""
        where = f"at {self.device}" if self.device else "at each device"
        if self.last is None:
            which = "every"
        elif self.first == self.last:
            which = f"the {_ordinal(self.first)}"
        else:
            which = f"the {_ordinal(self.first)} to {_ordinal(self.last)}"
        return f"{which} {self.op} {where} {self._fate(OPS[self.op].place)}"

    def _fate(self, place: Place) -> str:
        if self.delay_ns:
            return f"happens {_time(self.delay_ns)} later"
        if self.drop:
            return place.dropped
        return place.failing.format(f"{_errno_name(self.errno)} ({E.strerror(self.errno)})")


def _time(ns: int) -> str:
    # in the largest unit that needs no fraction
    unit = next(unit for unit in reversed(UNITS) if not ns % UNITS[unit])
    return f"{ns // UNITS[unit]}{unit}"


def _errno_name(errno: int) -> str:
    return E.name(errno).partition("(")[0]


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


# ------------------------------------------------------------------------------------------------------------- reading

_COUNT = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_DELAY = re.compile(r"delay=([0-9]{1,18})(ns|us|ms|s|)")
_DEVICE = re.compile(r"\S+")


def parse(text: str) -> Fault:
    """The fault of a word.

    Raises:
        UsageError: it is none; the message says what is wrong, and the grammar.
    """
    head, *rest = text.split(":")
    name, at, device = head.partition("@")
    op = OPS.get(name)
    if op is None:
        raise _wrong(text, f"there is no operation {name!r}; {_nearest(name)}")
    if at and not _DEVICE.fullmatch(device):
        raise _wrong(text, "behind @ comes a device: vhost-vdpa-0, the name it was added with, or /dev/vhost-vdpa-0")
    first: int = 1
    last: int | None = 1
    if rest and (rest[0][:1].isdigit() or rest[0] == "every"):
        first, last = _count(text, rest.pop(0))
    if len(rest) > 1:
        raise _wrong(text, f"{rest[1]!r} is too much: a count may come first, then one action")
    action = rest[0] if rest else ("drop" if not op.place.errno else _errno_name(op.place.errno))
    errno, delay_ns, drop = _action(text, op, action)
    return Fault(name, device, first, last, errno, delay_ns, drop)


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(f"fault {text!r}: {why} (it is {GRAMMAR})")


def nearest(name: str) -> list[str]:
    """The operations whose names have a word in them, else those most like it, best first."""
    upper = {op.upper(): op for op in OPS}
    inside = sorted((op for key, op in upper.items() if len(name) > 2 and name.upper() in key), key=len)
    close = difflib.get_close_matches(name.upper(), upper, n=5, cutoff=0.5)
    return inside[:5] or [upper[key] for key in close]


def _nearest(name: str) -> str:
    found = nearest(name)
    return f"nearest: {', '.join(found)}" if found else "`vdpasim faults` lists them"


def _count(text: str, word: str) -> tuple[int, int | None]:
    if word == "every":
        return 1, None
    found = _COUNT.fullmatch(word)
    if found is None:
        raise _wrong(text, f"{word!r} is no count: 3, 3-5 or every")
    first = int(found[1])
    last = int(found[2]) if found[2] else first
    if not 1 <= first <= last:
        raise _wrong(text, f"{word!r} is no count: the first one is 1, and a range goes up")
    return first, last


def _action(text: str, op: Op, word: str) -> tuple[int, int, bool]:
    # (errno, delay, drop)
    place = op.place
    if word == "drop":
        if not place.drop:
            raise _wrong(text, f"{op.name} cannot be dropped; it takes {place.takes}")
        return 0, 0, True
    if word.startswith("delay"):
        return 0, _delay(text, op, word), False
    return _errno(text, op, word), 0, False


def _delay(text: str, op: Op, word: str) -> int:
    found = _DELAY.fullmatch(word)
    ns = int(found[1]) * UNITS[found[2] or "ns"] if found else 0
    if not ns:
        raise _wrong(text, f"{word!r} is no delay: delay=500, delay=20us, delay=5ms or delay=1s")
    if not op.place.delay:
        raise _wrong(text, f"{op.name} cannot be delayed; it takes {op.place.takes}")
    return ns


@cache
def errnos() -> Mapping[str, int]:
    """The errors an operation may fail with: those programs see, and two of the kernel's own that drivers return."""
    seen = {name: E.number(name) for name in vars(E) if re.fullmatch("E[A-Z0-9]+", name)}
    own = (E.ENOIOCTLCMD, E.ENOTSUPP)
    return MappingProxyType({name: n for name, n in seen.items() if n < E.ERESTARTSYS or n in own})


def _errno(text: str, op: Op, word: str) -> int:
    if word not in errnos():
        words = {name.upper(): name for name in (*errnos(), "drop", "every")}
        near = difflib.get_close_matches(word.upper(), words, n=1)
        hint = f"; nearest: {words[near[0]]}" if near else ""
        raise _wrong(text, f"{word!r} is no errno, delay=T or drop{hint}")
    place, errno = op.place, errnos()[word]
    if not place.errno or (place.only_errno and errno != place.errno):
        raise _wrong(text, f"{op.name} cannot fail with {word}; it takes {place.takes}")
    return errno


# ---------------------------------------------------------------------------------------------------------------- plan


@attrs.define(eq=False)
class Injected:
    """A fault of a running simulator, and what has become of it."""

    fault: Fault
    fired: int = 0
    """How often it struck."""
    seen: Counter[str] = attrs.Factory(Counter["str"])
    """Device, by its name in traces -> occurrences of the operation since it was injected."""
    lifted: bool = False

    def lift(self) -> None:
        """Let it strike no more."""
        self.lifted = True

    def complaint(self) -> str:
        """That it never fired, and what came instead."""
        came = ", ".join(f"{_times(n)} at {device}" for device, n in sorted(self.seen.items()))
        return f"fault {self.fault} never fired: {self.fault.op} came {came or 'at no device'}"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


class FaultPlan:
    """The faults of a simulator, as the port the kernel asks.

    Args:
        paths: vDPA device name -> path of its node, as it is when a fault is looked for.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.paths = paths
        self.injected: list[Injected] = []

    def add(self, fault: Fault | str) -> Injected:
        """Take another fault, whose occurrences count from now on.

        Raises:
            UsageError: the notation.
        """
        one = Injected(parse(fault) if isinstance(fault, str) else fault)
        self.injected.append(one)
        return one

    @property
    def unfired(self) -> list[Injected]:
        """The faults that have not struck."""
        return [one for one in self.injected if not one.fired]

    def strike(self, op: str, device: str) -> Strike | None:
        """What befalls this occurrence; each fault counts it."""
        names = self.names(device)
        struck: Strike | None = None
        for one in self.injected:
            if one.lifted or not one.fault.names(op):
                continue
            one.seen[names[0]] += 1
            at_home = not one.fault.device or one.fault.device in names
            if at_home and one.fault.strikes_at(one.seen[names[0]]):
                one.fired += 1
                struck = one.fault.strike if struck is None else _both(struck, one.fault.strike)
        return struck

    def names(self, device: str) -> tuple[str, ...]:
        """What a device may be called, its name in traces first."""
        known = [(path.rpartition("/")[2], name, path) for name, path in self.paths.items()]
        for part in (0, 1):  # a node's name goes before a vDPA device that happens to be called like another's node
            for names in known:
                if names[part] == device:
                    return names
        stem = device.rstrip("0123456789").rstrip("-")
        return device, stem, "/dev/" + stem


def _both(one: Strike, other: Strike) -> Strike:
    return Strike(one.errno or other.errno, one.delay_ns + other.delay_ns, one.drop or other.drop)
