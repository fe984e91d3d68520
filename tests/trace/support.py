"""Traces for tests: one event of every kind, shipped stories recorded, and names that mean harm."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from vdpasim.core.events import Kind
from vdpasim.scenario.loader import load
from vdpasim.scenario.runner import run
from vdpasim.trace.fields import Buffer, Named, Place
from vdpasim.trace.file import Header, Mark, Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from vdpasim.core.events import Event

SCENARIOS = Path(__file__).parents[2] / "scenarios"
STALE = SCENARIOS / "live_update" / "stale_write.py"
TAP = SCENARIOS / "miss" / "vhost_net.py"
PING = SCENARIOS / "rings" / "ping.py"

HEADER = Header("7.1", seed=7, scenario="stories/a.py::a", rerun="vdpasim run stories/a.py::a", program="vdpasim 0")

HOSTILE = [
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "--><!-- <svg/onload=alert(1)>",
    "\u2028\u2029",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnp.exe\u2066",
    "'\"`${1}&amp;\\",
    "@@DATA@@",
    "a\r\nb\x00c",
    "\ud800",
    "__proto__",
]

_harm = st.sampled_from(HOSTILE)
hostile = st.one_of(_harm, st.text(max_size=20), st.tuples(_harm, _harm).map("".join))
"""Names nobody should be able to do anything with."""


def every_kind(name: str = "d") -> list[Event]:
    """An event of every kind, that calls the device, the file and whatever else has a name by this one."""
    unit, worker = name, f"{name}.worker"
    message = Buffer(bytes(72), bytes(72))
    bodies: list[tuple[Any, ...]] = [
        (unit, Kind.ENTER, "write", f"/dev/vhost-{name}", (message, 3, None, "x", Place(0x1000, 8), Named(name))),
        (unit, Kind.OWNER, name, None, name),
        (unit, Kind.MAP, name, 0, 5, 0x1000, 0x1FFF, 0x7000, 3, ((name, 0, 4096),)),
        (unit, Kind.PUSH, name, 0, 1, 0),
        (unit, Kind.REMAP, name, 0, 5, 0x1000, 0x1FFF, 0x7000, 0x8000),
        (unit, Kind.STATUS, name, 0, 15),
        (unit, Kind.KICK, name, 0),
        (unit, Kind.EXIT, "write", f"/dev/vhost-{name}", 72, 0, None),
        (worker, Kind.DMA, name, 0, 0x1000, 20, 2, 5, "va", ((name, 0, 16), ("other", 0, 4))),
        (worker, Kind.MISS, name, 0, 0x2000, 1),
        (worker, Kind.WAKE, name, 0, 0x2000),
        (worker, Kind.SIGNAL, name, 0, "call", 1),
        (unit, Kind.UNMAP, name, 0, 5, 0x1000, 0x1FFF),
        (unit, Kind.FAULT, name, f"kick of {name}", 5),
        (unit, Kind.VIOLATION, "kernel.oops", f"{name} went wrong"),
        (unit, Kind.UNMODELLED, name, name),
        (unit, Kind.ENTER, "read", f"packet-raw:{name}", (Buffer(bytes(60), bytes(60)),)),
        (unit, Kind.EXIT, "read", f"packet-raw:{name}", 60, 0, None),
        (unit, Kind.ENTER, "ioctl", f"/dev/{name}", (0xAF01, 0)),
        (unit, Kind.EXIT, "ioctl", f"/dev/{name}", -1, 22, "vhost.owner"),
        (unit, Kind.ENTER, "poll", name, ()),
        (unit, Kind.OPEN, name, name, name),
        (worker, Kind.SPACE, name, 0, name),
        (worker, Kind.SPACE, name, 0, None),
        (unit, Kind.PIN, name, name, -5, 0),
        (unit, Kind.UNPIN, name, 5, 0x5000, 5),
        (unit, Kind.GONE, "mm", name),
        (unit, Kind.REMOVE, name, 16),
        (unit, Kind.SUSPEND, name, 0, 1),
        (unit, Kind.RING, name, 0, "num", 16),
        (unit, Kind.RING, name, 0, "addr", (0x1000, 0x2000, 0x3000, 0)),
        (unit, Kind.RING, name, 0, "call", name),
        (unit, Kind.RING, name, 0, "call", None),
        (unit, Kind.FEATURES, name, "backend", 6),
        (worker, Kind.USED, name, 0, 0, 1, 0, 1),
        (worker, Kind.USED, name, 0, 1, 2, None, 2),
        (worker, Kind.QUIET, name, 0, "driver"),
        (worker, Kind.IDLE, name, -1, name),
        (unit, Kind.CLEAR, name, 1),
        (worker, Kind.CONFIG, name),
        (unit, Kind.BATCH, name, 0, 1),
        (unit, Kind.IGNORED, name, "asid", 1),
        (worker, Kind.STILL),
        (unit, Kind.MOVED, name, "other"),
    ]
    return [(seq, seq * 1000, *body) for seq, body in enumerate(bodies, 1)]


def trace_text(
    events: Iterable[Event], marks: Iterable[Mark] = (), header: Header = HEADER, *, end: bool = True
) -> str:
    """The file such a run would have left."""
    stream = io.StringIO()
    writer = Writer(stream, header)
    for event in events:
        writer.event(event)
    for mark in marks:
        writer.mark(mark)
    if end:
        writer.finish()
    return stream.getvalue()


def reading_of(text: str) -> Reader:
    """A reader over the text of a file."""
    return Reader(io.StringIO(text), "t")


@cache
def recorded(path: Path, kernel: str, name: str = "") -> str:
    """The trace of a shipped story, as ``vdpasim run --trace`` writes it."""
    (found,) = load([f"{path}::{name}" if name else str(path)])
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run.jsonl"
        run(found, kernel=kernel, record=lambda header: out.open("w", encoding="ascii"))
        return out.read_text("ascii")


def stale() -> str:
    """A run with three findings: a live update that forgot one mapping."""
    return recorded(STALE, "6.12+live-update-v1")


def events_of(text: str) -> list[Event]:
    """The events of a file."""
    return [item.event for item in reading_of(text) if item.event is not None]


def marks_of(text: str) -> list[Mark]:
    """The findings of a file."""
    return [item.mark for item in reading_of(text) if item.mark is not None]


def seqs(text: str, kind: Kind) -> list[int]:
    """The numbers of the events of a kind."""
    return [event[0] for event in events_of(text) if event[3] == kind]


def without_steps(text: str) -> str:
    """The same file from an older version, whose findings name no steps."""
    return re.sub(r',"steps":\[[0-9,]*\]', "", text)
