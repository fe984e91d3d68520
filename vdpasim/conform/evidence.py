"""What the golden traces say for each rule: the stored outcome of replaying them (no kernel file).

Theory. ``vdpasim conform --evidence FILE`` writes, per rule, how many agreeing cases came to it and the names of the
first few. The file for the shipped traces lies beside the rows, ``core/rules/evidence.json``, so that an installed
package knows it without the traces. A rule that no case confirms keeps what its row says: read in source, or inferred.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIRMED = "golden cases"
"""The kind of evidence that replaying gives; the other kinds are those of :data:`vdpasim.core.rules.Source`."""


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
