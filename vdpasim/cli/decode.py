"""``vdpasim decode``: names for the bytes of a message and for the number of an ioctl (no kernel header).

Theory. What comes in is untrusted: at most a few KiB are read, and whatever they are, the answer is lines of text and
an exit code: 0 understood, 1 malformed or unknown, 2 wrong usage.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import click

from vdpasim.cli.abi import find_abi
from vdpasim.uapi.abi import ABIS, Abi
from vdpasim.uapi.catalog import by_request, near, requests
from vdpasim.uapi.ioctl import Ioctl, decode
from vdpasim.uapi.message import Description, describe

LIMIT = 4096
"""Bytes read at most; a message has 72."""

_SEPARATORS = re.compile(r"0[xX]|\\x|[\s,:]")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")

_abi_option = click.option("--abi", metavar="A", default="x86_64", help=f"One of {', '.join(ABIS)}.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("decode")
def command() -> None:
    """Say what bytes or numbers mean."""


# -- msg


@command.command("msg")
@click.argument("text", metavar="HEX|-")
@_abi_option
@_json_option
def msg(text: str, abi: str, as_json: bool) -> int:
    """Read HEX, or standard input (-, binary or hex text), as a vhost message."""
    model = find_abi(abi)
    data = _standard_input() if text == "-" else _from_hex(text)
    if data is None:
        raise click.UsageError("HEX is not an even number of hexadecimal digits")
    if len(data) > LIMIT:
        problem = f"more than {LIMIT} bytes, and a message has 72 at most"
        message = Description(model, len(data), "", (), (problem,), ())
    else:
        message = describe(data, model)
    if as_json:
        click.echo(json.dumps(_json_message(message), indent=2))
    else:
        _print_message(message)
    return 0 if message.ok else 1


def _from_hex(text: str) -> bytes | None:
    digits = _SEPARATORS.sub("", text)
    return bytes.fromhex(digits) if _HEX.fullmatch(digits) else None


def _standard_input() -> bytes:
    # No message is printable: its upper bytes are zero. So what looks like hex text is.
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison], closed by the parent
        raise click.UsageError("standard input is closed")
    data = sys.stdin.buffer.read(LIMIT + 1)
    if len(data) > LIMIT or not data.isascii():
        return data
    converted = _from_hex(data.decode("ascii"))
    return data if converted is None else converted


def _json_message(message: Description) -> dict[str, Any]:
    return {
        "format": message.format or None,
        "abi": message.abi.name,
        "length": message.length,
        "members": [member._asdict() for member in message.members],
        "problems": list(message.problems),
        "notes": list(message.notes),
        "ok": message.ok,
    }


def _print_message(message: Description) -> None:
    if message.format:
        click.echo(f"{message.format}, {message.length} bytes, read as {message.abi.name}")
    for member in message.members:
        value = f"{member.value:#x}" if member.size == 8 else str(member.value)
        click.echo(f"{member.offset:4}  {member.name:11}  {value:18}  {member.text}".rstrip())
    for problem in message.problems:
        click.echo(f"wrong: {problem}")
    for note in message.notes:
        click.echo(f"note: {note}")


# -- ioctl


@command.command("ioctl")
@click.argument("request", metavar="NUMBER|NAME")
@_abi_option
@_json_option
def ioctl(request: str, abi: str, as_json: bool) -> int:
    """Name an ioctl by its number, or give the number of a name."""
    model = find_abi(abi)
    number = _number(request, model)
    answer = _json_request(number, model)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _print_request(answer)
    return 0 if answer["name"] else 1


def _number(text: str, abi: Abi) -> int:
    if text in requests():
        return requests()[text].request(abi)
    base = 16 if _HEX.fullmatch(text) and not text.isdigit() else 0
    try:
        number = int(text, base)
    except ValueError:
        raise click.UsageError(f"{text} is neither a number nor the name of a request") from None
    # An int request, sign-extended by a tracer.
    if number >> 31 in (0x1_FFFF_FFFF, -1):
        number &= 0xFFFF_FFFF
    if not 0 <= number < 1 << 32:
        raise click.UsageError(f"{text} does not fit 32 bits")
    return number


def _json_request(number: int, abi: Abi) -> dict[str, Any]:
    parts = decode(number, abi)
    found = by_request(number, abi)
    elsewhere = _elsewhere(number, abi) if found is None else []
    return {
        "request": number,
        "abi": abi.name,
        "name": found.name if found else None,
        "spelling": found.spelling() if found else None,
        "doc": found.doc if found else None,
        "since": found.since if found else None,
        "direction": parts.direction.macro if parts.direction is not None else None,
        "type": parts.type,
        "number": parts.nr,
        "size": parts.size,
        "near": [] if found else [_json_near(one.ioctl, one.difference, abi) for one in near(number, abi)],
        "elsewhere": [{"abi": model.name, "name": one.name} for model, one in elsewhere],
    }


def _json_near(one: Ioctl, difference: str, abi: Abi) -> dict[str, Any]:
    return {"name": one.name, "request": one.request(abi), "difference": difference, "doc": one.doc}


def _elsewhere(number: int, abi: Abi) -> list[tuple[Abi, Ioctl]]:
    # Other ABIs on which the number is a request.
    found = [(model, by_request(number, model)) for model in ABIS.values() if model != abi]
    return [(model, one) for model, one in found if one is not None]


def _print_request(answer: dict[str, Any]) -> None:
    number = f"{answer['request']:#010x}"
    if answer["name"]:
        since = f" (since {answer['since']})" if answer["since"] else ""
        click.echo(f"{number} {answer['name']} {answer['spelling']}")
        click.echo(f"{answer['doc']}{since}")
        return
    direction = answer["direction"] or "no valid direction"
    click.echo(
        f"{number} is no known request of {answer['abi']}: {direction}, type {answer['type']:#04x}, "
        f"number {answer['number']:#04x}, size {answer['size']}"
    )
    for one in answer["near"]:
        click.echo(f"almost {one['name']} ({one['request']:#010x}): {one['difference']}; {one['doc']}")
    for one in answer["elsewhere"]:
        click.echo(f"on {one['abi']} it is {one['name']}")
