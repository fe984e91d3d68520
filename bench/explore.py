"""Schedules against an empty generator loop: what exploring costs beyond stepping as many generators.

The floor steps bare generators through the same number of yields, with a list as ready queue and a random choice at
each: what any explorer in Python must do. Both run the read/UPDATE race of ``scenarios/races``.

* *schedule*: one run of the race, machine, checks and fingerprints included.
* *point*: one step of it.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from bench.ab import Experiment
from vdpasim.explore import Target
from vdpasim.explore.execute import execute
from vdpasim.explore.strategy_random import RandomPolicy
from vdpasim.scenario.loader import load

if TYPE_CHECKING:
    from collections.abc import Generator

    from bench.ab import Measures

RUNS = 200
RACE = Path(__file__).parents[1] / "scenarios" / "races" / "read_update.py"


def _target() -> Target:
    (found,) = load([f"{RACE}::read_update"])
    return Target.of(found.scenario, found.ident, "tip")


def ours() -> Measures:
    """Random schedules of the race."""
    target = _target()
    execute(target, RandomPolicy(0, 0))
    steps = 0
    began = time.thread_time_ns()
    for number in range(RUNS):
        steps += execute(target, RandomPolicy(0, number)).steps
    took = time.thread_time_ns() - began
    return {"schedule": took / RUNS, "point": took / steps}


def _idle(steps: int) -> Generator[None]:
    for _ in range(steps):
        yield


def floor() -> Measures:
    """As many steps of three empty generators."""
    steps = execute(_target(), RandomPolicy(0, 0)).steps
    began = time.thread_time_ns()
    for number in range(RUNS):
        random = Random(number)
        ready = [_idle(steps // 3) for _ in range(3)]
        while ready:
            one = ready.pop(random.randrange(len(ready)))
            try:
                one.send(None)
            except StopIteration:
                continue
            ready.append(one)
    took = time.thread_time_ns() - began
    return {"schedule": took / RUNS, "point": took / RUNS / steps}


def experiments() -> list[Experiment]:
    """What is measured."""
    return [Experiment("explore", {"ours": ours, "empty generators": floor})]
