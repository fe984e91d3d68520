"""``vdpasim explore`` as its users call it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from click.testing import CliRunner

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
