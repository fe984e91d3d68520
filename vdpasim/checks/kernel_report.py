"""``kernel.*``: memory-unsafe behaviour of a real kernel, which the simulated one reports instead of performing."""

from __future__ import annotations

import attrs

from vdpasim.checks import Finding
from vdpasim.core.events import Event, Kind


@attrs.define
class KernelReport:
    """Collects what the kernel said of itself."""

    findings: list[Finding] = attrs.Factory(list["Finding"])

    def event(self, event: Event) -> None:
        if event[3] == Kind.VIOLATION:
            self.findings.append(Finding(event[4], event[5], event[0]))

    def finish(self) -> None:
        """Nothing shows only at the end."""
