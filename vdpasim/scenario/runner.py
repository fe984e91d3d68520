"""Running a scenario and judging it.

Theory. Each run gets a fresh machine, the standard checks, and a text trace. What was found is the set of violation ids
of the checks, of the error the story ended with (an AssertionError is ``assertion``, a deadlock ``deadlock``) and of
requests that are not modelled. The verdict compares that set with the one expected id.
"""

from __future__ import annotations

import inspect
from typing import Any

import attrs

from vdpasim import checks
from vdpasim.checks import Finding
from vdpasim.core.events import Event, Kind
from vdpasim.scenario import Scenario
from vdpasim.scenario.loader import Found, ScenarioError
from vdpasim.sim import Deadlock, Livelock, Simulator, Violation
from vdpasim.trace.text import TextTrace


@attrs.frozen
class Verdict:
    """The outcome of one run."""

    ident: str
    name: str
    story: str
    """First line of the docstring."""
    kernel: str
    passed: bool
    expected: str | None
    found: tuple[Finding, ...]
    trace: str
    steps: int
    rerun: str
    """The one command that does this run again."""

    @property
    def line(self) -> str:
        """What was found, in a few words."""
        if not self.found:
            return "clean" if self.passed else f"{self.expected} was expected and not found"
        return "; ".join(sorted({finding.id for finding in self.found}))


def run(found: Found, *, kernel: str | None = None, seed: int = 0, settings: dict[str, str] | None = None) -> list[Verdict]:
    """Run a scenario on each of its kernels, or on the one given.

    Raises:
        ScenarioError: a setting the scenario does not have, or a value of the wrong type.
    """
    story = found.scenario
    values = _settings(story, settings or {})
    kernels = (kernel,) if kernel else story.kernels
    return [_run_one(found, one, seed, values, settings or {}) for one in kernels]


def _run_one(found: Found, kernel: str, seed: int, values: dict[str, Any], settings: dict[str, str]) -> Verdict:
    story = found.scenario
    sim = Simulator(kernel, abi=story.abi, seed=seed, options=story.options, extensions=story.extensions)
    oracles = checks.standard()
    trace = TextTrace(sim.kernel.abi)
    unmodelled: list[Finding] = []

    def sink(event: Event) -> None:
        trace.event(event)
        for oracle in oracles:
            oracle.event(event)
        if event[3] == Kind.UNMODELLED:
            unmodelled.append(Finding("unmodelled", f"{event[4]}: {event[5]}", event[0]))

    sim.listen(sink)
    ended = _play(sim, story, values)
    for oracle in oracles:
        oracle.finish()
    findings = ended + unmodelled + [finding for oracle in oracles for finding in oracle.findings]
    ids = {finding.id for finding in findings}
    passed = ids == ({story.expect} if story.expect else set())
    flags = "".join(f" --set {key}={value}" for key, value in settings.items())
    return Verdict(
        found.ident,
        story.name,
        story.doc.partition("\n")[0],
        kernel,
        passed,
        story.expect,
        tuple(findings),
        trace.text(),
        sim.kernel.steps,
        f"vdpasim run {found.ident} --kernel {kernel} --seed {seed}{flags}",
    )


def _play(sim: Simulator, story: Scenario, values: dict[str, Any]) -> list[Finding]:
    def body(machine: Simulator) -> Any:
        return story.body(machine, **values)

    try:
        sim.run(body)
    except Violation as error:
        return [Finding(error.id, error.text, sim.kernel.seq)]
    except AssertionError as error:
        return [Finding("assertion", str(error) or "an assertion of the story failed", sim.kernel.seq)]
    except Deadlock as error:
        return [Finding("deadlock", str(error), sim.kernel.seq)]
    except Livelock as error:
        return [Finding("livelock", str(error), sim.kernel.seq)]
    except OSError as error:
        notes = "; ".join(getattr(error, "__notes__", []))
        return [Finding("oserror", f"{error} ({notes})" if notes else str(error), sim.kernel.seq)]
    return []


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
        kind = type(known[name])
        try:
            values[name] = int(text, 0) if kind is int else text.lower() in ("1", "true", "yes") if kind is bool else kind(text)
        except ValueError:
            raise ScenarioError(f"{name}={text!r} is not {kind.__name__}") from None
    return values
