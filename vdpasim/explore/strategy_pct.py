"""Probabilistic concurrency testing: priorities at random, and d-1 places where the runner falls behind everybody.

Theory (Burckhardt, Kothari, Musuvathi, Nagarakatte, ASPLOS 2010). A bug has depth d if d ordering constraints are
enough to show it; most have 1, 2 or 3. Threads get random priorities and the highest that can run runs; at d-1 steps
drawn from the k of a run, the one that runs becomes the lowest of all. With n threads a run shows a bug of depth d with
a probability of at least 1/(n * k^(d-1)), whatever else the program does. k is that of the longest
of the first :data:`MEASURED` runs, so that the n-th schedule depends on n alone, and not on how many are asked for at
a time. Only steps with a choice count, as nothing can be decided at others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.explore.execute import Simple
from vdpasim.explore.strategy import Counted, Ran, Settings, Work, dice

if TYPE_CHECKING:
    from vdpasim.explore.execute import Policy


MEASURED = 65
"""Runs behind which the length is fixed: the one without preemption, and a batch that goes by its length."""


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
        self.longest = 0

    def take(self, limit: int) -> list[Work]:
        # how long a run is, is not known before the first is back, nor the longest before the first few are
        bound = next((end for end in (1, MEASURED) if self.taken < end), self.taken + limit)
        work = super().take(min(limit, bound - self.taken))
        if self.taken > MEASURED:
            self.length = max(self.length, self.longest)
        return [{**piece, "length": self.length} for piece in work]

    def put(self, work: Work, ran: Ran) -> None:
        if ran.outcome is None or work["n"] >= MEASURED:
            return
        self.longest = max(self.longest, ran.outcome.choices)
        if not work["n"]:
            self.length = self.longest

    @staticmethod
    def policy(settings: Settings, work: Work) -> Policy:
        """The n-th schedule's."""
        return PctPolicy(settings, work["n"], work["length"]) if work["n"] else First()


class First(Simple):
    """Goes on with the same thread as long as it can."""

    def choose(self, threads: list[str], labels: list[str]) -> int:
        return 0
