"""The set of checks a run is judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.checks.dma_place import DmaPlace
from vdpasim.checks.iotlb_divergence import IotlbDivergence
from vdpasim.checks.kernel_report import KernelReport

if TYPE_CHECKING:
    from vdpasim.checks import Check


def standard() -> list[Check]:
    """A fresh set of every shipped check."""
    return [IotlbDivergence(), DmaPlace(), KernelReport()]
