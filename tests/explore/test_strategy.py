"""What all strategies share: dice that depend on words only, work that is JSON."""

from __future__ import annotations

import json

import pytest

from vdpasim.explore.campaign import STRATEGIES
from vdpasim.explore.strategy import Settings, dice


def test_dice_depend_on_their_words_only() -> None:
    assert dice("a", 1).random() == dice("a", 1).random()
    assert dice("a", 1).random() != dice("a", 11).random()


@pytest.mark.parametrize("name", STRATEGIES)
def test_work_is_json(name: str) -> None:
    (work,) = STRATEGIES[name](Settings()).take(1)
    assert json.loads(json.dumps(work)) == work
