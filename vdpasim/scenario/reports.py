"""Verdicts for people and machines: a table, JSON, KTAP, JUnit XML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdpasim.scenario.runner import Verdict


def table(verdicts: Sequence[Verdict]) -> str:
    """One line a run, then what failed with the command that runs it again."""
    width = max((len(v.name) for v in verdicts), default=0)
    kernels = max((len(v.kernel) for v in verdicts), default=0)
    lines = [f"{_mark(v)}  {v.name:{width}}  {v.kernel:{kernels}}  {v.line}" for v in verdicts]
    return "\n".join(lines + _summary(verdicts)) + "\n"


def told(verdicts: Sequence[Verdict]) -> str:
    """The same for people who do not know the stories: what each is about, the kernels with one outcome together."""
    groups: dict[tuple[str, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.ident, _mark(verdict), verdict.line), []).append(verdict)
    lines: list[str] = []
    for (_, mark, line), runs in groups.items():
        kernels = ", ".join(run.kernel for run in runs)
        lines += [f"{mark}  {runs[0].name} on {kernels}: {line}", f"      {runs[0].story}"]
    return "\n".join(lines + _summary(verdicts)) + "\n"


def _mark(verdict: Verdict) -> str:
    return "ok  " if verdict.passed else "FAIL"


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
    lines += [f"  [{finding.seq}] {finding.id}: {finding.text}" for finding in verdict.found]
    lines += ["  the last events:", *("    " + line for line in verdict.trace.splitlines()[-8:])]
    return [*lines, f"  rerun: {verdict.rerun}"]


def to_json(verdicts: Sequence[Verdict]) -> str:
    """A list of objects, one a run."""
    rows = [
        {
            "id": v.ident,
            "kernel": v.kernel,
            "passed": v.passed,
            "expected": list(v.expected),
            "found": [{"id": f.id, "text": f.text, "seq": f.seq} for f in v.found],
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
        lines.append(f"{'ok' if verdict.passed else 'not ok'} {number} {verdict.name}.{verdict.kernel}")
    return "\n".join(lines) + "\n"


def junit(verdicts: Sequence[Verdict]) -> str:
    """JUnit XML, one test case a run."""
    failures = sum(not v.passed for v in verdicts)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<testsuite name="vdpasim" tests="{len(verdicts)}" failures="{failures}">',
    ]
    for verdict in verdicts:
        head = f"  <testcase classname={quoteattr(verdict.ident)} name={quoteattr(verdict.kernel)}"
        if verdict.passed:
            lines.append(head + "/>")
            continue
        lines += [head + ">", f"    <failure message={quoteattr(verdict.line)}>"]
        lines += [escape("\n".join(failure(verdict))), "    </failure>", "  </testcase>"]
    return "\n".join([*lines, "</testsuite>"]) + "\n"
