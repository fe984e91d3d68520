"""The lines of a log of QEMU's trace events: what each says, who said it, and when.

Theory. Three programs write such lines, and versions differ in what stands in front of the event:

* the log backend writes the event's own format. Up to 10.1 ``-msg timestamp=on`` puts ``THREAD@SECONDS.MICROSECONDS:``
  before it, later versions put what they put before every message (an ISO 8601 time, the guest's name in brackets, the
  program's name, ``(THREAD:NAME):``), and whoever keeps the log may have added a time of its own;
* ``simpletrace.py`` writes the microseconds since the line before, of whichever event, then ``pid=``, then the
  arguments by their names in the source, all hexadecimal. Its times add up over all lines, also those of other events.

Words that name one thing in both, or in several versions, become one word here. The expressions are bounded: nothing a
log holds may take long to read.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

LINE_MAX = 1 << 12
"""No event has a longer line; what is longer has no fields that can be believed."""
PREFIX_MAX = 256

_NUMBER = r"(0x[0-9a-fA-F]{1,16}|\(nil\)|-?\d{1,20})(?=[\s,]|$)"
_EVENT = re.compile(r"(?:^|[\s:])vhost_vdpa_(\w{1,60})(?=\s|$)")
_PAIR = re.compile(r"([A-Za-z_][A-Za-z_ -]{0,40}?)\s{0,4}(?::|=| )\s{0,4}" + _NUMBER)
_STAMP = re.compile(r"(\d{1,10})@(\d{1,12})\.(\d{1,9}):\s*$")
_THREAD = re.compile(r"\((\d{1,10}):[^()]{0,32}\):\s*$")
_ISO = re.compile(r"\s*(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?")
_SIMPLE = re.compile(r"(\w{1,80}) (-?\d{1,15})\.(\d{3}) pid=(\d{1,10})(?=\s|$)")
_DROPPED = "Dropped_Event"
_WORDS = {
    "asid_num": "asid",
    "common_dev": "shared",
    "i": "index",
    "idx": "index",
    "s": "shared",
    "v": "vdpa",
    "vdpa_shared": "shared",
    "vhost_vdpa": "vdpa",
}
"""What else a field is called -> its name here."""


@attrs.frozen
class Line:
    """One event of the log."""

    name: str
    """Without ``vhost_vdpa_``."""
    pid: str
    """Of the thread that wrote it, or of the process: whichever the log has; empty if neither."""
    time: int | None
    """Nanoseconds, since the first line or since 1970; None: the log has none."""
    values: dict[str, int]
    text: str

    def __getitem__(self, key: str) -> int:
        return self.values[key]

    def signed(self, key: str) -> int:
        """A number that may be negative: simpletrace writes those of 32 bits with 32 or 64."""
        value = self.values[key]
        return value - (1 << 64) if value >= 1 << 63 else value - (1 << 32) if value >= 1 << 31 else value

    def pointers(self) -> dict[str, int]:
        """The objects of QEMU it names: of a queue pair (``dev``, ``vdpa``) and of a file (``shared``)."""
        return {key: self.values[key] for key in ("dev", "shared", "vdpa") if key in self.values}


@attrs.define
class Log:
    """What was read."""

    lines: list[Line] = attrs.Factory(list[Line])
    others: int = 0
    """Lines that are no ``vhost_vdpa`` events."""
    dropped: int = 0
    """Events that the log itself says it lost."""


def read(lines: Iterable[str]) -> Log:
    """All lines of a log."""
    log = Log()
    elapsed = 0
    for text in lines:
        simple = _SIMPLE.match(text)
        if simple is not None:
            sign = -1 if simple[2].startswith("-") else 1
            elapsed += sign * (abs(int(simple[2])) * 1000 + int(simple[3]))
        line = parse(text)
        if line is not None:
            log.lines.append(attrs.evolve(line, time=elapsed) if simple else line)
        elif text.strip():
            log.others += 1
            if simple is not None and simple[1] == _DROPPED:
                log.dropped += sum(_values(text[simple.end() : LINE_MAX]).values())
    return log


def parse(text: str) -> Line | None:
    """A line of the log, None if it is no ``vhost_vdpa`` event."""
    found = _EVENT.search(text[:LINE_MAX])
    if found is None:
        return None
    rest = text[found.end() : LINE_MAX].strip()
    simple = _SIMPLE.match(text)
    if simple is not None:
        rest, pid, time = text[simple.end() : LINE_MAX].strip(), simple[4], None
    else:
        start = found.start(1) - len("vhost_vdpa_")
        pid, time = _written(text[max(0, start - PREFIX_MAX) : start])
    return Line(found[1], pid, time, _values(rest) if len(text) <= LINE_MAX else {}, rest)


def _values(text: str) -> dict[str, int]:
    values: dict[str, int] = {}
    for name, value in _PAIR.findall(text):
        word: str = name.strip().replace(" ", "_").replace("-", "_")
        if word in _WORDS:
            word = _WORDS[word]
        values[word] = 0 if value == "(nil)" else int(value, 16 if value.startswith("0x") else 10)
    return values


def _written(prefix: str) -> tuple[str, int | None]:
    """By which thread a line was written, and when."""
    stamp = _STAMP.search(prefix)
    if stamp is not None:
        return stamp[1], int(stamp[2]) * 10**9 + int(stamp[3].ljust(9, "0"))
    thread = _THREAD.search(prefix)
    iso = _ISO.match(prefix)
    return thread[1] if thread else "", _since_1970(iso) if iso else None


def _since_1970(iso: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second = (int(part) for part in iso.groups()[:6])
    try:
        days = date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 10**9 + int((iso[7] or "").ljust(9, "0"))
