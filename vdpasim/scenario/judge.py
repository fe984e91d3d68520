"""Judging a machine: what the checks find, what no kernel was asked for, and what the verdict rests on.

Theory. Whoever plays a story, ``vdpasim run``, a schedule of ``explore`` or a test of pytest, is judged by one
:class:`Judge`. It listens from the beginning and is asked at the end. What was found is: the error the story ended with
(an AssertionError is ``assertion``, a refusal nobody caught ``oserror``, a deadlock ``deadlock``, anything else
``error``), faults that never fired, requests that are not modelled, and what the standard checks say. Mistakes of the
program (``vmm.*``) are notes: they count where their id is expected or the judge is strict.

Checks may say what did *not* happen only when everything is still. Who owns the machine brings it to rest
(:meth:`Judge.rest`); in a test it is the program's, so there the checks are told only if nothing is left to run.

While it listens, the rules that are hit are written down; those that no kernel confirms are named beside the verdict.
They are hit in the process, not on a machine: of two machines that run at the same time, both judges hear.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from vdpasim.checks import Finding
from vdpasim.checks.evidence import unconfirmed
from vdpasim.checks.standard import standard, vmm_mistakes
from vdpasim.core import rules
from vdpasim.core.events import Event, Kind
from vdpasim.sim import Deadlock, Livelock
from vdpasim.sim.hosts import Actor

if TYPE_CHECKING:
    from typing import Self

    from vdpasim.sim import Simulator


class Judge:
    """Listens to a machine, and says what was found; a context manager that ends its listening to rules.

    Args:
        sim: the machine; what happened on it before is not judged.
        expected: ids that count though they are mistakes of the program.
        strict: every mistake of the program counts.
        program: such mistakes are looked for at all.
    """

    def __init__(
        self, sim: Simulator, expected: frozenset[str] = frozenset(), *, strict: bool = False, program: bool = True
    ) -> None:
        self.sim = sim
        self.expected = expected
        self.strict = strict
        self._oracles = standard()
        self._critics = vmm_mistakes(sim.kernel.abi) if program else []
        self._watchers = self._oracles + self._critics
        self._ended: list[Finding] = []
        self._unfired: list[Finding] | None = None
        self._unmodelled: list[Finding] = []
        self._hit: set[str] = set()
        self._deaf = rules.observe(self._hit.add)
        self._closed = False
        sim.listen(self._event)

    def _event(self, event: Event) -> None:
        for check in self._watchers:
            check.event(event)
        if event[3] == Kind.UNMODELLED:
            self._unmodelled.append(Finding("unmodelled", f"{event[4]}: {event[5]}", event[0]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hear of no rule any more."""
        if not self._closed:
            self._closed = True
            self._deaf()

    # -- the end

    def ended(self, error: BaseException, path: Path | None = None) -> None:
        """The story ended with an error; ``path`` is the file that tells it."""
        ident, text = outcome(error)
        self._ended.append(Finding(ident, (where(error, path) if path else "") + text, self.sim.kernel.seq))

    def rest(self) -> None:
        """Run what the story left behind, and if nothing is left then, say so in the trace."""
        if come_to_rest(self.sim):
            self.sim.kernel.emit(Kind.STILL)

    def still(self) -> None:
        """If nothing can run, tell the checks alone."""
        kernel = self.sim.kernel
        if not kernel.ready:
            for check in self._watchers:
                check.event((kernel.seq, kernel.now, "-", Kind.STILL))

    def finish(self) -> None:
        """The run is over; again, if it went on after all: then only what the checks say is new."""
        for check in self._watchers:
            check.finish()
        if self._unfired is None:
            seq = self.sim.kernel.seq
            self._unfired = [Finding("fault.unfired", one.complaint(), seq) for one in self.sim.faults.unfired]

    # -- the verdict

    @property
    def findings(self) -> list[Finding]:
        """What was found so far and counts."""
        found = [finding for check in self._oracles for finding in check.findings]
        mistakes = [finding for finding in self._mistakes if self._counts(finding)]
        return [*self._ended, *(self._unfired or ()), *self._unmodelled, *found, *mistakes]

    @property
    def notes(self) -> list[Finding]:
        """Mistakes of the program that do not count."""
        return [finding for finding in self._mistakes if not self._counts(finding)]

    @property
    def unconfirmed(self) -> dict[str, str]:
        """The rules that were hit and that no kernel confirms, each with what it rests on."""
        return unconfirmed(self._hit)

    @property
    def _mistakes(self) -> list[Finding]:
        return [finding for check in self._critics for finding in check.findings]

    def _counts(self, mistake: Finding) -> bool:
        return self.strict or mistake.id in self.expected


def come_to_rest(sim: Simulator, limit: int = 20_000) -> bool:
    """Run what a story left behind, but none of its actors; whether nothing is left then."""
    kernel = sim.kernel
    for _ in range(limit):
        left = [i for i, unit in enumerate(kernel.ready) if not isinstance(unit, Actor)]
        if not left:
            return True
        kernel.step(left[0])
    return False


def outcome(error: BaseException) -> tuple[str, str]:
    """The id and the text of what ended a story."""
    notes = "; ".join(getattr(error, "__notes__", []))
    behind = f" ({notes})" if notes else ""
    match error:
        case AssertionError():
            return "assertion", (str(error) or "an assertion of the story failed") + behind
        case Deadlock():
            return "deadlock", str(error)
        case Livelock():
            return "livelock", str(error)
        case OSError():
            return "oserror", str(error) + behind
        case _:
            return "error", f"{type(error).__name__}: {error}{behind}"


def where(error: BaseException, path: Path) -> str:
    """The line of the story, not of what it called."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    if lines:
        return f"{path.name}:{lines[-1]}: "
    return where(error.__cause__, path) if error.__cause__ else ""
