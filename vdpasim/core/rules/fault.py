"""The rule of injected faults (no kernel file)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

register(
    [
        Rule("fault.injected", "vdpasim: core/faults.py", E.EIO, "a fault plan names this operation",
             "the errno is the one the fault names; EIO if it names none", source="inferred"),
    ]
)
