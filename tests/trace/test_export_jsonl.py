"""A trace as JSON lines for other programs: a trace again, with its text."""

from __future__ import annotations

import io
import json

from hypothesis import given

from tests.trace.support import every_kind, hostile, reading_of, stale, trace_text
from vdpasim.core.events import Kind
from vdpasim.trace.export_jsonl import export
from vdpasim.trace.export_strace import lines
from vdpasim.trace.file import Mark


def exported(text: str) -> str:
    out = io.StringIO()
    export(reading_of(text), out)
    return out.getvalue()


def test_it_is_the_trace_with_the_text_of_each_line() -> None:
    rows = [json.loads(line) for line in exported(stale()).splitlines()]
    texts = [row["text"] for row in rows if "kind" in row and "text" in row]
    assert texts == [line for line in lines(reading_of(stale())) if line[0] == "[" and "!!!" not in line]
    for row in rows:
        if "kind" in row:
            row.pop("text", None)
    assert rows == [json.loads(line) for line in stale().splitlines()]


def test_it_is_a_trace_again() -> None:
    again = reading_of(exported(trace_text(every_kind(), [Mark("a.b", "c", 1)])))
    assert [item.event for item in again if item.event] == every_kind()
    assert again.complete


def test_a_violation_keeps_its_own_text() -> None:
    rows = [json.loads(line) for line in exported(trace_text(every_kind())).splitlines()]
    (row,) = (row for row in rows if row.get("kind") == Kind.VIOLATION.name)
    assert row["text"] == "d went wrong"


def test_what_was_cut_short_stays_so() -> None:
    assert '"end"' not in exported(trace_text(every_kind(), end=False))


@given(hostile)
def test_every_line_is_ascii_and_json(name: str) -> None:
    text = exported(trace_text(every_kind(name)))
    assert text.isascii()
    assert len([json.loads(line) for line in text.splitlines()]) == len(every_kind()) + 2
