"""Schedule strings: short, versioned, and loud when they do not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.explore.schedule import Follower, ReplayDivergence, Schedule, fingerprint, trimmed
from vdpasim.sim.errors import UsageError

LABELS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=2, max_size=4)
STEP = LABELS.flatmap(lambda labels: st.tuples(st.just(labels), st.integers(0, len(labels) - 1)))
RUNS = st.lists(STEP, max_size=200)


def written(run: list[tuple[list[str], int]]) -> Schedule:
    return Schedule.of([choice for _, choice in run], [fingerprint(*step) for step in run])


def play(schedule: Schedule, run: list[tuple[list[str], int]]) -> list[int]:
    follower = Follower(schedule)
    chosen = [follower.choose(labels) for labels, _ in run]
    follower.finish()
    return chosen


@given(st.lists(st.integers(0, 80)))
def test_what_is_printed_is_read(choices: list[int]) -> None:
    schedule = Schedule.of(choices, list(range(len(choices))), frozenset({"0.1"}))
    assert Schedule.parse(str(schedule)) == schedule
    assert schedule.choices == trimmed(choices)


def test_it_is_short() -> None:
    choices = [0] * 12 + [1] + [0] * 3 + [2] + [0] * 900
    text = str(Schedule.of(choices, list(range(len(choices)))))
    assert text.startswith("s1-12a3b-12.")
    assert len(text) < 100


@pytest.mark.parametrize("text", ["", "s1", "s2-a-1.", "v1:7:abc", "s1-3-1.a", "s1-a-0.b", "s1-a-1.B"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no schedule"):
        Schedule.parse(text)


@given(RUNS)
def test_it_plays_the_run_it_was_written_from(run: list[tuple[list[str], int]]) -> None:
    assert play(written(run), run) == [choice for _, choice in run]


def test_the_first_step_that_is_different_is_named() -> None:
    run = [(["a at one", "b at two"], 0)] * 5
    other = [*run[:3], (["a at one", "c at three"], 0), run[4]]
    with pytest.raises(ReplayDivergence, match=r"step 4 with a choice .* ready are a at one; c at three"):
        play(written(run), other)


def test_a_run_that_ends_too_early_or_too_late_diverges() -> None:
    run = [(["a", "b"], 1)] * 3
    with pytest.raises(ReplayDivergence, match="the run is over"):
        play(written(run), run[:2])
    with pytest.raises(ReplayDivergence, match="no choice any more"):
        play(written(run), [*run, (["a", "b"], 0)])


def test_a_choice_beyond_what_is_ready_diverges() -> None:
    with pytest.raises(ReplayDivergence, match="number 3"):
        Follower(Schedule((2,), 1, "a")).choose(["a", "b"])


def test_without_letters_it_fits_no_run_with_a_choice() -> None:
    with pytest.raises(ReplayDivergence, match="no choice any more"):
        play(Schedule.parse("s1--1."), [(["a", "b"], 0)])
    with pytest.raises(ReplayDivergence, match="the run is over"):
        play(Schedule.parse("s1--9."), [(["a", "b"], 0)])
    assert play(Schedule.parse("s1--1."), []) == []
