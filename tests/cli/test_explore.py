"""``vdpasim explore`` as its users call it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.explore.bodies import written
from vdpasim.cli import explore

if TYPE_CHECKING:
    from click.testing import Result

RACES = Path(__file__).parents[2] / "scenarios" / "races"
RACE, FIXED = (f"{RACES}/close_write.py::close_write{tail}" for tail in ("", "_fixed"))


def tell(*words: str) -> Result:
    return CliRunner().invoke(explore.command, list(words))


def test_a_fixed_story_is_complete() -> None:
    shown = tell(FIXED)
    assert shown.exit_code == 0
    assert re.search(r"complete: \d+ schedules \(\d+ more broken off", shown.output)
    assert shown.stderr == "", "no progress where nobody looks"


def test_a_race_prints_a_string_and_the_command_that_replays_it() -> None:
    shown = tell(RACE, "--strategy", "random", "-j", "2")
    assert shown.exit_code == 1
    assert "kernel.oops" in shown.output
    (line,) = re.findall(r"rerun: vdpasim explore (.*)", shown.output)
    again = tell(*line.split())
    assert again.exit_code == 1
    assert "kernel.oops" in again.output
    assert "UPDATE" in again.output


def test_a_string_of_another_story_exits_4() -> None:
    shown = tell(FIXED, "--replay", "s1-1a1baa1a-1.m2va2iggn")
    assert shown.exit_code == 4
    assert "step 1 with a choice is another one" in shown.output


def test_mistakes_are_usage_errors(tmp_path: Path) -> None:
    for words in (
        [str(RACES / "none.py")],
        [RACE, "--kernel", "9.9"],
        [RACE, "--replay", "hello"],
        [str(RACES), "--resume", str(tmp_path / "state")],
        [RACE, "--strategy", "lucky"],
        [RACE, "--strategy", "random", "--depth", "3"],
        [RACE, "--depth", "3"],
        [RACE, "--strategy", "pct", "--preemptions", "1"],
    ):
        assert tell(*words).exit_code == 2, words


def test_a_failed_self_check_is_no_failed_schedule(tmp_path: Path) -> None:
    file = tmp_path / "moody.py"
    file.write_text(
        "from vdpasim.scenario import scenario\nruns = []\n\n@scenario()\nasync def moody(sim):\n"
        '    """Counts."""\n    runs.append(1)\n    return len(runs)\n',
        "utf-8",
    )
    shown = tell(str(file))
    assert shown.exit_code == 2
    assert "run twice with the same schedule" in shown.stderr


VDPASIM = [sys.executable, "-c", "from vdpasim.cli import main; main()"]


def elsewhere(*words: str) -> subprocess.CompletedProcess[str]:
    """In a process that has heard of no series."""
    return subprocess.run([*VDPASIM, *words], capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("registry")
def test_a_series_of_a_file_is_explored_here(tmp_path: Path) -> None:
    story, posted, mended = written(tmp_path)
    assert tell(story, "--series", mended).exit_code == 0
    shown = tell(story, "--series", posted)
    assert shown.exit_code == 1
    assert "on 6.12+as-posted+lu-advertise: " in shown.output
    assert "iotlb.divergence" in shown.output


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_command_that_replays_names_the_series_and_other_processes_load_it(jobs: str, tmp_path: Path) -> None:
    story, posted, mended = written(tmp_path)
    shown = elsewhere("explore", story, "--series", posted, "-j", jobs)
    assert shown.returncode == 1, shown.stdout + shown.stderr
    (line,) = re.findall(r"rerun: vdpasim (.*)", shown.stdout)
    assert f"--kernel 6.12+as-posted+lu-advertise --series {shlex.quote(posted)} --replay " in line
    again = elsewhere(*shlex.split(line))
    assert again.returncode == 1, again.stdout + again.stderr
    assert f"rerun: vdpasim {line}" in again.stdout
    assert elsewhere("explore", story, "--series", mended, "-j", jobs).returncode == 0


@pytest.mark.usefixtures("registry")
def test_mistakes_with_series(tmp_path: Path) -> None:
    story, *_ = written(tmp_path)
    shown = tell(story, "--series", "nothing")
    assert shown.exit_code == 2
    assert "neither a series nor a file" in " ".join(shown.output.split())


def test_a_campaign_says_what_it_rests_on(tmp_path: Path) -> None:
    file = tmp_path / "resting.py"
    file.write_text(
        "from vdpasim.scenario import scenario\n\n@scenario(faults='VHOST_SET_OWNER:1:drop')\nasync def resting(sim):\n"
        '    """A fault."""\n    file = await sim.process("vmm").open("/dev/vhost-net")\n'
        "    await file.ioctl(0xAF01)\n    assert sim.faults.unfired\n",
        "utf-8",
    )
    shown = tell(str(file))
    told = "  rests on what no kernel confirms: vdpasim's own: fault.injected\n"
    assert told in shown.output
    (schedule,) = re.findall(r"failed: (\S+)", shown.output)
    assert told in tell(str(file), "--replay", schedule).output
    assert "rests on" not in tell(FIXED).output
