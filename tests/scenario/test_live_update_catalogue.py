"""docs/live-update-catalogue.md: the table and the tags of the scenarios say the same."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdpasim.scenario.catalogue import is_number
from vdpasim.scenario.loader import load
from vdpasim.scenario.objections import OBJECTION, OBJECTIONS, UNPLAYED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.scenario import Scenario

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


def says_itself(story: Scenario) -> set[str]:
    """The ids that a story, or what it calls of its file, tells by ``sim.violation``."""
    names = story.body.__globals__
    found, seen = set[str](), set[Any]()
    todo: list[Any] = [story.body]
    while todo:
        body = todo.pop()
        seen.add(body)
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(body)))):
            if isinstance(node, ast.Name) and inspect.isfunction(names.get(node.id)) and names[node.id] not in seen:
                todo.append(names[node.id])
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "sim.violation":
                found.add(ast.literal_eval(node.args[0]))
    return found


def test_a_verdict_in_parentheses_is_the_storys_own() -> None:
    own = {story.name: says_itself(story) for story in STORIES if any(map(is_number, story.tags))}
    assert own["lu45_kick_not_set_again"] == {"guest.kick-lost"}
    for row in ROWS:
        told = set().union(*(own.get(name, set()) for name in names(row[4])))
        assert set(re.findall(r"\(`([\w.-]+)`\)", row[3])) == told, row[0]


def test_races_are_those_that_must_be_explored() -> None:
    races = {name for row in ROWS if "(race)" in row[2] for name in names(row[4])}
    assert races == tagged("explore")


def played() -> Iterator[tuple[str, str]]:
    # an objection and a number of a story that plays it; twins do it right
    for story in STORIES:
        numbers = [tag for tag in story.tags if is_number(tag) and not tag.endswith(":twin")]
        for tag in story.tags:
            yield from ((tag.removeprefix(OBJECTION), number) for number in numbers if tag.startswith(OBJECTION))


def test_the_list_of_objections_is_that_of_the_tags() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert list(rows) == list(OBJECTIONS)
    for slug, cell in rows.items():
        numbers = sorted({number for raised, number in played() if raised == slug})
        assert cell == (", ".join(numbers) or f"nothing: {UNPLAYED[slug]}"), slug
