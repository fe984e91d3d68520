"""``vdpasim diagnose``: which known mistake of a live update a recorded run shows, with the events that show it.

Theory. It reads what ``vdpasim run --trace`` recorded or ``vdpasim trace import`` made. Exit codes are those of
diff(1): 0 nothing that is known, 1 something, 2 no trace.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdpasim.checks.diagnosis import diagnose
from vdpasim.checks.diagnosis.catalogue import CATALOGUE, PARTLY, UNTELLABLE
from vdpasim.cli.trace import opened
from vdpasim.trace.text import TextTrace, inert

if TYPE_CHECKING:
    from vdpasim.checks.diagnosis.pattern import Match

SHOWN = 3


@click.command()
@click.argument("trace", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--list", "listed", is_flag=True, help="The catalogue, and what of it no trace tells.")
@click.option("--all", "everything", is_flag=True, help=f"Every match, not the first {SHOWN}.")
@click.option("--json", "as_json", is_flag=True, help="Matches as JSON.")
def command(trace: Path | None, listed: bool, everything: bool, as_json: bool) -> None:
    """Say which LUxx of the catalogue of live-update mistakes TRACE shows.

    Exit 0 if none that is known, 1 if some, 2 if TRACE is no trace.
    """
    if listed == (trace is not None):
        raise click.UsageError("give a TRACE, or --list alone")
    if trace is None:
        _list()
        return
    with opened(trace) as reader:
        events = [item.event for item in reader if item.event is not None]
        header, complete = reader.header, reader.complete
    found = diagnose(events, header.layout)
    if as_json:
        click.echo(json.dumps([{**one._asdict(), "title": CATALOGUE[one.number]} for one in found], indent=1))
    else:
        lines = TextTrace(header.layout)
        text = {event[0]: line for event in events if (line := lines.line(event))}
        _tell(found, text, everything=everything)
        if lacks := header.extra.get("unknown"):
            click.echo(f"the trace was imported and lacks {inert(str(lacks))}: what needs that was not looked for")
        if not complete:
            click.echo("cut short: the trace has no last line")
    if found:
        raise SystemExit(1)


def _tell(found: list[Match], text: dict[int, str], *, everything: bool) -> None:
    if not found:
        click.echo("none that is known")
    for one in found if everything else found[:SHOWN]:
        click.echo(f"LU{one.number:02}: {CATALOGUE[one.number]}")
        click.echo(f"  {inert(one.why)}")
        for seq in one.evidence:
            click.echo(f"    {text.get(seq, f'[{seq}]')}")
    if len(found) > SHOWN and not everything:
        rest = ", ".join(f"LU{one.number:02}" for one in found[SHOWN:])
        click.echo(f"less certain, or what follows from these: {rest} (--all shows them)")


def _list() -> None:
    for number, title in CATALOGUE.items():
        click.echo(f"LU{number:02}  {title}")
        if number in UNTELLABLE:
            click.echo(f"      not tellable: {UNTELLABLE[number]}")
        elif number in PARTLY:
            click.echo(f"      {PARTLY[number]}")
