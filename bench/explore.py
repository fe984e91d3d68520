"""Schedules against the same race played once, by actors and by trio tasks, and against an empty generator loop.

The floor steps bare generators through the same number of yields, with a list as ready queue and a random choice at
each: what any explorer in Python must do. The others run the read/UPDATE race of ``scenarios/races``; played once there
are no schedule points, no checks and no fingerprints.

* *schedule*: one run of the race, with a machine of its own.
* *point*: one step of it.
"""

from __future__ import annotations

import runpy
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import trio

from bench.ab import Experiment, timed
from vdpasim.explore import Target
from vdpasim.explore.execute import execute
from vdpasim.explore.strategy_random import RandomPolicy
from vdpasim.scenario.loader import load
from vdpasim.sim import Simulator

if TYPE_CHECKING:
    from collections.abc import Generator

    from bench.ab import Measures

RUNS = 200
RACE = Path(__file__).parents[1] / "scenarios" / "races" / "read_update.py"
_RACE = runpy.run_path(str(RACE))
STORY, BOOT, MAP_FRAME, REST = (_RACE[name] for name in ("read_update", "boot", "map_frame", "rest"))
"""The race, and what it is made of."""


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


def actors() -> Measures:
    """The race played once, its tasks actors of the kernel's own loop."""
    story = STORY.body

    def play() -> None:
        for _ in range(RUNS):
            Simulator("tip").run(story)

    return {"schedule": timed(play, RUNS)}


def tasks() -> Measures:
    """The race played once, its tasks trio's."""

    def play() -> None:
        for _ in range(RUNS):
            trio.run(_under_trio)

    return {"schedule": timed(play, RUNS)}


async def _under_trio() -> None:
    sim = Simulator("tip")
    vmm = await BOOT(sim)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(vmm.net.read_miss)
        nursery.start_soon(MAP_FRAME, vmm)
    await REST(sim)


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
    peers = {"played by actors": actors, "played by trio tasks": tasks, "empty generators": floor}
    return [Experiment("explore", {"ours": ours, **peers})]
