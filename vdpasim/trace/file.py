"""The trace file: a run as JSON lines that later versions and other programs can read.

Theory. The first line is the header (format, version, behaviour string, ABI, seed, story, options). Each line behind it
is one event with named fields, or a finding (``{"finding": id, "text": ..., "seq": ..., "steps": [...]}``); the last
says how many there were, so that a file cut short is known as such. Text is ASCII with JSON escapes, whatever a name
holds. A buffer is ``{"data": hex, "length": n}``, the zeros at its end left out, as the call found it; what the call
left there stands in ``after`` of its EXIT, by the number of the argument. A buffer at an address of a process is its
address only: looking at it could change the run.

Reading checks every line and names the one that is wrong; a last one that was cut in the middle, as by a kill, was not
written. Fields of an event that this version does not know are kept and written again; a line of an unknown kind is
kept whole. Writer and reader hold what is between a call's two events and nothing else.

Not modelled: the schedule and what came in through the ports; a trace shows a run, a journal (``sim/journal.py``) can
be run again.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

import attrs

from vdpasim.core.events import LAYOUT, Event, Kind, OpenCalls, as_dict
from vdpasim.trace.fields import (
    Wrong,
    apply,
    array,
    content,
    encode,
    encode_bytes,
    field,
    number,
    ordinal,
    text,
)
from vdpasim.uapi.abi import ABIS, Abi

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

FORMAT = "vdpasim-trace"
VERSION = 1
LINE_MAX = 16 << 20
"""Characters of the longest line that is read."""


class TraceFormatError(ValueError):
    """A file is no trace, or is damaged."""


@attrs.frozen
class Header:
    """What a trace is of."""

    kernel: str
    """The behaviour string."""
    abi: str = "x86_64"
    """The kernel's ABI."""
    seed: int = 0
    scenario: str = ""
    options: dict[str, Any] = attrs.Factory(dict[str, Any])
    """Module options, extensions, faults, settings: what else was asked for."""
    rerun: str = ""
    """The command that does the run again."""
    program: str = ""
    """What wrote it."""
    extra: dict[str, Any] = attrs.Factory(dict[str, Any])
    """Fields of later versions."""

    @property
    def layout(self) -> Abi:
        """The kernel's ABI as an object."""
        return ABIS[self.abi]


@attrs.frozen
class Mark:
    """A finding of the run."""

    id: str
    text: str
    seq: int
    steps: tuple[int, ...] = ()
    """Sequence numbers of the events that raced, as far as the oracle named them."""


@attrs.define
class Item:
    """One line behind the header: an event, a finding, or (neither) a line of a later version."""

    event: Event | None = None
    mark: Mark | None = None
    extra: dict[str, Any] = attrs.Factory(dict[str, Any])
    """Unknown fields; the whole line if it is unknown."""


# -- writing


class Writer:
    """Writes a trace to a text stream, a line an event; it never closes the stream."""

    def __init__(self, stream: IO[str], header: Header) -> None:
        self._stream = stream
        self._events = 0
        self._marks = 0
        self._calls = OpenCalls()
        head = attrs.asdict(header)
        extra = head.pop("extra")
        self._line({"format": FORMAT, "version": VERSION, **head, **extra})

    def event(self, event: Event, extra: dict[str, Any] | None = None) -> None:
        """Take one event; buffers are read now."""
        fields = as_dict(event)
        fields["kind"] = Kind(event[3]).name
        if event[3] == Kind.ENTER:
            fields["args"] = [encode(arg) for arg in event[6]]
            self._calls.enter(event, [(arg, content(arg)) for arg in event[6]])
        elif event[3] == Kind.EXIT:
            given: list[tuple[Any, bytes | None]] = self._calls.exit(event) or []
            changed = {
                str(number): encode_bytes(bytes(arg.data))
                for number, (arg, before) in enumerate(given)
                if before is not None and bytes(arg.data) != before
            }
            if changed:
                fields["after"] = changed
        self._events += 1
        self._line({**fields, **(extra or {})})

    def mark(self, mark: Mark, extra: dict[str, Any] | None = None) -> None:
        """Take one finding."""
        self._marks += 1
        steps = {"steps": list(mark.steps)} if mark.steps else {}
        self._line({"finding": mark.id, "text": mark.text, "seq": mark.seq, **steps, **(extra or {})})

    def item(self, item: Item) -> None:
        """Take what a :class:`Reader` gave."""
        if item.event is not None:
            self.event(item.event, item.extra)
        elif item.mark is not None:
            self.mark(item.mark, item.extra)
        else:
            self._line(item.extra)

    def finish(self) -> None:
        """The last line: nothing is missing."""
        self._line({"end": True, "events": self._events, "findings": self._marks})

    def _line(self, value: dict[str, Any]) -> None:
        self._stream.write(json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n")


# -- reading


class Reader:
    """Reads a trace from a text stream: the header at once, then items one by one.

    Raises:
        TraceFormatError: here or while items are read, with the line.
    """

    def __init__(self, stream: IO[str], name: str = "trace") -> None:
        self._stream = stream
        self._name = name
        self._number = 0
        self._calls = OpenCalls()
        self._seq = 0
        self._counts = {"events": 0, "findings": 0}
        self.complete = False
        """Whether the last line was there; known when all items have been read."""
        self.header = self._header()

    def __iter__(self) -> Iterator[Item]:
        while (row := self._row()) is not None:
            try:
                item = self._item(row)
            except Wrong as error:
                self._fail(str(error))
            if item is not None:
                yield item

    def _item(self, row: dict[str, Any]) -> Item | None:
        if self.complete:
            raise Wrong("a line behind the last one")
        if "end" in row:
            self._finish(row)
            return None
        if "kind" in row:
            return self._event(row)
        return self._mark(row) if "finding" in row else Item(extra=row)

    def _fail(self, reason: str) -> NoReturn:
        raise TraceFormatError(f"{self._name}:{self._number}: {reason}")

    def _row(self) -> dict[str, Any] | None:
        self._number += 1
        try:
            line = self._stream.readline(LINE_MAX)
        except UnicodeDecodeError:
            self._fail("not text")
        if not line:
            return None
        if len(line) == LINE_MAX:
            self._fail(f"the line is longer than {LINE_MAX} characters")
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            if self._number > 1 and not self.complete and not line.endswith("\n"):
                return None  # whoever wrote it was killed in the middle of a line
            self._fail("no JSON")
        if not isinstance(value, dict):
            self._fail("no JSON object")
        return cast("dict[str, Any]", value)  # the keys of JSON are text

    def _header(self) -> Header:
        row = self._row()
        if row is None or row.pop("format", None) != FORMAT:
            self._fail(f"not a trace: the first line of one says format {FORMAT}")
        version = row.pop("version", None)
        if type(version) is not int or version < 1:
            self._fail("the header has no version")
        if version > VERSION:
            self._fail(f"version {version}; this program reads up to {VERSION}")
        given: dict[str, Any] = {}
        for name, kind in _HEADER.items():
            if name in row:
                given[name] = row.pop(name)
                if type(given[name]) is not kind:
                    self._fail(f"{name} of the header is no {_WORDS[kind]}")
        if "kernel" not in given:
            self._fail("the header has no kernel")
        if given.get("abi", "x86_64") not in ABIS:
            self._fail(f"unknown ABI {given['abi'][:20]!r}; known are {', '.join(ABIS)}")
        return Header(**given, extra=row)

    def _finish(self, row: dict[str, Any]) -> None:
        for what, seen in self._counts.items():
            if row.get(what) != seen:
                written = row.get(what)
                told = written if type(written) is int else "no number of"
                raise Wrong(f"{told} {what} were written, {seen} are there")
        self.complete = True

    def _mark(self, row: dict[str, Any]) -> Item:
        self._counts["findings"] += 1
        ident, said, seq = text(row, "finding"), text(row, "text"), ordinal(row, "seq")
        steps = tuple(ordinal({"steps": step}, "steps") for step in array(row, "steps")) if "steps" in row else ()
        return Item(mark=Mark(ident, said, seq, steps), extra=row)

    def _event(self, row: dict[str, Any]) -> Item:
        self._counts["events"] += 1
        if not isinstance(row["kind"], str):
            raise Wrong("kind is no text")
        if row["kind"] not in Kind.__members__:
            return Item(extra=row)
        kind = Kind[row.pop("kind")]
        seq, time, unit = ordinal(row, "seq"), number(row, "time"), text(row, "unit")
        if seq <= self._seq:
            raise Wrong(f"event {seq} behind event {self._seq}")
        self._seq = seq
        event: Event = (seq, time, unit, kind, *(field(row, kind, name) for name in LAYOUT[kind]))
        if kind == Kind.ENTER:
            self._calls.enter(event, event[6])
        elif kind == Kind.EXIT and (given := self._calls.exit(event)) is not None:
            apply(row.pop("after", {}), given)
        return Item(event, extra=row)


_HEADER = {
    "kernel": str, "abi": str, "seed": int, "scenario": str, "options": dict, "rerun": str, "program": str,
}  # fmt: skip
_WORDS = {str: "text", int: "number", dict: "object"}


@contextmanager
def reading(path: str | Path) -> Generator[Reader]:
    """A reader over a file.

    Raises:
        OSError: the file cannot be opened.
        TraceFormatError: it is no trace.
    """
    with Path(path).open(encoding="ascii") as stream:
        yield Reader(stream, Path(path).name)


@attrs.frozen
class Trace:
    """A whole trace in memory."""

    header: Header
    events: list[Event]
    marks: list[Mark]
    complete: bool


def load(path: str | Path) -> Trace:
    """Read a file whole; lines of unknown kinds are left out.

    Raises:
        OSError: the file cannot be opened.
        TraceFormatError: it is no trace.
    """
    with reading(path) as reader:
        items = list(reader)
    events = [item.event for item in items if item.event is not None]
    marks = [item.mark for item in items if item.mark is not None]
    return Trace(reader.header, events, marks, reader.complete)
