"""Verdicts for people and machines: a table, JSON, KTAP, JUnit XML; each says what it rests on, if no kernel does."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from vdpasim.checks import evidence
from vdpasim.core.rules import RULES
from vdpasim.scenario import catalogue, objections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdpasim.checks import Finding
    from vdpasim.scenario.runner import Verdict


def table(verdicts: Sequence[Verdict]) -> str:
    """One line a run, then what failed with the command that runs it again."""
    return _rows(verdicts) + "\n".join(_summary(verdicts)) + "\n"


def _rows(verdicts: Sequence[Verdict]) -> str:
    width = max((len(v.name) for v in verdicts), default=0)
    kernels = max((len(v.kernel) for v in verdicts), default=0)
    lines: list[str] = []
    for v in verdicts:
        lines += [f"{_mark(v)}  {v.name:{width}}  {v.kernel:{kernels}}  {v.line}", *_notes(v)]
    return "\n".join(lines) + "\n" if lines else ""


def by_catalogue(verdicts: Sequence[Verdict]) -> str:
    """The live-update catalogue of what is in it, the table of the rest, then what failed."""
    rest = [verdict for verdict in verdicts if not catalogue.listed(verdict)]
    if len(rest) == len(verdicts):
        return table(verdicts)
    told = catalogue.catalogue(verdicts) + ("\n" + _rows(rest) if rest else "")
    return told + "\n".join(_summary(verdicts)) + "\n"


def by_objection(verdicts: Sequence[Verdict]) -> str:
    """What the runs say to each objection, then what failed."""
    return objections.objections(verdicts) + "\n".join(_summary(verdicts)) + "\n"


def told(verdicts: Sequence[Verdict]) -> str:
    """The same for people who do not know the stories: what each is about, the kernels with one outcome together."""
    groups: dict[tuple[str, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.ident, _mark(verdict), verdict.line), []).append(verdict)
    lines: list[str] = []
    for (_, mark, line), runs in groups.items():
        kernels = ", ".join(run.kernel for run in runs)
        notes = dict.fromkeys(note for run in runs for note in _notes(run))
        lines += [f"{mark}  {runs[0].name} on {kernels}: {line}", f"      {runs[0].story}", *notes]
    return "\n".join(lines + _summary(verdicts)) + "\n"


def _mark(verdict: Verdict) -> str:
    return "ok  " if verdict.passed else "FAIL"


def _notes(verdict: Verdict) -> list[str]:
    return [f"note  {finding.id}: {finding.text}" for finding in verdict.notes]


def _summary(verdicts: Sequence[Verdict]) -> list[str]:
    lines: list[str] = []
    for verdict in verdicts:
        if not verdict.passed:
            lines += ["", *failure(verdict)]
    good = sum(v.passed for v in verdicts)
    return [*lines, "", f"{good} of {len(verdicts)} runs as expected"]


def failure(verdict: Verdict) -> list[str]:
    """What was found, the last steps before the end, and how to run it again."""
    lines = [f"{verdict.name} on {verdict.kernel}: {verdict.line}"]
    lines += _found(verdict)
    if not any(finding.steps for finding in verdict.found):
        lines += ["  the last events:", *("    " + line for line in verdict.trace.splitlines()[-8:])]
        return [*lines, f"  rerun: {verdict.rerun}"]
    return [*lines, *steps(verdict), f"  rerun: {verdict.rerun}"]


def explained(verdicts: Sequence[Verdict]) -> str:
    """Of each run what was found, where and how it came to that, passed or not."""
    lines: list[str] = []
    for verdict in verdicts:
        lines += [f"{_mark(verdict)}  {verdict.name} on {verdict.kernel}: {verdict.line}", *_notes(verdict)]
        lines += _found(verdict)
        lines += [*_rests(verdict), *steps(verdict), f"  rerun: {verdict.rerun}", ""]
    good = sum(v.passed for v in verdicts)
    return "\n".join([*lines, f"{good} of {len(verdicts)} runs as expected"]) + "\n"


def _rests(verdict: Verdict) -> list[str]:
    rows = [(rule, what, RULES.get(rule)) for rule, what in verdict.unconfirmed.items()]
    return [f"  rests on {rule} ({what})" + (f": {row.when}" if row else "") for rule, what, row in rows]


def _found(verdict: Verdict) -> list[str]:
    # each id by its first findings, the others as a number
    counts = Counter(one.id for one in verdict.found)
    shown: Counter[str] = Counter()
    lines: list[str] = []
    for one in verdict.found:
        shown[one.id] += 1
        if shown[one.id] <= EXPLAINED:
            lines.append(f"  [{one.seq}] {one.id}: {one.text}")
        elif shown[one.id] == counts[one.id]:
            lines.append(f"  and {counts[one.id] - EXPLAINED} more of {one.id}")
    return lines


EXPLAINED = 3
"""Findings with their steps on one screen; more are counted."""


def steps(verdict: Verdict) -> list[str]:
    """Where the first findings were, each id once, and the events that led to them."""
    firsts = list({one.id: one for one in reversed(verdict.found) if one.steps}.values())[::-1]
    events = {line.partition("]")[0].removeprefix("["): line for line in verdict.trace.splitlines()}
    lines: list[str] = []
    for one in firsts[:EXPLAINED]:
        lines += [f"  {one.id}", *(f"    {name + ':':10} {value}" for name, value in one.where)]
        led = [_short(events[str(seq)]) for seq in one.steps if str(seq) in events]
        lines += ["    steps before, and the event itself:", *("      " + line for line in led)] if led else []
    if len(firsts) > EXPLAINED:
        lines.append(f"  and {len(firsts) - EXPLAINED} more")
    return lines


def _short(line: str) -> str:
    return line if len(line) <= LINE_MAX else line[: LINE_MAX - 1] + "…"


LINE_MAX = 200
"""Characters of an event that is shown as a step."""


def _row(finding: Finding) -> dict[str, object]:
    return {"id": finding.id, "text": finding.text, "seq": finding.seq, "steps": list(finding.steps)}


def to_json(verdicts: Sequence[Verdict]) -> str:
    """A list of objects, one a run."""
    rows = [
        {
            "id": v.ident,
            "kernel": v.kernel,
            "passed": v.passed,
            "expected": list(v.expected),
            "found": [_row(f) for f in v.found],
            "notes": [_row(f) for f in v.notes],
            "unconfirmed": dict(v.unconfirmed),
            "strayed": v.strayed,
            "steps": v.steps,
            "rerun": v.rerun,
        }
        for v in verdicts
    ]
    return json.dumps(rows, indent=1) + "\n"


def ktap(verdicts: Sequence[Verdict]) -> str:
    """The kernel's test output format, version 1."""
    lines = ["KTAP version 1", f"1..{len(verdicts)}"]
    for number, verdict in enumerate(verdicts, 1):
        lines += [f"# {finding.id}: {finding.text}" for finding in verdict.found if not verdict.passed]
        lines += [f"# {evidence.told(verdict.unconfirmed)}"] if verdict.unconfirmed else []
        lines.append(f"{'ok' if verdict.passed else 'not ok'} {number} {verdict.name}.{verdict.kernel}")
    return "\n".join(lines) + "\n"


def _properties(verdict: Verdict) -> list[str]:
    value = quoteattr(evidence.told(verdict.unconfirmed))
    row = f'    <properties><property name="vdpasim.unconfirmed" value={value}/></properties>'
    return [row] if verdict.unconfirmed else []


def junit(verdicts: Sequence[Verdict]) -> str:
    """JUnit XML, one test case a run."""
    failures = sum(not v.passed for v in verdicts)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<testsuite name="vdpasim" tests="{len(verdicts)}" failures="{failures}">',
    ]
    for verdict in verdicts:
        head = f"  <testcase classname={quoteattr(verdict.ident)} name={quoteattr(verdict.kernel)}"
        inside = _properties(verdict)
        if not verdict.passed:
            inside.append(f"    <failure message={quoteattr(verdict.line)}>")
            inside += [escape("\n".join(failure(verdict))), "    </failure>"]
        lines += [head + ">", *inside, "  </testcase>"] if inside else [head + "/>"]
    return "\n".join([*lines, "</testsuite>"]) + "\n"
