"""Running a scenario and judging it.

Theory. Each run gets a fresh machine, the standard checks, and a text trace. What was found is the set of violation ids
of the checks, of the error the story ended with (an AssertionError is ``assertion``, a refusal nobody caught
``oserror``, a deadlock ``deadlock``, anything else ``error``), of requests that are not modelled and of faults that
never fired. The verdict compares that set with the ids that are expected.

Mistakes of the program (``vmm.*``) are notes: they count, and are found, where the scenario expects their id or the run
is strict. When the story has ended, calls and workers it left behind run to their end, so that a check may say what
did *not* happen; the actors do not.
"""

from __future__ import annotations

import inspect
import shlex
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import attrs

from vdpasim import __version__
from vdpasim.checks import Finding
from vdpasim.checks.standard import standard, vmm_mistakes
from vdpasim.core.events import Event, Kind
from vdpasim.scenario.loader import Found, ScenarioError
from vdpasim.sim import Deadlock, InternalError, Livelock, Simulator, UsageError
from vdpasim.sim.hosts import Actor
from vdpasim.trace.file import Header, Mark, Writer
from vdpasim.trace.text import TextTrace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from vdpasim.scenario import Scenario

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

    @property
    def line(self) -> str:
        """What was found, in a few words."""
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
        ScenarioError: a setting the scenario does not have, a value of the wrong type, a fault that is none, a machine
            that cannot be made.
        ProfileError: the kernel.
    """
    story = found.scenario
    values = _settings(story, settings or {})
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
    oracles, critics = standard(), vmm_mistakes(sim.kernel.abi)
    watchers = oracles + critics
    trace = TextTrace(sim.kernel.abi)
    unmodelled: list[Finding] = []
    rerun = f"vdpasim run {found.ident} --kernel {kernel} --seed {seed}{flags}"
    header = _header(found, sim, kernel, values, faults, rerun)
    recorder = Recorder(outputs[0], header) if outputs[0] else None

    def sink(event: Event) -> None:
        trace.event(event)
        if recorder:
            recorder.writer.event(event)
        for oracle in watchers:
            oracle.event(event)
        if event[3] == Kind.UNMODELLED:
            unmodelled.append(Finding("unmodelled", f"{event[4]}: {event[5]}", event[0]))

    sim.listen(sink)
    with _closing(recorder):
        with _journal(sim, outputs[1], header):
            ended = _play(sim, found, values)
        if come_to_rest(sim):
            sim.kernel.emit(Kind.STILL)
    for oracle in watchers:
        oracle.finish()
    unfired = [Finding("fault.unfired", one.complaint(), sim.kernel.seq) for one in sim.faults.unfired]
    findings = ended + unfired + unmodelled + [finding for oracle in oracles for finding in oracle.findings]
    expected = story.expected(kernel)
    mistakes = [finding for critic in critics for finding in critic.findings]
    findings += [finding for finding in mistakes if strict or finding.id in expected]
    if recorder:
        recorder.finish(findings)
    passed = frozenset(finding.id for finding in findings) == expected
    return Verdict(
        found.ident,
        story.name,
        story.doc.partition("\n")[0],
        kernel,
        passed,
        tuple(sorted(expected)),
        tuple(findings),
        trace.text(),
        sim.kernel.steps,
        rerun,
        tuple(finding for finding in mistakes if finding not in findings),
        story.tags,
    )


def come_to_rest(sim: Simulator, limit: int = 20_000) -> bool:
    """Run what a story left behind, but none of its actors; whether nothing is left then."""
    kernel = sim.kernel
    for _ in range(limit):
        left = [i for i, unit in enumerate(kernel.ready) if not isinstance(unit, Actor)]
        if not left:
            return True
        kernel.step(left[0])
    return False


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


def _play(sim: Simulator, found: Found, values: dict[str, Any]) -> list[Finding]:
    def body(machine: Simulator) -> Any:
        return found.scenario.body(machine, **values)

    try:
        sim.run(body)
    except InternalError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a story raises is its outcome
        ident, text = outcome(error)
        return [Finding(ident, where(error, found.path) + text, sim.kernel.seq)]
    return []


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


def _settings(story: Scenario, settings: dict[str, str]) -> dict[str, Any]:
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(story.body).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    values: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in known:
            raise ScenarioError(f"{story.name} has no setting {name!r}; it has {', '.join(known) or 'none'}")
        values[name] = _value(name, text, known[name])
    return values


def _value(name: str, text: str, default: object) -> object:
    # a setting has the type of its default
    if isinstance(default, bool):
        words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in words:
            raise ScenarioError(f"{name}={text!r} is neither yes nor no")
        return words[text.lower()]
    if isinstance(default, int):
        try:
            return int(text, 0)
        except ValueError:
            raise ScenarioError(f"{name}={text!r} is no number") from None
    return text
