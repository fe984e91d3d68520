"""The state file of a campaign: JSON lines, one a batch, so that a campaign that was killed goes on.

Theory. The first line says what is explored; another campaign is refused, and so is a file that is none, before a byte
of it is touched. Each further line is one batch: its number, and for every piece of work its outcome and the work that
showed up. A campaign is resumed by putting these results into a fresh
strategy, which then stands where the old one stood. A line is one write to a file opened for appending and is synced;
if the last one was cut off, it is taken away and the batch is done again.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.explore.execute import Outcome
from vdpasim.explore.strategy import Ran, Work
from vdpasim.sim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StateFile:
    """One campaign on disk.

    Raises:
        UsageError: the file is there and of another campaign, or damaged.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.written = 0
        """Batches in the file."""
        self.done: list[list[Ran]] = []
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        first = _line(header)
        if whole:
            self._read(whole.split(b"\n")[:-1], json.loads(first))
        elif not first.startswith(data):
            raise UsageError(f"{path} is no state of a campaign")
        if len(whole) < len(data):
            os.truncate(path, len(whole))  # only now it is known to be ours
        if not whole:
            self._write(first)

    def _read(self, lines: list[bytes], header: dict[str, Any]) -> None:
        try:
            found = json.loads(lines[0])
        except ValueError:
            found = None
        if not isinstance(found, dict) or "target" not in found:
            raise UsageError(f"{self.path} is no state of a campaign")
        if found != header:
            raise UsageError(f"{self.path} is of another campaign: {lines[0].decode()}")
        for number, line in enumerate(lines[1:], 1):
            try:
                written, rows = json.loads(line)
                _demand(written == number)
                self.done.append([_ran(row) for row in rows])
            except (ValueError, TypeError, KeyError, AttributeError):
                raise self.damaged(number) from None
        self.written = len(self.done)

    def damaged(self, number: int) -> UsageError:
        """What to say of a batch, from 1, that cannot be."""
        return UsageError(f"{self.path}: line {number + 1} is damaged: it is not batch {number} of this campaign")

    def batches(self) -> Iterator[list[Ran]]:
        """What was done before."""
        yield from self.done

    def append(self, batch: list[Ran]) -> None:
        """Write down one batch."""
        self.written += 1
        self._write(_line([self.written, [_row(ran) for ran in batch]]))

    def _write(self, data: bytes) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _row(ran: Ran) -> list[Any]:
    return [attrs.asdict(ran.outcome) if ran.outcome is not None else None, list(ran.children)]


def _ran(row: tuple[dict[str, Any] | None, list[Work]]) -> Ran:
    # whatever is wrong is a ValueError, TypeError, KeyError or AttributeError
    fields, children = row
    for child in children:
        _demand(isinstance(child["prefix"], list) and isinstance(child["sleep"], list))
    if fields is None:
        return Ran(None, tuple(children))
    values: dict[str, Any] = {**fields, "ids": tuple(fields["ids"]), "actors": tuple(fields["actors"])}
    for field in attrs.fields(Outcome):
        _demand(type(values[field.name]).__name__ == str(field.type).partition("[")[0])
    return Ran(Outcome(**values), tuple(children))


def _demand(fine: bool) -> None:
    if not fine:
        raise ValueError
