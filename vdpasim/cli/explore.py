"""``vdpasim explore``: try many schedules of a scenario, and replay one that failed."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from vdpasim.checks.evidence import told
from vdpasim.core.profiles import ProfileError
from vdpasim.explore.campaign import STRATEGIES, Campaign, CampaignError, Plan
from vdpasim.explore.campaign import command as again
from vdpasim.explore.execute import Target, replay
from vdpasim.explore.schedule import ReplayDivergence
from vdpasim.explore.strategy import Settings
from vdpasim.scenario.loader import ScenarioError, load
from vdpasim.scenario.series_file import on_kernels
from vdpasim.sim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

EXIT_DIVERGED = 4
LAST_EVENTS = 12


@click.command("explore")
@click.argument("paths", metavar="SCENARIO...", nargs=-1, required=True)
@click.option("--strategy", type=click.Choice([*STRATEGIES]), default="dfs", show_default=True, help="How to choose.")
@click.option("--depth", type=click.IntRange(1), default=3, show_default=True, help="pct: the depth of bugs.")
@click.option("--preemptions", type=click.IntRange(0), help="dfs: no run with more preemptions.")
@click.option("--schedules", type=click.IntRange(1), default=1000, show_default=True, help="At most so many runs.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random, pct and sim.choice.")
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--resume", type=click.Path(path_type=Path), help="Write the state there, and go on from it.")
@click.option("--kernel", help="Profile string instead of the scenario's own.")
@click.option("--series", metavar="NAME|FILE", default="", help="A patch series in the place of the scenario's own.")
@click.option("--keep-going", is_flag=True, help="Do not stop at the first failure.")
@click.option("--replay", "schedule", metavar="STRING", help="Run this one schedule, and show how it ends.")
def command(
    paths: tuple[str, ...],
    strategy: str,
    depth: int,
    preemptions: int | None,
    schedules: int,
    seed: int,
    jobs: int,
    resume: Path | None,
    kernel: str | None,
    series: str,
    keep_going: bool,
    schedule: str | None,
) -> None:
    """Try schedules of the scenarios (files, folders, or file.py::name), and stop where one fails.

    Exit 0 if none failed, 1 if one did, 2 if it cannot be told, 4 if a string to be replayed does not fit any more.
    """
    settings = Settings(seed, depth, preemptions)
    with refusals():
        _only_for(strategy)
        targets = [
            Target.of(one.scenario, one.ident, name, seed=seed, series=series)
            for one in load(paths)
            for name in on_kernels([kernel] if kernel else one.scenario.kernels, series)
        ]
        if (resume is not None or schedule is not None) and len(targets) > 1:
            raise UsageError(f"--resume and --replay are for one scenario on one kernel; these are {len(targets)}")
        if schedule is not None:
            failed = _replay(targets[0], schedule)
        else:
            with _executor(jobs) as executor:
                plans = [Plan(one, strategy, schedules, settings, executor, keep_going, resume) for one in targets]
                failed = sum(_explore(plan) for plan in plans) > 0
    if failed:
        raise SystemExit(1)


@contextmanager
def refusals() -> Generator[None]:
    """Mistakes of the user, and what explore and shrink cannot go on with, as messages and exit codes."""
    try:
        yield
    except (ScenarioError, ProfileError, UsageError, OSError) as error:
        raise click.UsageError(str(error)) from None
    except CampaignError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from None
    except ReplayDivergence as error:
        click.echo(f"the schedule does not fit any more: {error}", err=True)
        raise SystemExit(EXIT_DIVERGED) from None


def _only_for(strategy: str) -> None:
    # an option that the strategy would not look at
    context = click.get_current_context()
    for option, strategies in (("depth", ("pct",)), ("preemptions", ("dfs", "full"))):
        given = context.get_parameter_source(option) is ParameterSource.COMMANDLINE
        if given and strategy not in strategies:
            raise UsageError(f"--{option} is for --strategy {' or '.join(strategies)}, not {strategy}")


@contextmanager
def _executor(jobs: int) -> Generator[ProcessPoolExecutor | None]:
    if jobs == 1:
        yield None
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield pool


def _explore(plan: Plan) -> bool:
    plan.progress = _progress(plan) if sys.stderr.isatty() else None
    campaign = plan.run()
    if plan.progress is not None:
        click.echo("\r\x1b[K", nl=False, err=True)
    name = f"{plan.target.ident} on {plan.target.kernel}"
    click.echo(f"{name}: {campaign.line}")
    _rests(campaign.unconfirmed)
    for failure in campaign.failures[: None if plan.go_on else 1]:
        click.echo(f"  schedule {failure.number} failed: {failure.schedule}")
        click.echo("".join(f"    {line}\n" for line in failure.text.splitlines()), nl=False)
        click.echo(f"  rerun: {failure.command}")
    return bool(campaign.failures)


def _rests(weak: Mapping[str, str]) -> None:
    if weak:
        click.echo(f"  rests on what no kernel confirms: {told(dict(sorted(weak.items())))}")


def _progress(plan: Plan) -> Callable[[Campaign], None]:
    def show(campaign: Campaign) -> None:
        width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
        text = f"{plan.target.ident}: {campaign.line}"
        click.echo(f"\r\x1b[K{text[:width]}", nl=False, err=True)

    return show


def _replay(target: Target, schedule: str) -> bool:
    outcome = replay(target, schedule)
    name = f"{target.ident} on {target.kernel}"
    click.echo(f"{name}: {outcome.steps} steps, {outcome.preemptions} preemptions")
    click.echo("".join(f"    {line}\n" for line in outcome.trace.splitlines()[-LAST_EVENTS:]), nl=False)
    _rests(outcome.unconfirmed)
    if not outcome.failed:
        click.echo("  nothing was found")
        return False
    click.echo("".join(f"  {line}\n" for line in outcome.text.splitlines()), nl=False)
    click.echo(f"  rerun: {again(target, schedule)}")
    return True
