"""A trace as text: the header, the lines, the findings behind them."""

from __future__ import annotations

import io

import attrs
from hypothesis import given

from tests.trace.support import HEADER, every_kind, hostile, reading_of, stale, trace_text
from vdpasim.trace.export_strace import export, head, lines, told
from vdpasim.trace.file import Header, Mark


def test_the_header_is_comments_without_what_is_empty() -> None:
    assert head(HEADER) == [
        "scenario: stories/a.py::a",
        "kernel: 7.1",
        "abi: x86_64",
        "seed: 7",
        "rerun: vdpasim run stories/a.py::a",
        "program: vdpasim 0",
    ]
    assert head(Header("tip", options={"faults": ["kick"]}))[-1] == 'faults: ["kick"]'


def test_calls_are_lines_when_they_return_and_findings_stand_behind() -> None:
    shown = list(lines(reading_of(stale())))
    assert "# kernel: 6.12+live-update-v1" in shown
    assert any("ioctl(/dev/vhost-vdpa-0, VHOST_NEW_OWNER" in line for line in shown)
    assert any("REMAP iova=0x109000" in line for line in shown)
    assert [line.split()[2] for line in shown[-3:]] == ["iotlb.divergence:", "dma.stale-va:", "dma.stale-va:"]


def test_calls_that_never_returned_and_a_missing_end_are_told() -> None:
    shown = list(lines(reading_of(trace_text(every_kind(), end=False))))
    assert shown[-2:] == ["[21] 21000 d: poll(d) = ?", "# cut short: the trace has no last line"]


def test_a_finding_names_its_steps() -> None:
    assert told(Mark("a.b", "c", 9, (1, 9))) == "[9] !!! a.b: c (steps 1, 9)"


@given(hostile)
def test_no_name_prints_anything_but_characters(name: str) -> None:
    out = io.StringIO()
    header = attrs.evolve(HEADER, scenario=f"a{name}")
    export(reading_of(trace_text(every_kind(name), [Mark(name, name, 1)], header)), out)
    shown = out.getvalue().split("\n")
    assert all(line.isprintable() for line in shown)
    plain = lines(reading_of(trace_text(every_kind(), [Mark("a", "b", 1)])))
    assert len(shown) == len(list(plain)) + 1
