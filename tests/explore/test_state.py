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


@pytest.mark.parametrize(
    "text", ["notes without an end", "notes\nwithout an end", '{"target": 1, "x', "[1, 2]\n", "\n"]
)
def test_what_is_not_ours_is_left_as_it_is(text: str, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match="no state"):
        StateFile(path, HEADER)
    assert path.read_text("utf-8") == text


def test_a_header_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "state"
    StateFile(path, HEADER)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    StateFile(path, HEADER)
    assert path.read_bytes() == whole


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = StateFile(path, HEADER)
    file.append(BATCH)
    file.append(BATCH)
    header, one, two = path.read_bytes().splitlines()
    damaged = [
        (3, [one, one]),
        (2, [two]),
        (3, [one, b"", two]),
        (2, [b"[1]"]),
        (2, [b"[1,[[1,2,3]]]"]),
        (2, [b'[1,[[{"ids":[]},[]]]]']),
        (2, [one.replace(b'"steps":3', b'"steps":"3"')]),
        (2, [one.replace(b'"prefix"', b'"suffix"')]),
        (2, [b"\xff"]),
    ]
    for number, lines in damaged:
        path.write_bytes(b"\n".join([header, *lines, b""]))
        with pytest.raises(UsageError, match=f"line {number} is damaged"):
            StateFile(path, HEADER)
