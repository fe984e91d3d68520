"""The set of checks a run is judged by."""

from __future__ import annotations

from pathlib import Path

import vdpasim.checks
from vdpasim.checks.standard import standard


def test_every_shipped_check_is_in_the_set() -> None:
    shipped = {path.stem for path in Path(vdpasim.checks.__file__).parent.glob("*.py")} - {"__init__", "standard"}
    assert {type(check).__module__.rpartition(".")[2] for check in standard()} == shipped


def test_each_set_is_fresh() -> None:
    first, second = standard(), standard()
    assert all(one is not other for one in first for other in second)
