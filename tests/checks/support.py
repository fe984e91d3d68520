"""Events made by hand."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from vdpasim.core.events import LAYOUT, Kind

if TYPE_CHECKING:
    from vdpasim.checks import Check

_seq = count(1)


def feed(check: Check, kind: Kind, **fields: Any) -> int:
    """Hand a check one event with all fields of its layout; the sequence number."""
    assert set(fields) == set(LAYOUT[kind]), f"{kind.name} has the fields {LAYOUT[kind]}"
    seq = next(_seq)
    check.event((seq, 0, "test", kind, *(fields[name] for name in LAYOUT[kind])))
    return seq
