"""The live-update catalogue as a table of verdicts.

Theory. A scenario says by its tags what it belongs to: ``LU12`` is a number of the catalogue, ``LU12:twin`` the same
story without the mistake, which must come out clean. Nothing here judges: ids and refusals are those of the runs
(:mod:`.outcomes`), and a twin is ok if its runs were as expected. A run that shows nothing is a row only if no run of
its story shows anything. A number with a ``*`` has runs, shown or not, that came to rules no kernel confirms; below the
table stands which, and how to explore the stories that take another order of events.
"""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING

from vdpasim.checks.evidence import told_together
from vdpasim.scenario.outcomes import Shown, dialect, outcomes, stories, waits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vdpasim.scenario.runner import Verdict

WIDTH = 120
_NUMBER = re.compile(r"LU\d+(:twin)?")


def is_number(tag: str) -> bool:
    """Whether a tag is a number of the catalogue, of a twin or not."""
    return _NUMBER.fullmatch(tag) is not None


def listed(verdict: Verdict) -> bool:
    """Whether a run is of the catalogue at all."""
    return any(map(is_number, verdict.tags))


def catalogue(verdicts: Sequence[Verdict]) -> str:
    """A row for each number, story and outcome: where it shows, what came of it, whether its twin is clean, and why."""
    known = {tag.partition(":")[0] for verdict in verdicts for tag in verdict.tags if is_number(tag)}
    rows = [("", "id", "shows in", "found", "twin", "why")]
    notes: list[str] = []
    hidden: list[str] = []
    for number in sorted(known, key=lambda one: int(one[2:])):
        told = rests(one for one in verdicts if {number, f"{number}:twin"} & set(one.tags))
        rows += _rows(number, verdicts, "*" if told else "")
        notes += [f"* {number} {line}" for line in told]
        hidden += [f"{number} {line}" for line in explored(one for one in verdicts if number in one.tags)]
    return "\n".join([*lines(rows, LIMITS), *folded(hidden), *folded(notes)]) + "\n"


LIMITS = (4, 7, 24, 36, 4)
"""Characters of the columns before the last."""


def rests(verdicts: Iterable[Verdict]) -> list[str]:
    """What runs rest on and no kernel confirms, by dialect."""
    return told_together((dialect(one.kernel), one.unconfirmed) for one in verdicts)


def explored(verdicts: Iterable[Verdict]) -> list[str]:
    """The commands that find what no run showed, since it takes another order of events."""
    waiting = [story[0] for story in stories(verdicts) if all(waits(story[0], one) for _, one in outcomes(story))]
    return [f"{BY_EXPLORING}: vdpasim explore {one.ident}" for one in waiting]


BY_EXPLORING = "found by exploring"


def folded(notes: Iterable[str]) -> list[str]:
    """Notes in lines that fit."""
    return [line for note in notes for line in wrap(note, WIDTH, subsequent_indent="    ", break_on_hyphens=False)]


def _rows(number: str, verdicts: Sequence[Verdict], mark: str) -> Iterator[tuple[str, str, str, str, str, str]]:
    twins = [verdict for verdict in verdicts if f"{number}:twin" in verdict.tags]
    twin = "-" if not twins else "ok" if all(one.passed for one in twins) else "FAIL"
    name = number + mark
    for story in stories(verdict for verdict in verdicts if number in verdict.tags):
        why = story[0].story
        for shown in _worth_a_row(outcomes(story)):
            where = " ".join(shown.dialects) if shown.outcome.shows else "-"
            yield ("" if shown.outcome.passed else "FAIL", name, where, _found(story[0], shown), twin, why)
            name = twin = why = ""
    if name:
        yield ("", name, "", "", twin, "only the twin was run")


def _worth_a_row(groups: list[Shown]) -> list[Shown]:
    # what is clean is a row only if nothing was shown anywhere, or if that is wrong
    return [one for one in groups if one.outcome.shows or not one.outcome.passed] or groups


def _found(verdict: Verdict, shown: Shown) -> str:
    # a line for the ids, one for each refusal
    one = shown.outcome
    hint = [f"({BY_EXPLORING})"] if waits(verdict, one) else []
    told = [", ".join(one.ids)] * bool(one.ids) + [str(refusal) for refusal in one.refusals]
    return "\n".join([*(told or [f"clean: {' '.join(shown.dialects)}"]), *hint])


def lines(rows: Sequence[tuple[str, ...]], limits: Sequence[int], width: int = WIDTH) -> Iterator[str]:
    """A table whose cells are wrapped; the last column, prose, takes what is left of the width."""
    natural = [max(len(line) for row in rows for line in row[i].split("\n")) for i in range(len(limits))]
    widths = [min(both) for both in zip(natural, limits, strict=True)]
    used = [i for i, chars in enumerate(widths) if chars]
    last = width - sum(widths[i] + 2 for i in used)
    for row in rows:
        cells = [_wrapped(row[i], widths[i]) for i in used]
        cells.append(_wrapped(row[-1], last))
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            padded = [part.ljust(widths[i]) for part, i in zip(parts, used, strict=False)]
            yield "  ".join([*padded, parts[-1]]).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    return [line for part in text.split("\n") for line in wrap(part, width, break_on_hyphens=False) or [""]]
