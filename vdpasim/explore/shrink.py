"""The smallest schedule that still fails, as a scenario file that runs.

Theory. Smaller means, in this order: fewer actors (one that does nothing at all and the run still fails the same way),
fewer switches away from the thread that runs, fewer steps. The list of choices is shortened as a delta debugger does:
switches go in halves, quarters, and one by one, until none can go; whatever a candidate's choices mean in the other
run is fine, as what comes out is written down anew. Without an actor every choice behind its first one means something
else, so there each single switch is tried too; and an actor stays if without it the run without any switch fails as
well, since then it is missed, and it is no race any more that fails. A candidate fails the same way if it finds the
same ids. Candidates are guided by their choices alone, so nothing diverges; a choice too large for its place is taken
modulo.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from vdpasim.explore.execute import Following, Outcome, Simple, Target, execute, replay
from vdpasim.explore.schedule import Schedule, trimmed
from vdpasim.scenario.series_file import series_name
from vdpasim.sim.errors import UsageError
from vdpasim.trace.text import inert

if TYPE_CHECKING:
    from collections.abc import Iterator

Choices = tuple[int, ...]

RUNS_MAX = 2000
"""Candidates that are tried."""


class Loosely(Simple):
    """Plays choices without asking whether they fit."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.at = 0

    def choose(self, threads: list[str], labels: list[str]) -> int:
        choice = self.choices[self.at] if self.at < len(self.choices) else 0
        self.at += 1
        return choice % len(threads)


@attrs.frozen
class Shrunk:
    """What is left."""

    outcome: Outcome
    runs: int
    """Candidates that were tried."""

    @property
    def schedule(self) -> Schedule:
        """The smallest that was found."""
        return Schedule.parse(self.outcome.schedule)


@attrs.define
class _Search:
    target: Target
    ids: tuple[str, ...]
    best: Outcome
    runs: int = 0

    def attempt(self, choices: Choices, without: frozenset[str]) -> bool:
        if self.runs >= RUNS_MAX:
            return False
        outcome = self._run(choices, without)
        if outcome.ids != self.ids or _size(outcome) >= _size(self.best):
            return False
        self.best = outcome
        return True

    def fails(self, choices: Choices, without: frozenset[str]) -> bool:
        return self._run(choices, without).ids == self.ids

    def _run(self, choices: Choices, without: frozenset[str]) -> Outcome:
        self.runs += 1
        return execute(self.target, Loosely(choices), without=without)

    @property
    def schedule(self) -> Schedule:
        return Schedule.parse(self.best.schedule)


def _size(outcome: Outcome) -> tuple[int, ...]:
    schedule = Schedule.parse(outcome.schedule)
    return -len(schedule.without), schedule.switches, outcome.preemptions, outcome.steps, len(schedule.choices)


def shrink(target: Target, text: str) -> Shrunk:
    """Make a failing schedule small.

    Raises:
        UsageError: it is no schedule, or it does not fail.
        ReplayDivergence: it does not fit the body any more.
    """
    first = replay(target, text, trace=False)
    if not first.failed:
        raise UsageError("this schedule does not fail")
    search = _Search(target, first.ids, first)
    needs_switches = not search.fails((), search.schedule.without)
    for actor in first.actors:
        choices, without = search.schedule.choices, search.schedule.without | {actor}
        if needs_switches and search.fails((), without):
            continue
        singles = ((*[0] * at, 1) for at in range(len(choices) + 1))
        any(search.attempt(candidate, without) for candidate in (choices, *singles))
    while any(search.attempt(choices, search.schedule.without) for choices in _smaller(search.schedule.choices)):
        pass
    return Shrunk(search.best, search.runs)


def _smaller(choices: Choices) -> Iterator[Choices]:
    # without some of the switches, the large pieces first; then each switch later or to another thread
    places = [at for at, choice in enumerate(choices) if choice]
    piece = len(places)
    while piece:
        for first in range(0, len(places), piece):
            gone = set(places[first : first + piece])
            yield trimmed([0 if at in gone else choice for at, choice in enumerate(choices)])
        piece //= 2
    for at in places:
        yield trimmed([*choices[:at], *choices[at + 1 :]])
        if choices[at] > 1:
            yield (*choices[:at], choices[at] - 1, *choices[at + 1 :])


FILE = '''\
"""{title}

Made by `vdpasim shrink` from {ident}: {steps} steps, {preemptions} preemptions.
Play it with `vdpasim run {name}`; it passes as long as the bug is there.
"""

from pathlib import Path
from typing import Any

from vdpasim.explore.execute import replayed, story_of
from vdpasim.scenario import scenario
{loader}from vdpasim.sim import Simulator

STORY = {story}
SCHEDULE = "{schedule}"
{series}

@scenario({arguments})
async def shrunk(sim: Simulator) -> Any:
    """{title}"""
    return await replayed(sim, story_of(STORY), SCHEDULE)
'''


def scenario_file(target: Target, shrunk: Shrunk, out: Path | None) -> str:
    """A scenario file that plays it, for a place or, with absolute paths, for any."""
    outcome = shrunk.outcome
    path, _, name = target.ident.partition("::")
    story = f"{_place(path, out)} + {_quoted('::' + name)}" if out else _quoted(f"{Path(path).resolve()}::{name}")
    from_file = bool(target.series) and series_name(target.series) != target.series
    expect = ", ".join(_quoted(ident) for ident in sorted({*outcome.ids, *_seen(target, outcome)}))
    arguments = [f"kernel={_quoted(target.kernel)}", f"expect=({expect},)"]
    arguments += [f"abi={_quoted(target.abi)}"] if target.abi != "x86_64" else []
    arguments += [f"options={target.options!r}"] if target.options else []
    arguments += [f"extensions={target.extensions!r}"] if target.extensions else []
    arguments += [f"faults={target.faults!r}"] if target.faults else []
    text = FILE.format(
        title=_inside(f"The smallest schedule of {name} that ends in {', '.join(outcome.ids)}."),
        ident=_inside(target.ident),
        steps=outcome.steps,
        preemptions=outcome.preemptions,
        name=_inside(out.name) if out is not None else "FILE",
        loader=f"from {series_name.__module__} import series_name\n" if from_file else "",
        story=story,
        series=f"series_name({_place(target.series, out)})\n" if from_file else "",
        schedule=outcome.schedule,
        arguments=", ".join(arguments),
    )
    return text if "Path(" in story else text.replace("from pathlib import Path\n", "")


def _place(path: str, out: Path | None) -> str:
    # an expression for a file: where it lies beside the one that is written, or at all
    if out is None:
        return _quoted(str(Path(path).resolve()))
    beside = os.path.relpath(Path(path).resolve(), out.resolve().parent)
    return f"str(Path(__file__).parent / {_quoted(Path(beside).as_posix())})"


def _quoted(text: str) -> str:
    # a string of Python, in double quotes where that is all it takes
    plain = text.isprintable() and not set(text) & set('"\\')
    return f'"{text}"' if plain else repr(text)


def _inside(text: str) -> str:
    # a part of a docstring
    return inert(text).replace("\\", "\\\\").replace('"', '\\"')


def _seen(target: Target, outcome: Outcome) -> set[str]:
    # a file's scenario has no expectations of its own, so those of the story are told again if they came true; and
    # `vdpasim run` judges what was left to run behind the story as well
    bare = attrs.evolve(target, expected=frozenset())
    schedule = Schedule.parse(outcome.schedule)
    return set(execute(bare, Following(schedule), without=schedule.without, rest=True).ids)
