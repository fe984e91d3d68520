"""Which kernel a story names stands for one that it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.core import rules, series
from vdpasim.core.profiles import IMPLIED, ProfileError
from vdpasim.core.series.live_update import V2 as V2_SERIES
from vdpasim.core.series.live_update_fixed import FIXED as FIXED_SERIES
from vdpasim.core.switches import SWITCHES
from vdpasim.scenario.expectation import stands_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.core.series import Series

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
GUARDED, SAME_OBJECT = FIXED + "+lu-guard-resume", FIXED + "+lu-guard-same-object"
SERIES = (V1, V2, FIXED)


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What a test registers is gone behind it."""
    series.load()
    kept = dict(series.SERIES), dict(SWITCHES), dict(IMPLIED), dict(rules.RULES)
    yield
    for table, before in zip((series.SERIES, SWITCHES, IMPLIED, rules.RULES), kept, strict=True):
        table.clear()  # type: ignore[attr-defined]
        table.update(before)  # type: ignore[attr-defined]


def derived(parent: Series, name: str) -> str:
    series.register(parent.derive(name, "a user's"))
    return name


@pytest.fixture
def own() -> str:
    """A series of a user's own, derived from v2."""
    return derived(V2_SERIES, "my-own-v3")


def test_a_kernel_that_is_named_stands_for_itself() -> None:
    assert stands_for(V1, ["6.12", V1]) == V1


def test_the_order_of_switches_makes_no_difference() -> None:
    assert stands_for("6.12+lu-advertise+live-update-v2", SERIES) == V2
    assert stands_for("6.12+lu-guard-resume+live-update-fixed", [FIXED, GUARDED]) == GUARDED


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.1", "tip", "6.12-F4"])
def test_the_same_series_on_another_kernel(kernel: str) -> None:
    assert stands_for(f"{kernel}+live-update-v1", SERIES) == V1
    assert stands_for(f"{kernel}+live-update-v2+lu-advertise", SERIES) == V2
    assert stands_for(f"{kernel}+live-update-fixed", SERIES) == FIXED


def test_a_guard_the_story_does_not_name_makes_no_difference() -> None:
    assert stands_for(GUARDED, SERIES) == FIXED
    assert stands_for(SAME_OBJECT, [FIXED, GUARDED]) == FIXED


def test_of_several_guards_as_many_as_are_named() -> None:
    both = "7.1+live-update-fixed+lu-guard-resume+lu-guard-same-object"
    assert stands_for(both, [FIXED, GUARDED]) == GUARDED
    assert stands_for(both, [FIXED, SAME_OBJECT]) == SAME_OBJECT


def test_without_the_guard_nothing_of_the_guarded_kernel_is_expected() -> None:
    assert stands_for("7.1+live-update-fixed", [GUARDED]) is None


def test_of_the_same_series_the_nearest_kernel() -> None:
    forgets = "6.12+live-update-v1-pending-kick"
    assert stands_for("6.12-pending-kick+live-update-v1", [V1, forgets]) == forgets
    assert stands_for("7.1+live-update-v1", [forgets, V1]) == V1
    assert stands_for("7.1+live-update-v1-pending-kick", [V1, forgets]) == forgets


def test_a_series_of_the_users_own_is_expected_to_be_right(own: str) -> None:
    assert stands_for(f"6.12+{own}+lu-advertise", SERIES) == FIXED
    assert stands_for(f"6.12+{own}+lu-advertise", [V1, V2]) is None, "v1 and v2 have defects"


def test_it_is_guarded_only_if_it_has_the_step(own: str) -> None:
    guarding = derived(FIXED_SERIES, "my-fixed")
    for name, option in ((GUARDED, "lu-guard-resume"), (SAME_OBJECT, "lu-guard-same-object")):
        assert stands_for(f"7.1+{own}+lu-advertise+{option}", [FIXED, name]) == FIXED
        assert stands_for(f"7.1+{guarding}+lu-advertise+{option}", [FIXED, name]) == name


def test_unless_the_story_names_it(own: str) -> None:
    mine = f"6.12+{own}+lu-advertise"
    assert stands_for(f"7.1+{own}+lu-advertise", [FIXED, mine]) == mine


def test_a_series_of_which_nothing_is_said_makes_no_difference(own: str) -> None:
    assert stands_for("6.1+live-update-v1", ["6.1", "tip"]) == "6.1"
    assert stands_for("6.12+live-update-v2", ["6.12", *SERIES]) == "6.12", "no device offers anything"
    assert stands_for(f"tip+{own}", ["6.1", "tip"]) == "tip"


def test_a_shipped_series_is_not_measured_by_another() -> None:
    assert stands_for("7.1+live-update-v1", [FIXED]) is None


def test_nothing_is_guessed_of_a_kernel_without_a_series() -> None:
    assert stands_for("6.12", ["6.1", "tip", V1]) is None
    assert stands_for("tip", []) is None


def test_what_is_no_kernel_is_said() -> None:
    with pytest.raises(ProfileError, match="no kernel profile"):
        stands_for("9.9", ["6.12"])
