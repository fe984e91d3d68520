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
    ("read_update", "random", 64, 11, "miss.unanswered"),
    ("read_update", "pct", 128, 19, "miss.unanswered"),
    ("close_write", "random", 64, 19, "kernel.oops"),
    ("close_write", "pct", 128, 47, "kernel.oops"),
    ("kick_suspend", "random", 64, 4, "queue.stalled"),
    ("kick_suspend", "pct", 128, 10, "queue.stalled"),
    ("invalidate_update", "random", 64, 12, "vmm.update-refused"),
    ("invalidate_update", "pct", 64, 17, "vmm.update-refused"),
    ("backend_fd", "random", 128, 63, "kernel.oops"),
    ("backend_fd", "pct", 128, 65, "kernel.oops"),
    ("config_interrupt", "random", 64, 17, "kernel.oops"),
    ("config_interrupt", "pct", 64, 28, "kernel.oops"),
    ("call_interrupt", "random", 128, 89, "kernel.oops"),
    ("call_interrupt", "pct", 256, 161, "kernel.oops"),
    ("vring_num", "random", 64, 22, "vring.size-lost"),
    ("vring_num", "pct", 64, 20, "vring.size-lost"),
]
"""Race, strategy, schedules that must be enough from each seed, where the slowest seed finds it, what is found."""

TWINS = {
    "close_write": 147,
    "kick_suspend": 58,
    "invalidate_update": 694,
    "backend_fd": 6,
    "config_interrupt": 8,
    "call_interrupt": 165,
    "vring_num": 3,
    "read_update": 9655,
}
"""Race, and the number of schedules of its fixed twin: all there are, without a bound on preemptions."""


@pytest.mark.parametrize(("name", "strategy", "budget", "slowest", "ident"), BUDGETS)
def test_it_is_found_within_its_budget(name: str, strategy: str, budget: int, slowest: int, ident: str) -> None:
    numbers: list[int] = []
    for seed in SEEDS:
        campaign = Plan(race(name), strategy, budget, Settings(seed)).run()
        assert campaign.failures, f"not found from seed {seed} in {budget} schedules"
        assert ident in campaign.failures[0].ids
        numbers.append(campaign.failures[0].number)
    assert max(numbers) == slowest


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
    cell = r"(\d+): 10 of 10 \((\d+)\)"
    rows = re.findall(rf"^\| `(\w+)` .*\| {cell} \| {cell} \| (\d+) \|$", PAGE, re.MULTILINE)
    told = {(name, strategy): (budget, slowest) for name, strategy, budget, slowest, _ in BUDGETS}
    assert {row[0]: tuple(map(int, row[1:])) for row in rows} == {
        name: (*told[name, "random"], *told[name, "pct"], schedules) for name, schedules in TWINS.items()
    }
