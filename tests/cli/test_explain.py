"""``vdpasim explain`` as its users call it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from vdpasim.cli.explain import command, kernels, visible
from vdpasim.core.profiles import PROFILES
from vdpasim.core.rules import RULES
from vdpasim.core.switches import SWITCHES
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def explain(*words: str) -> Result:
    return CliRunner().invoke(command, list(words))


def lines(*words: str) -> dict[str, str]:
    """What is printed, by label; a label that comes more than once keeps its last line."""
    result = explain(*words)
    assert result.exit_code == 0, result.output
    return {line[2:10].strip(): line[12:] for line in result.output.splitlines()[1:]}


class TestRule:
    def test_says_where_when_and_which_errno(self) -> None:
        shown = lines("vhost.vring.addr-align")
        assert shown["where"] == "vhost.c:vhost_vring_set_addr()"
        assert "multiple of 4" in shown["when"]
        assert shown["errno"] == "EINVAL (22)"
        assert shown["why"]

    def test_a_refused_message_is_efault_for_the_writer(self) -> None:
        assert lines("vdpa.iotlb.update-overlap")["errno"].startswith("EEXIST (17); write() answers EFAULT (14)")

    def test_an_unknown_request_is_enotty_for_the_caller(self) -> None:
        assert lines("vhost.ioctl.unknown")["errno"] == "ENOIOCTLCMD(515); ioctl() answers ENOTTY (25)"

    def test_524_reaches_the_caller_as_it_is(self) -> None:
        assert lines("vdpa.mmap.unsupported")["errno"] == "ENOTSUPP(524)"

    def test_nobody_sees_what_the_device_meets_in_a_ring(self) -> None:
        assert "no caller sees it" in lines("vringh.chain.loop")["errno"]

    def test_a_quirk_is_no_refusal(self) -> None:
        assert lines("vhost.read.small")["errno"] == "none: a quirk, not a refusal"

    def test_a_rule_without_switches_holds_on_every_kernel(self) -> None:
        assert lines("vhost.owner.busy")["kernels"] == "6.1, 6.12, 7.1, tip"

    def test_a_rule_of_a_fix_holds_where_the_fix_is(self) -> None:
        shown = lines("vdpa.vring.num-max")
        assert shown["kernels"] == "6.12, tip"
        assert shown["switch"] == f"F4: {SWITCHES['F4'].doc}"

    def test_a_rule_of_a_bug_holds_where_the_fix_is_not(self) -> None:
        shown = lines("vdpa.config-call.lost")
        assert shown["kernels"] == "7.1"
        assert shown["switch"].startswith("F5 off: ")

    def test_a_rule_of_a_series_holds_on_no_plain_kernel(self) -> None:
        shown = lines("vdpa.remap.inexact")
        assert shown["kernels"].startswith("none as it is")
        assert shown["switch"].startswith("live-update-v1 or live-update-v2: ")

    def test_what_no_kernel_has_is_marked(self) -> None:
        assert lines("miss.stopped")["kernels"] == "none: this is not a kernel's behaviour"

    def test_evidence_is_counted_and_named(self) -> None:
        shown = lines("vdpa.open.busy")["evidence"]
        assert " golden cases: 6.1/open_dup_child_net, " in shown

    def test_without_a_case_the_row_says_where_the_knowledge_comes_from(self) -> None:
        assert lines("vdpa.config-call.lost")["evidence"] == "read in source; no golden case comes to it"

    @pytest.mark.parametrize("rule", ["vdpa.remap.pinned", "fault.injected", "miss.stopped"])
    def test_what_is_of_no_kernel_was_read_nowhere(self, rule: str) -> None:
        assert lines(rule)["evidence"] == "vdpasim's own; no kernel has it"

    def test_several_are_told_apart_by_an_empty_line(self) -> None:
        output = explain("vdpa.open.busy", "vhost.owner.busy").output
        assert [part.splitlines()[0] for part in output.split("\n\n")] == ["vdpa.open.busy", "vhost.owner.busy"]


class TestEveryRow:
    def test_names_switches_that_exist(self) -> None:
        assert {name for rule in RULES.values() for name in rule.switch_names()} <= set(SWITCHES)

    def test_can_hold_somewhere(self) -> None:
        # some kernel has it, or a series brings it, or it is this package's own device
        series = [on | {"live-update-v1", "live-update-v2", "lu-advertise"} for on in PROFILES.values()]
        nowhere = {
            rule.id
            for rule in RULES.values()
            if not kernels(rule) and not rule.where.startswith("vdpasim:") and not any(rule.holds(on) for on in series)
        }
        assert nowhere == set()

    def test_with_an_internal_errno_says_what_the_caller_sees(self) -> None:
        internal = [rule for rule in RULES.values() if rule.errno >= E.ERESTARTSYS and rule.errno != E.ENOTSUPP]
        assert internal
        assert [rule.id for rule in internal if not visible(rule)] == []

    def test_is_printed(self) -> None:
        output = explain(*RULES).output
        assert [part.splitlines()[0] for part in output.split("\n\n")] == list(RULES)


class TestSwitch:
    def test_says_what_it_changes_and_where_it_is_on(self) -> None:
        shown = lines("F4")
        assert shown["on"] == SWITCHES["F4"].doc
        assert shown["kernels"] == "on in 6.12, tip; off in 6.1, 7.1"
        assert shown["use"] == "--kernel 7.1+F4"
        assert shown["rule"].startswith("vdpa.vring.num-max: ")

    def test_of_a_bug_says_when_it_was_mended(self) -> None:
        shown = lines("bug-stale-misses")
        assert (shown["fixed"], shown["use"]) == ("6.2", "--kernel tip+bug-stale-misses")
        assert "since" not in shown

    def test_that_every_kernel_has_is_shown_switched_off(self) -> None:
        assert lines("F15")["use"] == "--kernel 6.1-F15"

    def test_says_what_it_brings_along(self) -> None:
        assert lines("live-update-v1")["brings"] == "lu-advertise"

    def test_that_changes_nothing_says_why_and_cannot_be_chosen(self) -> None:
        shown = lines("F13")
        assert shown["effect"] == f"none in this simulator: {SWITCHES['F13'].unmodelled}"
        assert "use" not in shown

    @pytest.mark.parametrize("name", SWITCHES)
    def test_every_one_is_printed(self, name: str) -> None:
        assert explain(name).output.startswith(f"{name} (a switch)\n")


OWN = """
from vdpasim.core.rules import Rule
from vdpasim.core.series import Series
from vdpasim.uapi import errno as E

RULES = (Rule("my.refusal", "my.c:check()", E.EBUSY, "when it refuses"), Rule("my.second", "my.c:act()", 0, "now"))
SERIES = Series("my-explained", "what it is for", rules=RULES)
"""


@pytest.mark.usefixtures("registry")
class TestSeriesOfYourOwn:
    @pytest.fixture
    def mine(self, tmp_path: Path) -> str:
        path = tmp_path / "mine.py"
        path.write_text(OWN)
        return str(path)

    def test_brings_its_rules_which_no_kernel_has(self, mine: str) -> None:
        shown = lines("my.refusal", "--series", mine)
        assert (shown["where"], shown["errno"]) == ("my.c:check()", "EBUSY (16)")
        assert (shown["series"], shown["kernels"]) == ("my-explained", "none as it is; a profile with the series added")
        family = explain("my", "--series", mine).output.splitlines()
        assert [line.split()[0] for line in family] == ["my.refusal", "my.second"]

    def test_is_a_switch_that_its_file_turns_on(self, mine: str) -> None:
        assert lines("my-explained", "--series", mine)["use"] == "--series FILE"

    def test_is_asked_for_where_a_word_is_not_known(self) -> None:
        assert "those of a series of your own need --series FILE" in " ".join(explain("my.refusal").output.split())

    def test_that_is_no_file_is_a_mistake(self) -> None:
        result = explain("my.refusal", "--series", "nothing.py")
        assert (result.exit_code, "neither a series nor a file" in result.output) == (2, True)


class TestList:
    def test_of_everything_has_a_line_for_each(self) -> None:
        output = explain().output.splitlines()
        assert [line.split()[0] for line in output] == sorted(RULES)

    def test_of_a_family_has_its_members_only(self) -> None:
        for word in ("vdpa.iotlb", "vdpa.iotlb."):
            names = [line.split()[0] for line in explain(word).output.splitlines()]
            assert names == sorted(name for name in RULES if name.startswith("vdpa.iotlb."))

    def test_shows_the_errno(self) -> None:
        assert explain("vdpa.open").output.split()[:2] == ["vdpa.open.busy", "EBUSY"]


class TestUnknown:
    def test_exits_2_with_the_nearest(self) -> None:
        result = explain("vhost.mem.regoins")
        assert result.exit_code == 2
        assert "nearest: vhost.mem.regions" in result.output

    def test_like_nothing_points_at_the_list(self) -> None:
        result = explain("%%%")
        assert result.exit_code == 2
        assert "`vdpasim explain` lists them" in result.output

    def test_spoils_the_whole_call(self) -> None:
        assert "EBUSY" not in explain("vdpa.open.busy", "nonsense").output


class TestJson:
    def rows(self, *words: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(explain(*words, "--json").output)
        return rows

    def test_has_an_object_a_word(self) -> None:
        rule, switch = self.rows("vdpa.open.busy", "F4")
        assert (rule["id"], rule["errno"], rule["name"]) == ("vdpa.open.busy", 16, "EBUSY")
        assert rule["evidence"] == "golden cases"
        assert rule["cases"] >= len(rule["first_cases"]) > 0
        assert (switch["switch"], switch["rules"], switch["unmodelled"]) == ("F4", ["vdpa.vring.num-max"], "")

    def test_of_everything_has_every_rule(self) -> None:
        assert {row["id"] for row in self.rows()} == set(RULES)


class TestCounts:
    def test_add_up(self) -> None:
        counts: dict[str, int] = json.loads(explain("--counts", "--json").output)
        total = counts.pop("rules")
        assert total == len(RULES)
        assert sum(counts.values()) == total
        assert set(counts) == {"golden cases", "read in source", "inferred", "vdpasim's own"}

    def test_are_printed(self) -> None:
        assert explain("--counts").output.splitlines()[0].split() == ["rules", str(len(RULES))]
