"""A scenario on many kernels, series, ABIs and mapping modes: where it breaks and where not.

Theory. What a scenario expects is about the kernels it names; here it is played on all that are asked for, and a cell
is what the run found and nothing else: ``ok``, or the ids. A run that could not be the one that was asked for is no
cell: the kernel has no VA mode, the machine refuses an option of the scenario, or the story chooses the mode of its
device itself. Such a cell is ``-`` and says why. A story that maps memory where a 32-bit program has no addresses tells
nothing of the kernel: it *does not fit*. A ``*`` marks a run that came to rules no kernel confirms; below the table
stands which, by series.

The table is made to be read in 120 columns: a block for each series and ABI, kernels and modes in it; where the ids do
not fit, the longest become numbered notes, and then the columns are spread over several blocks.
"""

from __future__ import annotations

import json
from itertools import product
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.checks.evidence import told_together
from vdpasim.core import rules
from vdpasim.core.profiles import parse
from vdpasim.scenario.loader import ScenarioError
from vdpasim.scenario.runner import run
from vdpasim.uapi.abi import ABIS as EVERY_ABI

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vdpasim.scenario.loader import Found
    from vdpasim.scenario.runner import Verdict
    from vdpasim.sim import Simulator

WIDTH = 120
KERNELS = ("6.1", "6.12", "7.1", "tip")
MAINLINE = "mainline"
SERIES = (MAINLINE, "live-update-v1", "live-update-v2+lu-advertise", "live-update-fixed")
"""v2 leaves it to the drivers to offer its bits; without ``lu-advertise`` no device does."""
ABIS = ("x86_64",)
MODES = ("va", "pa")


@attrs.frozen
class Column:
    """One machine."""

    kernel: str
    series: str
    abi: str
    mode: str

    @property
    def profile(self) -> str:
        """The profile string."""
        return self.kernel if self.series == MAINLINE else f"{self.kernel}+{self.series}"

    @property
    def block(self) -> str:
        """The title of the block it stands in."""
        return f"{self.series}, {self.abi}"

    @property
    def head(self) -> str:
        """Its head in that block."""
        return f"{self.kernel} {self.mode}"


@attrs.frozen
class Cell:
    """What a scenario found on a machine."""

    ids: tuple[str, ...] = ()
    text: str = ""
    """What the first finding says."""
    reason: str = ""
    """Why it could not be played there."""
    sign: str = "-"
    """What stands for a run that could not be played."""
    unconfirmed: Mapping[str, str] = attrs.Factory(dict["str", "str"])
    """The rules the run came to that no kernel confirms, each with what it rests on."""

    @property
    def label(self) -> str:
        """``ok``, or the ids."""
        return (", ".join(self.ids) or "ok") + "*" * bool(self.unconfirmed)


@attrs.frozen
class Row:
    """A scenario, with a cell for each column."""

    found: Found
    cells: tuple[Cell, ...]


def columns(
    kernels: Iterable[str], series: Iterable[str], abis: Iterable[str], modes: Iterable[str]
) -> tuple[Column, ...]:
    """Every combination, blocks together.

    Raises:
        ProfileError: a kernel or series that there is not.
    """
    every = [Column(kernel, one, abi, mode) for one, abi, kernel, mode in product(series, abis, kernels, modes)]
    for column in every:
        parse(column.profile)
    return tuple(every)


def matrix(scenarios: Iterable[Found], machines: Sequence[Column]) -> list[Row]:
    """Play every scenario on every machine."""
    return [Row(found, tuple(play(found, column) for column in machines)) for found in scenarios]


def play(found: Found, column: Column) -> Cell:
    """Play one scenario on one machine."""
    if column.mode == "va" and "va-mode" not in parse(column.profile):
        return Cell(reason=f"{column.kernel} has no VA mode")
    story, va = found.scenario, column.mode == "va"
    own_choice = Cell(reason=f"the mode of a device is the story's own choice, and not {column.mode.upper()}")
    if bool(story.options.get("use_va", va)) != va:
        return own_choice
    seen: list[Simulator] = []

    async def body(sim: Simulator, **settings: Any) -> None:
        seen.append(sim)
        await story.body(sim, **settings)

    changed = attrs.evolve(story, body=body, abi=column.abi, options={**story.options, "use_va": va})
    try:
        verdict, hit = _run(attrs.evolve(found, scenario=changed), column.profile)
    except ScenarioError as error:
        return Cell(reason=str(error).removeprefix(f"{found.ident}: "))
    if any(device.use_va != va for sim in seen for device in sim.vdpa.bus.devices.values()):
        return own_choice
    ids = tuple(sorted({finding.id for finding in verdict.found}))
    if NO_ROOM in hit and EVERY_ABI[column.abi].bits < 64 and BROKEN_OFF & set(ids):
        return Cell(reason=f"{UNFIT} this ABI: the story maps memory where {column.abi} has no addresses", sign=UNFIT)
    return Cell(ids, verdict.found[0].text if verdict.found else "", unconfirmed=verdict.unconfirmed)


NO_ROOM = "mm.mmap.no-room"
BROKEN_OFF = frozenset({"oserror", "assertion", "error"})
"""Ids of a story that did not come to its end."""
UNFIT = "does not fit"


def _run(found: Found, kernel: str) -> tuple[Verdict, set[str]]:
    # with the rules that were hit: an error of mmap() is no event
    hit: set[str] = set()
    deaf = rules.observe(hit.add)
    try:
        (verdict,) = run(found, kernel=kernel)
    finally:
        deaf()
    return verdict, hit


# -- for people


class Notes:
    """Numbered notes; the same text has one number."""

    def __init__(self, *, why: bool = False) -> None:
        self._texts: list[str] = []
        self.why = why
        """What was found first has a note, too."""

    def mark(self, text: str) -> str:
        """The mark of a note."""
        if text not in self._texts:
            self._texts.append(text)
        return f"[{self._texts.index(text) + 1}]"

    def lines(self) -> list[str]:
        """All notes."""
        return _folded(f"[{number}] {text}" for number, text in enumerate(self._texts, 1))


def _folded(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)]


def table(rows: Sequence[Row], machines: Sequence[Column], *, why: bool = False) -> str:
    """Blocks, then the notes; ``why`` adds what each first finding says."""
    notes = Notes(why=why)
    names = _names(rows)
    lines: list[str] = []
    for title in dict.fromkeys(column.block for column in machines):
        at = [number for number, column in enumerate(machines) if column.block == title]
        lines += [title, *_block(rows, names, machines, at, notes), ""]
    rests = [(column.series, row.cells[i].unconfirmed) for i, column in enumerate(machines) for row in rows]
    below = [f"* {line}" for line in told_together(rests)]
    return "\n".join([*lines, *notes.lines(), *_folded(below)]).rstrip("\n") + "\n"


def _names(rows: Sequence[Row]) -> list[str]:
    # two stories of one name are told apart by their files
    plain = [row.found.scenario.name for row in rows]
    stems = [f"{row.found.path.stem}::{name}" for row, name in zip(rows, plain, strict=True)]
    return [stem if plain.count(name) > 1 else name for name, stem in zip(plain, stems, strict=True)]


def _block(
    rows: Sequence[Row], names: Sequence[str], machines: Sequence[Column], at: Sequence[int], notes: Notes
) -> Iterator[str]:
    labels = sorted({row.cells[i].label for row in rows for i in at if not row.cells[i].reason}, key=len)
    noted: set[str] = set()
    lines = _grid(rows, names, machines, at, noted, notes)
    while max(map(len, lines)) > WIDTH and labels and len(labels[-1]) > len("[10]"):
        noted.add(labels.pop())
        lines = _grid(rows, names, machines, at, noted, notes)
    if max(map(len, lines)) > WIDTH and len(at) > 1:
        half = len(at) // 2
        yield from _block(rows, names, machines, at[:half], notes)
        yield ""
        yield from _block(rows, names, machines, at[half:], notes)
        return
    yield from lines


def _grid(
    rows: Sequence[Row],
    names: Sequence[str],
    machines: Sequence[Column],
    at: Sequence[int],
    noted: set[str],
    notes: Notes,
) -> list[str]:
    grid = [["", *(machines[i].head for i in at)]]
    grid += [[name, *(_shown(row.cells[i], noted, notes) for i in at)] for name, row in zip(names, rows, strict=True)]
    widths = [max(len(line[i]) for line in grid) for i in range(len(at) + 1)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in grid]


def _shown(cell: Cell, noted: set[str], notes: Notes) -> str:
    if cell.reason:
        return f"{cell.sign} {notes.mark(cell.reason)}"
    label = notes.mark(cell.label) if cell.label in noted else cell.label
    return f"{label} {notes.mark(cell.text)}" if notes.why and cell.text else label


# -- for machines


def to_json(rows: Sequence[Row], machines: Sequence[Column]) -> str:
    """A list of objects, one a run; ``found`` is null where there was none."""
    told = [
        {
            "id": row.found.ident,
            "kernel": column.kernel,
            "series": column.series,
            "abi": column.abi,
            "mode": column.mode,
            "found": None if cell.reason else list(cell.ids),
            "text": cell.reason or cell.text,
            "unconfirmed": dict(cell.unconfirmed),
        }
        for row in rows
        for column, cell in zip(machines, row.cells, strict=True)
    ]
    return json.dumps(told, indent=1) + "\n"
