"""The planted races are found within their budget from ten seeds; their fixed twins are explored without a finding."""

from __future__ import annotations

import pytest

from tests.explore.bodies import race
from vdpasim.explore.campaign import Plan
from vdpasim.explore.strategy import Settings

SEEDS = range(10)

BUDGETS = [
    ("read_update", "random", 64, "queue.stalled"),
    ("read_update", "pct", 128, "queue.stalled"),
    ("close_write", "random", 64, "kernel.oops"),
    ("close_write", "pct", 256, "kernel.oops"),
    ("kick_suspend", "random", 64, "queue.stalled"),
    ("kick_suspend", "pct", 128, "queue.stalled"),
    ("invalidate_update", "random", 64, "vmm.update-refused"),
    ("invalidate_update", "pct", 64, "vmm.update-refused"),
]
"""Race, strategy, schedules that must be enough from each seed, what is found."""

TWINS = [("read_update", 1), ("close_write", None), ("kick_suspend", 2), ("invalidate_update", 2)]
"""Race, and the bound on preemptions within which its fixed twin is explored; None: without one."""


@pytest.mark.parametrize(("name", "strategy", "budget", "ident"), BUDGETS)
def test_it_is_found_within_its_budget(name: str, strategy: str, budget: int, ident: str) -> None:
    for seed in SEEDS:
        campaign = Plan(race(name), strategy, budget, Settings(seed)).run()
        assert campaign.failures, f"not found from seed {seed} in {budget} schedules"
        assert campaign.failures[0].ids == (ident,)


@pytest.mark.parametrize(("name", "preemptions"), TWINS)
def test_the_fixed_twin_is_fine(name: str, preemptions: int | None) -> None:
    campaign = Plan(race(f"{name}_fixed"), "dfs", 5000, Settings(preemptions=preemptions)).run()
    campaign.check()
    assert campaign.complete


@pytest.mark.parametrize(("name", "preemptions"), TWINS)
def test_the_race_is_found_where_its_twin_is_fine(name: str, preemptions: int | None) -> None:
    assert Plan(race(name), "dfs", 5000, Settings(preemptions=preemptions)).run().failures
