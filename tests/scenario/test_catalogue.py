"""Verdicts by number of the catalogue."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from vdpasim.checks import Finding
from vdpasim.scenario import catalogue
from vdpasim.scenario.catalogue import WIDTH, listed
from vdpasim.scenario.loader import load
from vdpasim.scenario.runner import Verdict, run

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"


def verdict(
    name: str, kernel: str, *ids: str, tags: tuple[str, ...] = (), passed: bool = True, story: str = "Why.", **more: str
) -> Verdict:
    found = tuple(Finding(ident, "text", 1) for ident in ids)
    trace = more.get("trace", "")
    return Verdict(f"a.py::{name}", name, story, kernel, passed, ids, found, trace, 1, "rerun", tags=tags)


def rows(*verdicts: Verdict) -> list[list[str]]:
    lines = catalogue.catalogue(verdicts).splitlines()
    return [re.split(r" {2,}", line.strip()) for line in lines[1:]]


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


def test_what_shows_nothing_anywhere_is_clean_and_says_where() -> None:
    (row,) = rows(verdict("a", V1, tags=("LU3",)), verdict("a", "6.12", tags=("LU3",)))
    assert row == ["LU3", "-", "clean: v1 mainline", "-", "Why."]


def test_what_was_refused_is_told_with_errno_and_rule() -> None:
    """A run that accepts is no row where others refuse."""
    refused = verdict("a", V1, tags=("LU3",), trace="[9] 1 vmm: write(f, x) = -1 EFAULT (EPERM inside)  # a.rule\n")
    guarded = FIXED + "+lu-guard-resume"
    busy = verdict("a", guarded, "dma.fault", tags=("LU3",), trace="[9] 1 vmm: ioctl(f, x) = -1 EBUSY  # b.rule\n")
    assert rows(refused, attrs.evolve(refused, kernel=V2), verdict("a", FIXED, tags=("LU3",)), busy) == [
        ["LU3", "v1 v2", "EFAULT (EPERM inside) a.rule", "-", "Why."],
        ["fixed+guard-resume", "dma.fault"],
        ["EBUSY b.rule"],
    ]


def test_a_story_that_must_be_explored_says_how() -> None:
    text = catalogue.catalogue([verdict("a", V1, tags=("LU3", "explore"))])
    assert [line.strip() for line in text.splitlines()[1:]] == [
        "LU3  -         clean: v1             -     Why.",
        "(found by exploring)",
        "LU3 found by exploring: vdpasim explore a.py::a",
    ]
    assert "exploring" not in catalogue.catalogue([verdict("a", V1, "dma.fault", tags=("LU3", "explore"))])


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


def test_shipped_stories_that_end_in_a_refusal_name_it() -> None:
    folder = Path(__file__).parents[2] / "scenarios" / "live_update"
    names = ("splits.py::lu16_arguments_of_the_update", "recovery.py::lu60_other_descriptor", "devices.py")
    shown = rows(*(verdict for name in names for one in load([f"{folder / name}"]) for verdict in run(one)))
    heads = [row[:4] for row in shown]
    assert heads[0] == ["LU16", "v1 v2", "EFAULT (EINVAL inside)", "-"]
    assert heads[1][0] == "vdpa.remap.inexact"
    assert ["LU60", "v1 v2 fixed", "EINVAL vdpa.new-owner.unowned", "-"] in heads
    assert ["LU19", "v1", "kernel.oops", "ok"] in heads
    assert heads.count(["v2", "EFAULT (EINVAL inside)"]) == 2
