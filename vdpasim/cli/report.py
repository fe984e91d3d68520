"""``vdpasim report``: a recorded run as one self-contained page."""

from __future__ import annotations

from pathlib import Path

import click

from vdpasim.cli.trace import READABLE, opened
from vdpasim.report.page import EVENTS_MAX, page


@click.command()
@click.argument("trace", type=READABLE)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The page.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=EVENTS_MAX,
    show_default=True,
    help="Events on the page, the last ones of the run; it says what is left out.",
)
def command(trace: Path, output: Path, limit: int) -> None:
    """Draw TRACE, which `vdpasim run --trace` recorded, as a page for a browser.

    The page needs nothing but itself: no network, no server.
    """
    if output.exists() and output.samefile(trace):
        raise click.UsageError("-o is the trace itself")
    with opened(trace) as reader:
        text = page(reader, limit)
        output.write_text(text, encoding="utf-8")
    click.echo(f"{output}: {len(text) // 1024} KiB")
