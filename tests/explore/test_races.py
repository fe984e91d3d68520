"""The planted races are found within their budget from ten seeds; their fixed twins are explored without a finding."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.explore.bodies import race
from vdpasim.explore.campaign import BATCH, Plan
from vdpasim.explore.strategy import Settings

SEEDS = range(10)
PAGE = (Path(__file__).parents[2] / "docs" / "explore.md").read_text("utf-8")

BUDGETS = [
    ("read_update", "random", 64, "queue.stalled"),
    ("read_update", "pct", 128, "queue.stalled"),
    ("close_write", "random", 64, "kernel.oops"),
    ("close_write", "pct", 128, "kernel.oops"),
    ("kick_suspend", "random", 64, "queue.stalled"),
    ("kick_suspend", "pct", 128, "queue.stalled"),
    ("invalidate_update", "random", 64, "vmm.update-refused"),
    ("invalidate_update", "pct", 64, "vmm.update-refused"),
    ("backend_fd", "random", 128, "kernel.oops"),
    ("backend_fd", "pct", 128, "kernel.oops"),
    ("config_interrupt", "random", 64, "kernel.oops"),
    ("config_interrupt", "pct", 64, "kernel.oops"),
    ("call_interrupt", "random", 128, "kernel.oops"),
    ("call_interrupt", "pct", 256, "kernel.oops"),
    ("vring_num", "random", 64, "vring.size-lost"),
    ("vring_num", "pct", 64, "vring.size-lost"),
]
"""Race, strategy, schedules that must be enough from each seed, what is found."""

TWINS = {
    "close_write": 126,
    "kick_suspend": 58,
    "invalidate_update": 694,
    "backend_fd": 6,
    "config_interrupt": 8,
    "call_interrupt": 165,
    "vring_num": 3,
    "read_update": 9655,
}
"""Race, and the number of schedules of its fixed twin: all there are, without a bound on preemptions."""


@pytest.mark.parametrize(("name", "strategy", "budget", "ident"), BUDGETS)
def test_it_is_found_within_its_budget(name: str, strategy: str, budget: int, ident: str) -> None:
    for seed in SEEDS:
        campaign = Plan(race(name), strategy, budget, Settings(seed)).run()
        assert campaign.failures, f"not found from seed {seed} in {budget} schedules"
        assert ident in campaign.failures[0].ids


@pytest.mark.parametrize(
    ("name", "schedules"), [pytest.param(*row, marks=[pytest.mark.slow] * (row[1] > 1000)) for row in TWINS.items()]
)
def test_the_fixed_twin_is_fine(name: str, schedules: int) -> None:
    campaign = Plan(race(f"{name}_fixed"), schedules=2 * schedules).run()
    campaign.check()
    assert campaign.complete
    assert campaign.schedules == schedules


@pytest.mark.parametrize("name", TWINS)
def test_the_first_batch_of_dfs_finds_it(name: str) -> None:
    assert Plan(race(name), schedules=BATCH).run().failures


def test_the_page_says_the_same() -> None:
    rows = re.findall(r"^\| `(\w+)` .*\| (\d+): 10 of 10 .*\| (\d+): 10 of 10 .*\| (\d+) \|$", PAGE, re.MULTILINE)
    budgets = {(name, strategy): budget for name, strategy, budget, _ in BUDGETS}
    assert {row[0]: tuple(map(int, row[1:])) for row in rows} == {
        name: (budgets[name, "random"], budgets[name, "pct"], schedules) for name, schedules in TWINS.items()
    }
