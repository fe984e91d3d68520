"""Shrinking: fewer actors, switches and steps, and the same failure; what comes out is a scenario that runs."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tests.explore.bodies import race, three_with_an_idle_one, two_writers
from vdpasim.explore import Target, explore
from vdpasim.explore.campaign import Plan
from vdpasim.explore.execute import execute
from vdpasim.explore.shrink import scenario_file, shrink
from vdpasim.explore.strategy_pct import First
from vdpasim.scenario.loader import load
from vdpasim.scenario.runner import run
from vdpasim.sim.errors import UsageError


@pytest.mark.parametrize("name", ["read_update", "kick_suspend", "invalidate_update", "close_write"])
def test_a_race_becomes_small_and_runs(name: str, tmp_path: Path) -> None:
    target = race(name)
    failure = Plan(target, "random", 64).run().failures[0]
    small = shrink(target, failure.schedule)
    assert small.outcome.ids == failure.ids
    assert small.schedule.switches <= 3
    out = tmp_path / "small.py"
    out.write_text(scenario_file(target, small, out), "utf-8")
    (verdict,) = run(load([out])[0])
    assert verdict.passed, verdict.line


def test_a_file_for_stdout_names_the_story_absolutely(tmp_path: Path) -> None:
    target = race("read_update")
    small = shrink(target, Plan(target, "random", 64).run().failures[0].schedule)
    out = tmp_path / "elsewhere.py"
    out.write_text(scenario_file(target, small, None), "utf-8")
    assert all(verdict.passed for verdict in run(load([out])[0]))


def test_actors_that_do_not_matter_are_left_out() -> None:
    target = Target("body", three_with_an_idle_one)
    failure = explore(three_with_an_idle_one, strategy="random", schedules=300).failures[0]
    small = shrink(target, failure.schedule)
    assert small.schedule.without == {"0.0"}
    assert small.outcome.ids == failure.ids


def test_an_actor_stays_without_whom_the_story_fails_in_any_order() -> None:
    target = race("kick_suspend")
    small = shrink(target, Plan(target, "random", 64).run().failures[0].schedule)
    assert not small.schedule.without
    assert small.schedule.switches


def test_a_schedule_that_does_not_fail_is_refused() -> None:
    target = Target("body", two_writers)
    with pytest.raises(UsageError, match="does not fail"):
        shrink(target, execute(target, First()).schedule)


def test_quotes_in_names_do_not_break_the_file(tmp_path: Path) -> None:
    target = race("read_update")
    small = shrink(target, Plan(target, "random", 64).run().failures[0].schedule)
    source = tmp_path / 'it"s' / "a'b.py"
    source.parent.mkdir()
    source.write_text(Path(target.ident.partition("::")[0]).read_text("utf-8"), "utf-8")
    moved = attrs.evolve(target, ident=f"{source}::read_update")
    for out in (tmp_path / "small.py", None):
        file = tmp_path / "small.py"
        file.write_text(scenario_file(moved, small, out), "utf-8")
        assert all(verdict.passed for verdict in run(load([file])[0]))
