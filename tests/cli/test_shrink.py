"""``vdpasim shrink`` as its users call it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.cli.test_explore import elsewhere
from tests.explore.bodies import written
from vdpasim.cli import explore, run, shrink

if TYPE_CHECKING:
    from click.testing import Result

RACE = f"{Path(__file__).parents[2]}/scenarios/races/read_update.py::read_update"


def tell(*words: str) -> Result:
    return CliRunner().invoke(shrink.command, list(words))


def failing() -> str:
    shown = CliRunner().invoke(explore.command, [RACE, "--strategy", "random"]).output
    return str(re.findall(r"failed: (\S+)", shown)[0])


def test_what_comes_out_is_a_scenario_that_runs(tmp_path: Path) -> None:
    out = tmp_path / "small.py"
    schedule = failing()
    shown = tell(RACE, "--schedule", schedule, "-o", str(out))
    assert shown.exit_code == 0, shown.output
    assert "preemptions" in shown.stdout
    assert CliRunner().invoke(run.command, [str(out)]).exit_code == 0
    printed = tell(RACE, "--schedule", schedule)
    assert "@scenario(" in printed.stdout
    assert "preemptions" in printed.stderr


def test_mistakes() -> None:
    assert tell(RACE, "--schedule", "hello").exit_code == 2
    assert tell(RACE.partition("::")[0], "--schedule", "s1--1.").exit_code == 2
    assert tell(RACE, "--schedule", "s1-9zb-1.aaaaaaaaaa").exit_code == 4


def test_the_scenario_itself_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "race.py"
    text = Path(RACE.partition("::")[0]).read_text("utf-8")
    file.write_text(text, "utf-8")
    shown = tell(f"{file}::read_update", "--schedule", "s1--1.", "-o", str(tmp_path / "." / "race.py"))
    assert shown.exit_code == 2
    assert "is the scenario itself" in shown.output
    assert file.read_text("utf-8") == text


@pytest.mark.usefixtures("registry")
def test_under_a_series_of_a_file_what_comes_out_loads_it_itself(tmp_path: Path) -> None:
    story, posted, mended = written(tmp_path)
    schedule = "s1--1."
    for flags in ([], ["-o", str(tmp_path / "small.py")]):
        shown = tell(story, "--schedule", schedule, "--series", posted, *flags)
        assert shown.exit_code == 0, shown.output
        if not flags:
            (tmp_path / "small.py").write_text(shown.stdout, "utf-8")
        played = elsewhere("run", str(tmp_path / "small.py"))
        assert played.returncode == 0, played.stdout + played.stderr
        assert "6.12+as-posted+lu-advertise  iotlb.divergence" in played.stdout
    assert tell(story, "--schedule", schedule, "--series", mended).exit_code == 2, "it does not fail there"
    named = tell(story, "--schedule", schedule, "--series", "live-update-v1")
    assert "series_name" not in named.stdout
