"""``vdpasim matrix``: scenarios on many kernels, series, ABIs and mapping modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vdpasim.core.profiles import ProfileError
from vdpasim.scenario import matrix
from vdpasim.scenario.loader import ScenarioError, load
from vdpasim.scenario.series_file import column
from vdpasim.uapi.abi import ABIS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


SERIES = "Switches added, or the file of a series; mainline: none."


@click.command("matrix")
@click.argument("paths", metavar="SCENARIO...", nargs=-1, required=True)
@click.option("--kernels", default=",".join(matrix.KERNELS), show_default=True, help="Profiles.")
@click.option("--series", multiple=True, default=[",".join(matrix.SERIES)], show_default=True, help=SERIES)
@click.option("--abis", default=",".join(matrix.ABIS), show_default=True, help="Of kernel and program.")
@click.option("--modes", default=",".join(matrix.MODES), show_default=True, help="Mapping modes of devices.")
@click.option("--why", is_flag=True, help="Also what was found first, as notes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    paths: tuple[str, ...], kernels: str, series: tuple[str, ...], abis: str, modes: str, why: bool, as_json: bool
) -> None:
    """Play each SCENARIO (a file, a folder, or file.py::name) on every combination: where does it break, where not.

    A cell is what the run found, whatever the scenario expects. Exit 0, or 2 for a mistake in the command.
    """
    try:
        machines = matrix.columns(
            _words("--kernels", kernels),
            list(dict.fromkeys(map(column, _words("--series", ",".join(series))))),
            _words("--abis", abis, ABIS),
            _words("--modes", modes, matrix.MODES),
        )
        rows = matrix.matrix(load(paths), machines)
    except (ScenarioError, ProfileError) as error:
        raise click.UsageError(str(error)) from None
    told = matrix.to_json(rows, machines) if as_json else matrix.table(rows, machines, why=why)
    click.echo(told, nl=False)


def _words(option: str, text: str, known: Collection[str] = ()) -> Sequence[str]:
    words = list(dict.fromkeys(word.strip() for word in text.split(",")))
    wrong = [word for word in words if not word or (known and word not in known)]
    if wrong:
        raise click.UsageError(f"{option}: {wrong[0]!r} is none" + (f" of {', '.join(known)}" if known else ""))
    return words
