"""Verdicts by number of the catalogue, and by objection."""

from __future__ import annotations

import re

import attrs
import pytest

from vdpasim.checks import Finding
from vdpasim.scenario import catalogue
from vdpasim.scenario.catalogue import OBJECTIONS, WIDTH, dialect, listed, objections
from vdpasim.scenario.runner import Verdict

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"


def verdict(
    name: str, kernel: str, *ids: str, tags: tuple[str, ...] = (), passed: bool = True, story: str = "Why."
) -> Verdict:
    found = tuple(Finding(ident, "text", 1) for ident in ids)
    return Verdict(f"a.py::{name}", name, story, kernel, passed, ids, found, "", 1, "rerun", tags=tags)


def rows(*verdicts: Verdict) -> list[list[str]]:
    lines = catalogue.catalogue(verdicts).splitlines()
    return [re.split(r" {2,}", line.strip()) for line in lines[1:]]


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (V1, "v1"),
        (V2, "v2"),
        (FIXED, "fixed"),
        ("7.1+live-update-fixed+lu-guard-resume", "fixed+guard"),
        ("6.12", "mainline"),
        ("tip+bug-stale-wake", "mainline"),
    ],
)
def test_the_dialect_of_a_kernel(kernel: str, expected: str) -> None:
    assert dialect(kernel) == expected


def test_what_is_of_the_catalogue() -> None:
    assert listed(verdict("a", V1, tags=("LU12", "objection:resume")))
    assert listed(verdict("a", V1, tags=("LU13:twin",)))
    assert not listed(verdict("a", V1, tags=("objection:resume", "LUX")))


def test_a_row_says_where_it_shows_and_what_was_found() -> None:
    story = [verdict("a", kernel, "dma.fault", tags=("LU12",)) for kernel in (V1, "6.1+live-update-v1", V2)]
    assert rows(*story, verdict("a", FIXED, tags=("LU12",))) == [["LU12", "v1 v2", "dma.fault", "-", "Why."]]


def test_outcomes_that_differ_are_rows_of_their_own() -> None:
    found = rows(
        verdict("a", V1, "b.two", "a.one", "b.two", tags=("LU2",)),
        verdict("a", V2, "a.one", tags=("LU2",)),
        verdict("b", V1, "c.three", tags=("LU2",), story="Another."),
    )
    assert found == [
        ["LU2", "v1", "a.one, b.two", "-", "Why."],
        ["v2", "a.one"],
        ["v1", "c.three", "Another."],
    ]


def test_what_is_refused_as_it_should_be_is_clean_and_says_where() -> None:
    (row,) = rows(verdict("a", V1, tags=("LU3",)), verdict("a", "6.12", tags=("LU3",)))
    assert row == ["LU3", "-", "clean: v1 mainline", "-", "Why."]


def test_twins_are_a_column() -> None:
    bug = verdict("a", V1, "dma.fault", tags=("LU1",))
    good, bad = (verdict("t", V1, tags=("LU1:twin", "LU2:twin"), passed=passed) for passed in (True, False))
    assert rows(bug, good) == [
        ["LU1", "v1", "dma.fault", "ok", "Why."],
        ["LU2", "ok", "only the twin was run"],
    ]
    assert rows(bug, bad)[0] == ["LU1", "v1", "dma.fault", "FAIL", "Why."]


def test_a_run_that_was_not_as_expected_is_marked() -> None:
    text = catalogue.catalogue([verdict("a", V1, tags=("LU1",), passed=False), verdict("a", V2, "x", tags=("LU1",))])
    lines = text.splitlines()
    assert lines[1].startswith("FAIL  LU1")
    assert "clean: v1" in lines[1]
    assert lines[2].startswith("     ")


def test_numbers_are_in_their_order() -> None:
    found = rows(*(verdict(f"s{number}", V1, tags=(f"LU{number}",)) for number in (10, 9, 1)))
    assert [row[0] for row in found] == ["LU1", "LU9", "LU10"]


def test_lines_keep_to_the_width() -> None:
    ids = tuple(f"some.long-identifier-{n}" for n in range(6))
    text = catalogue.catalogue([verdict("a", V1, *ids, tags=("LU1",), story="word " * 60)])
    assert max(map(len, text.splitlines())) <= WIDTH
    assert all(ident in text for ident in ids)


def test_a_number_whose_runs_rest_on_what_no_kernel_confirms_has_a_mark() -> None:
    own = {"vdpa.remap.pinned": "vdpasim's own"}
    bug, good = verdict("a", V1, "dma.fault", tags=("LU1",)), verdict("b", V1, tags=("LU2",))
    named = [("t", "LU1:twin"), ("a", "LU1")]
    twin, hidden = (attrs.evolve(verdict(name, FIXED, tags=(tag,)), unconfirmed=own) for name, tag in named)
    text = catalogue.catalogue([bug, good, twin, hidden])
    assert [line.split()[0] for line in text.splitlines()[1:3]] == ["LU1*", "LU2"]
    assert text.splitlines()[3:] == ["* LU1 fixed: vdpasim's own: vdpa.remap.pinned"]
    assert "*" not in catalogue.catalogue([bug, good])


def test_an_objection_names_what_its_stories_rest_on() -> None:
    played = verdict("a", V1, "dma.fault", tags=("objection:resume",))
    resting = attrs.evolve(played, unconfirmed={"vq.indirect.loop": "inferred"})
    assert "\n  a\n  * v1: inferred: vq.indirect.loop\n" in objections([played, resting])
    assert "*" not in objections([played])


def row_of(text: str, slug: str) -> list[list[str]]:
    """The lines of an objection's row, as cells."""
    lines = text.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith(slug + " "))
    more = [line for line in lines[first + 1 : first + 9] if line.startswith("   ")]
    return [re.split(r" {2,}", line.strip()) for line in (lines[first], *more)]


def test_an_objection_has_a_row_with_what_its_stories_found_under_every_dialect() -> None:
    tags = ("objection:resume", "LU1")
    text = objections([
        verdict("a", V1, "dma.fault", tags=tags),
        verdict("c", V1, tags=tags),
        verdict("a", FIXED, tags=tags),
        verdict("a", FIXED + "+lu-guard-resume", "other.id", tags=tags),
        verdict("b", "6.12", tags=("objection:mine",)),
    ])
    assert text.splitlines()[0].split() == ["objection", "v1", "v2", "fixed", "mainline"]
    assert row_of(text, "resume") == [["resume", "dma.fault", "-", "clean", "-"]]
    assert row_of(text, "mine") == [["mine", "-", "-", "-", "clean"]]
    assert "other.id" not in text
    assert f"resume: {OBJECTIONS['resume']}\n  a, c\n" in text
    assert "mine: an objection of your own\n  b\n" in text
    assert text.count("no story of these plays it") == len(OBJECTIONS) - 1


def test_a_twin_says_nothing_to_an_objection() -> None:
    text = objections([verdict("a_fixed", V1, tags=("objection:resume", "LU1:twin"))])
    assert row_of(text, "resume") == [["resume", "-", "-", "-", "-"]]
    assert "a_fixed" not in text


def test_several_ids_stand_below_each_other() -> None:
    ids = tuple(f"some.identifier-{n}" for n in range(3))
    text = objections([verdict("a", kernel, *ids, tags=("objection:resume",)) for kernel in (V1, V2)])
    assert row_of(text, "resume") == [["resume", ids[0], ids[0], "-", "-"], [ids[1]] * 2, [ids[2]] * 2]
    assert max(map(len, text.splitlines())) <= WIDTH


def test_every_objection_fits_its_line() -> None:
    assert len(OBJECTIONS) == 9
    assert max(len(f"{slug}: {title}") for slug, title in OBJECTIONS.items()) <= WIDTH
