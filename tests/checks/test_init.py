"""Findings are values."""

from __future__ import annotations

import attrs
import pytest

from vdpasim.checks import Finding


def test_a_finding_does_not_change() -> None:
    finding = Finding("iotlb.divergence", "text", 7)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        finding.seq = 8  # type: ignore[misc]
    assert finding == Finding("iotlb.divergence", "text", 7)
