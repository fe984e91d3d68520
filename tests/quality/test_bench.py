"""The benchmarks still measure something: each is loaded, and the one that plays a story plays it, once and untimed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bench(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package; it is no part of what is installed, so it is looked for where the tests are."""
    monkeypatch.syspath_prepend(str(root))
    return import_module("bench.__main__")


def test_every_experiment_has_something_to_compare_and_goals_about_it(bench: Any) -> None:
    for module in bench.MODULES:
        experiments = bench.load(module)
        assert experiments, module
        for one in experiments:
            _, *peers = one.candidates
            assert peers, one.name
            assert {goal.peer for goal in one.goals} <= set(peers), one.name


def test_the_race_is_played_in_every_way(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("bench.explore"), "RUNS", 1)
    (one,) = bench.load("explore")
    assert all(took > 0 for measure in one.candidates.values() for took in measure().values())
