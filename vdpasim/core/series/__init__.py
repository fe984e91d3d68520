"""Patch series: changes to the drivers that are chosen by a switch (the live-update series).

Theory. A series is one file: the backend feature bits it makes known, and the rows it adds to or replaces in the
tables of an open vhost-vdpa file (ioctls by number, messages by type). The drivers know only this module. ``active``
gives the series whose switch is on, in the order they were registered.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.switches import Switches
    from vdpasim.core.vhost.vdpa import VhostVdpa


@attrs.frozen
class Series:
    """One patch series."""

    name: str
    """The switch that turns it on."""
    doc: str
    backend_features: int
    """Mask of bits SET_BACKEND_FEATURES accepts beyond the kernel's own."""
    apply: Callable[[VhostVdpa], None]
    """Changes the tables of a file that was just opened."""


FILES = ("live_update",)
"""Modules of this folder that register a series when they are imported."""

SERIES: dict[str, Series] = {}


def register(one: Series) -> None:
    """Make a series known; a name may be used once."""
    if one.name in SERIES:
        raise ValueError(f"series {one.name!r} is registered twice")
    SERIES[one.name] = one


def active(switches: Switches) -> list[Series]:
    """The series that are switched on."""
    for module in FILES:
        importlib.import_module(f"{__name__}.{module}")  # late: a series imports the drivers, which import this
    return [one for name, one in SERIES.items() if name in switches]


def backend_features(switches: Switches) -> int:
    """The backend feature bits that the active series make known."""
    mask = 0
    for one in active(switches):
        mask |= one.backend_features
    return mask
