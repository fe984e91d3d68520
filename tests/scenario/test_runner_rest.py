"""What a story leaves behind comes to rest before the verdict; mistakes of the program are notes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vdpasim.core.vdpa.vdpa_sim import VdpaSim
from vdpasim.scenario import Scenario, scenario
from vdpasim.scenario.loader import Found
from vdpasim.scenario.runner import Verdict, run
from vdpasim.vmm.blk import BlkVmm

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


def play(story: Scenario, *, strict: bool = False) -> Verdict:
    (verdict,) = run(Found(Path(__file__), story), strict=strict)
    return verdict


async def kicked(sim: Simulator) -> BlkVmm:
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    vmm.post(0, 0, 512)
    await vmm.kick_device()
    return vmm


@scenario()
async def ends_with_a_kick(sim: Simulator) -> None:
    """The last thing is a kick."""
    await kicked(sim)


def test_what_was_begun_is_brought_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert play(ends_with_a_kick).line == "clean"
    monkeypatch.setattr(VdpaSim, "notify", lambda *_: None)
    assert play(ends_with_a_kick).line == "irq.lost"


@scenario()
async def careless(sim: Simulator) -> None:
    """RESUME without SUSPEND."""
    await (await kicked(sim)).device.resume()


@scenario(expect="vmm.resume-without-suspend")
async def known_to_be_careless(sim: Simulator) -> None:
    """The same, expected."""
    await (await kicked(sim)).device.resume()


@pytest.mark.parametrize(
    ("story", "strict", "passed", "found", "notes"),
    [
        (careless, False, True, 0, 1),
        (careless, True, False, 1, 0),
        (known_to_be_careless, False, True, 1, 0),
        (known_to_be_careless, True, True, 1, 0),
    ],
)
def test_mistakes_count_where_somebody_asks(
    story: Scenario, strict: bool, passed: bool, found: int, notes: int
) -> None:
    verdict = play(story, strict=strict)
    assert (verdict.passed, len(verdict.found), len(verdict.notes)) == (passed, found, notes)
    assert verdict.rerun.endswith(" --strict") is strict
