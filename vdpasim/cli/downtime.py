"""``vdpasim downtime``: what a live update costs while the guest stands still, in counts and laws."""

from __future__ import annotations

import re
from fractions import Fraction

import click

from vdpasim.core.ports import PAGE_SIZE
from vdpasim.report.downtime import Target, markdown, study, to_json
from vdpasim.scenario.loader import ScenarioError
from vdpasim.scenario.series_file import MAINLINE, offering, on_kernel, series_name
from vdpasim.vmm.downtime import UNITS, Mode

NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
SIZES = "10,1000,100000"
MODES: tuple[Mode, ...] = ("va", "pa")


@click.command("downtime")
@click.option("--kernel", default="6.12+live-update-v1", show_default=True, help="Profile string.")
@click.option("--series", metavar="NAME|FILE", default="", help="A patch series in the place of the kernel's.")
@click.option("--sizes", default=SIZES, show_default=True, help="Entries of the guests that are played.")
@click.option("--mode", "modes", multiple=True, type=click.Choice(MODES), help="Mapping mode; default: both.")
@click.option("--cost", "costs", multiple=True, metavar="UNIT=TIME", help=f"What one costs: {', '.join(UNITS)}.")
@click.option("--guest", default="1TiB", show_default=True, help="The guest that is extrapolated.")
@click.option("--regions", type=click.IntRange(1), default=8, show_default=True, help="Its regions, an UPDATE each.")
@click.option("--contiguous", default="2MiB", show_default=True, help="Its memory is adjacent in frames so far.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    kernel: str,
    series: str,
    sizes: str,
    modes: tuple[str, ...],
    costs: tuple[str, ...],
    guest: str,
    regions: int,
    contiguous: str,
    as_json: bool,
) -> None:
    """Count what each way to hand a device over costs, step by step.

    The counts come from runs at several sizes, the laws from the counts, the big guest from the laws. A run of 100000
    entries takes some seconds for each way.
    """
    try:
        prices = dict(_cost(text) for text in costs)
        target = _target(guest, regions, contiguous)
        chosen: list[Mode] = [mode for mode in MODES if mode in modes or not modes]
        found = study(_kernel(kernel, series), _sizes(sizes), chosen, target)
    except (ScenarioError, ValueError) as error:  # a ProfileError is one
        raise click.UsageError(str(error)) from None
    click.echo((to_json if as_json else markdown)(found, prices), nl=False)


def _kernel(kernel: str, series: str) -> str:
    # a series is measured on devices that offer it: on others there is nothing to measure
    if not series:
        return kernel
    name, bare = series_name(series), on_kernel(kernel, MAINLINE)
    return bare if name == MAINLINE else f"{bare}+{offering(name)}"


def _sizes(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdigit() and int(word) for word in words):
        raise ValueError(f"--sizes takes numbers of entries with commas between, not {text!r}")
    return sorted({int(word) for word in words})


def _cost(text: str) -> tuple[str, Fraction]:
    found = re.fullmatch(r"(\w+)=(\d+(?:\.\d+)?)(ns|us|ms|s)", text)
    if found is None:
        raise ValueError(f"--cost takes UNIT=TIME as in pin=300ns, not {text!r}")
    units = {**{head: unit for unit, head in UNITS.items()}, **{unit: unit for unit in UNITS}}
    if found[1] not in units:
        raise ValueError(f"--cost knows no {found[1]!r}; there are {', '.join(UNITS)}")
    return units[found[1]], Fraction(found[2]) * NS[found[3]]


def _target(guest: str, regions: int, contiguous: str) -> Target:
    size, adjacent = _bytes(guest), _bytes(contiguous)
    for option, text, given in (("--guest", guest, size), ("--contiguous", contiguous, adjacent)):
        if given < PAGE_SIZE:
            raise ValueError(f"{option} {text} is less than a page, which has {PAGE_SIZE} bytes")
    if size < regions * PAGE_SIZE:
        raise ValueError(f"--guest {guest} has no {regions} regions: a region has a page at least")
    return Target(guest, size, regions, adjacent)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s?(|B|KiB|MiB|GiB|TiB)", text)
    if found is None or not int(found[1]):
        raise ValueError(f"a size is a number with KiB, MiB, GiB or TiB behind it, not {text!r}")
    return int(found[1]) * BYTES[found[2]]
