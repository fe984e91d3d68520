"""``vdpasim replay``: a recorded run again, from its journal alone.

Theory. A journal (``vdpasim run --journal FOLDER``) holds what went into the simulated machine, so neither the scenario
nor its file is needed. Events must come out as they did; the first that does not is shown, beside the recorded one if
the trace of the run is given. Exit codes are those of diff(1): 0 the same, 1 different, 2 no journal.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdpasim import __version__
from vdpasim.cli.trace import READABLE, NoTraceError, opened
from vdpasim.scenario.loader import ScenarioError
from vdpasim.scenario.series_file import series_name
from vdpasim.sim.replay import JournalError, Replay, UnknownSeriesError
from vdpasim.trace.file import Header, Writer
from vdpasim.trace.text import TextTrace, inert

if TYPE_CHECKING:
    from vdpasim.core.events import Event
    from vdpasim.sim.replay import Outcome


@click.command()
@click.argument("file", type=READABLE)
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), help="Record the run again, to this file.")
@click.option("--recorded", type=READABLE, help="The trace of the recorded run, to show what was different there.")
@click.option("--series", multiple=True, metavar="FILE", help="A patch series of your own that the run was made with.")
def command(file: Path, trace: Path | None, recorded: Path | None, series: tuple[str, ...]) -> None:
    """Run FILE, which `vdpasim run --journal` wrote, again, and say whether the same events come out.

    A run under a series of your own needs its file, --series FILE: a journal holds no code.

    Exit 0 if they do, 1 with the first that is different, 2 if FILE is no journal.
    """
    try:
        for one in series:
            series_name(one)
    except ScenarioError as error:
        raise click.UsageError(str(error)) from None
    if trace is not None and trace.exists() and trace.samefile(file):
        raise click.UsageError("--trace is the journal itself")
    try:
        with file.open(encoding="ascii") as stream:
            outcome = _play(Replay(stream, file.name), trace)
    except UnknownSeriesError as error:
        hint = "if it is a series of your own, give its file: --series FILE"
        raise NoTraceError(f"{inert(str(error))}; {hint}") from None
    except (JournalError, OSError) as error:
        raise NoTraceError(inert(str(error))) from None
    _tell(outcome, recorded)
    if outcome.different:
        raise SystemExit(1)


def _play(replay: Replay, trace: Path | None) -> Outcome:
    if trace is None:
        return replay.run()
    header = Header(
        replay.kernel.switches.spec,
        replay.kernel.abi.name,
        replay.sim.seed,
        replay.scenario,
        program=f"vdpasim {__version__}",
    )
    with trace.open("w", encoding="ascii") as stream:
        writer = Writer(stream, header)
        replay.sim.listen(writer.event)
        outcome = replay.run()
        if outcome.complete:
            writer.finish()
    return outcome


def _tell(outcome: Outcome, recorded: Path | None) -> None:
    if outcome.other_version:
        click.echo(f"recorded by {inert(outcome.program)}, replayed by vdpasim {__version__}")
    for what in outcome.lost:
        click.echo(f"the journal lacks {inert(what)}: what comes behind may differ")
    events = f"{outcome.events} events"
    if not outcome.different:
        if not outcome.complete:
            click.echo(f"cut short: the journal has no last line, and was replayed for {outcome.lines} lines")
        click.echo(f"{events}, the same as recorded")
        return
    click.echo(f"{events} are the same; event {outcome.seq} {outcome.different}")
    if recorded is not None:
        click.echo(f"  recorded: {_line_of(recorded, outcome.seq)}")
    click.echo(f"  now:      {_shown(outcome.event)}")


def _shown(event: Event | None) -> str:
    if event is None:
        return "(nothing)"
    text = TextTrace()
    return text.line(event) or text.unfinished()[0]  # a call that begins


def _line_of(trace: Path, seq: int) -> str:
    text = ""
    with opened(trace) as reader:
        lines = TextTrace(reader.header.layout)
        for item in reader:
            if item.event is not None:
                line = lines.line(item.event)
                if item.event[0] == seq:
                    text = line or _shown(item.event)
    return text or "(nothing)"
