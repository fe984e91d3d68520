"""``--diff``: which verdicts change from one series to another."""

from __future__ import annotations

from pathlib import Path

import attrs

from vdpasim.scenario.comparison import changed, render, rests, rows
from vdpasim.scenario.loader import load
from vdpasim.scenario.runner import run

FOLDER = Path(__file__).parents[2] / "scenarios" / "live_update"
NAMES = ["live-update-v1", "live-update-fixed"]


def played(*stories: str) -> list[tuple[str, object]]:
    return [
        (name, verdict)
        for story in stories
        for found in load([FOLDER / f"{story}.py"])
        for name in NAMES
        for verdict in run(found, kernel=f"6.12+{name}")
    ]


def test_a_row_is_a_story_on_a_kernel_and_has_what_each_series_found() -> None:
    table = rows(played("unbatched_remap"))  # type: ignore[arg-type]
    assert table == {("unbatched_remap", "6.12"): {NAMES[0]: "iotlb.divergence", NAMES[1]: "clean"}}


def test_only_what_changes_is_shown_and_the_rest_counted() -> None:
    table = rows(played("unbatched_remap", "batched_remap"))  # type: ignore[arg-type]
    assert [story for story, _ in changed(table, NAMES)] == ["unbatched_remap"]
    shown = render(table, NAMES)
    assert "batched_remap " not in shown.replace("unbatched_remap ", "")
    assert shown.splitlines()[0].split() == ["scenario", "kernel", *NAMES]
    assert shown.endswith("\n1 of 2 verdicts change\n")


def test_where_nothing_changes_there_is_no_table() -> None:
    assert render(rows(played("batched_remap")), NAMES) == "0 of 1 verdicts change\n"  # type: ignore[arg-type]


def test_what_a_series_rests_on_is_told_once() -> None:
    found = played("batched_remap")
    assert rests(found) == ""  # type: ignore[arg-type]
    weak = [{}, {"vdpa.remap.range": "vdpasim's own"}]
    again = [(name, attrs.evolve(one, unconfirmed=rules)) for (name, one), rules in zip(found, weak, strict=True)]  # type: ignore[misc]
    assert rests([*again, *again]) == "* live-update-fixed: vdpasim's own: vdpa.remap.range\n"  # type: ignore[list-item]
