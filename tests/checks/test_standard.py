"""The set of checks a run is judged by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import vdpasim.checks
from vdpasim.checks.standard import standard, vmm_mistakes

if TYPE_CHECKING:
    from vdpasim.checks import Check

SHARED = {"evidence", "__init__", "oracle", "ring_state", "standard"}
"""What is no check."""


def modules(checks: list[Check]) -> set[str]:
    return {type(check).__module__.rpartition(".")[2] for check in checks}


def test_every_shipped_check_is_in_the_set() -> None:
    shipped = {path.stem for path in Path(vdpasim.checks.__file__).parent.glob("*.py")} - SHARED
    assert modules(standard()) | modules(vmm_mistakes()) == shipped


def test_mistakes_of_the_program_are_in_a_set_of_their_own() -> None:
    assert all(name.startswith("vmm_") for name in modules(vmm_mistakes()))
    assert not any(name.startswith("vmm_") for name in modules(standard()))


def test_every_id_is_in_the_docs(root: Path) -> None:
    paths = Path(vdpasim.checks.__file__).parent.glob("*.py")
    sources = [path.read_text("utf-8") for path in paths if path.stem != "evidence"]  # it has ids of rules
    named = {ident for source in sources for ident in re.findall(r'"([a-z]+(?:-[a-z]+)*\.[a-z-]+)"', source)}
    table = (root / "docs" / "checks.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = {ident for row in rows for ident in re.findall(r"`([^`]+)`", row)}
    assert named <= told
    assert len(told) > 25


def test_each_set_is_fresh() -> None:
    first, second = standard() + vmm_mistakes(), standard() + vmm_mistakes()
    assert all(one is not other for one in first for other in second)
