"""Anything a file may hold, through everything that reads one: an answer, or one line that says what is wrong."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trace.support import every_kind, reading_of, stale, trace_text
from vdpasim.cli.check import judge
from vdpasim.report.page import page
from vdpasim.trace import export_chrome, export_jsonl, export_pcapng, export_strace
from vdpasim.trace.diff import compare
from vdpasim.trace.file import Mark, TraceFormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.trace.file import Reader

READERS: dict[str, Callable[[Reader], object]] = {
    "show": lambda reader: list(export_strace.lines(reader)),
    "chrome": lambda reader: export_chrome.export(reader, io.StringIO()),
    "pcapng": lambda reader: export_pcapng.export(reader, io.BytesIO()),
    "jsonl": lambda reader: export_jsonl.export(reader, io.StringIO()),
    "diff": lambda reader: compare(reader, reading_of(stale())),
    "report": page,
    "check": judge,
}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def said(text: str) -> dict[str, str]:
    """What every reader says of a text, nothing where it read it to the end."""
    complaints: dict[str, str] = {}
    for name, use in READERS.items():
        try:
            use(reading_of(text))
        except TraceFormatError as error:
            complaints[name] = str(error)
    return complaints


@settings(max_examples=200)
@given(st.data())
def test_a_value_that_is_another_one(data: st.DataObject) -> None:
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in trace_text(every_kind(), [Mark("a.b", "c", 9, (3, 9))]).splitlines()
    ]
    row = data.draw(st.sampled_from(rows))
    name = data.draw(st.sampled_from(sorted(row)))
    where: Any = row
    if row[name] and isinstance(row[name], list) and data.draw(st.booleans()):
        where, name = row[name], data.draw(st.integers(0, len(row[name]) - 1))
        if isinstance(where[name], list):
            where, name = where[name], data.draw(st.integers(0, len(where[name]) - 1))
    where[name] = data.draw(VALUES)
    complaints = said("".join(json.dumps(row) + "\n" for row in rows))
    assert len(complaints) in (0, len(READERS)), "all agree whether it is a trace"
    assert all("\n" not in text and len(text) < 300 for text in complaints.values())


@given(st.data())
def test_lines_left_out_twice_there_or_in_another_order(data: st.DataObject) -> None:
    lines = trace_text(every_kind(), [Mark("a.b", "c", 9)], end=False).splitlines(keepends=True)
    body = data.draw(st.lists(st.sampled_from(lines[1:]), max_size=12))
    complaints = said("".join([lines[0], *body]))
    assert len(complaints) in (0, len(READERS))


@given(st.lists(st.sampled_from(range(1, 60)), unique=True, max_size=30).map(sorted))
def test_any_part_of_a_run(kept: list[int]) -> None:
    lines = stale().splitlines(keepends=True)
    complaints = said("".join([lines[0], *(lines[number] for number in kept)]))
    assert len(complaints) in (0, len(READERS))
