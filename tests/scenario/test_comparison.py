"""``--diff``: which verdicts and refusals change from one series to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from vdpasim.scenario.comparison import render, rests, rows, strays, to_json
from vdpasim.scenario.loader import load
from vdpasim.scenario.runner import run

if TYPE_CHECKING:
    from vdpasim.scenario.runner import Verdict

FOLDER = Path(__file__).parents[2] / "scenarios" / "live_update"
NAMES = ["live-update-v1", "live-update-fixed"]


def played(*stories: str) -> list[tuple[str, Verdict]]:
    return [
        (name, verdict)
        for story in stories
        for found in load([FOLDER / f"{story}.py"])
        for name in NAMES
        for verdict in run(found, kernel=f"6.12+{name}")
    ]


def retold(one: Verdict, *refused: str) -> Verdict:
    """The run, with these refusals instead of its own."""
    return attrs.evolve(one, trace="".join(f"[1] 0 vmm: ioctl() = -1 {line}\n" for line in refused))


def test_a_row_is_a_story_on_a_kernel_and_has_what_each_series_found() -> None:
    (row,) = rows(played("unbatched_remap"))
    assert (row.name, row.kernel, list(row.runs)) == ("unbatched_remap", "6.12", NAMES)
    assert (row.verdict_changes, row.refusals_change) == (True, False)
    assert render([row], NAMES).splitlines() == [
        "scenario         kernel  live-update-v1    live-update-fixed",
        "unbatched_remap  6.12    iotlb.divergence  clean",
        "",
        "1 of 1 verdicts change, refusals change in 0",
    ]


def test_a_setting_that_is_none_of_the_sample_is_said_once() -> None:
    found = played("unbatched_remap")
    said = "n=5 is none of 1, 2, for which the verdict holds"
    beyond = [(name, attrs.evolve(one, strayed=said)) for name, one in found]
    assert strays(found) == ""
    assert strays(beyond) == f"* unbatched_remap: {said}\n"
    (row,) = json.loads(to_json(rows(beyond)))
    assert {run["strayed"] for run in row["series"].values()} == {said}


def test_only_what_changes_is_shown_and_the_rest_counted() -> None:
    shown = render(rows(played("unbatched_remap", "batched_remap")), NAMES)
    assert "batched_remap " not in shown.replace("unbatched_remap ", "")
    assert shown.endswith("\n1 of 2 verdicts change, refusals change in 0\n")


def test_where_nothing_changes_there_is_no_table() -> None:
    assert render(rows(played("batched_remap")), NAMES) == "0 of 1 verdicts change, refusals change in 0\n"


def test_a_story_that_is_clean_under_both_is_shown_by_what_was_refused() -> None:
    found = load([f"{FOLDER / 'splits.py'}::lu16_arguments_of_the_update"])[0]
    runs = [(name, run(found, kernel=f"6.12+{name}")[0]) for name in NAMES]
    assert render(rows(runs), NAMES).splitlines()[1:] == [
        "lu16_arguments_of_the_update  6.12    clean           clean",
        "  refused under live-update-v1:     EFAULT (EINVAL inside) vdpa.remap.inexact",
        "  refused under live-update-fixed:  -",
        "",
        "0 of 1 verdicts change, refusals change in 1",
    ]
    (told,) = json.loads(to_json(rows(runs)))
    assert (told["verdict_changes"], told["refusals_change"]) == (False, True)
    told_of = told["series"]["live-update-v1"]
    assert told_of["refused"] == [{"errno": "EFAULT", "inside": "EINVAL", "rule": "vdpa.remap.inexact"}]
    assert told["series"]["live-update-fixed"]["refused"] == []


def test_what_all_of_them_refuse_is_left_out_and_what_is_left_is_counted() -> None:
    (_, one), (_, other) = played("batched_remap")
    busy, large = "EBUSY  # my.busy", "ENOMEM  # my.large"
    table = rows([("a", retold(one, busy, large)), ("b", retold(other, busy, busy, busy))])
    assert render(table, ["a", "b"]).splitlines()[2:4] == [
        "  refused under a:  ENOMEM my.large",
        "  refused under b:  EBUSY my.busy x2",
    ]


def test_another_order_of_the_same_refusals_is_a_change() -> None:
    (_, one), (_, other) = played("batched_remap")
    busy, large = "EBUSY  # my.busy", "ENOMEM  # my.large"
    table = rows([("a", retold(one, busy, large)), ("b", retold(other, large, busy))])
    assert render(table, ["a", "b"]).splitlines()[2:4] == [
        "  refused under a:  EBUSY my.busy, ENOMEM my.large",
        "  refused under b:  ENOMEM my.large, EBUSY my.busy",
    ]


def test_two_stories_of_one_name_are_two_rows() -> None:
    (_, one), (_, other) = played("batched_remap")
    again = [attrs.evolve(run, ident="elsewhere.py::batched_remap") for run in (one, other)]
    assert len(rows([*zip(NAMES, (one, other), strict=True), *zip(NAMES, again, strict=True)])) == 2


def test_of_two_runs_on_one_kernel_it_is_the_one_that_was_offered_the_series() -> None:
    (found,) = load([FOLDER / "batched_remap.py"])
    (offered,), (asked_in_vain,) = (run(found, kernel=f"6.12+live-update-v2{end}") for end in ("+lu-advertise", ""))
    for order in ([offered, asked_in_vain], [asked_in_vain, offered]):
        (row,) = rows([("live-update-v2", one) for one in order])
        assert row.runs == {"live-update-v2": offered}


def test_what_a_series_rests_on_is_told_once() -> None:
    found = played("batched_remap")
    assert rests(found) == ""
    weak = [{}, {"vdpa.remap.range": "vdpasim's own"}]
    again = [(name, attrs.evolve(one, unconfirmed=rules)) for (name, one), rules in zip(found, weak, strict=True)]
    assert rests([*again, *again]) == "* live-update-fixed: vdpasim's own: vdpa.remap.range\n"
