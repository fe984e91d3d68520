"""Replaying files on the simulator: one verdict a line, selection, accepted differences."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.conform.replay import Selection, Verdict, judge, replay, trace_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vdpasim.conform.cases import Case

    Step = Callable[..., dict[str, Any]]
    Make = Callable[..., Case]


def eventfd_case(name: str, value: int, **keys: Any) -> str:
    steps = [
        {"op": "eventfd", "fd": "e", "init": 0, "ret": 0, "errno": 0},
        {"op": "eventfd_write", "fd": "e", "value": 3, "ret": 8, "errno": 0},
        {"op": "eventfd_read", "fd": "e", "timeout_ms": 0, "ret": 8, "errno": 0, "value": value},
        {"op": "sleep", "ms": 1, "ret": 0, "errno": 0},
    ]
    data = {"case": name, "topic": "misc", "dev": "vhost-net", "kernel": "6.12.117", "steps": steps, **keys}
    return json.dumps(data) + "\n"


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "6.12"
    folder.mkdir()
    quiet = {"steps": [{"op": "sleep", "ms": 1, "ret": 0, "errno": 0}], "topic": "other"}
    lines = [eventfd_case("right", 3), eventfd_case("wrong", 4), "nonsense\n", eventfd_case("quiet", 0, **quiet)]
    (folder / "misc.jsonl").write_text("".join(lines))
    return folder


def outcomes(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.name: verdict.outcome for verdict in verdicts}


class TestReplay:
    def test_every_line_gets_a_verdict(self, traces: Path) -> None:
        verdicts = list(replay([traces], Selection(), None, {}))
        assert outcomes(verdicts) == {"right": "agrees", "wrong": "differs", "": "unreadable", "quiet": "agrees"}
        assert {verdict.set for verdict in verdicts} == {"6.12"}

    def test_a_difference_is_the_first_one_and_the_rest_is_not_run(self, traces: Path) -> None:
        wrong = next(v for v in replay([traces], Selection(), None, {}) if v.name == "wrong")
        assert wrong.difference is not None
        assert (wrong.difference.number, wrong.difference.differing) == (3, ["value"])
        assert len(wrong.trail) == 3

    @pytest.mark.parametrize(
        ("selection", "run"),
        [
            (Selection(data_path=False), {"quiet"}),
            (Selection(topics=frozenset({"other"})), {"quiet"}),
            (Selection(names=frozenset({"right"})), {"right"}),
        ],
    )
    def test_what_is_not_selected_is_counted(self, traces: Path, selection: Selection, run: set[str]) -> None:
        verdicts = outcomes(list(replay([traces], selection, None, {})))
        assert {name for name, outcome in verdicts.items() if outcome in ("agrees", "differs")} == run
        assert len(verdicts) == 4

    def test_an_accepted_difference_is_listed_with_its_reason(self, traces: Path) -> None:
        verdicts = list(replay([traces], Selection(), None, {("6.12", "wrong"): "four is fine"}))
        wrong = next(v for v in verdicts if v.name == "wrong")
        assert (wrong.outcome, wrong.reason) == ("listed", "four is fine")

    def test_an_accepted_difference_of_another_set_counts_for_nothing(self, traces: Path) -> None:
        verdicts = replay([traces], Selection(), None, {("6.1", "wrong"): "four is fine"})
        assert outcomes(list(verdicts))["wrong"] == "differs"

    def test_a_case_that_misuses_its_names_is_unreadable_with_its_place(self, case: Make, step: Step) -> None:
        verdict = judge("6.12", case(step("poke", addr="$nobody", data="00")), None, "")
        assert verdict.outcome == "unreadable"
        assert "file:1" in verdict.reason
        assert "nobody" in verdict.reason

    def test_a_case_of_an_unknown_kernel_is_unreadable(self, case: Make, step: Step) -> None:
        assert judge("x", case(step("sleep", ms=1), kernel="plan9"), None, "").outcome == "unreadable"

    def test_rules_are_collected_while_a_case_runs(self, case: Make, step: Step) -> None:
        steps = (
            step("open", fd="dev", dev="vhost-vdpa-net", flags="rw"),
            step("read", -1, "EINVAL", fd="dev", size=72),
        )
        assert "vfs.no-read" in judge("6.12", case(*steps), None, "").rules


class TestFiles:
    def test_come_from_directories_sorted_and_from_their_own_names(self, tmp_path: Path) -> None:
        for name in ("b/2.jsonl", "b/1.jsonl", "a/3.jsonl", "a/notes.md"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("")
        found = trace_files([tmp_path / "b" / "2.jsonl", tmp_path])
        assert [path.relative_to(tmp_path).as_posix() for path in found] == [
            "b/2.jsonl", "a/3.jsonl", "b/1.jsonl", "b/2.jsonl",
        ]  # fmt: skip
