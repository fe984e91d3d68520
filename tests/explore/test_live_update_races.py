"""The races of the live-update catalogue are found; their twins are explored to the end without a finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from vdpasim.explore import Target
from vdpasim.explore.campaign import Plan
from vdpasim.explore.strategy import Settings
from vdpasim.scenario.loader import load

FILE = Path(__file__).parents[2] / "scenarios" / "live_update" / "races.py"

FOUND = [
    ("lu02_in_flight_at_exec", "dma.after-handover"),
    ("lu05_kick_beside_suspend", "queue.stalled"),
    ("lu23_unplugged_meanwhile", "vmm.remap-refused"),
]
TWINS = ["lu02_fixed", "lu05_fixed", "lu23_fixed"]
KERNELS = ["6.12+live-update-v1", "6.12+live-update-fixed"]


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
