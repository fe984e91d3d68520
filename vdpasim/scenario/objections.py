"""The objections to the live-update series, with what runs say of them.

Theory. ``objection:same-pages`` among the tags of a scenario says that it plays an objection that was raised on the
list. The table has a row for each: what its stories came to in every dialect, like compared with like, so a story that
was not played under all of the series that others were is not in it. Below stands every story with every outcome, also
those of kernels with switches of their own. Twins do it right and are left out.
"""

from __future__ import annotations

from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING

from vdpasim.scenario.catalogue import BY_EXPLORING, WIDTH, explored, folded, is_number, lines, rests
from vdpasim.scenario.outcomes import MAINLINE, dialect, outcome, outcomes, spoken, stories, waits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vdpasim.scenario.runner import Verdict

SPOKEN = ("v1", "v2", "fixed", MAINLINE)
"""The dialects that objections are answered for; a series of the user's comes to them."""
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

MEANS = {
    "vdpa.remap.no-set-map": "bit 10 still says that REMAP is required, so the update of such a device never completes",
}
"""Rule -> what its refusal means for an update."""

UNPLAYED = {
    "interrupt-after-suspend": "SUSPEND waits for the worker that interrupts; VDUSE's own work is not modelled",
}
"""Objection -> why no story can play it."""


def objections(verdicts: Sequence[Verdict]) -> str:
    """The table of all objections, then each in words, with the outcomes of its stories."""
    raised = [tag.removeprefix(OBJECTION) for one in verdicts for tag in one.tags if tag.startswith(OBJECTION)]
    slugs = list(dict.fromkeys((*OBJECTIONS, *raised)))
    playing = {slug: [one for one in verdicts if OBJECTION + slug in one.tags and not _twin(one)] for slug in slugs}
    columns = _columns([one for some in playing.values() for one in some])
    widths = [max(map(len, ("objection", *slugs))), *[ANSWER] * len(columns)]
    out = [_cells(("objection", *columns), widths)]
    for slug in slugs:
        out += _row(slug, _answers(playing[slug], columns), widths)
    for slug in slugs:
        out += ["", *wrap(f"{slug}: {OBJECTIONS.get(slug, 'an objection of your own')}", WIDTH)]
        out += _told(playing[slug], columns) if playing[slug] else _unplayed(slug)
    return "\n".join(out) + "\n"


ANSWER = 23
"""Characters of a column of answers."""


def _twin(verdict: Verdict) -> bool:
    # a story may be the twin of one number and what another is about
    numbers = [tag for tag in verdict.tags if is_number(tag)]
    return bool(numbers) and all(tag.endswith(":twin") for tag in numbers)


def _columns(verdicts: Sequence[Verdict]) -> list[str]:
    # kernels with switches of their own stand below; with a series of the user's, only what was played has room
    heard = [spoken(one.kernel) for one in verdicts]
    plain = dict.fromkeys(one.series for one in heard if not one.marks)
    own = [name for name in plain if name not in SPOKEN]
    return [name for name in SPOKEN if name in plain or not own] + own


def _answers(playing: Sequence[Verdict], columns: Sequence[str]) -> Iterator[list[str]]:
    alike = _alike(playing, columns)
    for column in columns:
        runs = [one for one in playing if dialect(one.kernel) == column and (column == MAINLINE or one.ident in alike)]
        yield _answer(runs)


def _alike(playing: Sequence[Verdict], columns: Sequence[str]) -> set[str]:
    # the stories that were played under every series that any of them was played under
    played = {story[0].ident: {dialect(one.kernel) for one in story} for story in stories(playing)}
    used = {name for under in played.values() for name in under} & set(columns) - {MAINLINE}
    return {ident for ident, under in played.items() if used <= under}


def _answer(runs: Sequence[Verdict]) -> list[str]:
    # what was found, then what was refused, a line each; of a message what its handler said
    told = [outcome(one) for one in runs]
    ids = sorted({ident for one in told for ident in one.ids})
    errnos = sorted({refusal.said for one in told for refusal in one.refusals})
    more = ["explore finds more"] if any(waits(run, one) for run, one in zip(runs, told, strict=True)) else []
    refused = [f"refused: {errno}" for errno in errnos]
    return [*([*ids, *refused] or ["clean" if runs else "-"]), *more]


def _row(slug: str, answers: Iterable[list[str]], widths: Sequence[int]) -> Iterator[str]:
    for cells in zip_longest([slug], *answers, fillvalue=""):
        yield _cells(cells, widths)


def _cells(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


# -- below the table


LIMITS = (36, 26)


def _told(playing: Sequence[Verdict], columns: Sequence[str]) -> list[str]:
    # story, dialects and outcome, then what is to be said of them
    rows = [row for story in stories(playing) for row in _story(story)]
    refused = {refusal.rule for one in playing for refusal in outcome(one).refusals}
    notes = [f"{rule}: {MEANS[rule]}" for rule in sorted(refused & set(MEANS))]
    notes += [f"not in the table, where like is compared with like: {name}" for name in _unlike(playing, columns)]
    notes += [*explored(playing), *(f"* {line}" for line in rests(playing))]
    return [f"  {line}" for line in lines(rows, LIMITS, WIDTH - 2)] + folded(f"  {note}" for note in notes)


def _unlike(playing: Sequence[Verdict], columns: Sequence[str]) -> list[str]:
    alike = _alike(playing, columns)
    return [
        story[0].name
        for story in stories(playing)
        if story[0].ident not in alike and {dialect(one.kernel) for one in story} & set(columns) - {MAINLINE}
    ]


def _unplayed(slug: str) -> list[str]:
    why = f": {UNPLAYED[slug]}" if slug in UNPLAYED else ""
    return folded([f"  no story of these plays it{why}"])


def _story(story: Sequence[Verdict]) -> Iterator[tuple[str, str, str]]:
    name = story[0].name
    for shown in outcomes(story):
        one = shown.outcome
        hint = f" ({BY_EXPLORING})" if waits(story[0], one) else ""
        told = "; ".join([*one.ids, *map(str, one.refusals)]) or "clean"
        yield name, " ".join(shown.dialects), told + hint
        name = ""
