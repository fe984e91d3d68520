"""The page about downtime: laws from runs, marked cells, prices of the user's."""

from __future__ import annotations

import json
import re
from fractions import Fraction

import pytest

from vdpasim.report import downtime
from vdpasim.report.downtime import ALL, Study, Target, cost, markdown, plan, price, study, table, to_json
from vdpasim.vmm.downtime import UNITS, WAYS, Guest, Way, measure
from vdpasim.vmm.law import fit

V1 = "6.12+live-update-v1"
GUEST = Target("1TiB", 1 << 40, 8, 2 << 20)
PAGES = 1 << 28


@pytest.fixture(scope="module")
def found() -> Study:
    return study(V1, [5, 40], ["va", "pa"], GUEST)


def test_every_law_meets_every_run(found: Study) -> None:
    assert [answer.residual for answer in found.answers] == [0] * 6
    assert "all residuals are 0" in markdown(found, {})


def test_laws_hold_for_a_guest_that_was_not_fitted(found: Study) -> None:
    """A guest beyond the sizes and of another shape."""
    for answer in found.answers:
        run = measure(V1, answer.mode, answer.way, Guest(150, 2, 8))
        for step, counts in run.steps.items():
            assert {unit: law.at(run.values) for unit, law in answer.laws[step].items()} == counts
        assert answer.predicted(run.values) == cost(run)


def test_a_tebibyte_is_repinned_or_not(found: Study) -> None:
    pinned = {
        (answer.mode, answer.way.name): answer.predicted(GUEST.values(answer.mode))["pin"] for answer in found.answers
    }
    assert pinned == {
        ("va", "REMAP"): 0,
        ("va", "INVALIDATE+UPDATE"): 0,
        ("va", "reset"): 0,
        ("pa", "NEW_OWNER only"): 0,
        ("pa", "INVALIDATE+UPDATE"): PAGES,
        ("pa", "reset"): PAGES,
    }


def test_cells_say_whether_they_were_run(found: Study) -> None:
    text = markdown(found, {})
    lines = [line for line in text.splitlines() if line.startswith("| ") and str(PAGES) in line]
    assert len(lines) == 6
    assert all(line.endswith("| 1TiB, extrapolated |") for line in lines)
    assert sum(line.endswith("| run   |") for line in text.splitlines()) == sum(len(a.runs) for a in found.answers)


def test_markdown_tables_are_tables(found: Study) -> None:
    text = markdown(found, {"pin": Fraction(300)})
    width = 0
    for line in text.splitlines():
        cells = line.count("|")
        assert not cells or width in (0, cells), line
        width = cells
        assert len(line) <= 150
    assert "\n\n\n" not in text


def test_prices_are_the_users(found: Study) -> None:
    text = markdown(found, {"pin": Fraction(300), "message": Fraction(2000)})
    assert "pin 300 ns, message 2 us; nothing for ioctls, bytes, unpinned, pushed, opens." in text
    (line,) = (one for one in text.splitlines() if one.startswith("| INVALIDATE+UPDATE") and "80.53 s" in one)
    assert "1TiB, extrapolated" in line
    assert price({**dict.fromkeys(UNITS, 0), "pin": 3}, {"pin": Fraction(1, 2)}) == Fraction(3, 2)
    assert "time" not in markdown(found, {}).split("##")[1]


def test_the_limit_of_the_kernel_is_told(found: Study) -> None:
    assert "in PA mode 1TiB has more: UPDATE would end with ENOSPC" in markdown(found, {})
    assert "ENOSPC" not in markdown(study("7.1+live-update-v1", [5, 40], ["pa"], GUEST), {})
    wide = study(V1, [5, 2100], ["va"], GUEST)
    assert "the runs with more were made without F1" in markdown(wide, {})
    assert wide.answers[0].residual == 0


def test_a_way_that_is_not_possible_is_a_line() -> None:
    text = markdown(study("6.12", [5, 40], ["pa"], GUEST), {})
    assert "NEW_OWNER only is not possible here: step check ends with EOPNOTSUPP" in text
    assert "| reset" in text
    assert "cells" not in markdown(study("6.1", [5, 40], ["va"], GUEST), {})


def test_a_fourth_way_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downtime, "WAYS", (*WAYS, Way("mine", ("va",), "as it is", WAYS[0].change)))
    text = markdown(study(V1, [5, 40], ["va"], GUEST), {})
    assert len(re.findall(r"^\| mine", text, re.MULTILINE)) == 2 + 4


def test_json_has_runs_laws_and_the_guess(found: Study) -> None:
    told = json.loads(to_json(found, {"pin": Fraction(300)}))
    remap = told["ways"][0]
    assert (remap["mode"], remap["way"]) == ("va", "REMAP")
    assert remap["laws"][ALL]["byte"] == {"factors": {"1": 144, "entries": 72}, "residual": 0}
    assert remap["extrapolated"]["all"]["message"] == 10
    assert remap["runs"][0]["steps"]["suspend"]["ioctl"] == 1
    assert told["ways"][-1]["extrapolated"]["ns"] == PAGES * 300
    refused = json.loads(to_json(study("6.1", [5, 40], ["va"], GUEST), {}))["ways"][0]
    assert "user addresses" in refused["refused"]


def test_counts_that_obey_no_law_are_called_so(found: Study) -> None:
    runs = found.answers[0].runs
    bent = fit(["entries"], [(run.values, n * n) for n, run in enumerate(runs)])
    odd = downtime.Answer("va", WAYS[0], runs, {**found.answers[0].laws, ALL: dict.fromkeys(UNITS, bent)})
    text = markdown(Study(V1, GUEST, (odd,)), {})
    assert "not every one is met, the largest residual is" in text
    assert "off by up to" in text


def test_plans_are_small_where_guests_are_big() -> None:
    assert plan([8, 100_000], "va") == [Guest(8, 1, 1), Guest(8, 1, 4), Guest(100_000, 1, 1)]
    assert Guest(2, 4, 1) in plan([8], "pa")


def test_numbers_stand_at_the_right() -> None:
    assert list(table([["way", "n"], ["a", "1"], ["b", "100"]])) == [
        "| way |   n |",
        "| --- | --: |",
        "| a   |   1 |",
        "| b   | 100 |",
    ]
