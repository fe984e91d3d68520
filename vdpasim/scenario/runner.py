"""Running a scenario on each of its kernels.

Theory. Each run gets a fresh machine, a :class:`~vdpasim.scenario.judge.Judge`, and a text trace. When the story has
ended, calls and workers it left behind run to their end, so that a check may say what did *not* happen; the actors do
not. The verdict compares the set of ids that were found with those that are expected, and names the rules it came to
that no kernel confirms: it is no better than they are.
"""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import attrs

from vdpasim import __version__
from vdpasim.checks.evidence import told
from vdpasim.scenario.judge import Judge
from vdpasim.scenario.loader import Found, ScenarioError
from vdpasim.scenario.settings import strayed
from vdpasim.scenario.settings import values as typed
from vdpasim.sim import InternalError, Simulator, UsageError
from vdpasim.sim.errors import VdpasimError
from vdpasim.trace.file import Header, Mark, Writer
from vdpasim.trace.text import TextTrace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from vdpasim.checks import Finding

    Record = Callable[[Header], TextIO]
    """Opens what a run is recorded to; the run closes it."""


@attrs.frozen
class Verdict:
    """The outcome of one run."""

    ident: str
    name: str
    story: str
    """First line of the docstring."""
    kernel: str
    passed: bool
    expected: tuple[str, ...]
    found: tuple[Finding, ...]
    trace: str
    steps: int
    rerun: str
    """The one command that does this run again."""
    notes: tuple[Finding, ...] = ()
    """Mistakes of the program that do not count."""
    tags: tuple[str, ...] = ()
    """What the scenario belongs to."""
    unconfirmed: Mapping[str, str] = attrs.Factory(dict["str", "str"])
    """The rules it came to that no kernel confirms, each with what it rests on."""
    strayed: str = ""
    """Settings of which the story says nothing, in words."""

    @property
    def line(self) -> str:
        """What was found, in a few words, what that rests on if no kernel confirms it, and settings that strayed."""
        more = "; ".join(filter(None, (told(self.unconfirmed), self.strayed)))
        return f"{self._outcome} ({more})" if more else self._outcome

    @property
    def _outcome(self) -> str:
        wanted = ", ".join(self.expected)
        if not self.found:
            return "clean" if self.passed else f"{wanted} was expected and not found"
        told = "; ".join(sorted({finding.id for finding in self.found}))
        return told if self.passed or not wanted else f"{told}, expected was {wanted}"


def run(
    found: Found,
    *,
    kernel: str | None = None,
    seed: int = 0,
    settings: dict[str, str] | None = None,
    faults: Iterable[str] = (),
    strict: bool = False,
    record: Record | None = None,
    journal: Record | None = None,
) -> list[Verdict]:
    """Run a scenario on each of its kernels, or on the one given; ``faults`` come to those of the scenario.

    ``strict`` makes mistakes of the program count; ``record`` is asked once a run where its trace goes, ``journal``
    where what went in does.

    Raises:
        ScenarioError: a setting the scenario does not have, a value of the wrong type or outside its domain, a fault
            that is none, a machine that cannot be made.
        ProfileError: the kernel.
    """
    story = found.scenario
    values = typed(story, settings or {})
    kernels = (kernel,) if kernel else story.kernels
    added = tuple(faults)
    flags = "".join(f" --set {key}={value}" for key, value in (settings or {}).items())
    flags += "".join(f" --fault {shlex.quote(fault)}" for fault in added)
    flags += " --strict" * strict
    return [_run_one(found, one, seed, values, added, flags, (record, journal), strict=strict) for one in kernels]


def _machine(found: Found, kernel: str, seed: int, faults: tuple[str, ...]) -> Simulator:
    story = found.scenario
    try:
        return Simulator(
            kernel,
            abi=story.abi,
            seed=seed,
            options=story.options,
            extensions=story.extensions,
            faults=story.faults + faults,
        )
    except UsageError as error:
        raise ScenarioError(f"{found.ident}: {error}") from None


def _run_one(
    found: Found,
    kernel: str,
    seed: int,
    values: dict[str, Any],
    faults: tuple[str, ...],
    flags: str,
    outputs: tuple[Record | None, Record | None],
    *,
    strict: bool,
) -> Verdict:
    story = found.scenario
    sim = _machine(found, kernel, seed, faults)
    trace = TextTrace(sim.kernel.abi)
    sim.listen(trace.event)
    rerun = f"vdpasim run {found.ident} --kernel {kernel} --seed {seed}{flags}"
    header = _header(found, sim, kernel, values, faults, rerun)
    recorder = Recorder(outputs[0], header) if outputs[0] else None
    if recorder:
        sim.listen(recorder.writer.event)
    expected = story.expected(kernel)
    with Judge(sim, expected, strict=strict) as judge, _closing(recorder):
        with _journal(sim, outputs[1], header):
            _play(judge, found, values)
        judge.rest()
    judge.finish()
    findings = judge.findings
    if recorder:
        recorder.finish(findings)
    return Verdict(
        found.ident,
        story.name,
        story.doc.partition("\n")[0],
        kernel,
        frozenset(finding.id for finding in findings) == expected,
        tuple(sorted(expected)),
        tuple(findings),
        trace.text(),
        sim.kernel.steps,
        rerun,
        tuple(judge.notes),
        story.tags,
        judge.unconfirmed,
        strayed(story, values),
    )


@contextmanager
def _closing(recorder: Recorder | None) -> Generator[None]:
    try:
        yield
    except BaseException:
        if recorder:
            recorder.stream.close()  # a bug of ours: the trace as far as it came
        raise


@contextmanager
def _journal(sim: Simulator, journal: Record | None, header: Header) -> Generator[None]:
    # what goes into the machine is written down inside; after a bug of ours as far as it came
    if journal is None:
        yield
        return
    with journal(header) as stream:
        recorder = sim.journal(stream, header.scenario)
        yield
        recorder.finish()


class Recorder:
    """The trace file of one run."""

    def __init__(self, record: Record, header: Header) -> None:
        self.stream = record(header)
        self.writer = Writer(self.stream, header)

    def finish(self, findings: Iterable[Finding]) -> None:
        """The run is over and judged."""
        for finding in findings:
            self.writer.mark(Mark(finding.id, finding.text, finding.seq, tuple(getattr(finding, "steps", ()))))
        self.writer.finish()
        self.stream.close()


def _header(
    found: Found, sim: Simulator, kernel: str, values: dict[str, Any], faults: tuple[str, ...], rerun: str
) -> Header:
    story = found.scenario
    options = {
        "devices": dict(story.options),
        "extensions": list(story.extensions),
        "settings": dict(values),
        "faults": [*story.faults, *faults],
    }
    asked = {name: value for name, value in options.items() if value}
    return Header(kernel, sim.kernel.abi.name, sim.seed, found.ident, asked, rerun, f"vdpasim {__version__}")


def _play(judge: Judge, found: Found, values: dict[str, Any]) -> None:
    def body(machine: Simulator) -> Any:
        return found.scenario.body(machine, **values)

    try:
        judge.sim.run(body)
    except InternalError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a story raises is its outcome
        judge.ended(_blamed(error, strayed(found.scenario, values)), found.path)


def _blamed(error: BaseException, beyond: str) -> BaseException:
    if not beyond:
        return error
    if isinstance(error, AssertionError | OSError | VdpasimError | ValueError):
        error.add_note(beyond)
        return error
    blamed = ValueError(f"cannot be played: {beyond} ({error!r})")
    blamed.__cause__ = error  # its frames are those of the story
    return blamed
