"""A trace in Chrome's trace event format, which Perfetto and chrome://tracing load.

Theory. A process of the picture is a floor: units, devices and queues, findings. Its threads are the lanes. A call is a
complete slice (``X``) from its ENTER to its EXIT; what happens is an instant on the lane of the device or queue, or of
the unit if it names neither. Slices of one lane must nest, and threads of a process share its name: a call that begins
while another one is open goes to a lane of its own. Virtual time stands still for most of a run, so a microsecond of
the picture is one event, unless ``clock`` says ``time``. Numbers beyond 2^53, which JavaScript would round, and all
addresses are text. Slices are written when they end: memory holds the open calls only.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import attrs

from vdpasim.core.events import LAYOUT, Event, Kind, OpenCalls
from vdpasim.trace.export_strace import head
from vdpasim.trace.lanes import MACHINE, NOBODY, lane_of
from vdpasim.trace.text import TextTrace, inert

if TYPE_CHECKING:
    from vdpasim.trace.file import Mark, Reader

Clock = Literal["sequence", "time"]

UNITS, PLACES, FINDINGS = 1, 2, 3
_FLOORS = {UNITS: "units", PLACES: "devices and queues", FINDINGS: "findings"}
_EXACT = 1 << 53
_ADDRESSES = frozenset({"iova", "start", "last", "addr"})


def export(reader: Reader, stream: IO[str], clock: Clock = "sequence") -> None:
    """Write the trace as one JSON object.

    Raises:
        TraceFormatError: the file.
    """
    stream.write('{"displayTimeUnit":"ns","otherData":')
    json.dump(dict(line.split(": ", 1) for line in head(reader.header)), stream)
    stream.write(',"traceEvents":[\n')
    _Export(stream, clock, TextTrace(reader.header.layout)).all(reader)
    stream.write("\n]}\n")


@attrs.define
class _Slice:
    lane: int
    ts: float
    event: Event


@attrs.define
class _Export:
    stream: IO[str]
    clock: Clock
    text: TextTrace
    calls: OpenCalls = attrs.Factory(OpenCalls)
    tids: dict[tuple[int, str], int] = attrs.Factory(dict[tuple[int, str], int])
    busy: dict[str, set[int]] = attrs.Factory(dict[str, "set[int]"])
    """Unit -> numbers of its lanes with an open call."""
    now: float = 0
    begun: bool = False

    def all(self, reader: Reader) -> None:
        for pid, name in _FLOORS.items():
            self._row(ph="M", pid=pid, tid=0, name="process_name", args={"name": name})
            self._row(ph="M", pid=pid, tid=0, name="process_sort_index", args={"sort_index": pid})
        for item in reader:
            if item.event is not None:
                self._event(item.event)
            elif item.mark is not None:
                self._mark(item.mark)
        for left in self.calls.rest():
            args = {"call": inert(f"{left.event[4]}({left.event[5]}) has not returned"), "seq": left.event[0]}
            self._slice(left, left.event[4], args)

    def _row(self, **row: Any) -> None:
        self.stream.write(",\n" if self.begun else "")
        self.begun = True
        json.dump(row, self.stream, separators=(",", ":"))

    def _tid(self, pid: int, name: str) -> int:
        tid = self.tids.get((pid, name))
        if tid is None:
            tid = self.tids[pid, name] = len(self.tids) + 1
            self._row(ph="M", pid=pid, tid=tid, name="thread_name", args={"name": inert(name)})
            self._row(ph="M", pid=pid, tid=tid, name="thread_sort_index", args={"sort_index": tid})
        return tid

    def _event(self, event: Event) -> None:
        self.now = event[0] if self.clock == "sequence" else event[1] / 1000
        line, kind = self.text.line(event), event[3]
        if kind == Kind.ENTER:
            busy = self.busy.setdefault(event[2], set())
            lane = next(number for number in range(len(busy) + 1) if number not in busy)
            busy.add(lane)
            self.calls.enter(event, _Slice(lane, self.now, event))
        elif kind == Kind.EXIT:
            self._exit(event, line or "")
        else:
            self._instant(event, line or "")

    def _exit(self, event: Event, line: str) -> None:
        begun = self.calls.exit(event) or _Slice(0, self.now, event)
        self.busy.get(event[2], set[int]()).discard(begun.lane)
        shown = line.partition(": ")[2]
        args = {"call": shown, "ret": event[6], "rule": inert(event[8] or ""), "seq": begun.event[0]}
        args["returned"] = event[0]
        name = event[4]
        if name == "ioctl" and ", " in shown:
            name = shown.split(", ")[1].partition(")")[0]
        self._slice(begun, name, args)

    def _slice(self, begun: _Slice, name: str, args: dict[str, Any]) -> None:
        unit = begun.event[2]
        tid = self._tid(UNITS, f"{unit} ({begun.lane + 1})" if begun.lane else unit)
        args["time_ns"] = begun.event[1]
        row = {"ph": "X", "cat": "call", "pid": UNITS, "tid": tid, "ts": begun.ts, "dur": self.now - begun.ts}
        self._row(**row, name=inert(name), args=args)

    def _instant(self, event: Event, line: str) -> None:
        kind, lane = event[3], lane_of(event)
        args = {name: _value(name, value) for name, value in zip(LAYOUT[kind], event[4:], strict=True)}
        args |= {"unit": inert(event[2]), "seq": event[0], "time_ns": event[1], "line": line}
        if lane is None:
            pid, name = UNITS, MACHINE if event[2] == NOBODY else event[2]
        else:
            pid, name = PLACES, lane[0] if lane[1] < 0 else f"{lane[0]} queue {lane[1]}"
        row = {"ph": "i", "s": "t", "cat": kind.name.lower(), "pid": pid, "tid": self._tid(pid, name)}
        self._row(**row, ts=self.now, name=kind.name, args=args)

    def _mark(self, mark: Mark) -> None:
        ts = mark.seq if self.clock == "sequence" else self.now
        args = {"text": inert(mark.text), "seq": mark.seq, "steps": list(mark.steps)}
        tid = self._tid(FINDINGS, "findings")
        self._row(ph="i", s="t", cat="finding", pid=FINDINGS, tid=tid, ts=ts, name=inert(mark.id), args=args)


def _value(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return [_part(part) for part in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, int) and (name in _ADDRESSES or not -_EXACT < value < _EXACT):
        return f"{value:#x}"
    return inert(value) if isinstance(value, str) else value


def _part(part: Any) -> str:
    # of a list: a run of an object, or an address
    if isinstance(part, tuple):
        name, offset, length = cast("tuple[str, int, int]", part)
        return f"{inert(name)}+{offset:#x}:{length}"
    return f"{part:#x}"
