"""What the machine says of itself: ``kernel.*``, and what a story has seen.

Theory. Memory-unsafe behaviour of a real kernel is reported by the simulated one instead of performed
(``kernel.oops``, ``kernel.leak``), and so is a loop it would never leave (``kernel.hang``). A story reports the same
way what only it can see (``Simulator.violation``).
"""

from __future__ import annotations

import attrs

from vdpasim.checks import Finding
from vdpasim.core.events import Event, Kind


@attrs.define
class KernelReport:
    """Collects what was reported."""

    findings: list[Finding] = attrs.Factory(list["Finding"])

    def event(self, event: Event) -> None:
        if event[3] == Kind.VIOLATION:
            self.findings.append(Finding(event[4], event[5], event[0]))

    def finish(self) -> None:
        """Nothing shows only at the end."""
