"""Diagnosis: which known mistake of a live update a run shows, and by which events.

Theory. The catalogue is a list of 64 mistakes (LU01 to LU64), each with its symptom. Most leave a shape in the events
that no run without them has: a request at the wrong time, a range that is not an entry's, an entry that nobody
remapped. :func:`diagnose` looks for these shapes with the functions of :mod:`.order`, :mod:`.remaps`, :mod:`.owners`,
:mod:`.rings` and :mod:`.misses`, joins what says the same number, and ranks. It needs no finding of an oracle, but
where one says that something broke, the match that explains it goes first. A trace with less in it (a log of another
program) gives fewer matches, never others.

:data:`UNTELLABLE` says of the rest why no trace tells them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.checks.diagnosis import misses, order, owners, remaps, rings
from vdpasim.checks.diagnosis.facts import gather
from vdpasim.uapi.abi import X86_64, Abi

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vdpasim.checks.diagnosis.pattern import Match, Pattern
    from vdpasim.core.events import Event

EVIDENCE_MAX = 8
"""Events shown for one match."""

PATTERNS: tuple[Pattern, ...] = (
    *order.PATTERNS, *remaps.PATTERNS, *owners.PATTERNS, *rings.PATTERNS, *misses.PATTERNS
)  # fmt: skip


def diagnose(events: Iterable[Event], abi: Abi = X86_64) -> list[Match]:
    """What the events show, the most certain first; each number once."""
    facts = gather(events, abi)
    best: dict[int, Match] = {}
    for pattern in PATTERNS:
        for one in pattern(facts):
            if one.number not in best or one.score > best[one.number].score:
                best[one.number] = one
    ranked = sorted(best.values(), key=lambda one: (-one.score, one.evidence, one.number))
    return [one._replace(evidence=one.evidence[:EVIDENCE_MAX]) for one in ranked]
