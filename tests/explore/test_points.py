"""The names of schedule points: docs/schedule-points.md has them all, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from random import Random

from tests.explore.bodies import request_and_suspend, two_writers
from vdpasim.explore import Target
from vdpasim.explore.execute import Simple, execute

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "schedule-points.md").read_text("utf-8")
SOURCES = [*(ROOT / "vdpasim" / "core").rglob("*.py"), ROOT / "vdpasim" / "sim" / "hosts.py"]


def written() -> set[str]:
    """The endings of the points of the page's table, or their whole names if they belong to no object."""
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    return {re.sub(r"^(X|DEV|FILE)(\.wait|\.worker)?(?=\.)", "", name) for name in names}


def in_code() -> set[str]:
    """The string literals in every call of Point, `x.name + ".lock"` and `"settle"` alike."""
    found: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Point":
                found |= {
                    part.value
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    return found


def test_the_page_has_the_points_of_the_code() -> None:
    assert written() == in_code()


class Names(Simple):
    def __init__(self, number: int) -> None:
        self.random = Random(number)
        self.seen: set[str] = set()

    def choose(self, threads: list[str], labels: list[str]) -> int:
        self.seen |= {label.rpartition(" at ")[2] for label in labels}
        return self.random.randrange(len(threads))


def test_they_are_met_under_these_names() -> None:
    seen: set[str] = set()
    for number in range(10):
        for body in (two_writers, request_and_suspend):
            names = Names(number)
            execute(Target("body", body), names)
            seen |= names.seen
    locks = {"vhost-net-0.mutex.lock", "vhost-net-0.vq1.mutex.locked", "disk.mutex.lock", "vhost-vdpa-0.mutex.lock"}
    assert locks <= seen
