"""What the page draws: lanes, rows, findings, as plain JSON.

Theory. One pass over the trace. A row is an event with everything a reader may ask of it as text: numbers beyond 2^53
would be rounded by JavaScript, and names come from programs, so nothing is left to the page to format and every
character that would not print is an escape. A DMA's row has what its map entry promised for these very bytes beside
where they went, as ``checks/dma_place.py`` compares them. The last ``limit`` events are kept, earlier ones counted;
promises and open calls are followed from the beginning all the same.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.checks.dma_place import cut, taken_along
from vdpasim.core.events import LAYOUT, Event, Kind, OpenCalls
from vdpasim.trace.export_strace import head
from vdpasim.trace.lanes import MACHINE, NOBODY, Racing, lane_of
from vdpasim.trace.text import TextTrace, inert

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vdpasim.trace.file import Header, Item, Mark

Row = dict[str, Any]
Runs = tuple[tuple[str, int, int], ...]
Space = tuple[str, str]
"""(device, asid)."""

_HEX = frozenset({"iova", "start", "last", "addr"})
_SPACE = re.compile(r"(.*) asid (-?\d+): ", re.DOTALL)
"""How ``iotlb.divergence`` names what it is about."""
WORKER = ".worker"
"""How the names of kernel threads end."""


@attrs.define
class Model:
    """Takes the items of a trace, gives the page's data."""

    header: Header
    limit: int
    marks: list[Mark] = attrs.Factory(list["Mark"])
    events: int = 0
    _rows: deque[Row] = attrs.Factory(deque["Row"])
    _lines: deque[str] = attrs.Factory(deque[str])
    _text: TextTrace = attrs.Factory(TextTrace)
    _calls: OpenCalls = attrs.Factory(OpenCalls)
    _racing: Racing = attrs.Factory(Racing)
    _promises: dict[int, tuple[int, Runs]] = attrs.Factory(dict["int", "tuple[int, Runs]"])
    """Serial -> (first I/O address, promise)."""
    _kinds: Counter[Kind] = attrs.Factory(Counter["Kind"])
    _pushes: dict[Space, list[int]] = attrs.Factory(dict["Space", "list[int]"])
    _changes: dict[Space, list[int]] = attrs.Factory(dict["Space", "list[int]"])

    def __attrs_post_init__(self) -> None:
        self._rows = deque(maxlen=self.limit)
        self._lines = deque(maxlen=self.limit)
        self._text = TextTrace(self.header.layout)

    def item(self, item: Item) -> None:
        """Take the next line of the trace."""
        if item.mark is not None:
            self.marks.append(item.mark)
        if item.event is not None:
            self._event(item.event)

    def lines(self) -> list[str]:
        """The text trace of what is kept, findings behind it."""
        findings = [inert(f"[{mark.seq}] !!! {mark.id}: {mark.text}") for mark in self.marks]
        return [*self._lines, *self._text.unfinished(), *findings]

    def data(self, *, complete: bool) -> dict[str, Any]:
        """Everything, ready for JSON."""
        lanes = _Lanes()
        rows = [lanes.placed(row) for row in self._rows]
        order = lanes.order()
        for row in rows:
            row["u"], row["l"] = order[row["u"]], order.get(row["l"], -1)
        here = {row["q"]: row for row in rows}
        return {
            "head": [line.split(": ", 1) for line in head(self.header)],
            "kinds": {kind.name: self._kinds[kind] for kind in Kind if self._kinds[kind]},
            "lanes": [{"name": name, "group": group} for group, name in order],
            "rows": rows,
            "left": self.events - len(rows),
            "complete": complete,
            "findings": [self._finding(mark, here) for mark in self.marks],
        }

    def _event(self, event: Event) -> None:
        self.events += 1
        kind, line = Kind(event[3]), self._text.line(event)
        self._kinds[kind] += 1
        before = self._racing.event(event)
        row: Row = {
            "q": event[0],
            "t": str(event[1]),
            "k": kind.name,
            "u": event[2],
            "l": lane_of(event),
            "x": "" if line is None else line.partition(": ")[2],
            "f": [[name, _shown(name, value)] for name, value in zip(LAYOUT[kind], event[4:], strict=True)],
        }
        if before is not None:
            row["b"] = before
        if line is not None:
            self._lines.append(line)
        self._special(kind, event, row)
        self._rows.append(row)

    def _special(self, kind: Kind, event: Event, row: Row) -> None:
        if kind == Kind.ENTER:
            row["x"] = inert(f"{event[4]}({event[5]}, … has not returned")
            self._calls.enter(event, row)
        elif kind == Kind.EXIT:
            self._returned(self._calls.exit(event), event, row)
        elif kind == Kind.PUSH:
            self._pushes.setdefault((event[4], str(event[5])), []).append(event[0])
        elif kind in (Kind.MAP, Kind.UNMAP, Kind.REMAP):
            self._changes.setdefault((event[4], str(event[5])), []).append(event[0])
        if kind == Kind.MAP:
            self._promises[event[6]] = (event[7], event[11])
        elif kind == Kind.MOVED:
            for serial, (start, promise) in self._promises.items():
                self._promises[serial] = (start, taken_along(promise, event[4], event[5]))
        elif kind == Kind.DMA:
            row["d"] = self._dma(*event[6:])

    def _finding(self, mark: Mark, here: dict[int, Row]) -> dict[str, Any]:
        steps, row = list(mark.steps), here.get(mark.seq)
        if not steps and (space := _SPACE.match(mark.text)):
            # a table against its copy: the last push and the last change are what raced
            sides = (_last(side.get((space[1], space[2]), []), mark.seq) for side in (self._pushes, self._changes))
            steps = sorted({seq for seq in sides if seq is not None})
        if not steps and row is not None and "b" in row:
            steps = [row["b"]]
        if not mark.steps and row is not None and mark.seq not in steps:
            steps.append(mark.seq)
        return {
            "id": inert(mark.id),
            "text": inert(mark.text),
            "seq": mark.seq,
            "steps": steps,
            "here": row is not None,
        }

    @staticmethod
    def _returned(begun: Row | None, event: Event, row: Row) -> None:
        row["n"] = _name(event, row["x"])
        if event[6] < 0:
            row["bad"] = 1
        if begun is not None:
            row["e"], begun["e"] = begun["q"], row["q"]
            begun["x"] = row["x"].rpartition(" = ")[0] or row["x"]
            begun["n"] = row["n"]

    def _dma(self, iova: int, length: int, _access: int, serial: int, _target: str, at: Runs) -> Row:
        place = cut(at, 0, length)
        start, promise = self._promises.get(serial, (iova, ()))
        promised = cut(promise, iova - start, length) if iova >= start else ()
        landed = sum(run[2] for run in place)
        if landed < length:
            verdict = f"{length - landed} of {length} bytes have no memory behind them"
        elif promised and promised != place:
            verdict = "the bytes went elsewhere than the map entry promised"
        else:
            verdict = ""
        told = {"promise": [_run(run) for run in promised], "place": [_run(run) for run in place], "bad": verdict}
        if not promised:
            told["none"] = "passthrough or memory table: no entry, no promise" if not serial else "no promise is known"
        return told


@attrs.define
class _Lanes:
    # groups in this order: processes, workers, devices with their queues
    units: dict[tuple[str, str], None] = attrs.Factory(dict["tuple[str, str]", None])
    places: dict[tuple[str, int], None] = attrs.Factory(dict["tuple[str, int]", None])

    def placed(self, row: Row) -> Row:
        unit = _unit(row["u"])
        self.units[unit] = None
        place = row["l"]
        if place is not None:
            self.places[place] = None
            row = {**row, "l": ("devices and queues", _place(*place))}
        return {**row, "u": unit}

    def order(self) -> dict[tuple[str, str], int]:
        units = [unit for group in ("processes", "workers") for unit in self.units if unit[0] == group]
        devices = list(dict.fromkeys(device for device, _ in self.places))
        places = sorted(self.places, key=lambda place: (devices.index(place[0]), place[1]))
        lanes = units + [("devices and queues", _place(*place)) for place in places]
        return {lane: number for number, lane in enumerate(dict.fromkeys(lanes))}


def build(items: Iterable[Item], header: Header, limit: int) -> Model:
    """The model of a whole trace.

    Raises:
        TraceFormatError: a line of it.
    """
    model = Model(header, limit)
    for item in items:
        model.item(item)
    return model


def _unit(name: str) -> tuple[str, str]:
    if name == NOBODY:
        return "workers", MACHINE
    return ("workers" if name.endswith(WORKER) else "processes"), inert(name)


def _place(device: str, queue: int) -> str:
    return inert(device if queue < 0 else f"{device} queue {queue}")


def _name(event: Event, line: str) -> str:
    # what a call's slice is called: the request of an ioctl, the message of a write
    if event[4] == "ioctl" and ", " in line:
        return line.split(", ")[1].partition(")")[0].removeprefix("VHOST_").removeprefix("VDPA_")
    if event[4] in ("read", "write") and (words := line.partition(", v")[2].split()[1:2]):
        return f"{event[4]} {words[0]}"
    return inert(event[4])


def _shown(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_run(run) if isinstance(run, tuple) else _shown("", run) for run in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, int):
        return f"{value:#x} ({value})" if name in _HEX else str(value)
    return inert(str(value))


def _run(run: tuple[str, int, int]) -> str:
    return inert(f"{run[0]}+{run[1]:#x} ({run[2]} bytes)")


def _last(seqs: list[int], seq: int) -> int | None:
    at = bisect_right(seqs, seq)
    return seqs[at - 1] if at else None
