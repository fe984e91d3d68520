"""Verdicts of one set of scenarios under several series, side by side: ``vdpasim run --series A --series B --diff``.

Theory. What is compared is what each run found, never what a scenario expects: under another series its expectation may
be wrong, and that is the point. Rows whose verdicts are the same under every series are counted and not shown. What a
series rests on in all its runs and no kernel confirms stands below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.checks.evidence import told
from vdpasim.scenario.series_file import on_kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vdpasim.scenario.runner import Verdict

Rows = dict[tuple[str, str], dict[str, str]]
"""(scenario, kernel without series) -> series -> what was found."""


def rows(found: Iterable[tuple[str, Verdict]]) -> Rows:
    """Runs, each with the series it was made under, by what they have in common."""
    out: Rows = {}
    for name, verdict in found:
        bare = on_kernel(verdict.kernel, "mainline")
        out.setdefault((verdict.name, bare), {})[name] = ids(verdict)
    return out


def rests(found: Iterable[tuple[str, Verdict]]) -> str:
    """The rules that runs came to and that no kernel confirms, a line a series."""
    weak: dict[str, dict[str, str]] = {}
    for name, verdict in found:
        weak.setdefault(name, {}).update(verdict.unconfirmed)
    return "".join(f"* {name}: {told(dict(sorted(rules.items())))}\n" for name, rules in weak.items() if rules)


def ids(verdict: Verdict) -> str:
    """What a run found."""
    return "; ".join(sorted({finding.id for finding in verdict.found})) or "clean"


def changed(table: Rows, names: Sequence[str]) -> Rows:
    """The rows where the series differ."""
    return {key: row for key, row in table.items() if len({row.get(name, "") for name in names}) > 1}


def render(table: Rows, names: Sequence[str]) -> str:
    """The rows that differ, a column a series, and how many there are."""
    shown = changed(table, names)
    grid = [["scenario", "kernel", *names]]
    grid += [[*key, *(row.get(name, "-") for name in names)] for key, row in shown.items()]
    widths = [max(len(line[at]) for line in grid) for at in range(len(grid[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in grid]
    if not shown:
        lines = []
    return "\n".join([*lines, *([""] if lines else []), f"{len(shown)} of {len(table)} verdicts change"]) + "\n"
