"""What a pattern yields: a number of the catalogue, a sentence, and the events that are the evidence.

Theory. Patterns are functions from the facts of a run to matches. ``score`` ranks: 90 is a mistake the trace shows with
its consequence, 70 one it shows without, 50 a habit that is often but not always one. A match that explains others
stands above them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from vdpasim.checks.diagnosis.facts import Facts


class Match(NamedTuple):
    """One diagnosis."""

    number: int
    """Of the catalogue: 12 is LU12."""
    why: str
    """One sentence about this run."""
    evidence: tuple[int, ...]
    """Sequence numbers, in order."""
    score: int = 70


Pattern = Callable[[Facts], Iterator[Match]]


def match(number: int, why: str, *evidence: int, score: int = 70) -> Match:
    """A match with its evidence in order, each event once; what never happened is left out."""
    return Match(number, why, tuple(sorted({seq for seq in evidence if 0 < seq < 1 << 62})), score)
