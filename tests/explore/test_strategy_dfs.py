"""The whole tree: every outcome that full enumeration has, with fewer runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.explore.bodies import race, request_and_suspend, two_devices, two_writers
from vdpasim.explore import explore
from vdpasim.explore.campaign import Plan
from vdpasim.explore.strategy import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.sim import Simulator


async def three_steps(sim: Simulator) -> Any:
    """Nothing but actors: a lost update."""
    shared = {"n": 0}

    async def add() -> None:
        seen = shared["n"]
        await sim.settle()
        shared["n"] = seen + 1

    actors = [sim.spawn(add) for _ in range(3)]
    for actor in actors:
        await actor.join()
    return shared["n"]


@pytest.mark.parametrize("body", [two_writers, two_devices, three_steps])
def test_no_outcome_is_missed(body: Callable[..., Any]) -> None:
    full = explore(body, strategy="full", schedules=20_000, go_on=True)
    reduced = explore(body, schedules=20_000, go_on=True)
    assert full.complete
    assert reduced.complete
    assert reduced.keys == full.keys
    assert reduced.schedules <= full.schedules


def test_the_reduction_is_worth_it() -> None:
    full = explore(two_writers, strategy="full", schedules=20_000)
    reduced = explore(two_writers, schedules=20_000)
    assert reduced.schedules + reduced.pruned < full.schedules / 3


@pytest.mark.parametrize("name", ["close_write", "close_write_fixed"])
def test_no_failure_is_missed(name: str) -> None:
    def plan(strategy: str) -> Plan:
        return Plan(race(name), strategy, 20_000, go_on=True)

    full, reduced = plan("full").run(), plan("dfs").run()
    assert full.complete
    assert reduced.complete
    assert reduced.keys == full.keys
    assert bool(full.failures) == bool(reduced.failures) == (name == "close_write")


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_a_bound_is_kept_and_complete_within(bound: int) -> None:
    campaign = explore(request_and_suspend, preemptions=bound, schedules=5000)
    assert campaign.complete
    assert campaign.preemptions == bound


def test_a_larger_bound_sees_more() -> None:
    counts = [Plan(race("read_update"), settings=Settings(preemptions=n), go_on=True).run() for n in (0, 1)]
    assert [one.complete for one in counts] == [True] * 2
    assert counts[0].schedules < counts[1].schedules
    assert not counts[0].failures
    assert counts[1].failures
