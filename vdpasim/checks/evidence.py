"""What a rule of the simulated kernel rests on, and which of the rules a run came to no kernel has confirmed.

Theory. Four kinds: *golden cases*, recordings of real kernels that came to the rule and were answered alike; *read in
source*; *inferred* from something else; and *vdpasim's own*, what no kernel does and no recording can confirm: its own
devices, injected faults, the designs of ``live-update-fixed``. The first is stored beside the rows
(``core/rules/evidence.json``), the others are what the row says. A verdict is no better than the rules its run hit, so
it names those of the last two kinds. That is by rule, not by kernel: a rule that a recording of one kernel confirms is
taken for confirmed on all.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

CONFIRMED = "golden cases"
READ = "read in source"
INFERRED = "inferred"
OWN = "vdpasim's own"
KINDS = (CONFIRMED, READ, INFERRED, OWN)
"""The kinds of evidence, the best first."""


@attrs.frozen
class Evidence:
    """The agreeing cases that came to one rule."""

    count: int
    cases: tuple[str, ...]
    """The first few, ``set/case``."""


@cache
def stored() -> Mapping[str, Evidence]:
    """Rule id -> its evidence, for the rules that some shipped trace confirms."""
    text = (files("vdpasim.core.rules") / "evidence.json").read_text("utf-8")
    return {rule: Evidence(row["count"], tuple(row["cases"])) for rule, row in json.loads(text).items()}


def kind(rule: str, confirmed: Container[str]) -> str:
    """What a rule rests on; a hit that has no row (a series of somebody's may have some) is inferred."""
    row = RULES.get(rule)
    if row is None:
        return INFERRED
    if row.own:
        return OWN
    return CONFIRMED if rule in confirmed else row.source


def count_kinds(confirmed: Container[str]) -> dict[str, int]:
    """Kind of evidence -> rules."""
    counts = Counter(kind(rule, confirmed) for rule in RULES)
    return {name: counts[name] for name in KINDS}


def unconfirmed(rules: Iterable[str]) -> dict[str, str]:
    """Those that no kernel confirms, sorted, each with its kind."""
    kinds = {rule: kind(rule, stored()) for rule in sorted(rules)}
    return {rule: what for rule, what in kinds.items() if what in (INFERRED, OWN)}


def told(weak: Mapping[str, str]) -> str:
    """They in a few words: ``inferred: vq.indirect.loop; vdpasim's own: miss.stopped``; empty if there is none."""
    rows = {name: [rule for rule, what in weak.items() if what == name] for name in (INFERRED, OWN)}
    return "; ".join(f"{name}: {', '.join(rules)}" for name, rules in rows.items() if rules)


def told_together(runs: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """The same of several runs, a line for each thing to be said, with the names of the runs it is said of."""
    lines: dict[str, list[str]] = {}
    for name, weak in runs:
        if weak:
            lines.setdefault(told(weak), []).append(name)
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in lines.items()]
