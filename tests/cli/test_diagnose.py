"""``vdpasim diagnose`` and ``vdpasim trace import`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.trace.qemu_log import Nic
from tests.trace.test_import_qemu import START
from vdpasim.checks.diagnosis.catalogue import CATALOGUE
from vdpasim.cli import cli

ROOT = Path(__file__).parents[2]


def vdpasim(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def recorded(tmp_path: Path, story: str) -> Path:
    path = ROOT / "scenarios" / "live_update" / f"{story}.py"
    vdpasim("run", path, "--kernel", "6.12+live-update-v1", "--trace", tmp_path)
    return tmp_path / f"{story}-6.12+live-update-v1.jsonl"


def test_names_the_mistake_with_its_evidence(tmp_path: Path) -> None:
    done = vdpasim("diagnose", recorded(tmp_path, "unbatched_remap"))
    assert done.exit_code == 1
    first, why, *evidence = done.output.splitlines()
    assert first == f"LU12: {CATALOGUE[12]}"
    assert why.startswith("  REMAP outside of a batch")
    assert evidence
    assert all(line.startswith("    [") for line in evidence)
    assert "REMAP" in evidence[0]


def test_none_that_is_known(tmp_path: Path) -> None:
    done = vdpasim("diagnose", recorded(tmp_path, "batched_remap"))
    assert (done.exit_code, done.output) == (0, "none that is known\n")


def test_as_json(tmp_path: Path) -> None:
    done = vdpasim("diagnose", recorded(tmp_path, "forgotten_remap"), "--json")
    (row,) = json.loads(done.output)
    assert (row["number"], row["title"]) == (4, CATALOGUE[4])
    assert row["evidence"]


def test_a_trace_that_was_cut_short(tmp_path: Path) -> None:
    path = recorded(tmp_path, "forgotten_remap")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:20]))
    assert vdpasim("diagnose", path).output.endswith("cut short: the trace has no last line\n")


def test_lists_the_catalogue_with_what_no_trace_tells() -> None:
    done = vdpasim("diagnose", "--list")
    assert done.exit_code == 0
    assert "LU61  VFIO" in done.output
    assert "      not tellable: no request of VFIO is in these traces" in done.output


@pytest.mark.parametrize("args", [(), ("--list", __file__)])
def test_wants_a_trace_or_the_list(args: tuple[str, ...]) -> None:
    assert vdpasim("diagnose", *args).exit_code == 2


def test_no_trace_is_one_line() -> None:
    done = vdpasim("diagnose", __file__)
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1


class TestImport:
    def test_check_and_diagnose_say_what_was_not_there(self, tmp_path: Path) -> None:
        log, trace = tmp_path / "qemu.log", tmp_path / "qemu.jsonl"
        log.write_text("\n".join([*START, "vhost_vdpa_dma_map garbled"]))
        done = vdpasim("trace", "import", "--from", "qemu-trace", log, "-o", trace)
        assert done.exit_code == 0
        assert "1 vhost_vdpa lines could not be read" in done.output
        checked = vdpasim("check", trace)
        assert checked.exit_code == 0
        assert "was imported and lacks results of calls" in checked.output
        told = vdpasim("diagnose", trace)
        assert told.output.startswith("none that is known\nthe trace was imported and lacks")

    def test_what_a_log_shows_of_the_program_counts(self, tmp_path: Path) -> None:
        log, trace = tmp_path / "qemu.log", tmp_path / "qemu.jsonl"
        nic = Nic().boot().start().stop(q0=17)
        nic.ids[0] = 99
        log.write_text("\n".join(nic.start().log))
        vdpasim("trace", "import", "--from", "qemu-trace", log, "-o", trace)
        checked = vdpasim("check", trace)
        assert checked.exit_code == 1
        assert "vmm.stale-ring-base: vhost-vdpa-fd12 queue 0 goes on from 99" in checked.output
        assert checked.output.endswith("\n1 finding\n")

    def test_a_log_without_events(self, tmp_path: Path) -> None:
        log = tmp_path / "other.log"
        log.write_bytes(b"hello\n\xff\xfe\n")
        assert vdpasim("trace", "import", "--from", "qemu-trace", log, "-o", tmp_path / "out").exit_code == 1

    def test_does_not_overwrite_the_log(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("x")
        assert vdpasim("trace", "import", "--from", "qemu-trace", log, "-o", log).exit_code == 2
