"""``vdpasim run``: play scenarios and print their verdicts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdpasim.core.profiles import ProfileError
from vdpasim.scenario import reports
from vdpasim.scenario.loader import ScenarioError, load
from vdpasim.scenario.runner import run
from vdpasim.sim.errors import UsageError
from vdpasim.sim.faults import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.scenario.runner import Verdict


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--kernel", help="Profile string instead of the scenario's own, 6.12 or 7.1+live-update-v1.")
@click.option("--seed", type=int, default=0, show_default=True, help="No effect unless a story draws (sim.choice).")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A keyword parameter of the scenario.")
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="What goes wrong, see `vdpasim faults`.")
@click.option("--demo", is_flag=True, help="Only the scenarios marked demo, with what each is about.")
@click.option("--json", "as_json", is_flag=True, help="Verdicts as JSON.")
@click.option("--ktap", "as_ktap", is_flag=True, help="Verdicts as KTAP.")
@click.option("--junitxml", type=click.Path(path_type=Path), help="Also write JUnit XML to this file.")
@click.option("--trace", type=click.Path(path_type=Path), help="Write the text trace of each run into this folder.")
def command(
    paths: tuple[str, ...],
    kernel: str | None,
    seed: int,
    settings: tuple[str, ...],
    faults: tuple[str, ...],
    demo: bool,
    as_json: bool,
    as_ktap: bool,
    junitxml: Path | None,
    trace: Path | None,
) -> None:
    """Play the scenarios in PATHS (files, folders, or file.py::name).

    Exit 0 if every run found what it should, 1 if not, 2 for a mistake in the command.
    """
    try:
        pairs = dict(_pair(text) for text in settings)
        planned = [str(parse(text)) for text in faults]
        found = [one for one in load(paths) if one.scenario.demo or not demo]
        verdicts = [v for one in found for v in run(one, kernel=kernel, seed=seed, settings=pairs, faults=planned)]
    except (ScenarioError, ProfileError, UsageError) as error:
        raise click.UsageError(str(error)) from None
    if not verdicts:
        raise click.UsageError("no scenario is marked demo")
    _write(verdicts, junitxml, trace)
    render = reports.told if demo else reports.table
    click.echo((reports.to_json if as_json else reports.ktap if as_ktap else render)(verdicts), nl=False)
    if not all(verdict.passed for verdict in verdicts):
        raise SystemExit(1)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ScenarioError(f"--set takes NAME=VALUE, not {text!r}")
    return name, value


def _write(verdicts: list[Verdict], junitxml: Path | None, trace: Path | None) -> None:
    try:
        if junitxml is not None:
            junitxml.write_text(reports.junit(verdicts), encoding="utf-8")
        if trace is not None:
            trace.mkdir(parents=True, exist_ok=True)
            for name, verdict in _file_names(verdicts):
                (trace / name).write_text(verdict.trace, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(str(error)) from None


def _file_names(verdicts: list[Verdict]) -> Iterator[tuple[str, Verdict]]:
    # NAME-KERNEL.txt; a second story of that name gets a number
    seen: Counter[str] = Counter()
    for verdict in verdicts:
        stem = f"{verdict.name}-{verdict.kernel}"
        seen[stem] += 1
        yield (f"{stem}.txt" if seen[stem] == 1 else f"{stem}-{seen[stem]}.txt"), verdict
