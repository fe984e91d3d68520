"""``vdpasim trace`` as a user types it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import dpkt
import pytest
from click.testing import CliRunner, Result

from tests.trace.support import TAP, every_kind, recorded, seqs, stale, trace_text
from vdpasim.cli.trace import FORMATS, command
from vdpasim.core.events import Kind

if TYPE_CHECKING:
    from pathlib import Path


def trace(*args: object) -> Result:
    return CliRunner().invoke(command, [str(arg) for arg in args])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A recorded run with findings."""
    path = tmp_path / "run.jsonl"
    path.write_text(stale(), encoding="ascii")
    return path


class TestShow:
    def test_prints_calls_as_strace_does(self, run: Path) -> None:
        shown = trace("show", run)
        assert shown.exit_code == 0
        assert "# kernel: 6.12+live-update-v1" in shown.output
        assert "vmm: ioctl(/dev/vhost-vdpa-0, VHOST_NEW_OWNER, 0x0) = 0" in shown.output

    def test_selects(self, run: Path) -> None:
        assert len(trace("show", run, "--grep", "REMAP iova").output.splitlines()) == 2
        last = trace("show", run, "--last", 3).output.splitlines()
        assert [line.split()[1] for line in last] == ["!!!"] * 3
        assert trace("show", run, "--grep", "(").exit_code == 2

    def test_a_reader_that_has_enough_is_no_error(self, run: Path) -> None:
        program = "from vdpasim.cli import main; main()"
        words = [sys.executable, "-c", program, "trace", "show", str(run)]
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
        os.close(write)
        assert (done.returncode, done.stderr) == (0, "")


class TestDiff:
    def test_equal_runs_are_the_same(self, run: Path) -> None:
        shown = trace("diff", run, run, "--exact")
        assert (shown.exit_code, shown.output) == (0, "the events are the same\n")

    def test_names_the_first_difference(self, run: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.jsonl"
        other.write_text(stale().replace('"length":512,"access":2', '"length":511,"access":2'), encoding="ascii")
        shown = trace("diff", run, other)
        assert shown.exit_code == 1
        lines = shown.output.splitlines()
        assert lines[0].startswith("first difference in line ")
        assert "length=512" in lines[1]
        assert "length=511" in lines[2]

    def test_tells_how_headers_differ(self, run: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.jsonl"
        other.write_text(stale().replace('"seed":0', '"seed":1'), encoding="ascii")
        assert trace("diff", run, other).output == "header: seed: 0 | 1\nthe events are the same\n"

    def test_says_which_side_has_ended(self, run: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.jsonl"
        lines = stale().splitlines(keepends=True)[: seqs(stale(), Kind.EXIT)[12] + 1]
        other.write_text("".join(lines), encoding="ascii")
        assert "  b: (has ended)" in trace("diff", run, other).output


class TestExport:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_writes_a_file(self, kind: str, run: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        done = trace("export", run, "--to", kind, "-o", out)
        assert done.exit_code == 0, done.output
        data = out.read_bytes()
        if kind == "pcapng":
            assert len(list(dpkt.pcapng.Reader(io.BytesIO(data)))) == 4
            assert "4 messages, 0 Ethernet frames (only the far end of a tap has frames)" in done.output
        elif kind == "chrome":
            assert json.loads(data)["traceEvents"]
        elif kind == "jsonl":
            assert all(json.loads(line) for line in data.splitlines())
        else:
            assert data.decode() == trace("show", run).output

    def test_writes_to_stdout(self, run: Path) -> None:
        assert json.loads(trace("export", run, "--to", "chrome").output)["displayTimeUnit"] == "ns"

    def test_counts_frames(self, tmp_path: Path) -> None:
        path = tmp_path / "run.jsonl"
        path.write_text(recorded(TAP, "7.1", "vhost_net_misses"), encoding="ascii")
        assert "7 messages, 1 Ethernet frames\n" in trace("export", path, "--to", "pcapng", "-o", tmp_path / "o").output

    def test_the_trace_itself_is_not_written_over(self, run: Path) -> None:
        assert trace("export", run, "--to", "chrome", "-o", run).exit_code == 2
        assert run.read_text("ascii") == stale()

    def test_an_unknown_format_and_an_output_that_cannot_be(self, run: Path, tmp_path: Path) -> None:
        assert trace("export", run, "--to", "svg").exit_code == 2
        done = trace("export", run, "--to", "chrome", "-o", tmp_path / "none" / "out")
        assert done.exit_code == 2
        assert "No such file" in done.output


@pytest.mark.parametrize("words", [["show"], ["diff"], ["export", "--to", "chrome"], ["export", "--to", "pcapng"]])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "bad:1: not a trace: the first line of one says format vdpasim-trace"),
        (b"\x7fELF\xff", "bad:1: not text"),
        (b"{" * 100_000, "bad:1: no JSON"),
        (trace_text(every_kind()).encode()[:2000] + b"\n", "no JSON"),
        (trace_text(every_kind()).replace('"queue":0', '"queue":"x"').encode(), "queue is no number"),
    ],
    ids=["empty", "binary", "huge", "truncated", "wrong"],
)
def test_what_is_no_trace_is_one_line(words: list[str], data: bytes, said: str, run: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(data)
    out = ["-o", tmp_path / "out"] if words[0] == "export" else [run] if words == ["diff"] else []
    done = trace(words[0], bad, *words[1:], *out)
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    (line,) = (line for line in done.output.splitlines() if line.startswith("Error"))
    assert said in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert trace("show", tmp_path / "none").exit_code == 2


def test_hostile_names_stay_on_their_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(trace_text(every_kind("\x1b[31m\r\n\u2028\u202e")), encoding="ascii")
    shown = trace("show", path).output
    assert all(line.isprintable() for line in shown.split("\n"))
