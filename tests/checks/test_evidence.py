"""What a rule rests on: four kinds, counted, and told of those that no kernel confirms."""

from __future__ import annotations

import attrs
import pytest

from vdpasim.checks import evidence
from vdpasim.checks.evidence import KINDS, Evidence, count_kinds, kind, stored, told, told_together, unconfirmed
from vdpasim.core.rules import RULES, Rule


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Rule:
    """A rule that is inferred, and the only one there is."""
    row = attrs.evolve(next(iter(RULES.values())), id="x.y", source="inferred")
    monkeypatch.setattr(evidence, "RULES", {"x.y": row})
    return row


@pytest.mark.usefixtures("row")
def test_the_kind_is_the_rows_own_word_until_a_case_confirms_it() -> None:
    assert kind("x.y", {}) == "inferred"
    assert kind("x.y", {"x.y": Evidence(1, ("6.1/a",))}) == "golden cases"


def test_what_no_kernel_has_no_case_confirms(row: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case may come to it on its way to an answer that a kernel gives, too."""
    monkeypatch.setattr(evidence, "RULES", {"x.y": attrs.evolve(row, where="vdpasim: x.py", source="read in source")})
    assert kind("x.y", {"x.y"}) == kind("x.y", {}) == "vdpasim's own"


def test_a_hit_without_a_row_is_no_better_than_inferred() -> None:
    assert kind("no.such-rule", {}) == "inferred"


def test_are_counted() -> None:
    first, second = [name for name, row in RULES.items() if not row.own][:2]
    before, after = count_kinds([]), count_kinds([first, second, "no.such-rule"])
    assert tuple(before) == KINDS
    assert sum(before.values()) == sum(after.values()) == len(RULES)
    assert (before["golden cases"], after["golden cases"]) == (0, 2)
    assert before["vdpasim's own"] == sum(row.where.startswith("vdpasim:") for row in RULES.values()) > 0


def test_injected_faults_and_the_series_of_our_own_are_no_kernels() -> None:
    own = {"fault.injected", *(name for name, row in RULES.items() if "live_update_fixed" in row.where)}
    assert len(own) > 5
    assert {kind(name, stored()) for name in own} == {"vdpasim's own"}


def test_nothing_of_our_own_has_a_recording() -> None:
    assert {name for name in stored() if RULES[name].own} == set()


def test_only_what_no_kernel_confirms_is_told() -> None:
    strong = ["vdpa.open.busy", "vdpa.config-call.lost"]
    weak = unconfirmed(["vq.indirect.loop", *strong, "miss.stopped", "fault.injected"])
    assert weak == {
        "fault.injected": "vdpasim's own",
        "miss.stopped": "vdpasim's own",
        "vq.indirect.loop": "inferred",
    }
    assert told(weak) == "inferred: vq.indirect.loop; vdpasim's own: fault.injected, miss.stopped"
    assert told(unconfirmed(["vdpa.open.busy"])) == ""


def test_runs_that_rest_on_the_same_are_told_together() -> None:
    loop, fault = unconfirmed(["vq.indirect.loop"]), unconfirmed(["fault.injected"])
    assert told_together([("a", loop), ("b", {}), ("c", fault), ("d", loop), ("a", loop)]) == [
        "a, d: inferred: vq.indirect.loop",
        "c: vdpasim's own: fault.injected",
    ]
