"""Profile strings: what a kernel is called, and what that turns on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.core.profiles import IMPLIED, PROFILES, ProfileError, parse
from vdpasim.core.switches import SWITCHES

MODELLED = sorted(name for name, switch in SWITCHES.items() if not switch.unmodelled)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_a_set_of_known_switches(name: str) -> None:
    assert PROFILES[name] <= set(SWITCHES)
    switches = parse(name)
    assert (switches.spec, switches.names) == (name, PROFILES[name])


def test_features_are_never_taken_away_by_a_newer_kernel() -> None:
    def features(name: str) -> set[str]:
        return {one for one in PROFILES[name] if not one.startswith("F")}

    assert features("6.1") < features("6.12") < features("7.1") == features("tip")


@pytest.mark.parametrize(
    ("fix", "kernels"),
    [
        ("F1", {"6.1", "6.12", "tip"}),
        ("F4", {"6.12", "tip"}),
        ("F9", {"6.12", "tip"}),
        ("F11", {"6.12", "tip"}),
        ("F14", {"6.1", "6.12", "7.1", "tip"}),
        ("F12", {"tip"}),
    ],
)
def test_fixes_went_to_stable_kernels_unevenly(fix: str, kernels: set[str]) -> None:
    assert {name for name, on in PROFILES.items() if fix in on} == kernels


def test_no_profile_has_a_series_that_never_merged() -> None:
    assert not any(one.startswith(("live-update", "lu-")) for on in PROFILES.values() for one in on)


@pytest.mark.parametrize(
    ("spec", "added", "removed"),
    [
        ("6.1+va-mode", {"va-mode"}, set()),
        ("6.12-F4", set(), {"F4"}),
        ("6.12-F4+F4", set(), set()),
        ("6.12-F4-F5+vhost-in-order", {"vhost-in-order"}, {"F4", "F5"}),
        ("6.12+live-update-v1", {"live-update-v1", "lu-advertise"}, set()),
        ("6.12+live-update-v1-lu-advertise", {"live-update-v1"}, set()),
        ("6.12+live-update-v2", {"live-update-v2"}, set()),
        ("tip-ring-needs-suspend", set(), {"ring-needs-suspend"}),
    ],
)
def test_words_are_applied_from_left_to_right(spec: str, added: set[str], removed: set[str]) -> None:
    base = PROFILES[spec.partition("+")[0].partition("-")[0]]
    assert parse(spec).names == (base | added) - removed


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "no kernel profile"),
        ("6.13", "did you mean 6.1"),
        ("+F1", "no kernel profile"),
        ("6.12F4", "no kernel profile"),
        ("6.12+", "no switch at '\\+'"),
        ("6.12+F99", "no switch at '\\+F99'"),
        ("6.12+live-update-v10", "did you mean live-update-v1"),
        ("6.12-F12", "-F12 would change nothing: only its title is known"),
        ("6.12 +F4", "no kernel profile"),
    ],
)
def test_a_string_that_is_none_says_where_and_what_is_near(spec: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        parse(spec)


@pytest.mark.parametrize(
    ("spec", "switch"),
    [
        ("6.12+my-v3", "my-v3"),
        ("6.12+F1+my-v3+lu-advertise", "my-v3"),
        ("6.12+my-v3-F1-lu-advertise", "my-v3"),
        ("6.12-F99", "F99"),
        ("6.12+", ""),
        ("6.13", ""),
    ],
)
def test_the_switch_there_is_not_is_named(spec: str, switch: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse(spec)
    assert caught.value.switch == switch


def test_what_is_implied_exists() -> None:
    for name, brought in IMPLIED.items():
        assert {name} | brought <= set(SWITCHES)


@given(st.sampled_from(sorted(PROFILES)), st.lists(st.tuples(st.sampled_from("+-"), st.sampled_from(MODELLED))))
def test_any_mixture_is_a_kernel(base: str, words: list[tuple[str, str]]) -> None:
    wanted = set(PROFILES[base])
    for sign, word in words:
        wanted = wanted | {word} | IMPLIED.get(word, frozenset()) if sign == "+" else wanted - {word}
    assert parse(base + "".join(sign + word for sign, word in words)).names == wanted


@given(st.text(max_size=30))
def test_any_text_is_a_kernel_or_an_error(text: str) -> None:
    try:
        assert parse(text).spec == text
    except ProfileError as error:
        assert str(error)
