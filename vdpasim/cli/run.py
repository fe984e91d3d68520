"""``vdpasim run``: play scenarios and print their verdicts."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

import attrs
import click

from vdpasim.core.profiles import ProfileError
from vdpasim.scenario import comparison, reports
from vdpasim.scenario.loader import ScenarioError, load
from vdpasim.scenario.runner import run
from vdpasim.scenario.series_file import flag, on_kernels, series_name
from vdpasim.scenario.settings import shared
from vdpasim.sim.errors import UsageError
from vdpasim.sim.faults import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.scenario.loader import Found
    from vdpasim.scenario.runner import Verdict
    from vdpasim.trace.file import Header


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--kernel", help="Profile string instead of the scenario's own, 6.12 or 7.1+live-update-v1.")
@click.option("--seed", type=int, default=0, show_default=True, help="No effect unless a story draws (sim.choice).")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of stories that have it.")
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="What goes wrong, see `vdpasim faults`.")
@click.option("--series", multiple=True, metavar="NAME|FILE", help="A patch series in the place of the scenario's own.")
@click.option("--diff", is_flag=True, help="With several --series: which verdicts and refusals change between them.")
@click.option("--demo", is_flag=True, help="Only the scenarios marked demo, with what each is about.")
@click.option("--strict", is_flag=True, help="Mistakes of the program (vmm.*) count, instead of being noted.")
@click.option("--explain", is_flag=True, help="Of each finding where it was and the events that led to it.")
@click.option("--objections", is_flag=True, help="What the runs say to each objection that was raised on the list.")
@click.option("--json", "as_json", is_flag=True, help="Verdicts as JSON.")
@click.option("--ktap", "as_ktap", is_flag=True, help="Verdicts as KTAP.")
@click.option("--junitxml", type=click.Path(path_type=Path), help="Also write JUnit XML to this file.")
@click.option("--trace", type=click.Path(path_type=Path), help="Record each run into this folder: text and JSON lines.")
@click.option("--journal", type=click.Path(path_type=Path), help="Write what went into each run there, for replay.")
def command(
    paths: tuple[str, ...],
    kernel: str | None,
    seed: int,
    settings: tuple[str, ...],
    faults: tuple[str, ...],
    series: tuple[str, ...],
    diff: bool,
    demo: bool,
    strict: bool,
    explain: bool,
    objections: bool,
    as_json: bool,
    as_ktap: bool,
    junitxml: Path | None,
    trace: Path | None,
    journal: Path | None,
) -> None:
    """Play the scenarios in PATHS (files, folders, or file.py::name).

    Exit 0 if every run found what it should, 1 if not, 2 for a mistake in the command.
    """
    try:
        pairs = dict(_pair(text) for text in settings)
        planned = [str(parse(text)) for text in faults]
        found = [one for one in load(paths) if one.scenario.demo or not demo]
        record = Recordings(trace) if trace else None
        inputs = Recordings(journal, ".journal") if journal else None
        told = partial(run, seed=seed, faults=planned, strict=strict)
        play = partial(told, record=record, journal=inputs)
        chosen = _series(series, diff=diff)
        if diff and as_ktap:
            raise UsageError("--diff prints a table or JSON; it does not go with --ktap")
        asked = chosen or (None,)
        stories = [(one, partial(play, settings=mine)) for one, mine in zip(found, _set(found, pairs), strict=True)]
        runs = [(which, v) for one, player in stories for which in asked for v in _played(player, one, kernel, which)]
        verdicts = [verdict for _, verdict in runs]
    except (ScenarioError, ProfileError, UsageError) as error:
        raise click.UsageError(str(error)) from None
    if not verdicts:
        raise click.UsageError("no scenario is marked demo")
    _write(verdicts, junitxml, trace)
    if diff:
        named = [(which.name if which else "", verdict) for which, verdict in runs]
        click.echo(_compared(named, [which.name for which in chosen], as_json=as_json), nl=False)
        return
    render = reports.told if demo else reports.by_catalogue
    if explain or objections:
        render = reports.explained if explain else reports.by_objection
    click.echo((reports.to_json if as_json else reports.ktap if as_ktap else render)(verdicts), nl=False)
    if not all(verdict.passed for verdict in verdicts):
        raise SystemExit(1)


def _series(given: tuple[str, ...], *, diff: bool) -> list[Chosen]:
    chosen = [Chosen(series_name(one), one) for one in given]
    if diff != (len(chosen) > 1):
        raise ScenarioError("--diff compares two or more --series, and several --series need it")
    if len({one.name for one in chosen}) < len(chosen):
        raise ScenarioError("--diff compares different series")
    return chosen


def _set(found: list[Found], pairs: dict[str, str]) -> list[dict[str, str]]:
    # what each story takes; that some do not take it is talk, and no data
    settings, left_out = shared([one.scenario for one in found], pairs if found else {})
    if left_out:
        click.echo(left_out, err=True)
    return settings


def _played(play: Callable[..., list[Verdict]], one: Found, kernel: str | None, chosen: Chosen | None) -> list[Verdict]:
    if chosen is None:
        return play(one, kernel=kernel)
    kernels = on_kernels([kernel] if kernel else one.scenario.kernels, chosen.given)
    behind = flag(chosen.given)
    return [attrs.evolve(v, rerun=v.rerun + behind) for name in kernels for v in play(one, kernel=name)]


def _compared(named: list[tuple[str, Verdict]], series: list[str], *, as_json: bool) -> str:
    table = comparison.rows(named)
    if as_json:
        return comparison.to_json(table)
    return comparison.render(table, series) + comparison.rests(named) + comparison.strays(named)


class Chosen(NamedTuple):
    """A series, by its name and as the user gave it."""

    name: str
    given: str


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
    """Opens a file of each run in a folder, which is made; a line is written when it is complete."""

    def __init__(self, folder: Path, ending: str = ".jsonl") -> None:
        self._folder = folder
        self._ending = ending
        self._buffering = 1 if ending == ".journal" else -1  # it is for runs that were killed, too
        self._names = Names()

    def __call__(self, header: Header) -> TextIO:
        name = self._names(header.scenario.rpartition("::")[2], header.kernel)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{name}{self._ending}"
            return path.open("w", encoding="ascii", buffering=self._buffering)
        except OSError as error:
            raise click.UsageError(str(error)) from None
