"""Reports: counts, differences side by side, JSON, and the two reviewed files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from vdpasim.conform.floor import Answer
from vdpasim.conform.interpreter import StepResult
from vdpasim.conform.replay import OUTCOMES, Verdict
from vdpasim.conform.report import (
    ACCEPTED_MAX,
    VALUE_MAX,
    ReviewError,
    as_json,
    check_agreement,
    describe,
    is_clean,
    load_accepted,
    table,
    tally,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vdpasim.conform.cases import Case
    from vdpasim.conform.replay import Outcome

    Step = Callable[..., dict[str, Any]]
    Make = Callable[..., Case]

AGREES = Verdict("6.1", "blk", "one", "blk.jsonl:1", "agrees", data_path=True)
DIFFERS = attrs.evolve(AGREES, name="two", outcome="differs")
QUIET = attrs.evolve(AGREES, topic="owner", name="three", data_path=False)


def many(outcome: Outcome) -> Verdict:
    return attrs.evolve(AGREES, outcome=outcome)


class TestCounting:
    def test_is_by_topic_and_by_need_of_the_data_path(self) -> None:
        counts = tally([AGREES, DIFFERS, QUIET])
        assert counts.total("6.1") == 3
        assert counts.count("6.1", "agrees") == 2
        assert counts.count("6.1", "agrees", data_path=True) == 1
        assert counts.total("6.1", data_path=False) == 1

    def test_every_outcome_has_a_column(self) -> None:
        lines = list(table(tally([many(outcome) for outcome in OUTCOMES])))
        assert all(outcome in lines[0] for outcome in OUTCOMES)
        assert lines[1].split() == ["6.1", "blk", *(["1"] * len(OUTCOMES))]

    def test_the_table_ends_with_agreement_per_set(self) -> None:
        lines = list(table(tally([AGREES, DIFFERS, QUIET])))
        assert lines[-2:] == [
            "6.1: 1 of 1 cases without the data path agree",
            "6.1: 1 of 2 cases with the data path agree",
        ]

    @pytest.mark.parametrize("outcome", OUTCOMES)
    def test_only_a_difference_or_an_unreadable_line_is_unclean(self, outcome: Outcome) -> None:
        assert is_clean([AGREES, many(outcome)]) is (outcome not in ("differs", "unreadable"))


class TestDescribing:
    @pytest.fixture
    def verdict(self, case: Make, step: Step) -> Verdict:
        recorded = case(step("sleep", ms=1), step("poll", 1, fd="dev", events=5, timeout_ms=0, revents=5, proc="child"))
        trail = (
            StepResult(1, recorded.steps[0], Answer({"ret": 0, "errno": 0})),
            StepResult(2, recorded.steps[1], Answer({"ret": -1, "errno": "EBADF"}, "vfs.closed", 9)),
        )
        return attrs.evolve(DIFFERS, difference=trail[1], trail=trail, steps=2)

    def test_shows_both_sides_and_the_rule(self, verdict: Verdict) -> None:
        assert list(describe(verdict)) == [
            "6.1/blk: two  [blk.jsonl:1]  differs",
            "  step 2 of 2: [child] poll fd=dev events=5 timeout_ms=0",
            "    expected  ret=1 errno=0 revents=5",
            "    got       ret=-1 errno=EBADF",
            "    rule      vfs.closed (inside the kernel: 9)",
        ]

    def test_shows_the_steps_before_when_asked(self, verdict: Verdict) -> None:
        assert "      1 sleep ms=1 -> ret=0 errno=0" in list(describe(verdict, verbose=True))

    def test_says_why_a_line_is_no_case(self) -> None:
        bad = attrs.evolve(AGREES, name="", outcome="unreadable", reason="blk.jsonl:1: no JSON")
        assert list(describe(bad)) == ["6.1/blk: (no case)  [blk.jsonl:1]  unreadable", "  blk.jsonl:1: no JSON"]

    def test_shortens_long_values(self, case: Make, step: Step) -> None:
        recorded = case(step("poke", addr="$m", data="ab" * VALUE_MAX)).steps[0]
        verdict = attrs.evolve(DIFFERS, difference=StepResult(1, recorded, Answer({"ret": -1, "errno": "EFAULT"})))
        assert max(map(len, describe(verdict))) < 2 * VALUE_MAX

    def test_json_holds_counts_and_what_does_not_agree(self, verdict: Verdict) -> None:
        report = json.loads(json.dumps(as_json([AGREES, verdict, QUIET])))
        assert report["clean"] is False
        assert report["sets"]["6.1"]["cases"] == 3
        assert report["sets"]["6.1"]["with data path"] == {"cases": 2, "agrees": 1}
        assert report["sets"]["6.1"]["topics"]["blk"] == {"agrees": 1, "differs": 1}
        assert [entry["case"] for entry in report["cases"]] == ["two"]
        difference = report["cases"][0]["difference"]
        assert (difference["step"], difference["got"]["errno"], difference["rule"]) == (2, "EBADF", "vfs.closed")


ROW = '[[difference]]\nset = "6.1"\ntopic = "{topic}"\ncase = "{case}"\nreason = "{reason}"\n'


class TestAcceptedDifferences:
    def load(self, path: Path, *rows: tuple[str, str, str]) -> dict[tuple[str, str], str]:
        file = path / "differences.toml"
        file.write_text("".join(ROW.format(topic=topic, case=case, reason=reason) for topic, case, reason in rows))
        return load_accepted(file)

    def test_have_a_reason_each(self, tmp_path: Path) -> None:
        assert self.load(tmp_path, ("misc", "a", "why")) == {("6.1", "a"): "why"}
        with pytest.raises(ReviewError, match="reason"):
            self.load(tmp_path, ("misc", "a", " "))

    def test_are_few(self, tmp_path: Path) -> None:
        rows = [("misc", f"case{n}", "why") for n in range(ACCEPTED_MAX + 1)]
        assert len(self.load(tmp_path, *rows[:-1])) == ACCEPTED_MAX
        with pytest.raises(ReviewError, match="at most 5"):
            self.load(tmp_path, *rows)

    def test_are_never_about_the_iotlb(self, tmp_path: Path) -> None:
        with pytest.raises(ReviewError, match="iotlb_overlap"):
            self.load(tmp_path, ("iotlb_overlap", "a", "why"))

    def test_that_lack_a_key_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "d.toml").write_text('[[difference]]\nset = "6.1"\n')
        with pytest.raises(ReviewError):
            load_accepted(tmp_path / "d.toml")

    def test_of_the_package_obey_the_rules_and_name_public_cases(self, root: Path, golden: Path) -> None:
        accepted = load_accepted(root / "vdpasim" / "conform" / "differences.toml")
        for collection, name in accepted:
            lines = [path.read_text() for path in (golden / collection).glob("*.jsonl")]
            assert any(f'"case": "{name}"' in text for text in lines)


class TestAgreement:
    def check(self, path: Path, without: int, using: int) -> tuple[list[str], list[str]]:
        (path / "a.toml").write_text(f'["6.1"]\nwithout_data_path = {without}\nwith_data_path = {using}\n')
        result = check_agreement(path / "a.toml", tally([AGREES, DIFFERS, QUIET]))
        return result.fallen, result.risen

    def test_that_is_as_the_file_says_is_silent(self, tmp_path: Path) -> None:
        assert self.check(tmp_path, 1, 1) == ([], [])

    def test_that_fell_is_a_failure(self, tmp_path: Path) -> None:
        assert self.check(tmp_path, 1, 2) == (["6.1: with_data_path = 1, the agreement file says 2"], [])

    def test_that_rose_is_to_be_written_down(self, tmp_path: Path) -> None:
        assert self.check(tmp_path, 0, 1) == ([], ["6.1: without_data_path = 1, the agreement file says 0"])

    def test_of_a_set_that_was_not_replayed_says_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_text('["6.12"]\nwithout_data_path = 9\nwith_data_path = 9\n')
        assert check_agreement(tmp_path / "a.toml", tally([AGREES])).fallen == []

    def test_file_with_other_keys_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_text('["6.1"]\nall = 9\n')
        with pytest.raises(ReviewError):
            check_agreement(tmp_path / "a.toml", tally([AGREES]))
