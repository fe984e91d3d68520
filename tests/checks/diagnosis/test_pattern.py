"""Matches."""

from __future__ import annotations

from vdpasim.checks.diagnosis.pattern import match


def test_evidence_is_in_order_once_and_happened() -> None:
    assert match(12, "why", 9, 3, 9, 0, 1 << 62).evidence == (3, 9)
