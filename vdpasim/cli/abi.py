"""``vdpasim abi``: structures as each machine lays them out, side by side (no kernel header).

Theory. A table has one row a member, hole or padding, one column an ABI, and ``offset+size`` in its cells. A cell
that differs from the first column is marked with ``*``. ``--diff A B`` goes through every structure and request
instead, and prints those whose bytes differ.
"""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

import click

from vdpasim.uapi.abi import ABIS
from vdpasim.uapi.catalog import requests, structs
from vdpasim.uapi.layout import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vdpasim.uapi.abi import Abi
    from vdpasim.uapi.layout import Layout
    from vdpasim.uapi.table import Struct

ABSENT = "."
"""A cell of a hole the ABI does not have."""


def nearest(kind: str, name: str, names: Iterable[str]) -> click.UsageError:
    """The complaint about an unknown name, with those most like it."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names
    return click.UsageError(f"no {kind} {name}; nearest: {', '.join(close)}")


def find_abi(name: str) -> Abi:
    """The ABI of a name.

    Raises:
        click.UsageError: there is none.
    """
    if name not in ABIS:
        raise nearest("ABI", name, ABIS)
    return ABIS[name]


def find_struct(name: str) -> Struct:
    """The structure of a name.

    Raises:
        click.UsageError: there is none.
    """
    if name not in structs():
        raise nearest("struct", name, structs())
    return structs()[name]


@click.command("abi")
@click.argument("names", metavar="[STRUCT]...", nargs=-1)
@click.option("--abi", "abis", metavar="A,B", default=",".join(ABIS), help="The ABIs to show; default all.")
@click.option("--diff", metavar="A B", nargs=2, help="List what differs between two ABIs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(names: tuple[str, ...], abis: str, diff: tuple[str, str] | None, as_json: bool) -> int:
    """Show structures as each machine lays them out; without STRUCT, list them."""
    chosen = [find_struct(name) for name in names]
    models = [find_abi(name) for name in abis.split(",")]
    if diff is not None:
        first, second = (find_abi(name) for name in diff)
        _print_diff(chosen or list(structs().values()), first, second, as_json=as_json)
    elif as_json:
        rows = [_json_struct(struct, models if chosen else ()) for struct in chosen or structs().values()]
        click.echo(json.dumps({"abis": [model.name for model in models], "structs": rows}, indent=2))
    elif chosen:
        click.echo("\n\n".join(_table(struct, models) for struct in chosen))
    else:
        _print_list(models[0])
    return 0


def _print_list(model: Abi) -> None:
    width = max(map(len, structs()))
    for name, struct in structs().items():
        since = f" (since {struct.since})" if struct.since else ""
        click.echo(f"{name:{width}} {layout(struct, model).size:4}  {struct.doc}{since}")
    click.echo(f"\nSizes are those of {model.name}. ABIs: {', '.join(ABIS)}")


def _json_struct(struct: Struct, models: Sequence[Abi]) -> dict[str, Any]:
    layouts: dict[str, Any] = {}
    for model in models:
        shape = layout(struct, model)
        layouts[model.name] = {
            "size": shape.size,
            "align": shape.align,
            "byteorder": struct.byteorder or model.byteorder,
            "fields": [field._asdict() for field in shape.fields],
            "holes": [{"offset": offset, "size": size} for offset, size in shape.holes],
        }
    row = {"name": struct.name, "header": struct.header, "doc": struct.doc, "since": struct.since}
    return {**row, "layouts": layouts} if models else row


# -- the table


def _table(struct: Struct, models: Sequence[Abi]) -> str:
    shapes = [layout(struct, model) for model in models]
    rows: list[list[str]] = [["", "", *(model.name for model in models)]]
    rows += [_marked(row) for row in _rows(shapes)]
    rows.append(_marked(["size", "", *(str(shape.size) for shape in shapes)]))
    rows.append(_marked(["align", "", *(str(shape.align) for shape in shapes)]))
    rows.append(["byte order", "", *(struct.byteorder or model.byteorder for model in models)])
    since = f", since {struct.since}" if struct.since else ""
    title = f"struct {struct.name} ({struct.header}{since}): {struct.doc}"
    lines = [title, *_aligned(rows)]
    if any(cell.endswith("*") for row in rows for cell in row):
        lines.append(f"* differs from {models[0].name}; {ABSENT} is not there")
    return "\n".join(lines)


def _rows(shapes: Sequence[Layout]) -> list[list[str]]:
    # The members are the same on every ABI; holes are rows where any ABI has one.
    holes = [_holes_before(shape) for shape in shapes]
    rows: list[list[str]] = []
    for index in range(len(shapes[0].fields) + 1):
        if any(index in found for found in holes):
            label = "-- hole --" if index < len(shapes[0].fields) else "-- padding --"
            rows.append([label, "", *(found.get(index, ABSENT) for found in holes)])
        if index < len(shapes[0].fields):
            members = [shape.fields[index] for shape in shapes]
            cells = [f"{member.offset}+{member.size}" for member in members]
            rows.append([members[0].name, members[0].type, *cells])
    return rows


def _holes_before(shape: Layout) -> dict[int, str]:
    # Index of the member a hole comes before -> the hole.
    found: dict[int, str] = {}
    for offset, size in shape.holes:
        behind = [index for index, field in enumerate(shape.fields) if field.offset >= offset + size]
        found[behind[0] if behind else len(shape.fields)] = f"{offset}+{size}"
    return found


def _marked(row: list[str]) -> list[str]:
    return [*row[:3], *(cell if cell == row[2] else cell + "*" for cell in row[3:])]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


# -- differences


def _differences(struct: Struct, first: Abi, second: Abi) -> list[str]:
    a, b = layout(struct, first), layout(struct, second)
    lines = [f"size {a.size} against {b.size}"] if a.size != b.size else []
    lines += [
        f"{one.name} at {one.offset} against {two.offset}"
        for one, two in zip(a.fields, b.fields, strict=True)
        if one.offset != two.offset
    ]
    for shape, other in ((a, b), (b, a)):
        lines += [
            f"hole {offset}+{size} on {shape.abi.name} only"
            for offset, size in shape.holes
            if (offset, size) not in other.holes
        ]
    if struct.byteorder is None and first.byteorder != second.byteorder:
        lines.append(f"byte order {first.byteorder} against {second.byteorder}")
    return lines


def _print_diff(chosen: Sequence[Struct], first: Abi, second: Abi, *, as_json: bool) -> None:
    found = {struct.name: lines for struct in chosen if (lines := _differences(struct, first, second))}
    align = [
        struct.name
        for struct in chosen
        if struct.name not in found and layout(struct, first).align != layout(struct, second).align
    ]
    numbers = [
        (ioctl.name, ioctl.request(first), ioctl.request(second))
        for ioctl in requests().values()
        if ioctl.request(first) != ioctl.request(second)
    ]
    if as_json:
        body = {"abis": [first.name, second.name], "structs": found, "align_only": align, "requests": numbers}
        click.echo(json.dumps(body, indent=2))
        return
    for name, lines in found.items():
        click.echo(f"struct {name}: {'; '.join(lines)}")
    for name, one, two in numbers:
        click.echo(f"{name}: {one:#010x} against {two:#010x}")
    click.echo(f"{first.name} against {second.name}: {len(found)} structs and {len(numbers)} requests differ")
    if align:
        click.echo(f"in alignment only: {', '.join(align)}")
