"""``vdpasim run``: play scenarios and print their verdicts."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from vdpasim.core.profiles import ProfileError
from vdpasim.scenario import reports
from vdpasim.scenario.loader import ScenarioError, load
from vdpasim.scenario.runner import run
from vdpasim.sim.errors import UsageError
from vdpasim.sim.faults import parse

if TYPE_CHECKING:
    from vdpasim.scenario.runner import Verdict
    from vdpasim.trace.file import Header


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
@click.option("--trace", type=click.Path(path_type=Path), help="Record each run into this folder: text and JSON lines.")
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
        record = Recordings(trace) if trace else None
        play = partial(run, kernel=kernel, seed=seed, settings=pairs, faults=planned, record=record)
        verdicts = [verdict for one in found for verdict in play(one)]
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
            names = Names()
            for verdict in verdicts:
                path = trace / f"{names(verdict.name, verdict.kernel)}.txt"
                path.write_text(verdict.trace, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(str(error)) from None


class Names:
    """NAME-KERNEL, and a number behind it for a second story of that name."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def __call__(self, name: str, kernel: str) -> str:
        stem = f"{name}-{kernel}"
        self._seen[stem] += 1
        return stem if self._seen[stem] == 1 else f"{stem}-{self._seen[stem]}"


class Recordings:
    """Opens the trace file of each run in a folder, which is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = Names()

    def __call__(self, header: Header) -> TextIO:
        name = self._names(header.scenario.rpartition("::")[2], header.kernel)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return (self._folder / f"{name}.jsonl").open("w", encoding="ascii")
        except OSError as error:
            raise click.UsageError(str(error)) from None
