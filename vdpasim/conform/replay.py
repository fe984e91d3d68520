"""Replaying files of cases: which are selected, and what each gave.

Theory. A *set* is a directory of recordings (``6.12-va``), a topic a file in it. Every line of every file gets exactly
one verdict, also the ones that were not selected or could not be read, so that nothing is dropped silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from vdpasim.conform.cases import Setting, TraceFormatError, Unreadable, needs_data_path, read_cases, setting_of
from vdpasim.conform.interpreter import Interpreter, StepResult
from vdpasim.conform.simulated import SimulatedFloor
from vdpasim.core.rules import observe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from vdpasim.conform.cases import Case

Outcome = Literal["agrees", "listed", "differs", "unreadable", "not run", "not selected"]

OUTCOMES: tuple[Outcome, ...] = ("agrees", "listed", "differs", "unreadable", "not run", "not selected")


@attrs.frozen
class Selection:
    """Which cases to run."""

    data_path: bool = True
    """Also those that need the device working through its rings."""
    topics: frozenset[str] = frozenset()
    """Only these topics; empty is all."""
    names: frozenset[str] = frozenset()
    """Only these cases; empty is all."""

    def refuses(self, case: Case) -> str:
        """Why a case is not selected; empty if it is."""
        if self.topics and case.topic not in self.topics:
            return "another topic"
        if self.names and case.name not in self.names:
            return "another case"
        if not self.data_path and needs_data_path(case):
            return "needs the data path"
        return ""


@attrs.frozen
class Verdict:
    """What became of one line of a file."""

    set: str
    topic: str
    name: str
    place: str
    outcome: Outcome
    data_path: bool = False
    reason: str = ""
    """Why it was not selected, not run, not readable or is listed as an accepted difference."""
    difference: StepResult | None = None
    steps: int = 0
    rules: frozenset[str] = frozenset()
    trail: tuple[StepResult, ...] = ()
    """The steps performed, the differing one last."""


def trace_files(paths: Iterable[Path]) -> list[Path]:
    """The case files named by paths: files themselves, directories all the way down, sorted."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    return found


def replay(
    paths: Iterable[Path], selection: Selection, profile: str | None, accepted: Mapping[tuple[str, str], str]
) -> Iterator[Verdict]:
    """Replay files on the simulator; ``profile`` replaces the one the cases name; else as :func:`verdicts`."""
    return verdicts(paths, selection, accepted, lambda found, case, reason: judge(found, case, profile, reason))


def verdicts(
    paths: Iterable[Path],
    selection: Selection,
    accepted: Mapping[tuple[str, str], str],
    judging: Callable[[str, Case, str], Verdict],
) -> Iterator[Verdict]:
    """One verdict a line of the files, in order.

    ``accepted`` is (set, case) -> reason of reviewed differences; ``judging`` gets set, case and reason of every
    selected case.
    """
    for path in trace_files(paths):
        collection = path.resolve().parent.name
        for case in read_cases(path):
            if isinstance(case, Unreadable):
                yield Verdict(collection, path.stem, "", case.place, "unreadable", reason=case.error)
            elif reason := selection.refuses(case):
                yield judged(collection, case, "not selected", reason)
            else:
                yield judging(collection, case, accepted.get((collection, case.name), ""))


def judge(collection: str, case: Case, profile: str | None, accepted: str) -> Verdict:
    """Run one case on the simulator and compare."""
    rules: set[str] = set()
    stop = observe(rules.add)
    try:
        setting = setting_of(case.kernel, profile)
        trail = simulate(case, setting)
    except TraceFormatError as error:
        return judged(collection, case, "unreadable", f"{case.place}: {error}")
    finally:
        stop()
    return compared(collection, case, trail, accepted, frozenset(rules))


def simulate(case: Case, setting: Setting) -> tuple[StepResult, ...]:
    """Perform a case on a fresh simulator, up to its first difference."""
    trail: list[StepResult] = []
    for result in Interpreter(case, SimulatedFloor(case, setting)).run():
        trail.append(result)
        if result.differing:
            break
    return tuple(trail)


def compared(
    collection: str, case: Case, trail: tuple[StepResult, ...], accepted: str, rules: frozenset[str] = frozenset()
) -> Verdict:
    """The verdict on the steps a floor performed."""
    difference = next((result for result in trail if result.differing), None)
    if difference is None:
        return judged(collection, case, "agrees", rules=rules, trail=trail)
    outcome: Outcome = "listed" if accepted else "differs"
    return judged(collection, case, outcome, accepted, difference=difference, trail=trail)


def judged(
    collection: str,
    case: Case,
    outcome: Outcome,
    reason: str = "",
    *,
    difference: StepResult | None = None,
    rules: frozenset[str] = frozenset(),
    trail: tuple[StepResult, ...] = (),
) -> Verdict:
    """A verdict on a case."""
    return Verdict(
        collection,
        case.topic,
        case.name,
        case.place,
        outcome,
        needs_data_path(case),
        reason,
        difference,
        len(case.steps),
        rules,
        trail,
    )
