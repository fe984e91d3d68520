"""``vdpasim check``: judge a recorded run again, with the oracles of this version.

Theory. Oracles see events only, so a trace is judged as the run was; what an oracle has learned since shows in old
traces. How a story ended and which faults never fired is nothing an event says: such findings are taken over. A trace
that was cut short is judged as far as it goes, without what only shows when everything is still. An import has no
recorded verdict: what the program did wrong is all it can show, and counts. Exit codes are those of diff(1): 1 is a
verdict, so a file that is no trace is 2.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from vdpasim.checks import Finding
from vdpasim.checks.standard import standard, vmm_mistakes
from vdpasim.cli.trace import READABLE, opened
from vdpasim.core.events import Kind
from vdpasim.trace.export_strace import told
from vdpasim.trace.file import Mark
from vdpasim.trace.text import inert

if TYPE_CHECKING:
    from pathlib import Path

    from vdpasim.core.events import Event
    from vdpasim.trace.file import Reader

RUN_ONLY = frozenset({"assertion", "deadlock", "livelock", "oserror", "error", "fault.unfired"})
"""Findings that no event shows."""


@click.command()
@click.argument("trace", type=READABLE)
def command(trace: Path) -> None:
    """Judge TRACE, which `vdpasim run --trace` recorded, again, and print what is found.

    Exit 0 if nothing was, 1 if something was or the recorded findings are others, 2 if TRACE is no trace.
    """
    with opened(trace) as reader:
        again, recorded = judge(reader)
        taken, recorded = _split(recorded)
        complete = reader.complete
        lacks = reader.header.extra.get("unknown")
        imported = "imported" in reader.header.extra
    new, gone = _less(again, recorded), _less(recorded, again)
    for mark in again:
        click.echo(told(mark))
    for mark in taken:
        click.echo(f"{told(mark)} (as recorded; no event shows it)")
    if lacks:
        click.echo(f"the trace was imported and lacks {inert(str(lacks))}: it was judged by what is there")
    if not complete:
        click.echo("cut short: the trace has no last line, and was judged as far as it goes")
    click.echo(_verdict(len(again) + len(taken), new, gone, complete=complete and not imported), nl=False)
    if again or taken or (complete and gone):
        raise SystemExit(1)


def judge(reader: Reader) -> tuple[list[Mark], list[Mark]]:
    """What the oracles find in a trace, and what was recorded in it.

    Raises:
        TraceFormatError: a line of the trace.
    """
    oracles, critics = standard(), vmm_mistakes(reader.header.layout)
    found: list[Finding] = []
    recorded: list[Mark] = []
    for item in reader:
        if item.mark is not None:
            recorded.append(Mark(item.mark.id, item.mark.text, item.mark.seq))
        if item.event is not None:
            found += _unmodelled(item.event)
            for oracle in (*oracles, *critics):
                oracle.event(item.event)
    if reader.complete:
        for oracle in (*oracles, *critics):
            oracle.finish()
    found += [finding for oracle in oracles for finding in oracle.findings]
    # a mistake of the program is a finding if it was one of the run, or if it is the program's own log that is judged
    counted = {mark.id for mark in recorded}
    program = "imported" in reader.header.extra
    found += [finding for critic in critics for finding in critic.findings if program or finding.id in counted]
    return [Mark(finding.id, finding.text, finding.seq) for finding in found], recorded


def _unmodelled(event: Event) -> list[Finding]:
    # a run counts what the simulator does not know as a finding, too
    return [Finding("unmodelled", f"{event[4]}: {event[5]}", event[0])] if event[3] == Kind.UNMODELLED else []


def _less(some: list[Mark], others: list[Mark]) -> list[Mark]:
    return list((Counter(some) - Counter(others)).elements())


def _split(recorded: list[Mark]) -> tuple[list[Mark], list[Mark]]:
    taken = [mark for mark in recorded if mark.id in RUN_ONLY]
    return taken, [mark for mark in recorded if mark.id not in RUN_ONLY]


def _verdict(number: int, new: list[Mark], gone: list[Mark], *, complete: bool) -> str:
    found = f"{number} finding{'s' * (number != 1)}" if number else "clean"
    if not complete:
        return f"{found}\n"  # findings stand at the end of a file, and an import has none: nothing to compare with
    if not new and not gone:
        return f"{found}, as recorded\n"
    lines = [f"  new:  {told(mark)}" for mark in new] + [f"  gone: {told(mark)}" for mark in gone]
    return "\n".join([f"{found}; the recorded ones differ: {len(new)} new, {len(gone)} gone", *lines]) + "\n"
