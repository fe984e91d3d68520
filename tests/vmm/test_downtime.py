"""The ways to hand a device over, counted."""

from __future__ import annotations

import pytest

from vdpasim.vmm.downtime import UNITS, WAYS, Guest, Mode, NotPossible, Run, Way, kernel_for, measure, span

V1 = "6.12+live-update-v1"
WAY = {way.name: way for way in WAYS}
EVERY = [(way, mode) for way in WAYS for mode in way.modes]
RING = 256


def total(run: Run) -> dict[str, int]:
    return {unit: sum(counts[unit] for counts in run.steps.values()) for unit in UNITS}


def test_a_region_is_an_entry_in_va_mode_and_one_for_each_run_in_pa_mode() -> None:
    guest = Guest(regions=3, runs=4, pages=2)
    va = measure(V1, "va", WAY["INVALIDATE+UPDATE"], guest)
    assert va.values == {"regions": 4, "entries": 4, "pages": RING + 24}
    pa = measure(V1, "pa", WAY["INVALIDATE+UPDATE"], guest)
    assert pa.values == {"regions": 4, "entries": RING + 12, "pages": RING + 24}


@pytest.mark.parametrize(("way", "mode"), EVERY, ids=lambda one: getattr(one, "name", one))
def test_steps_are_those_of_the_downtime(way: Way, mode: Mode) -> None:
    run = measure(V1, mode, way, Guest(2, 1, 1))
    assert list(run.steps) == span(way.variant)
    assert (span(way.variant)[0], span(way.variant)[-1]) == ("suspend", "run")
    assert run.steps["suspend"]["ioctl"] == 1


def test_remap_is_a_message_for_each_entry_and_one_push() -> None:
    run = measure(V1, "va", WAY["REMAP"], Guest(20, 1, 1))
    at = run.steps["remap"]
    assert (at["message"], at["byte"], at["pushed"]) == (2 + 21, 72 * (2 + 21), 21)
    assert (total(run)["pin"], total(run)["unpin"]) == (0, 0)


def test_new_owner_alone_touches_no_page() -> None:
    counts = total(measure(V1, "pa", WAY["NEW_OWNER only"], Guest(20, 1, 4)))
    assert {unit: counts[unit] for unit in UNITS if unit != "ioctl"} == dict.fromkeys(set(UNITS) - {"ioctl"}, 0)


@pytest.mark.parametrize(("name", "messages"), [("INVALIDATE+UPDATE", 2 + 2 * 21), ("reset", 2 + 21)])
def test_mapping_anew_pins_every_page_again_in_pa_mode(name: str, messages: int) -> None:
    run = measure(V1, "pa", WAY[name], Guest(20, 1, 4))
    counts = total(run)
    assert counts["pin"] == counts["unpin"] == RING + 80
    assert counts["pushed"] == RING + 20
    assert counts["message"] == messages
    where = "reset" if name == "reset" else "remap"
    assert run.steps[where]["unpin"] == RING + 80


def test_reset_needs_no_series_and_the_others_say_what_is_missing() -> None:
    assert total(measure("6.12", "va", WAY["reset"], Guest(2, 1, 1)))["open"] == 2
    for way, mode in EVERY:
        if way.name != "reset":
            with pytest.raises(NotPossible, match=r"check ends with EOPNOTSUPP, .* NEW_OWNER"):
                measure("6.12", mode, way, Guest(2, 1, 1))


def test_a_step_that_the_kernel_refuses_is_named() -> None:
    with pytest.raises(NotPossible, match="step run ends with "):
        measure("6.1+live-update-v1", "pa", WAY["NEW_OWNER only"], Guest(2, 1, 1))


def test_a_kernel_without_va_mode_says_so() -> None:
    with pytest.raises(NotPossible, match="user addresses"):
        measure("6.1", "va", WAY["reset"], Guest(2, 1, 1))


@pytest.mark.parametrize(
    ("kernel", "mode", "guest", "expected"),
    [
        (V1, "va", Guest(2047, 1, 1), V1),
        (V1, "va", Guest(2048, 1, 1), V1 + "-F1"),
        (V1, "pa", Guest(2047, 1, 1), V1 + "-F1"),
        (V1, "pa", Guest(500, 4, 1), V1 + "-F1"),
        ("7.1+live-update-v1", "pa", Guest(5000, 1, 1), "7.1+live-update-v1"),
    ],
)
def test_more_entries_than_f1_allows_are_run_without_it(kernel: str, mode: Mode, guest: Guest, expected: str) -> None:
    assert kernel_for(kernel, mode, guest) == expected


def test_the_limit_of_entries_is_what_it_is_said_to_be() -> None:
    assert measure(V1, "va", WAY["REMAP"], Guest(2047, 1, 1)).values["entries"] == 2048
    assert measure(V1, "va", WAY["REMAP"], Guest(2048, 1, 1)).values["entries"] == 2049
