"""docs/live-update-catalogue.md: the table and the tags of the scenarios say the same."""

from __future__ import annotations

import re
from pathlib import Path

from vdpasim.scenario.loader import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "live-update-catalogue.md").read_text("utf-8")
STORIES = [found.scenario for found in load([ROOT / "scenarios"])]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| LU")]


def names(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def tagged(tag: str) -> set[str]:
    return {story.name for story in STORIES if tag in story.tags}


def test_the_table_is_sorted() -> None:
    ids = [row[0] for row in ROWS]
    assert ids == sorted(set(ids))
    assert {f"LU{number:02}" for number in range(1, 29)} <= set(ids)


def test_each_row_names_the_stories_with_its_tag() -> None:
    for row in ROWS:
        assert names(row[4]) == tagged(row[0]), row[0]
        assert names(row[5]) == tagged(f"{row[0]}:twin"), row[0]


def test_what_has_no_story_says_why() -> None:
    for row in ROWS:
        assert bool(row[4]) != row[2].startswith("not modelled"), row[0]
