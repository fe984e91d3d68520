"""The state file: whole lines count, another campaign is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.explore.execute import Outcome
from vdpasim.explore.state import StateFile
from vdpasim.explore.strategy import Ran
from vdpasim.sim.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

HEADER = {"target": "a.py::b"}
BATCH = [
    Ran(Outcome(("x",), "x: y", "k", "s1-a-1.b", 3, 2, 1, 99, ("0.0",)), ({"prefix": [0, 1], "sleep": []},)),
    Ran(None),
]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state"
    StateFile(path, HEADER).append(BATCH)
    assert list(StateFile(path, HEADER).batches()) == [BATCH]


def test_a_line_that_was_cut_off_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = StateFile(path, HEADER)
    file.append(BATCH)
    whole = path.read_bytes()
    file.append(BATCH)
    path.write_bytes(path.read_bytes()[:-3])
    assert len(list(StateFile(path, HEADER).batches())) == 1
    assert path.read_bytes() == whole


def test_another_campaign_or_no_campaign_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    StateFile(path, HEADER)
    with pytest.raises(UsageError, match="another campaign"):
        StateFile(path, {"target": "other"})
    path.write_text("hello\n", "utf-8")
    with pytest.raises(UsageError, match="no state"):
        StateFile(path, HEADER)
