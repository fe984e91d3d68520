"""Random schedules: the n-th depends on seed and n only."""

from __future__ import annotations

from tests.explore.bodies import race, two_writers
from vdpasim.explore import explore
from vdpasim.explore.campaign import Plan
from vdpasim.explore.strategy import Settings
from vdpasim.explore.strategy_random import RandomPolicy

THREADS = ["a", "b", "c"]


def draws(seed: int, number: int) -> list[int]:
    policy = RandomPolicy(seed, number)
    return [policy.choose(THREADS, THREADS) for _ in range(30)]


def test_a_schedule_depends_on_seed_and_number() -> None:
    assert draws(1, 2) == draws(1, 2)
    assert draws(1, 2) != draws(2, 1)
    assert set(draws(0, 0)) == {0, 1, 2}


def test_it_never_ends_and_is_never_complete() -> None:
    campaign = explore(two_writers, strategy="random", schedules=150)
    assert (campaign.schedules, campaign.complete, campaign.distinct) == (150, False, 2)


def test_seeds_are_other_campaigns() -> None:
    firsts = {
        Plan(race("read_update"), "random", 64, Settings(seed=seed)).run().failures[0].schedule for seed in range(3)
    }
    assert len(firsts) == 3
