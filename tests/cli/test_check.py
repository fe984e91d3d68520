"""``vdpasim check`` as a user types it: the same verdict again, or the difference."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from tests.trace.support import PING, STALE, every_kind, marks_of, recorded, stale, trace_text
from vdpasim.cli.check import RUN_ONLY, command, judge
from vdpasim.core.events import Kind
from vdpasim.scenario.judge import outcome
from vdpasim.sim import Deadlock, Livelock
from vdpasim.trace.file import Mark, Reader

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


def check(path: Path, text: str) -> Result:
    path.write_text(text, encoding="ascii")
    return CliRunner().invoke(command, [str(path)])


def test_a_clean_run_is_clean_again(path: Path) -> None:
    done = check(path, recorded(PING, "7.1", "cable_pulled"))
    assert (done.exit_code, done.output) == (0, "clean, as recorded\n")


def test_findings_are_found_again(path: Path) -> None:
    done = check(path, stale())
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert [line.split()[2] for line in lines[:3]] == ["iotlb.divergence:", "dma.stale-va:", "dma.stale-va:"]
    assert lines[3] == "3 findings, as recorded"


def test_a_finding_nobody_recorded_is_new(path: Path) -> None:
    lines = stale().splitlines(keepends=True)
    (at, gone), *_ = [(at, line) for at, line in enumerate(lines) if '"dma.stale-va"' in line]
    del lines[at]
    done = check(path, "".join(lines).replace('"findings":3', '"findings":2'))
    assert done.exit_code == 1
    seq = json.loads(gone)["seq"]
    assert f"3 findings; the recorded ones differ: 1 new, 0 gone\n  new:  [{seq}] !!! dma.stale-va" in done.output


def test_a_recorded_finding_that_is_not_found_is_gone(path: Path) -> None:
    done = check(path, trace_text([(1, 0, "u", Kind.KICK, "d", 0)], [Mark("dma.fault", "no memory", 1)]))
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "clean; the recorded ones differ: 0 new, 1 gone",
        "  gone: [1] !!! dma.fault: no memory",
    ]


def test_how_a_story_ended_is_taken_over(path: Path) -> None:
    done = check(path, trace_text([(1, 0, "u", Kind.KICK, "d", 0)], [Mark("deadlock", "all wait", 1)]))
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "[1] !!! deadlock: all wait (as recorded; no event shows it)",
        "1 finding, as recorded",
    ]


def test_what_the_simulator_does_not_know_is_a_finding(path: Path) -> None:
    done = check(path, trace_text(every_kind()))
    assert "[16] !!! unmodelled: d: d" in done.output
    assert "[15] !!! kernel.oops: d went wrong" in done.output


def test_a_trace_cut_short_is_judged_as_far_as_it_goes(path: Path) -> None:
    lines = stale().splitlines(keepends=True)
    first = marks_of(stale())[0].seq
    early, late = check(path, "".join(lines[:30])), check(path, "".join(lines[: first + 2]))
    assert early.exit_code == 0
    assert early.output == "cut short: the trace has no last line, and was judged as far as it goes\nclean\n"
    assert late.exit_code == 1
    assert late.output.endswith("\n1 finding\n")
    killed = check(path, "".join(lines[: first + 2]) + lines[first + 2][:20])
    assert (killed.exit_code, killed.output) == (late.exit_code, late.output), "as if the last line were not there"


@pytest.mark.parametrize("text", ["", "{", "\x00", trace_text(every_kind())[:900] + "\n"])
def test_what_is_no_trace_is_one_line(text: str, path: Path) -> None:
    done = check(path, text)
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
    assert done.output.startswith("Error: run.jsonl:")


def test_how_stories_end_is_known() -> None:
    errors = [AssertionError(), Deadlock("a"), Livelock("a"), OSError(), ValueError()]
    assert {outcome(error)[0] for error in errors} | {"fault.unfired"} == RUN_ONLY


def test_another_kernel_is_judged_alike() -> None:
    again, found = judge(Reader(io.StringIO(recorded(STALE, "6.12+live-update-v2+lu-advertise"))))
    assert again == found
    assert again
