"""``vdpasim shrink``: the smallest schedule that still fails, as a scenario file."""

from __future__ import annotations

from pathlib import Path

import click

from vdpasim.cli.explore import refusals
from vdpasim.explore.execute import Target
from vdpasim.explore.shrink import scenario_file, shrink
from vdpasim.scenario.loader import load
from vdpasim.sim.errors import UsageError


@click.command("shrink")
@click.argument("path", metavar="SCENARIO")
@click.option("--schedule", required=True, metavar="STRING", help="One that fails, as vdpasim explore printed it.")
@click.option("--kernel", help="Profile string instead of the scenario's own.")
@click.option("--series", metavar="NAME|FILE", default="", help="A patch series in the place of the scenario's own.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of sim.choice.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the scenario file here, not to stdout.")
def command(path: str, schedule: str, kernel: str | None, series: str, seed: int, output: Path | None) -> None:
    """Take switches, steps and actors out of a failing schedule until it would not fail any more.

    The scenario file that comes out plays what is left: `vdpasim run FILE`.
    """
    with refusals():
        found = load([path])
        if len(found) > 1:
            raise UsageError(f"{path} has {len(found)} scenarios; name one: {found[0].ident}")
        story = found[0].scenario
        target = Target.of(story, found[0].ident, kernel or story.kernels[0], seed=seed, series=series)
        if output is not None and output.exists() and output.samefile(found[0].path):
            raise UsageError(f"{output} is the scenario itself; write to another file")
        small = shrink(target, schedule)
        text = scenario_file(target, small, output)
        if output is not None:
            output.write_text(text, encoding="utf-8")
    if output is None:
        click.echo(text, nl=False)
    outcome = small.outcome
    click.echo(
        f"{outcome.steps} steps, {outcome.preemptions} preemptions, {len(small.schedule.without)} actors left out,"
        f" after {small.runs} runs: {outcome.schedule}",
        err=output is None,
    )
