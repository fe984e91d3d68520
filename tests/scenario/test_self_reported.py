"""Which runs rest on what a story says itself: exactly those that docs/checks.md names.

An oracle sees events alone; a story sees what it likes, and its report is found because it was made. So it may tell
what no check can, under an id that no check uses, and the page says which stories do.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from vdpasim.scenario.loader import Found, load
from vdpasim.scenario.runner import run
from vdpasim.sim import Simulator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "scenarios"
STORIES = load([FOLDER])
PAGE = (ROOT / "docs" / "checks.md").read_text("utf-8")
HISTORY = "history."
"""How the ids of scenarios/history begin, each of which has a page of its own."""
BY_EXPLORING = {"vmm.remap-refused", "vmm.update-refused", "vring.size-lost"}
"""Races: where calls are atomic nothing of them is seen."""


def section(title: str) -> list[list[str]]:
    text = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


TOLD = {words(row[0])[0]: set(words(row[2])) for row in section("Told by stories themselves")}
ROWS = [*section("What must hold"), *section("Mistakes of the program")]
CHECKED = {ident for row in ROWS for ident in words(row[0])}


def calls(path: Path) -> list[ast.Call]:
    """Reports in a file."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "violation"]


REPORTING = {path: calls(path) for path in sorted(FOLDER.rglob("*.py")) if calls(path)}


def first(call: ast.Call) -> str:
    return str(ast.literal_eval(call.args[0]))


def expected(found: Found) -> set[str]:
    story = found.scenario
    return {ident for kernel in story.kernels for ident in story.expected(kernel)}


def test_the_ids_of_reports_are_those_of_the_page() -> None:
    ids: set[str] = set()
    for path, reports in REPORTING.items():
        in_history = path.parent.name == "history"
        assert {first(call).startswith(HISTORY) for call in reports} == {in_history}, path.name
        ids |= set() if in_history else {first(call) for call in reports}
    assert ids == set(TOLD)


def test_no_check_uses_such_an_id() -> None:
    assert len(CHECKED) > 25
    assert not set(TOLD) & CHECKED
    assert not [ident for ident in CHECKED if ident.startswith(HISTORY)]


def test_the_page_names_the_stories_that_expect_one() -> None:
    """What no check finds, and a story expects all the same, is its own report."""
    rows: dict[str, set[str]] = {}
    for found in STORIES:
        for ident in expected(found) - CHECKED:
            rows.setdefault(ident, set()).add(found.scenario.name)
    assert {ident: names for ident, names in rows.items() if not ident.startswith(HISTORY)} == {
        ident: names for ident, names in TOLD.items() if ident not in BY_EXPLORING
    }


def test_races_on_the_page_are_stories_of_files_that_report() -> None:
    where = {found.scenario.name: found.path for found in STORIES}
    for ident in BY_EXPLORING:
        for name in TOLD[ident]:
            assert ident in map(first, REPORTING[where[name].resolve()])


PLAYED = [path for path in REPORTING if path.parent.name != "history"]


@pytest.mark.parametrize("path", PLAYED, ids=lambda one: one.stem)
def test_the_runs_that_report_are_those_of_the_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Played: who reports what, and without the report nobody finds it."""
    reported: set[str] = set()

    def note(sim: Simulator, ident: str, text: str) -> None:
        reported.add(ident)

    monkeypatch.setattr(Simulator, "violation", note)
    for found in load([path]):
        for kernel in found.scenario.kernels:
            reported.clear()
            (verdict,) = run(found, kernel=kernel)
            own = {ident for ident, names in TOLD.items() if found.scenario.name in names} - BY_EXPLORING
            wanted = set(verdict.expected)
            assert reported == own & wanted, verdict.rerun
            assert {finding.id for finding in verdict.found} == wanted - own, verdict.rerun
