"""The state file of a campaign: JSON lines, one a batch, so that a campaign that was killed goes on.

Theory. The first line says what is explored; another campaign is refused. Each further line is one batch: for every
piece of work its outcome and the work that showed up. A campaign is resumed by putting these results into a fresh
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
        UsageError: the file is there and of another campaign.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.header = json.loads(json.dumps(header))
        lines = self._whole_lines()
        if not lines:
            self._write(self.header)
        elif json.loads(lines[0]) != self.header:
            raise UsageError(f"{path} is of another campaign: {lines[0].decode()}")
        self.lines = lines[1:]

    def _whole_lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        try:
            lines = whole.splitlines()
            for line in lines[:1]:
                json.loads(line)
        except ValueError:
            raise UsageError(f"{self.path} is no state of a campaign") from None
        return lines

    def batches(self) -> Iterator[list[Ran]]:
        """What was done before."""
        for line in self.lines:
            yield [_ran(row) for row in json.loads(line)]

    def append(self, batch: list[Ran]) -> None:
        """Write down one batch."""
        self._write([_row(ran) for ran in batch])

    def _write(self, value: Any) -> None:
        data = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)


def _row(ran: Ran) -> list[Any]:
    return [attrs.asdict(ran.outcome) if ran.outcome is not None else None, list(ran.children)]


def _ran(row: tuple[dict[str, Any] | None, list[Work]]) -> Ran:
    fields, children = row
    if fields is None:
        return Ran(None, tuple(children))
    values: dict[str, Any] = {**fields, "ids": tuple(fields["ids"]), "actors": tuple(fields["actors"])}
    return Ran(Outcome(**values), tuple(children))
