"""``vdpasim faults``: the operations faults can name, and what a fault would do (no kernel file).

Theory. Both come from the table that reads plans (``sim/faults.py``), so what is listed here is what ``--fault``,
``@scenario(faults=...)`` and ``Simulator(faults=...)`` take.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from vdpasim.sim.errors import UsageError
from vdpasim.sim.faults import GRAMMAR, OPS, PLACES, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

LEGEND = """\
DEV      the device's name in traces (vhost-vdpa-0), the name it was added with, or its node; every device without it
N        the Nth time at a device, from 1; N-M a range; every; the first time without it
ERRNO    the operation fails with it before anything was done
delay=T  the operation happens T later: 500 or 500ns, 20us, 5ms, 1s of virtual time
drop     the operation is swallowed, or the notification lost
What happens without one of these is the first that an operation takes below, EIO for an ERRNO.
"""


@click.command("faults")
@click.argument("faults", metavar="[FAULT]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(faults: tuple[str, ...], as_json: bool) -> None:
    """List what faults can name, or say what each FAULT would do.

    A FAULT is what `vdpasim run --fault` takes, VHOST_VDPA_SUSPEND@vhost-vdpa-0:2:EIO.
    """
    try:
        planned = [parse(text) for text in faults]
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        told = [{"fault": str(one), "does": one.words()} for one in planned]
        click.echo(json.dumps(told or _rows(), indent=2))
    elif planned:
        for one in planned:
            click.echo(f"{one}: {one.words()}")
    else:
        click.echo("\n".join(_listing()))


def _rows() -> list[dict[str, str]]:
    return [{"op": op.name, "place": op.place.name, "takes": op.place.takes, "doc": op.doc} for op in OPS.values()]


def _listing() -> Iterator[str]:
    yield f"A fault is {GRAMMAR}\n"
    yield LEGEND.rstrip("\n")
    width = max(map(len, OPS))
    for place in PLACES:
        yield f"\n{place.title}: {place.takes}"
        for op in OPS.values():
            if op.place is place:
                yield f"  {op.name:{width}}  {op.doc}"
