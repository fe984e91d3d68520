"""A trace for Perfetto: the shape always, and Perfetto's own trace processor where it is installed."""

from __future__ import annotations

import io
import json
import os
import shutil
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given

from tests.trace.support import PING, every_kind, hostile, reading_of, recorded, stale, trace_text
from vdpasim.core.events import Event, Kind
from vdpasim.trace.export_chrome import FINDINGS, PLACES, UNITS, export
from vdpasim.trace.file import Mark

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("trace_processor_shell", "trace_processor")
PROCESSOR = os.environ.get("TRACE_PROCESSOR") or next(filter(None, map(shutil.which, NAMES)), None)


def exported(text: str, clock: Literal["sequence", "time"] = "sequence") -> dict[str, Any]:
    out = io.StringIO()
    export(reading_of(text), out, clock)
    found: dict[str, Any] = json.loads(out.getvalue())
    check(found["traceEvents"])
    return found


def check(rows: list[dict[str, Any]]) -> None:
    """What the trace event format asks for: known phases, numbers that are exact, named lanes, slices that nest."""
    lanes = {(row["pid"], row["tid"]) for row in rows if row["ph"] == "M" and row["name"] == "thread_name"}
    slices: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for row in rows:
        assert row["ph"] in "MXi"
        assert row["pid"] in (UNITS, PLACES, FINDINGS)
        if row["ph"] == "M":
            continue
        assert (row["pid"], row["tid"]) in lanes
        assert row.get("s", "t") == "t", "Perfetto puts an instant of wider scope on a track without a name"
        assert 0 <= row["ts"] < 1 << 53
        if row["ph"] == "X":
            assert row["dur"] >= 0
            slices.setdefault((row["pid"], row["tid"]), []).append((row["ts"], row["ts"] + row["dur"]))
        numbers = [value for value in row["args"].values() if isinstance(value, int)]
        assert all(abs(value) < 1 << 53 for value in numbers), "JavaScript would round it"
    for lane in slices.values():
        lane.sort()
        assert all(first[1] <= second[0] for first, second in pairwise(lane))


def names(found: dict[str, Any], phase: str) -> list[str]:
    return [row["name"] for row in found["traceEvents"] if row["ph"] == phase]


def test_calls_are_slices_and_the_rest_is_instants() -> None:
    found = exported(stale())
    assert found["otherData"]["kernel"] == "6.12+live-update-v1"
    assert "VHOST_NEW_OWNER" in names(found, "X")
    assert {"DMA", "REMAP", "KICK", "dma.stale-va", "iotlb.divergence"} <= set(names(found, "i"))
    lanes = {row["args"]["name"] for row in found["traceEvents"] if row["name"] == "thread_name"}
    assert lanes == {"vmm", "the machine", "vhost-vdpa-0", "vhost-vdpa-0 queue 0", "disk queue 0", "findings"}


def test_a_dma_has_its_place_and_its_line() -> None:
    (row,) = (row for row in exported(trace_text(every_kind()))["traceEvents"] if row["name"] == "DMA")
    assert row["args"]["place"] == ["d+0x0:16", "other+0x0:4"]
    assert row["args"]["iova"] == "0x1000"
    assert "dma device=d queue=0" in row["args"]["line"]


def test_the_addresses_of_a_ring_are_text() -> None:
    rows = [row["args"] for row in exported(trace_text(every_kind()))["traceEvents"] if row["name"] == "RING"]
    assert ["0x1000", "0x2000", "0x3000", "0x0"] in [row["value"] for row in rows]


def test_calls_that_overlap_have_lanes_of_their_own() -> None:
    events: list[Event] = [
        (1, 0, "u", Kind.ENTER, "read", "a", ()),
        (2, 0, "u", Kind.ENTER, "read", "b", ()),
        (3, 0, "u", Kind.EXIT, "read", "a", 0, 0, None),
        (4, 0, "u", Kind.ENTER, "read", "c", ()),
        (5, 0, "u", Kind.EXIT, "read", "b", 0, 0, None),
    ]
    found = exported(trace_text(events))
    slices = {row["args"]["call"]: row["tid"] for row in found["traceEvents"] if row["ph"] == "X"}
    assert len(slices) == 3
    assert slices["read(a) = 0"] == slices["read(c) has not returned"] != slices["read(b) = 0"]


def test_the_axis_may_be_virtual_time() -> None:
    found = exported(trace_text(every_kind()), "time")
    assert {row["ts"] for row in found["traceEvents"] if row["name"] == "DMA"} == {9}
    assert {row["args"]["time_ns"] for row in found["traceEvents"] if row["name"] == "DMA"} == {9000}


@given(hostile)
def test_names_are_text_in_json(name: str) -> None:
    found = exported(trace_text(every_kind(name), [Mark(name, name, 3)]))
    shown = json.dumps(found, ensure_ascii=False)
    assert shown.isprintable()
    assert len(names(found, "i")) == len(every_kind()) - 7 + 1


@pytest.mark.skipif(find_spec("perfetto") is None, reason="the perfetto package is not installed")
@pytest.mark.skipif(PROCESSOR is None, reason="no trace_processor_shell in PATH, none named by TRACE_PROCESSOR")
class TestPerfetto:
    def ask(self, path: Path, query: str) -> list[Any]:
        perfetto = import_module("perfetto.trace_processor")
        config = perfetto.TraceProcessorConfig(bin_path=PROCESSOR)
        with perfetto.TraceProcessor(trace=str(path), config=config) as processor:
            return list(processor.query(query))

    @pytest.mark.parametrize("which", ["findings", "thousands", "hostile"])
    def test_loads_all_of_it(self, which: str, tmp_path: Path) -> None:
        if which == "findings":
            text = stale()
        else:
            text = recorded(PING, "7.1", "both_formats") if which == "thousands" else trace_text(every_kind("</b>'"))
        path = tmp_path / "a.json"
        with path.open("w", encoding="utf-8") as stream:
            export(reading_of(text), stream)
        rows = exported(text)["traceEvents"]
        (slices,) = self.ask(path, "select count(*) as n from slice")
        assert slices.n == sum(row["ph"] in "Xi" for row in rows)
        errors = self.ask(path, "select name, value from stats where severity = 'error' and value > 0")
        assert [(row.name, row.value) for row in errors] == []
