"""The bugs of the past: each story sees its bug where it is and nowhere else, and docs/history.md says the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from vdpasim.core.profiles import PROFILES
from vdpasim.scenario.loader import Found, load
from vdpasim.scenario.runner import run

if TYPE_CHECKING:
    from vdpasim.scenario import Scenario

ROOT = Path(__file__).parents[2]
STORIES = load([ROOT / "scenarios" / "history"])
RACES = {found.scenario.name: found.scenario for found in load([ROOT / "scenarios" / "races"])}
PAGE = (ROOT / "docs" / "history.md").read_text("utf-8")
BUGS = 69


def number(story: Scenario) -> int:
    found = re.match(r"History (\d+): ", story.doc)
    assert found, f"{story.name} does not say which bug it is about"
    return int(found[1])


def symptoms(story: Scenario) -> frozenset[str]:
    """What is found where the bug is and not elsewhere."""
    return frozenset.union(*story.expects.values()) - frozenset.intersection(*story.expects.values())


@pytest.fixture(params=STORIES, ids=lambda found: found.scenario.name)
def found(request: pytest.FixtureRequest) -> Found:
    story: Found = request.param
    return story


def test_a_story_passes_on_its_kernels(found: Found) -> None:
    assert [verdict.line for verdict in run(found) if not verdict.passed] == []


def test_a_story_has_a_kernel_with_the_bug_and_one_without(found: Found) -> None:
    assert len(set(found.scenario.expects.values())) == 2
    assert symptoms(found.scenario)


def test_with_the_expectations_swapped_every_run_fails(found: Found) -> None:
    one, other = set(found.scenario.expects.values())
    swapped = {kernel: other if ids == one else one for kernel, ids in found.scenario.expects.items()}
    verdicts = run(Found(found.path, attrs.evolve(found.scenario, expects=swapped)))
    assert [verdict.kernel for verdict in verdicts if verdict.passed] == []


def test_the_kernels_of_a_story_differ_in_one_switch(found: Found) -> None:
    # a pair of them does: the same profile with and without it
    expects = found.scenario.expects
    pairs = [
        (one, other) for one in expects for other in expects if re.fullmatch(re.escape(one) + r"[+-][\w-]+", other)
    ]
    assert any(expects[one] != expects[other] for one, other in pairs)


def test_at_least_25_bugs_are_told() -> None:
    assert len({number(found.scenario) for found in STORIES}) >= 25


# -- docs/history.md


def rows(part: str) -> list[list[str]]:
    lines = [line.strip("|").split("|") for line in part.splitlines() if re.match(r"\| \d+ \|", line)]
    return [[cell.strip() for cell in line] for line in lines]


PARTS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
TOLD = {row[-1].strip("`"): row for row in rows(PARTS[0])}
EXPLORED = {row[-1].strip("`"): row for row in rows(PARTS[1])}
UNTOLD = {int(row[0]) for row in rows(PARTS[2])}


def test_the_list_names_every_story() -> None:
    assert {name: int(row[0]) for name, row in TOLD.items()} == {
        found.scenario.name: number(found.scenario) for found in STORIES
    }


def test_the_list_says_of_every_bug_whether_it_is_told() -> None:
    told = {number(found.scenario) for found in STORIES} | {int(row[0]) for row in EXPLORED.values()}
    assert told | UNTOLD == set(range(1, BUGS + 1))
    assert told & UNTOLD == set()


def test_the_list_names_the_switch_that_makes_the_difference(found: Found) -> None:
    switch = TOLD[found.scenario.name][2].strip("`")
    assert any(kernel.endswith(switch) for kernel in found.scenario.expects)


@pytest.mark.parametrize("kernel", PROFILES)
def test_the_list_is_right_about_a_kernel(found: Found, kernel: str) -> None:
    (verdict,) = run(found, kernel=kernel)
    ids = {finding.id for finding in verdict.found}
    seen = symptoms(found.scenario)
    assert seen <= ids or not seen & ids
    assert not ids - frozenset.union(*found.scenario.expects.values()), "the story does not come to its point there"
    column = 3 + list(PROFILES).index(kernel)
    assert TOLD[found.scenario.name][column] == ("yes" if seen <= ids else "")


@pytest.mark.parametrize("name", EXPLORED)
def test_the_list_is_right_about_a_race(name: str) -> None:
    race, row = RACES[name], EXPLORED[name]
    switch = row[2].strip("`")
    bug = switch.startswith("bug-")
    assert ("tip+" if bug else "tip-") + switch in race.kernels
    assert row[3:7] == ["yes" if (switch in switches) is bug else "" for switches in PROFILES.values()]
