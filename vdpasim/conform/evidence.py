"""What the golden traces say for each rule: the outcome of replaying them, to be stored (no kernel file).

Theory. Rules that were hit while an agreeing case ran are confirmed by that case: that is their evidence.
``vdpasim conform --evidence FILE`` writes, per rule, how many agreeing cases came to it and the names of the
first few. The file for the shipped traces lies beside the rows, ``core/rules/evidence.json``, so that an installed
package knows it without the traces; :mod:`vdpasim.checks.evidence` reads it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vdpasim.conform.replay import Verdict

NAMES_MAX = 5
"""How many cases are named for a rule."""


def collect(verdicts: Iterable[Verdict]) -> dict[str, dict[str, object]]:
    """Rule id -> how many agreeing cases hit it, and the first few of them; sorted by id."""
    hits: defaultdict[str, list[str]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.outcome == "agrees":
            for rule in verdict.rules:
                hits[rule].append(f"{verdict.set}/{verdict.name}")
    return {rule: {"count": len(hits[rule]), "cases": hits[rule][:NAMES_MAX]} for rule in sorted(hits)}
