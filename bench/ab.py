"""The runner: alternating candidates, a process each, ratios (see the package's docstring)."""

from __future__ import annotations

import gc
import importlib
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SLACK = 1.5
"""By how much a goal may be missed before ``--check`` fails."""

Measures = dict[str, float]
"""Nanoseconds for one operation, by the operation's name."""


@dataclass(frozen=True)
class Goal:
    """What the ratio t(peer) / t(ours) of one operation should be."""

    peer: str
    operation: str
    at_least: float | None = None
    at_most: float | None = None
    source: str = "issue"

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return bound if self.source == "issue" else f"{bound} ({self.source})"

    def met(self, ratio: float, slack: float = 1.0) -> bool:
        """Whether a ratio is good enough."""
        if self.at_least is not None:
            return ratio * slack >= self.at_least
        assert self.at_most is not None, "a goal is a bound"
        return ratio <= self.at_most * slack


@dataclass(frozen=True)
class Experiment:
    """Candidates that do the same work; the first is ours."""

    name: str
    candidates: Mapping[str, Callable[[], Measures]]
    goals: Sequence[Goal] = ()
    rounds: int | None = None
    """Rounds, if not as many as asked for."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    experiment: str
    operation: str
    ours_ns: float
    peer: str
    peer_ns: float
    ratio: float
    goal: Goal | None

    @property
    def verdict(self) -> str:
        """Empty where nobody asked for anything."""
        if self.goal is None:
            return ""
        if self.goal.met(self.ratio):
            return "ok"
        return "within slack" if self.goal.met(self.ratio, SLACK) else "MISSED"


@dataclass
class _Samples:
    # nanoseconds by (candidate, operation), one for each round
    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, candidate: str, measures: Measures) -> None:
        for operation, ns in measures.items():
            self.values.setdefault((candidate, operation), []).append(ns)


def timed(work: Callable[[], object], operations: int) -> float:
    """CPU nanoseconds of one of the ``operations`` that ``work`` does, without the garbage collector."""
    gc.collect()
    gc.disable()
    began = time.thread_time_ns()
    work()
    took = time.thread_time_ns() - began
    gc.enable()
    return took / operations


def load(module: str) -> list[Experiment]:
    """The experiments of ``bench/MODULE.py``."""
    experiments: list[Experiment] = importlib.import_module(f"bench.{module}").experiments()
    return experiments


def run(module: str, experiment: Experiment, rounds: int) -> list[Row]:
    """Measure one experiment, a fresh process for every candidate and round."""
    samples = _Samples()
    for turn in range(experiment.rounds or rounds):
        names = list(experiment.candidates)
        for name in reversed(names) if turn % 2 else names:
            samples.add(name, _in_process(module, experiment.name, name))
    return list(_rows(experiment, samples))


def _rows(experiment: Experiment, samples: _Samples) -> list[Row]:
    ours, *peers = experiment.candidates
    goals = {(goal.peer, goal.operation): goal for goal in experiment.goals}
    rows = []
    for (candidate, operation), mine in samples.values.items():
        if candidate != ours:
            continue
        for peer in peers:
            theirs = samples.values.get((peer, operation))
            if theirs is not None:
                ratio = statistics.median(b / a for a, b in zip(mine, theirs, strict=True))
                medians = statistics.median(mine), statistics.median(theirs)
                goal = goals.pop((peer, operation), None)
                rows.append(Row(experiment.name, operation, medians[0], peer, medians[1], ratio, goal))
    if goals:
        raise LookupError(f"{experiment.name}: nothing was measured for the goals {sorted(goals)}")
    return rows


def _in_process(module: str, experiment: str, candidate: str) -> Measures:
    command = [sys.executable, "-m", "bench.ab", module, experiment, candidate]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    measures: Measures = json.loads(done.stdout)
    return measures


def main(module: str, experiment: str, candidate: str) -> None:
    """Measure one candidate in this process and print the result as JSON."""
    found = next(one for one in load(module) if one.name == experiment)
    print(json.dumps(found.candidates[candidate]()))


if __name__ == "__main__":
    main(*sys.argv[1:])
