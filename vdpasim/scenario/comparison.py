"""Scenarios under several series, side by side: ``vdpasim run --series A --series B --diff``.

Theory. What is compared is what each run came to, never what a scenario expects: under another series its expectation
may be wrong, and that is the point. That is the verdict, the ids of what was found, and what was refused on the way,
call by call in their order, each by its errno and rule: a story that only asks, and goes on by what it is told, is
clean under a series that grants what another refuses. A row is a story on a kernel, series left out; where nothing of
it changes it is counted and not shown. What a series rests on in all its runs and no kernel confirms stands below.
"""

from __future__ import annotations

import json
from collections import Counter
from textwrap import wrap
from typing import TYPE_CHECKING

import attrs

from vdpasim.checks.evidence import told
from vdpasim.core.profiles import parse
from vdpasim.scenario.outcomes import Refusal, refusals
from vdpasim.scenario.series_file import ADVERTISE, on_kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vdpasim.scenario.runner import Verdict

WIDTH = 120


@attrs.frozen
class Row:
    """A story on a kernel, with its run under each series."""

    ident: str
    name: str
    kernel: str
    """Without a series."""
    runs: dict[str, Verdict] = attrs.Factory(dict["str", "Verdict"])
    """Series -> the run."""

    @property
    def verdict_changes(self) -> bool:
        """Whether the series find different things."""
        return len({ids(run) for run in self.runs.values()}) > 1

    @property
    def refusals_change(self) -> bool:
        """Whether other calls are refused, or in another order, or by other rules."""
        return len({refusals(run) for run in self.runs.values()}) > 1

    @property
    def changes(self) -> bool:
        """Whether there is anything to show."""
        return self.verdict_changes or self.refusals_change


def rows(found: Iterable[tuple[str, Verdict]]) -> list[Row]:
    """Runs, each with the series it was made under, by what they have in common.

    A story that runs on mainline and on a series as well would be two rows with one name; then it is the runs on
    devices that offer what the series needs.
    """
    out: dict[tuple[str, str], Row] = {}
    for series, verdict in found:
        bare = on_kernel(verdict.kernel, "mainline")
        row = out.setdefault((verdict.ident, bare), Row(verdict.ident, verdict.name, bare))
        if series not in row.runs or ADVERTISE in parse(verdict.kernel):
            row.runs[series] = verdict
    return list(out.values())


def rests(found: Iterable[tuple[str, Verdict]]) -> str:
    """The rules that runs came to and that no kernel confirms, a line a series."""
    weak: dict[str, dict[str, str]] = {}
    for name, verdict in found:
        weak.setdefault(name, {}).update(verdict.unconfirmed)
    return "".join(f"* {name}: {told(dict(sorted(rules.items())))}\n" for name, rules in weak.items() if rules)


def strays(found: Iterable[tuple[str, Verdict]]) -> str:
    """The settings that are none of a story's sample, a line each."""
    lines = dict.fromkeys(f"* {verdict.name}: {verdict.strayed}\n" for _, verdict in found if verdict.strayed)
    return "".join(lines)


def ids(verdict: Verdict) -> str:
    """What a run found."""
    return "; ".join(sorted({finding.id for finding in verdict.found})) or "clean"


def render(table: Sequence[Row], names: Sequence[str]) -> str:
    """The rows that differ, a column a series, below each what was refused otherwise, and how many there are."""
    shown = [row for row in table if row.changes]
    cells = [[row.name, row.kernel, *(ids(row.runs[name]) for name in names)] for row in shown]
    heads = ["scenario", "kernel", *names]
    widths = [max(len(line[at]) for line in [heads, *cells]) for at in range(len(heads))]
    padded = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in [heads, *cells]]
    lines = padded[:1]
    for row, line in zip(shown, padded[1:], strict=True):
        lines += [line, *(_refused(row, names) if row.refusals_change else [])]
    return "\n".join([*lines, "", _summary(table)] if shown else [_summary(table)]) + "\n"


def _summary(table: Sequence[Row]) -> str:
    verdicts = sum(row.verdict_changes for row in table)
    refused = sum(row.refusals_change for row in table)
    return f"{verdicts} of {len(table)} verdicts change, refusals change in {refused}"


def _refused(row: Row, names: Sequence[str]) -> Iterator[str]:
    # what all series refuse alike is left out, unless the order is all that differs
    counts = {name: Counter(refusals(row.runs[name])) for name in names}
    common = Counter[Refusal]()
    if len({frozenset(count.items()) for count in counts.values()}) > 1:
        first, *others = counts.values()
        common = Counter({one: min(first[one], *(other[one] for other in others)) for one in first})
    width = max(map(len, names))
    for name in names:
        own = counts[name] - common
        text = ", ".join(f"{one}{f' x{times}' if times > 1 else ''}" for one, times in own.items())
        head = f"  refused under {name + ':':{width + 1}}  "
        yield from wrap(head + (text or "-"), WIDTH, subsequent_indent=" " * len(head), break_on_hyphens=False)


def to_json(table: Sequence[Row]) -> str:
    """A list of objects, one a row, those that do not change as well."""
    told = [
        {
            "id": row.ident,
            "kernel": row.kernel,
            "verdict_changes": row.verdict_changes,
            "refusals_change": row.refusals_change,
            "series": {name: _run(run) for name, run in row.runs.items()},
        }
        for row in table
    ]
    return json.dumps(told, indent=1) + "\n"


def _run(verdict: Verdict) -> dict[str, object]:
    return {
        "kernel": verdict.kernel,
        "found": sorted({finding.id for finding in verdict.found}),
        "refused": [one.row for one in refusals(verdict)],
        "unconfirmed": dict(verdict.unconfirmed),
        "strayed": verdict.strayed,
        "rerun": verdict.rerun,
    }
