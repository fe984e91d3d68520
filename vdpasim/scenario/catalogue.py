"""The live-update catalogue as a table of verdicts, and the objections to the series with what runs say of them.

Theory. A scenario says by its tags what it belongs to: ``LU12`` is a number of the catalogue, ``LU12:twin`` the same
story without the mistake, which must come out clean, ``objection:same-pages`` an objection that was raised on the list.
A *dialect* is what a kernel speaks of live update: the last word of the series that its profile names, or mainline.
Nothing here judges: the ids are those the runs found, and a twin is ok if its runs were as expected. A number with a
``*`` has runs, shown or not, that came to rules no kernel confirms; below the table stands which.
"""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

from vdpasim.checks.evidence import told_together

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vdpasim.scenario.runner import Verdict

WIDTH = 120
MAINLINE = "mainline"
SPOKEN = ("v1", "v2", "fixed", MAINLINE)
"""The dialects that objections are answered for."""
OBJECTION = "objection:"
OBJECTIONS = {
    "same-pages": "REMAP does not check that the new address shows the same pages, nor that the entry holds an address",
    "reset-instead": "giving the owner up and mapping everything anew would do, without a new request",
    "dma-map-only": "a device that takes single entries, or leaves it to an IOMMU, is not thought of",
    "kick-races-suspend": "a kick that comes with SUSPEND can put work behind the flush",
    "interrupt-after-suspend": "an interrupt can still be on its way when SUSPEND has returned",
    "any-holder-may-take-over": "whoever has the descriptor can make itself the owner",
    "pins-of-an-absentee": "an owner that never remaps leaves pins that nobody can release",
    "resume": "why reset behind SUSPEND: RESUME is faster, and without it the pair is lopsided",
    "security": "the assumption that a device reaches only what its owner gave it is gone",
}
"""Slug -> the objection, in one line."""

_NUMBER = re.compile(r"LU\d+(:twin)?")
_SERIES = re.compile(r"\+live-update-(\w+)")


class _Group(NamedTuple):
    # runs of one scenario that found the same
    dialects: tuple[str, ...]
    ids: tuple[str, ...]
    passed: bool


def dialect(kernel: str) -> str:
    """What a kernel speaks: ``v1`` of ``6.12+live-update-v1``."""
    found = _SERIES.search(kernel)
    if found is None:
        return MAINLINE
    return f"{found[1]}+guard" if "+lu-guard-" in kernel else found[1]


def listed(verdict: Verdict) -> bool:
    """Whether a run is of the catalogue at all."""
    return any(_NUMBER.fullmatch(tag) for tag in verdict.tags)


def catalogue(verdicts: Sequence[Verdict]) -> str:
    """A row for each number, story and outcome: where it shows, what was found, whether its twin is clean, and why."""
    known = {tag.partition(":")[0] for verdict in verdicts for tag in verdict.tags if _NUMBER.fullmatch(tag)}
    rows = [("", "id", "shows in", "found", "twin", "why")]
    notes: list[str] = []
    for number in sorted(known, key=lambda one: int(one[2:])):
        rests = _rests(one for one in verdicts if {number, f"{number}:twin"} & set(one.tags))
        rows += _rows(number, verdicts, "*" if rests else "")
        notes += [f"* {number} {line}" for line in rests]
    return "\n".join([*_lines(rows), *_wrapped(notes)]) + "\n"


def _rests(verdicts: Iterable[Verdict]) -> list[str]:
    return told_together((dialect(one.kernel), one.unconfirmed) for one in verdicts)


def _wrapped(notes: Iterable[str]) -> list[str]:
    return [line for note in notes for line in wrap(note, WIDTH, subsequent_indent="    ", break_on_hyphens=False)]


def _rows(number: str, verdicts: Sequence[Verdict], mark: str) -> Iterator[tuple[str, str, str, str, str, str]]:
    twins = [verdict for verdict in verdicts if f"{number}:twin" in verdict.tags]
    twin = "-" if not twins else "ok" if all(one.passed for one in twins) else "FAIL"
    name = number + mark
    for story in _stories(verdict for verdict in verdicts if number in verdict.tags):
        why = story[0].story
        for group in _groups(story):
            shows = " ".join(group.dialects) if group.ids else "-"
            found = ", ".join(group.ids) or f"clean: {' '.join(group.dialects)}"
            yield ("" if group.passed else "FAIL", name, shows, found, twin, why)
            name = twin = why = ""
    if name:
        yield ("", name, "", "", twin, "only the twin was run")


def _stories(verdicts: Iterable[Verdict]) -> list[list[Verdict]]:
    stories: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        stories.setdefault(verdict.ident, []).append(verdict)
    return list(stories.values())


def _groups(story: Sequence[Verdict]) -> list[_Group]:
    # what is clean is a row only if nothing was found anywhere, or if that is wrong
    groups: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for verdict in story:
        ids = tuple(sorted({finding.id for finding in verdict.found}))
        groups.setdefault((ids, verdict.passed), []).append(dialect(verdict.kernel))
    made = [_Group(tuple(dict.fromkeys(spoken)), *key) for key, spoken in groups.items()]
    shown = [group for group in made if group.ids or not group.passed]
    return shown or made


def _lines(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    # the last column, prose, takes what is left of the width; ids take a line each where there are several
    limits = [4, 7, 24, 32, 4]
    widths = [min(limit, max(len(row[i]) for row in rows)) for i, limit in enumerate(limits)]
    used = [i for i, width in enumerate(widths) if width]
    rest = WIDTH - sum(widths[i] + 2 for i in used)
    for row in rows:
        cells = [wrap(row[i], widths[i], break_on_hyphens=False) or [""] for i in used]
        cells.append(wrap(row[-1], rest) or [""])
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            padded = [part.ljust(widths[i]) for part, i in zip(parts, used, strict=False)]
            yield "  ".join([*padded, parts[-1]]).rstrip()


# -- objections


def objections(verdicts: Sequence[Verdict]) -> str:
    """A row for each objection: what the stories that play it found under every dialect, all of them together.

    Twins do it right and are left out. Behind the table stand the objections in words, the stories of each, and the
    rules these came to that no kernel confirms.
    """
    raised = [tag.removeprefix(OBJECTION) for one in verdicts for tag in one.tags if tag.startswith(OBJECTION)]
    slugs = list(dict.fromkeys((*OBJECTIONS, *raised)))
    widths = [max(map(len, ("objection", *slugs))), *[ANSWER] * len(SPOKEN)]
    lines = [_cells(("objection", *SPOKEN), widths)]
    notes: list[str] = []
    for slug in slugs:
        playing = [one for one in verdicts if OBJECTION + slug in one.tags and not _twin(one)]
        lines += _row((slug, *_answer(playing)), widths)
        names = ", ".join(dict.fromkeys(one.name for one in playing)) or "no story of these plays it"
        words = OBJECTIONS.get(slug, "an objection of your own")
        notes += ["", f"{slug}: {words}", *wrap(names, WIDTH - 2, initial_indent="  ", subsequent_indent="  ")]
        notes += _wrapped(f"  * {line}" for line in _rests(playing))
    return "\n".join([*lines, *notes]) + "\n"


ANSWER = 23
"""Characters of a column of findings."""


def _twin(verdict: Verdict) -> bool:
    return any(tag.endswith(":twin") for tag in verdict.tags)


def _row(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    # findings stand below each other, a cell as high as it must be
    columns = [cell.split(", ") for cell in cells]
    for level in range(max(map(len, columns))):
        yield _cells([column[level] if level < len(column) else "" for column in columns], widths)


def _cells(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _answer(story: Sequence[Verdict]) -> Iterator[str]:
    for spoken in SPOKEN:
        runs = [verdict for verdict in story if dialect(verdict.kernel) == spoken]
        ids = sorted({finding.id for verdict in runs for finding in verdict.found})
        yield ", ".join(ids) or ("clean" if runs else "-")
