"""Verdicts as table, JSON, KTAP and JUnit XML."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import attrs
import pytest

from vdpasim.checks import Finding
from vdpasim.scenario import reports
from vdpasim.scenario.runner import Verdict

GOOD = Verdict("a.py::good", "good", "Fine.", "6.12", True, (), (), "", 3, "vdpasim run a.py::good")
FINDING = Finding("dma.fault", "no <memory> & \"nothing\"", 9)
TRACE = "".join(f"[{n}] 0 vmm: step\n" for n in range(20))
BAD = Verdict("b.py::bad", "bad", "Not.", "tip", False, (), (FINDING,), TRACE, 4, "vdpasim run b.py::bad")
WEAK = {"vq.indirect.loop": "inferred", "no.row": "inferred", "miss.stopped": "vdpasim's own"}
TOLD = "inferred: vq.indirect.loop, no.row; vdpasim's own: miss.stopped"
RESTING = [attrs.evolve(one, unconfirmed=WEAK) for one in (GOOD, BAD)]


def test_the_table_has_a_line_a_run_and_a_count() -> None:
    assert reports.table([GOOD]) == "ok    good  6.12  clean\n\n1 of 1 runs as expected\n"


def test_a_failure_shows_findings_last_events_and_the_command() -> None:
    text = reports.table([GOOD, BAD])
    assert 'FAIL  bad   tip   dma.fault' in text
    assert "[9] dma.fault: no <memory>" in text
    assert "[19] 0 vmm: step" in text
    assert "[11] 0 vmm: step" not in text
    assert "rerun: vdpasim run b.py::bad" in text


def test_many_findings_of_one_id_are_counted() -> None:
    many = attrs.evolve(BAD, found=tuple(Finding("a.b", f"number {n}", n) for n in range(9)))
    lines = reports.failure(many)
    assert [line for line in lines if "a.b" in line][-2:] == ["  [2] a.b: number 2", "  and 6 more of a.b"]


def test_runs_of_the_catalogue_have_a_table_of_their_own() -> None:
    listed = attrs.evolve(GOOD, ident="c.py::listed", name="listed", tags=("LU12",))
    assert reports.by_catalogue([GOOD]) == reports.table([GOOD])
    text = reports.by_catalogue([GOOD, listed, BAD])
    assert text.startswith("id ")
    assert "LU12" in text.splitlines()[1]
    assert "ok    good  6.12  clean" in text
    assert "FAIL  bad   tip   dma.fault" in text
    assert "listed  6.12" not in text
    assert text.endswith("\n\n2 of 3 runs as expected\n")


def test_objections_end_with_what_failed() -> None:
    text = reports.by_objection([attrs.evolve(GOOD, tags=("objection:resume",)), BAD])
    assert text.split()[:2] == ["objection", "v1"]
    assert "bad on tip: dma.fault" in text
    assert text.endswith("1 of 2 runs as expected\n")


def test_json_names_everything() -> None:
    rows = json.loads(reports.to_json([GOOD, BAD]))
    assert [row["passed"] for row in rows] == [True, False]
    assert rows[1]["found"] == [{"id": "dma.fault", "text": FINDING.text, "seq": 9, "steps": []}]


def test_ktap_is_what_kernel_ci_reads() -> None:
    assert reports.ktap([GOOD, BAD]).splitlines() == [
        "KTAP version 1",
        "1..2",
        "ok 1 good.6.12",
        f"# dma.fault: {FINDING.text}",
        "not ok 2 bad.tip",
    ]


def test_junit_is_well_formed_whatever_the_text_holds() -> None:
    root = ET.fromstring(reports.junit([GOOD, BAD]))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    failure = root.find("testcase/failure")
    assert failure is not None
    assert FINDING.text in (failure.text or "")


def test_what_no_kernel_confirms_stands_behind_the_verdict() -> None:
    assert f"ok    good  6.12  clean ({TOLD})\n" in reports.table(RESTING)
    assert f"FAIL  bad   tip   dma.fault ({TOLD})\n" in reports.table(RESTING)
    assert f"ok    good on 6.12: clean ({TOLD})\n" in reports.told(RESTING)
    missing = attrs.evolve(RESTING[1], found=(), expected=("a.b",))
    assert missing.line == f"a.b was expected and not found ({TOLD})"


def test_explained_says_what_the_rules_are() -> None:
    lines = reports.explained(RESTING[:1]).splitlines()
    assert lines[0] == f"ok    good on 6.12: clean ({TOLD})"
    assert lines[1] == "  rests on vq.indirect.loop (inferred): an indirect chain longer than its table"
    assert lines[2] == "  rests on no.row (inferred)"


def test_machines_are_told_too() -> None:
    assert [row["unconfirmed"] for row in json.loads(reports.to_json([GOOD, *RESTING]))] == [{}, WEAK, WEAK]
    assert f"# {TOLD}\nok 1 good.6.12\n" in reports.ktap(RESTING)
    root = ET.fromstring(reports.junit([GOOD, *RESTING]))
    cases = [[child.tag for child in case] for case in root.iter("testcase")]
    assert cases == [[], ["properties"], ["properties", "failure"]]
    assert {(row.get("name"), row.get("value")) for row in root.iter("property")} == {("vdpasim.unconfirmed", TOLD)}


@pytest.mark.parametrize("render", [reports.table, reports.by_catalogue, reports.to_json, reports.ktap, reports.junit])
def test_no_runs_are_a_valid_report(render: object) -> None:
    assert callable(render)
    assert render([]).endswith("\n")
