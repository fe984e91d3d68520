"""What the golden traces say for each rule: the stored outcome of replaying them (no kernel file).

Theory. Rules that were hit while an agreeing case ran are confirmed by that case: that is their evidence.
``vdpasim conform --evidence FILE`` writes, per rule, how many agreeing cases came to it and the names of the
first few. The file for the shipped traces lies beside the rows, ``core/rules/evidence.json``, so that an installed
package knows it without the traces. A rule that no case confirms keeps what its row says: read in source, or inferred.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from importlib.resources import files
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vdpasim.conform.replay import Verdict

CONFIRMED = "golden cases"
"""The kind of evidence that replaying gives; the other kinds are those of :data:`vdpasim.core.rules.Source`."""

NAMES_MAX = 5
"""How many cases are named for a rule."""


@attrs.frozen
class Evidence:
    """The agreeing cases that came to one rule."""

    count: int
    cases: tuple[str, ...]
    """The first few, ``set/case``."""


def stored() -> dict[str, Evidence]:
    """Rule id -> its evidence, for the rules that some shipped trace confirms."""
    text = (files("vdpasim.core.rules") / "evidence.json").read_text("utf-8")
    return {rule: Evidence(row["count"], tuple(row["cases"])) for rule, row in json.loads(text).items()}


def kind(rule: str, confirmed: Mapping[str, Evidence]) -> str:
    """What a rule rests on: ``golden cases``, ``read in source`` or ``inferred``."""
    return CONFIRMED if rule in confirmed else RULES[rule].source


def collect(verdicts: Iterable[Verdict]) -> dict[str, dict[str, object]]:
    """Rule id -> how many agreeing cases hit it, and the first few of them; sorted by id."""
    hits: defaultdict[str, list[str]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.outcome == "agrees":
            for rule in verdict.rules:
                hits[rule].append(f"{verdict.set}/{verdict.name}")
    return {rule: {"count": len(hits[rule]), "cases": hits[rule][:NAMES_MAX]} for rule in sorted(hits)}


def count_kinds(confirmed: Iterable[str]) -> dict[str, int]:
    """Kind of evidence -> rules: confirmed by golden cases, else by what their row says."""
    golden = set(confirmed) & set(RULES)
    others = Counter(rule.source for name, rule in RULES.items() if name not in golden)
    return {CONFIRMED: len(golden), "read in source": others["read in source"], "inferred": others["inferred"]}
