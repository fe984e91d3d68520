"""Switches: one name for every difference between kernels."""

from __future__ import annotations

import re

from vdpasim.core.profiles import PROFILES
from vdpasim.core.switches import SWITCHES, Switches


def test_a_switch_says_what_is_different() -> None:
    for name, switch in SWITCHES.items():
        assert switch.name == name
        assert switch.doc


def test_every_fix_of_the_list_has_its_name() -> None:
    assert [name for name in SWITCHES if re.fullmatch(r"F\d+", name)] == [f"F{n}" for n in range(1, 17)]


def test_only_series_that_never_merged_have_no_kernel() -> None:
    assert {name for name, one in SWITCHES.items() if not one.since and not one.fixed} == {
        "live-update-v1",
        "live-update-v2",
        "live-update-fixed",
        "lu-drops-old-mm",
        "lu-guard-resume",
        "lu-guard-same-object",
        "lu-advertise",
    }


def test_a_bug_that_was_mended_is_named_for_what_it_is_and_in_no_profile() -> None:
    mended = {name for name, one in SWITCHES.items() if one.fixed}
    assert {name for name in mended if not name.startswith("bug-")} == set()
    assert [name for name, on in PROFILES.items() if mended & on] == []


def test_the_set_of_one_kernel_is_asked_by_name_and_listed_in_order() -> None:
    switches = Switches("mine", frozenset({"F9", "F1"}))
    assert "F1" in switches
    assert "F2" not in switches
    assert list(switches) == ["F1", "F9"]
