"""Events: one fixed tuple a kind, wherever it is emitted."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import vdpasim
from vdpasim.core.events import COMMON, LAYOUT, Kind, OpenCalls, as_dict

PACKAGE = Path(vdpasim.__file__).parent


def emissions() -> list[tuple[str, str, int]]:
    """(place, kind, fields) of every ``emit(Kind.X, ...)`` with plain arguments in the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit"):
                continue
            first = node.args[0]
            if isinstance(first, ast.Attribute) and not any(isinstance(arg, ast.Starred) for arg in node.args):
                found.append((f"{path.name}:{node.lineno}", first.attr, len(node.args) - 1))
    return found


def test_every_kind_has_a_layout() -> None:
    assert set(LAYOUT) == set(Kind)


def test_numbers_of_kinds_are_stable_because_they_are_on_disks() -> None:
    assert [(kind.name, kind.value) for kind in Kind] == [
        ("ENTER", 1),
        ("EXIT", 2),
        ("MAP", 3),
        ("UNMAP", 4),
        ("PUSH", 5),
        ("DMA", 6),
        ("MISS", 7),
        ("WAKE", 8),
        ("SIGNAL", 9),
        ("KICK", 10),
        ("OWNER", 11),
        ("STATUS", 12),
        ("FAULT", 13),
        ("VIOLATION", 14),
        ("UNMODELLED", 15),
        ("REMAP", 16),
        ("OPEN", 17),
        ("SPACE", 18),
        ("PIN", 19),
        ("UNPIN", 20),
        ("GONE", 21),
        ("REMOVE", 22),
        ("SUSPEND", 23),
        ("RING", 24),
        ("FEATURES", 25),
        ("USED", 26),
        ("QUIET", 27),
        ("IDLE", 28),
        ("CLEAR", 29),
        ("CONFIG", 30),
        ("BATCH", 31),
        ("IGNORED", 32),
        ("STILL", 33),
        ("MOVED", 34),
    ]


@pytest.mark.parametrize(("place", "kind", "fields"), emissions())
def test_what_is_emitted_has_the_fields_of_its_kind(place: str, kind: str, fields: int) -> None:
    assert fields == len(LAYOUT[Kind[kind]]), place


def test_the_search_above_finds_emissions() -> None:
    assert {kind for _, kind, _ in emissions()} >= {"ENTER", "EXIT", "DMA", "MISS", "WAKE", "SIGNAL", "OWNER", "STATUS"}


@pytest.mark.parametrize("kind", Kind)
def test_an_event_can_be_looked_at_by_names(kind: Kind) -> None:
    fields = tuple(f"value of {name}" for name in LAYOUT[kind])
    event = (7, 100, "vmm", kind, *fields)
    named = as_dict(event)
    assert tuple(named) == COMMON + LAYOUT[kind]
    assert tuple(named.values()) == event


@pytest.mark.parametrize("extra", [-1, 1])
def test_an_event_of_another_length_is_no_event(extra: int) -> None:
    fields = ("x",) * (len(LAYOUT[Kind.KICK]) + extra)
    with pytest.raises(ValueError, match="zip"):
        as_dict((1, 0, "vmm", Kind.KICK, *fields))


class TestOpenCalls:
    def test_finds_the_oldest_of_equal_calls(self) -> None:
        calls = OpenCalls()
        enter, other = (1, 0, "u", Kind.ENTER, "read", "f", ()), (2, 0, "u", Kind.ENTER, "write", "f", ())
        calls.enter(enter, "first")
        calls.enter(other, "other")
        calls.enter(enter, "second")
        leave = (4, 0, "u", Kind.EXIT, "read", "f", 0, 0, None)
        assert (calls.exit(leave), calls.rest()) == ("first", ["second", "other"])
        assert (calls.exit(leave), calls.exit(leave), calls.rest()) == ("second", None, ["other"])
