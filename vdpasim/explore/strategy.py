"""What a strategy is: a source of work, which any process can do, and whose results come back in order.

Theory. A campaign takes pieces of work from the strategy, has them done here or elsewhere, and puts the results back in
the order in which the work was taken. What is taken next depends on results that were put only, never on who was
faster, so one worker and four explore the same. Work is plain JSON, so a campaign can be written down and resumed.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from vdpasim.explore.execute import Outcome, Policy

Work = dict[str, Any]
"""One run to be made, as JSON."""


@attrs.frozen
class Ran:
    """What became of one piece of work."""

    outcome: Outcome | None
    """None: the run was broken off, as another one has the same outcome."""
    children: tuple[Work, ...] = ()
    """Work that showed up."""


@attrs.frozen
class Settings:
    """What the strategies can be told; each looks at its own."""

    seed: int = 0
    depth: int = 3
    """PCT: bugs of this depth are found with a probability that is known."""
    preemptions: int | None = None
    """DFS: no run with more preemptions."""


class Strategy(Protocol):
    """Decides which schedules are tried."""

    complete: bool
    """Every schedule there is was tried."""

    def take(self, limit: int) -> list[Work]:
        """Up to ``limit`` pieces of work; none: there is no more."""

    def put(self, work: Work, ran: Ran) -> None:
        """The result of a piece, in the order they were taken."""


def dice(*words: object) -> Random:
    """A generator that depends on its words only."""
    return Random(" ".join(map(str, words)))


class Counted:
    """A strategy whose n-th schedule depends on n alone."""

    complete = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.taken = 0

    def take(self, limit: int) -> list[Work]:
        first, self.taken = self.taken, self.taken + limit
        return [{"n": n} for n in range(first, self.taken)]

    def put(self, work: Work, ran: Ran) -> None:
        """Nothing is learnt."""

    @staticmethod
    def policy(settings: Settings, work: Work) -> Policy:
        """The policy of one piece of work."""
        raise NotImplementedError
