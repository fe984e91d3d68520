"""The machine of a test, and those who watch it: the standard checks, the trace, the rules that refused.

Theory. The same :class:`~vdpasim.scenario.judge.Judge` as a scenario's: what it found is compared with what the marker
expects. It is asked twice, when the body of the test is over and when its fixtures are;
the second time only about what is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.events import Kind
from vdpasim.core.rules import RULES
from vdpasim.pytest_plugin.report import EVENTS_SHOWN
from vdpasim.scenario.judge import Judge
from vdpasim.sim import Simulator, UsageError
from vdpasim.trace.text import TextTrace, inert
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vdpasim.checks import Finding
    from vdpasim.core.events import Event
    from vdpasim.pytest_plugin.settings import Settings
    from vdpasim.sim import Process

LINES_MAX = 100_000
"""Lines of a trace that is written to a file."""


class MachineError(ValueError):
    """The settings make no machine."""


class Machine:
    """A simulator with everybody who watches it."""

    schedule = ""

    def __init__(self, found: Settings, *, keep_all: bool = False) -> None:
        try:
            self.sim = Simulator(
                found.kernel,
                abi=found.abi,
                seed=found.seed,
                options=found.options,
                extensions=found.extensions,
                faults=found.faults,
            )
        except UsageError as error:
            raise MachineError(str(error)) from None
        self.settings = found
        self.judged = False
        """The body of the test has gone through and was judged."""
        self.trace = TextTrace(self.sim.kernel.abi, LINES_MAX if keep_all else EVENTS_SHOWN)
        self._judge = Judge(self.sim, found.expect)
        self._refused: dict[str, int] = {}
        self._told: set[tuple[str, str]] = set()
        self._vmm: Process | None = None
        self.sim.listen(self.trace.event)
        self.sim.listen(self._event)

    @property
    def vmm(self) -> Process:
        """The process that opens what the fixtures open."""
        if self._vmm is None:
            self._vmm = self.sim.process("vmm")
        return self._vmm

    def _event(self, event: Event) -> None:
        if event[3] == Kind.EXIT and event[6] < 0 and event[8]:
            self._refused[event[8]] = self._refused.get(event[8], 0) + 1

    # -- the verdict

    def findings(self) -> list[Finding]:
        """What was found so far, each once."""
        return list({(one.id, one.text): one for one in self._judge.findings}.values())

    def judge(self) -> str:
        self.judged = True
        self._finish()
        found = self.findings()
        self._told = {(one.id, one.text) for one in found}
        return complaint(found, self.settings.expect)

    def complaint(self) -> str:
        """What came after the verdict and was not expected."""
        self._finish()
        new = [one for one in self.findings() if (one.id, one.text) not in self._told]
        new = [one for one in new if one.id not in self.settings.expect]
        return complaint(new, frozenset())

    def _finish(self) -> None:
        self._judge.still()
        self._judge.finish()

    def unconfirmed(self) -> Mapping[str, str]:
        """The rules the test came to that no kernel confirms, each with what it rests on."""
        return self._judge.unconfirmed

    def close(self) -> None:
        """The test is over, its fixtures too."""
        self._judge.close()
        self.sim.abandon()

    # -- the report

    def told(self) -> str:
        # the verdict says it too
        return "" if self.judged else "\n".join(line(finding) for finding in self.findings())

    def notes_text(self) -> str:
        return "\n".join(line(one) for one in self._judge.notes)

    def trace_text(self) -> str:
        return self.trace.text()

    def rules_text(self) -> str:
        return rules_text(self._refused)


def complaint(found: list[Finding], expected: frozenset[str]) -> str:
    """What is wrong with a run; nothing if exactly the expected was found."""
    ids = frozenset(finding.id for finding in found)
    if ids == expected:
        return ""
    missing = ", ".join(sorted(expected - ids))
    told = [f"vdpasim: {', '.join(sorted(ids - expected))} found"] if ids - expected else []
    told += [f"vdpasim: {missing} was expected and not found"] if missing else []
    return "\n".join(told + ["  " + line(finding) for finding in found])


def line(finding: Finding) -> str:
    """A finding in one line."""
    return inert(f"[{finding.seq}] {finding.id}: {finding.text}")


def rules_text(refused: Iterable[str]) -> str:
    """Rules with what they say, a line each, in the order they were met first."""
    rows = [(ident, RULES.get(ident)) for ident in refused]
    return "\n".join(f"{ident}  {E.name(row.errno)}  {row.where}: {row.when}" if row else ident for ident, row in rows)
