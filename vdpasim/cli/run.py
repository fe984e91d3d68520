"""``vdpasim run``: play scenarios and print their verdicts."""

from __future__ import annotations

from pathlib import Path

import click

from vdpasim.core.profiles import ProfileError
from vdpasim.scenario import reports
from vdpasim.scenario.loader import ScenarioError, load
from vdpasim.scenario.runner import Verdict, run


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--kernel", help="Profile string instead of the scenario's own, 6.12 or 7.1+live-update-v1.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A keyword parameter of the scenario.")
@click.option("--demo", is_flag=True, help="Only the scenarios marked demo.")
@click.option("--json", "as_json", is_flag=True, help="Verdicts as JSON.")
@click.option("--ktap", "as_ktap", is_flag=True, help="Verdicts as KTAP.")
@click.option("--junitxml", type=click.Path(path_type=Path), help="Also write JUnit XML to this file.")
@click.option("--trace", type=click.Path(path_type=Path), help="Write the text trace of each run into this folder.")
def command(
    paths: tuple[str, ...],
    kernel: str | None,
    seed: int,
    settings: tuple[str, ...],
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
        found = [one for one in load(paths) if one.scenario.demo or not demo]
        verdicts = [v for one in found for v in run(one, kernel=kernel, seed=seed, settings=pairs)]
    except (ScenarioError, ProfileError) as error:
        raise click.UsageError(str(error)) from None
    if not verdicts:
        raise click.UsageError("no scenario selected")
    _write(verdicts, junitxml, trace)
    text = reports.to_json(verdicts) if as_json else reports.ktap(verdicts) if as_ktap else reports.table(verdicts)
    click.echo(text, nl=False)
    if not all(verdict.passed for verdict in verdicts):
        raise SystemExit(1)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ScenarioError(f"--set takes NAME=VALUE, not {text!r}")
    return name, value


def _write(verdicts: list[Verdict], junitxml: Path | None, trace: Path | None) -> None:
    if junitxml is not None:
        junitxml.write_text(reports.junit(verdicts), encoding="utf-8")
    if trace is not None:
        trace.mkdir(parents=True, exist_ok=True)
        for verdict in verdicts:
            (trace / f"{verdict.name}-{verdict.kernel}.txt").write_text(verdict.trace, encoding="utf-8")
