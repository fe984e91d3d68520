"""Every story of a live update is told by its number, and its twin is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.checks.diagnosis.support import read, told, update
from vdpasim.checks.diagnosis import EVIDENCE_MAX, diagnose
from vdpasim.checks.diagnosis.catalogue import UNTELLABLE
from vdpasim.scenario.loader import Found, load
from vdpasim.scenario.runner import Verdict, run
from vdpasim.trace.file import Reader

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

STORIES = Path(__file__).parents[3] / "scenarios" / "live_update"
NOTHING_TO_SEE = {
    "lu05_kick_beside_suspend": "happens in other orders of events only",
    "lu23_unplugged_meanwhile": "happens in other orders of events only",
    "lu32_exact_limit": "a limit that is enough",
}
"""Stories that claim a number and show nothing in the order in which they run."""
SAME_REQUESTS = {
    "lu29_room_for_twice": "the owner asks in both, the twin hears another errno",
    "lu22_the_window_fixed": "takes entries away and gives them anew, too, but suspended",
}
"""Twins that are told, for they make the same requests as the story they are a twin of."""


def tags(found: Found) -> list[str]:
    return [tag for tag in found.scenario.tags if re.match(r"LU\d\d", tag)]


TAGGED = [found for found in load([str(STORIES)]) if tags(found)]


def traced(found: Found) -> tuple[Reader, Verdict]:
    import io

    class Kept(io.StringIO):
        def close(self) -> None:
            self.seek(0)

    stream = Kept()
    (verdict,) = run(found, kernel=found.scenario.kernels[0], record=lambda _: stream)
    return Reader(stream), verdict


@pytest.mark.parametrize("found", TAGGED, ids=lambda found: str(found.scenario.name))
def test_tells_the_stories_and_not_their_twins(found: Found) -> None:
    reader, _ = traced(found)
    shown = [one.number for one in diagnose(item.event for item in reader if item.event)]
    for tag in tags(found):
        number = int(tag[2:4])
        if tag.endswith(":twin"):
            assert number not in shown or found.scenario.name in SAME_REQUESTS, shown
        elif number not in UNTELLABLE and found.scenario.name not in NOTHING_TO_SEE:
            assert number in shown[:3], shown


def test_a_live_update_that_is_right_shows_nothing() -> None:
    async def story(sim: Simulator) -> None:
        await read(sim, await update(sim, lambda plan: plan), 2)

    assert told(story) == []
    assert diagnose([]) == []


def test_evidence_is_short_and_in_order() -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.skip("remap"))

    for one in told(story):
        assert 0 < len(one.evidence) <= EVIDENCE_MAX
        assert list(one.evidence) == sorted(set(one.evidence))
