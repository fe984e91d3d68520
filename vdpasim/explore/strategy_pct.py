"""Probabilistic concurrency testing: priorities at random, and d-1 places where the runner falls behind everybody.

Theory (Burckhardt, Kothari, Musuvathi, Nagarakatte, ASPLOS 2010). A bug has depth d if d ordering constraints are
enough to show it; most have 1, 2 or 3. Threads get random priorities and the highest that can run runs; at d-1 steps
drawn from the k of a run, the one that runs becomes the lowest of all. With n threads a run shows a bug of depth d with
a probability of at least 1/(n * k^(d-1)), whatever else the program does. k is taken from the first run, which is the
one without preemption; only steps with a choice count, as nothing can be decided at others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.explore.execute import Simple
from vdpasim.explore.strategy import Counted, Ran, Settings, Work, dice

if TYPE_CHECKING:
    from vdpasim.explore.execute import Policy


class PctPolicy(Simple):
    """One run: see the module docstring."""

    def __init__(self, settings: Settings, number: int, length: int) -> None:
        self.random = dice("pct", settings.seed, number)
        places = range(1, max(length, 1) + 1)
        drawn = [self.random.choice(places) for _ in range(settings.depth - 1)]
        self.changes = {place: -rank for rank, place in enumerate(drawn, 1)}
        self.priorities: dict[str, float] = {}
        self.step = 0

    def choose(self, threads: list[str], labels: list[str]) -> int:
        self.step += 1
        for thread in threads:
            if thread not in self.priorities:
                self.priorities[thread] = self.random.random()
        first = max(range(len(threads)), key=lambda at: self.priorities[threads[at]])
        if self.step in self.changes:
            self.priorities[threads[first]] = self.changes[self.step]
            first = max(range(len(threads)), key=lambda at: self.priorities[threads[at]])
        return first


class PctStrategy(Counted):
    """The run without preemption, then PCT without end."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.length = 0

    def take(self, limit: int) -> list[Work]:
        # how long a run is, is known when the first is back
        work = super().take(limit if self.taken else 1)
        return [{**piece, "length": self.length} for piece in work]

    def put(self, work: Work, ran: Ran) -> None:
        if not work["n"] and ran.outcome is not None:
            self.length = ran.outcome.choices

    @staticmethod
    def policy(settings: Settings, work: Work) -> Policy:
        """The n-th schedule's."""
        return PctPolicy(settings, work["n"], work["length"]) if work["n"] else First()


class First(Simple):
    """Goes on with the same thread as long as it can."""

    def choose(self, threads: list[str], labels: list[str]) -> int:
        return 0
