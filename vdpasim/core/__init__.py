"""The simulated kernel, sans-I/O.

It imports uapi, sortedcontainers and attrs, and nothing that blocks, ticks or rolls dice.
"""

from __future__ import annotations

from vdpasim.core import rules

rules.load()
