"""The stored evidence: what is shipped names rules and cases that exist."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import pytest

from vdpasim.checks.evidence import stored
from vdpasim.conform.cases import Case, read_cases
from vdpasim.conform.evidence import NAMES_MAX, collect
from vdpasim.conform.replay import Verdict
from vdpasim.core.profiles import parse
from vdpasim.core.rules import RULES, Rule

if TYPE_CHECKING:
    from pathlib import Path

PROFILE_OF = {
    "6.1": "6.1",
    "6.12": "6.12",
    "6.12-va": "6.12",
    "lu-v1": "6.12+live-update-v1",
    "lu-v2": "6.12+live-update-v2+lu-advertise",
    "lu-v2pure": "6.12+live-update-v2",
}


def test_every_rule_with_evidence_exists() -> None:
    assert set(stored()) - set(RULES) == set()


def test_every_case_named_exists_and_is_counted(golden: Path) -> None:
    names: set[str] = set()
    for folder in PROFILE_OF:
        for path in sorted((golden / folder).glob("*.jsonl")):
            names |= {f"{folder}/{json.loads(line)['case']}" for line in path.read_text("utf-8").splitlines()}
    for rule, found in stored().items():
        assert set(found.cases) <= names, rule
        assert 1 <= len(found.cases) == min(found.count, NAMES_MAX), rule


def test_a_rule_holds_on_every_kernel_whose_trace_came_to_it() -> None:
    wrong = {
        f"{rule} on {case}"
        for rule, found in stored().items()
        for case in found.cases
        if not RULES[rule].holds(parse(PROFILE_OF[case.partition("/")[0]]).names)
    }
    assert wrong == set()


def test_the_file_is_sorted_so_that_its_changes_can_be_read() -> None:
    assert list(stored()) == sorted(stored())


@pytest.mark.parametrize(
    ("switches", "on", "holds"),
    [
        ((), set(), True),
        (("F4",), {"F4"}, True),
        (("F4",), {"F5"}, False),
        (("-F5",), {"F4"}, True),
        (("-F5",), {"F5"}, False),
        (("F1", "F4"), {"F1"}, False),
        (("F1", "F4"), {"F1", "F4"}, True),
        (("one|other",), {"other"}, True),
        (("one|other",), {"none"}, False),
        (("one|-other",), {"other"}, False),
        (("one|-other",), set(), True),
    ],
)
def test_a_rule_holds_when_all_its_switches_stand_right(switches: tuple[str, ...], on: set[str], holds: bool) -> None:
    rule = Rule("x.y", "x.c:y()", 1, "always", switches=switches)
    assert rule.holds(on) is holds


def test_the_names_of_a_rules_switches_have_no_signs() -> None:
    assert Rule("x.y", "x.c:y()", 1, "", switches=("-F5", "one|other")).switch_names() == ("F5", "one", "other")


def test_a_traced_case_confirms_the_rule_it_was_made_for(golden: Path) -> None:
    """The count can be checked by hand: reading a vhost-vdpa file is EINVAL, and only vfs.no-read says so."""
    cases = [case for case in read_cases(golden / "6.1" / "misc.jsonl") if isinstance(case, Case)]
    reading = {
        f"6.1/{case.name}"
        for case in cases
        for step in case.steps
        if step.op == "read" and step.outputs.get("errno") == "EINVAL" and "vnet" not in case.name
    }
    assert reading & set(stored()["vfs.no-read"].cases)


def test_is_collected_from_the_agreeing_cases_that_hit_a_rule() -> None:
    base = Verdict("6.1", "t", "a", "f:1", "agrees", rules=frozenset({"x.one", "x.two"}))
    others = [attrs.evolve(base, name=f"n{n}", rules=frozenset({"x.two"})) for n in range(6)]
    wrong = attrs.evolve(base, name="wrong", outcome="differs", rules=frozenset({"x.three"}))
    assert collect([base, *others, wrong]) == {
        "x.one": {"count": 1, "cases": ["6.1/a"]},
        "x.two": {"count": 7, "cases": ["6.1/a", "6.1/n0", "6.1/n1", "6.1/n2", "6.1/n3"]},
    }
