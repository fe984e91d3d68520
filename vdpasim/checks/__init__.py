"""Oracles: one file per invariant, each a machine that reads events and says which one was broken.

Theory. A check sees only the event stream, so it judges a live run, a replay and a stored trace alike. It keeps its
own small model (what the table says, what the device was handed, what an entry promised), compares, and collects
findings; it never raises in the middle of a run. ``finish`` is asked at the end for what only shows when everything is
still; a run that was cut off in the middle may have work left, so what depends on nothing being left waits for the
``STILL`` of whoever made sure, or for virtual time to have moved on, which it does only when nothing is ready.

Ids that begin with ``vmm.`` are mistakes of the program that uses the device: warnings, see ``standard.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from vdpasim.core.events import Event


@attrs.frozen
class Finding:
    """One broken invariant."""

    id: str
    """Stable name, ``iotlb.divergence``."""
    text: str
    """What, where and how much, one sentence."""
    seq: int
    """Sequence number of the event that showed it."""
    steps: tuple[int, ...] = ()
    """Those of the events that led to it, and of the one that showed it, in order."""
    where: tuple[tuple[str, str], ...] = ()
    """Device, queue, asid, I/O address, promised, touched: as far as the finding has them, in words."""


class Check(Protocol):
    """One oracle."""

    findings: list[Finding]

    def event(self, event: Event) -> None:
        """Look at the next event."""

    def finish(self) -> None:
        """The run is over."""
