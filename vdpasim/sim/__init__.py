"""The simulator users hold: machines, processes, files, and three ways to wait for a call."""

from __future__ import annotations

from vdpasim.core.kernel import InternalError
from vdpasim.sim.errors import Deadlock, Livelock, UsageError, VdpasimError, WouldBlock
from vdpasim.sim.file import File
from vdpasim.sim.process import Process, Region
from vdpasim.sim.simulator import Simulator

__all__ = [
    "Deadlock",
    "File",
    "InternalError",
    "Livelock",
    "Process",
    "Region",
    "Simulator",
    "UsageError",
    "VdpasimError",
    "WouldBlock",
]
