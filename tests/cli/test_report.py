"""``vdpasim report`` as a user types it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from tests.trace.support import events_of, stale
from vdpasim.cli.report import command

if TYPE_CHECKING:
    from pathlib import Path


def report(*args: object) -> Result:
    return CliRunner().invoke(command, [str(arg) for arg in args])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    path.write_text(stale(), encoding="ascii")
    return path


def test_writes_one_page(run: Path, tmp_path: Path) -> None:
    done = report(run, "-o", tmp_path / "run.html")
    assert done.exit_code == 0
    assert done.output.startswith(f"{tmp_path / 'run.html'}: ")
    page = (tmp_path / "run.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.html", "run.jsonl"]


def test_the_limit_counts_from_the_end(run: Path, tmp_path: Path) -> None:
    assert report(run, "-o", tmp_path / "a.html", "--limit", 5).exit_code == 0
    assert f'"left":{len(events_of(stale())) - 5}' in (tmp_path / "a.html").read_text("utf-8")
    assert report(run, "-o", tmp_path / "a.html", "--limit", 0).exit_code == 2


def test_the_trace_itself_is_not_written_over(run: Path) -> None:
    assert report(run, "-o", run).exit_code == 2
    assert run.read_text("ascii") == stale()


def test_what_is_no_trace_leaves_no_page(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\x00")
    done = report(tmp_path / "a", "-o", tmp_path / "a.html")
    assert (done.exit_code, done.output) == (2, "Error: a:1: not text\n")
    assert not (tmp_path / "a.html").exists()


def test_a_page_that_cannot_be_written_is_one_line(run: Path, tmp_path: Path) -> None:
    done = report(run, "-o", tmp_path / "none" / "a.html")
    assert done.exit_code == 2
    assert "No such file" in done.output
