"""Random schedules: every choice is drawn, the n-th schedule from the seed and n.

Theory. Cheap, without memory, and good where many orders fail. The chance of a schedule that needs d switches at given
places falls with the number of choices to the power of d; PCT is better there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.explore.execute import Simple
from vdpasim.explore.strategy import Counted, Settings, Work, dice

if TYPE_CHECKING:
    from vdpasim.explore.execute import Policy


class RandomPolicy(Simple):
    """Draws every choice."""

    def __init__(self, seed: int, number: int) -> None:
        self.random = dice("random", seed, number)

    def choose(self, threads: list[str], labels: list[str]) -> int:
        return self.random.randrange(len(threads))


class RandomStrategy(Counted):
    """Schedules without end."""

    @staticmethod
    def policy(settings: Settings, work: Work) -> Policy:
        """The n-th schedule's."""
        return RandomPolicy(settings.seed, work["n"])
