"""Exploration: every interleaving of a small scenario, or a fair sample of a large one.

Theory. The kernel's ready queue is the only scheduler and every wait is ours, so a run is a function of the choices
made where more than one unit can run. A *schedule* is the list of these choices; a *strategy* decides which lists are
tried; a *campaign* runs them, counts, and keeps what failed. A failing schedule is a short string that replays.

``explore(body)`` is for test suites, ``vdpasim explore`` for the command line.
"""

from __future__ import annotations

from vdpasim.explore.campaign import Campaign, Failure, explore
from vdpasim.explore.execute import Outcome, Target, replay, replayed
from vdpasim.explore.schedule import ReplayDivergence, Schedule

__all__ = [
    "Campaign",
    "Failure",
    "Outcome",
    "ReplayDivergence",
    "Schedule",
    "Target",
    "explore",
    "replay",
    "replayed",
]
