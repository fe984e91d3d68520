"""What a live update costs, as Markdown for a cover letter, and as JSON.

Theory. :func:`study` plays every way (:mod:`vdpasim.vmm.downtime`) for guests of several sizes and fits a law to each
count (:mod:`vdpasim.vmm.law`), for each step and for all of them. Nothing but the runs goes into a law. The guest that
is too big to be played is what the law says, and its rows are marked so. Counts get a time only by what the user says
one of them costs; what has no price counts as nothing, and the page says which that are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import attrs

from vdpasim.core.ports import PAGE_SIZE
from vdpasim.core.profiles import parse
from vdpasim.core.vhost.vhost import IOTLB_LIMIT
from vdpasim.vmm.downtime import UNITS, WAYS, Counts, Guest, Mode, NotPossible, Run, Way, measure, span
from vdpasim.vmm.law import Law, fit

Costs = Mapping[str, Fraction]
"""Unit -> what one costs, in nanoseconds."""

WIDE_MAX = 10_000
"""A guest of more entries than this is played once, a smaller one in every shape."""
SHORT = {"regions": "R", "entries": "E", "pages": "P"}
ALL = "all"
"""In place of a step: the whole downtime."""
TITLES: dict[Mode, str] = {"va": "VA mode: entries hold user addresses", "pa": "PA mode: entries hold pinned pages"}


@attrs.frozen
class Target:
    """The guest that is extrapolated."""

    name: str
    size: int
    regions: int
    contiguous: int
    """Bytes of memory that are adjacent in frames."""

    def values(self, mode: Mode) -> dict[str, int]:
        """As :attr:`Run.values`."""
        runs = max(self.regions, -(-self.size // self.contiguous))
        return {
            "regions": self.regions,
            "entries": runs if mode == "pa" else self.regions,
            "pages": -(-self.size // PAGE_SIZE),
        }


@attrs.frozen
class Answer:
    """One way in one mode."""

    mode: Mode
    way: Way
    runs: tuple[Run, ...] = ()
    laws: dict[str, dict[str, Law]] = attrs.Factory(dict[str, dict[str, Law]])
    """Step, or :data:`ALL` -> unit -> the law."""
    refused: str = ""
    """Why there is nothing."""

    def predicted(self, values: Mapping[str, int]) -> dict[str, Fraction]:
        """What the laws say of a guest, unit by unit."""
        return {unit: law.at(values) for unit, law in self.laws[ALL].items()}

    @property
    def residual(self) -> Fraction:
        """The largest distance of any run from any law."""
        return max((law.residual for row in self.laws.values() for law in row.values()), default=Fraction(0))


@attrs.frozen
class Study:
    """All ways."""

    kernel: str
    target: Target
    answers: tuple[Answer, ...]


def plan(sizes: Sequence[int], mode: Mode) -> list[Guest]:
    """The guests to play: as many entries as the sizes say, in shapes that tell regions, entries and pages apart."""
    guests: list[Guest] = []
    for size in sizes:
        guests.append(Guest(size, 1, 1))
        if size <= WIDE_MAX:
            guests.append(Guest(size, 1, 4))
            if mode == "pa":
                guests.append(Guest(-(-size // 4), 4, 1))
    return guests


def study(kernel: str, sizes: Sequence[int], modes: Sequence[Mode], target: Target) -> Study:
    """Play everything, and fit.

    Raises:
        ValueError: the sizes are too few for a law.
        ProfileError: the kernel.
    """
    answers = [_answer(kernel, mode, way, sizes) for mode in modes for way in WAYS if mode in way.modes]
    return Study(kernel, target, tuple(answers))


def _answer(kernel: str, mode: Mode, way: Way, sizes: Sequence[int]) -> Answer:
    try:
        runs = tuple(measure(kernel, mode, way, guest) for guest in plan(sizes, mode))
    except NotPossible as error:
        return Answer(mode, way, refused=str(error))
    same = all(run.values["regions"] == run.values["entries"] for run in runs)
    variables = [name for name in SHORT if name != "regions" or not same]
    laws = {
        step: {unit: fit(variables, [(run.values, cost(run, step)[unit]) for run in runs]) for unit in UNITS}
        for step in (*span(way.variant), ALL)
    }
    return Answer(mode, way, runs, laws)


def cost(run: Run, step: str = ALL) -> Counts:
    """The counts of one step of a run, or of all."""
    if step != ALL:
        return run.steps[step]
    return {unit: sum(counts[unit] for counts in run.steps.values()) for unit in UNITS}


def price(counts: Mapping[str, Fraction | int], costs: Costs) -> Fraction:
    """Nanoseconds."""
    return sum((counts[unit] * one for unit, one in costs.items()), Fraction(0))


# -- Markdown


def markdown(found: Study, costs: Costs) -> str:
    """The whole page."""
    lines = [f"# Downtime of a live update on {found.kernel}", "", *_preface(found, costs)]
    for mode, title in TITLES.items():
        answers = [answer for answer in found.answers if answer.mode == mode]
        if answers:
            lines += ["", f"## {title}", "", *_side_by_side(found, answers, costs), *_refusals(answers)]
            for answer in answers:
                if not answer.refused:
                    lines += ["", *_steps(answer)]
            lines += ["", *_runs(answers, costs)]
    blanks = [not line and (not i or not lines[i - 1]) for i, line in enumerate(lines)]
    return "\n".join(line for line, blank in zip(lines, blanks, strict=True) if not blank).rstrip("\n") + "\n"


def _preface(found: Study, costs: Costs) -> Iterator[str]:
    yield "Counted from the step `suspend` to the step `run`, both with it. R regions, E entries of the table, P pages."
    runs = sum(len(answer.runs) for answer in found.answers)
    worst = max((answer.residual for answer in found.answers), default=Fraction(0))
    met = "every law meets every run of its way exactly: all residuals are 0"
    yield f"Laws are fitted to {runs} runs by least squares; " + (
        f"{met}." if not worst else f"not every one is met, the largest residual is {float(worst):.4g}."
    )
    target = found.target
    yield (
        f"The rows of {target.name} were not run, they are what the laws say: {_plural(target.regions, 'region')}, "
        f"frames adjacent in runs of {_bytes(target.contiguous)}."
    )
    yield from _limit(found)
    if costs:
        free = ", ".join(head for unit, head in UNITS.items() if unit not in costs)
        each = ", ".join(f"{unit} {_time(one)}" for unit, one in costs.items())
        yield f"Time is what was said: {each}" + (f"; nothing for {free}." if free else ".")


def _limit(found: Study) -> Iterator[str]:
    # with F1 an address space holds so many entries and no more
    if "F1" not in parse(found.kernel):
        return
    holds = f"An address space of this kernel holds {IOTLB_LIMIT} entries (F1)"
    if any(run.kernel != found.kernel for answer in found.answers for run in answer.runs):
        yield f"{holds}; the runs with more were made without F1."
    for mode in TITLES:
        more = found.target.values(mode)["entries"] > IOTLB_LIMIT
        if more and any(answer.mode == mode and answer.runs for answer in found.answers):
            yield f"{holds}; in {mode.upper()} mode {found.target.name} has more: UPDATE would end with ENOSPC."


def _side_by_side(found: Study, answers: Sequence[Answer], costs: Costs) -> Iterator[str]:
    # the largest guest that every way was run for, then the one that was not
    rows = [_row(answer.way.name, largest(answer), costs) for answer in answers if answer.runs]
    for answer in answers:
        if answer.runs:
            values = found.target.values(answer.mode)
            counts = answer.predicted(values)
            rows.append(_cells(answer.way.name, values, counts, costs, f"{found.target.name}, extrapolated"))
    if rows:
        yield from table([_head(costs), *rows])


def largest(answer: Answer) -> Run:
    """The run with the most entries, of these the one with the most pages."""
    return max(answer.runs, key=lambda run: (run.values["entries"], run.values["pages"], run.values["regions"]))


def _runs(answers: Sequence[Answer], costs: Costs) -> Iterator[str]:
    runs = [run for answer in answers for run in answer.runs]
    if runs:
        yield "**All runs**"
        yield ""
        yield from table([_head(costs), *(_row(run.way, run, costs) for run in runs)])


def _head(costs: Costs) -> list[str]:
    return ["way", *SHORT.values(), *UNITS.values(), *(["time"] if costs else []), "cells"]


def _row(way: str, run: Run, costs: Costs) -> list[str]:
    return _cells(way, run.values, cost(run), costs, "run")


def _cells(
    way: str, values: Mapping[str, int], counts: Mapping[str, Fraction | int], costs: Costs, cells: str
) -> list[str]:
    sizes = [str(values[name]) for name in SHORT]
    timed = [_time(price(counts, costs))] if costs else []
    return [way, *sizes, *(_count(counts[unit]) for unit in UNITS), *timed, cells]


def _refusals(answers: Sequence[Answer]) -> Iterator[str]:
    for answer in answers:
        if answer.refused:
            yield ""
            yield f"{answer.way.name} is not possible here: {answer.refused}."


def _steps(answer: Answer) -> Iterator[str]:
    yield f"**{answer.way.name}**: {answer.way.doc}."
    yield ""
    units = [unit for unit in UNITS if str(answer.laws[ALL][unit]) != "0"]
    rows = [["step", *(UNITS[unit] for unit in units)]]
    for step, laws in answer.laws.items():
        cells = [_law(laws[unit]) for unit in units]
        if any(cells):
            rows.append([step if step != ALL else "**all**", *cells])
    yield from table(rows)


def _law(law: Law) -> str:
    text = str(law)
    for name, letter in SHORT.items():
        text = text.replace(name, letter)
    return "" if text == "0" else text


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table that is also one to the eye; numbers stand at the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = [all(not row[i] or row[i][0].isdigit() for row in rows[1:]) for i in range(len(widths))]
    for number, row in enumerate(rows):
        cells = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)]
        yield f"| {' | '.join(cells)} |"
        if not number:
            rules = ["-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)]
            yield f"| {' | '.join(rules)} |"


def _count(value: Fraction | int) -> str:
    exact = Fraction(value)
    return str(exact.numerator) if exact.denominator == 1 else f"{float(exact):.1f}"


def _plural(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _bytes(size: int) -> str:
    for unit in ("", "KiB", "MiB", "GiB"):
        if size % 1024:
            return f"{size} {unit}".rstrip()
        size //= 1024
    return f"{size} TiB"


def _time(ns: Fraction) -> str:
    value = float(ns)
    for unit in ("ns", "us", "ms"):
        if value < 1000:
            return f"{value:.4g} {unit}"
        value /= 1000
    return f"{value:.4g} s"


# -- JSON


def to_json(found: Study, costs: Costs) -> str:
    """Everything; a law is the factors of ``1``, regions, entries and pages that are not 0, and its residual."""
    answers = [_answer_json(found, answer, costs) for answer in found.answers]
    return json.dumps({"kernel": found.kernel, "guest": found.target.name, "ways": answers}, indent=1) + "\n"


def _answer_json(found: Study, answer: Answer, costs: Costs) -> dict[str, Any]:
    row: dict[str, Any] = {"mode": answer.mode, "way": answer.way.name}
    if answer.refused:
        return {**row, "refused": answer.refused}
    values = found.target.values(answer.mode)
    counts = answer.predicted(values)
    laws = {
        step: {
            unit: {"factors": _factors(law), "residual": _plain(law.residual)}
            for unit, law in laws.items()
            if law.residual or _factors(law)
        }
        for step, laws in answer.laws.items()
    }
    runs = [
        {**run.values, "kernel": run.kernel, "steps": run.steps, "all": cost(run), **_timed(cost(run), costs)}
        for run in answer.runs
    ]
    guessed = {**values, "all": {unit: _plain(number) for unit, number in counts.items()}, **_timed(counts, costs)}
    return {**row, "laws": laws, "runs": runs, "extrapolated": guessed}


def _factors(law: Law) -> dict[str, int | float]:
    return {name or "1": _plain(factor) for name, factor in law.factors.items() if factor}


def _timed(counts: Mapping[str, Fraction | int], costs: Costs) -> dict[str, float]:
    return {"ns": float(price(counts, costs))} if costs else {}


def _plain(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)
