"""The races of the live-update catalogue are found, their twins explored to the end; the other twins in some orders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vdpasim.explore import Target
from vdpasim.explore.campaign import Plan
from vdpasim.explore.strategy import Settings
from vdpasim.scenario.loader import load

if TYPE_CHECKING:
    from vdpasim.scenario.loader import Found

FILE = Path(__file__).parents[2] / "scenarios" / "live_update" / "races.py"

FOUND = [
    ("lu02_in_flight_at_exec", "dma.after-handover"),
    ("lu05_kick_beside_suspend", "queue.stalled"),
    ("lu23_unplugged_meanwhile", "vmm.remap-refused"),
]
TWINS = ["lu02_fixed", "lu05_fixed", "lu23_fixed"]
KERNELS = ["6.12+live-update-v1", "6.12+live-update-fixed"]


CORRECT = [
    found for found in load([str(FILE.parent)]) if any(tag.endswith(":twin") for tag in found.scenario.tags)
]
"""Every story without a mistake: most have too many orders for all of them."""


@pytest.mark.parametrize("found", CORRECT, ids=lambda found: found.scenario.name)
def test_a_twin_is_clean_in_other_orders_too(found: Found) -> None:
    target = Target.of(found.scenario, found.ident, found.scenario.kernels[-1])
    Plan(target, "random", 16, Settings(3)).run().check()


def race(name: str, kernel: str) -> Target:
    (found,) = load([f"{FILE}::{name}"])
    return Target.of(found.scenario, found.ident, kernel)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("name", "ident"), FOUND)
def test_the_race_is_found(name: str, ident: str, kernel: str) -> None:
    campaign = Plan(race(name, kernel), "dfs", 5000, Settings(preemptions=2)).run()
    assert {failure.ids for failure in campaign.failures} == {(ident,)}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", TWINS)
def test_the_twin_has_no_other_order(name: str, kernel: str) -> None:
    campaign = Plan(race(name, kernel), "dfs", 5000, Settings(preemptions=2)).run()
    campaign.check()
    assert campaign.complete
