"""Scenarios whose machine has faults: given by the story, given from outside, and those that never fired."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sim.test_faults import all_faults
from vdpasim.scenario import Scenario, refused, scenario
from vdpasim.scenario.loader import Found, ScenarioError, load
from vdpasim.scenario.runner import Verdict, run
from vdpasim.sim import UsageError
from vdpasim.sim.faults import Fault
from vdpasim.uapi import errno as E
from vdpasim.vmm.blk import BlkVmm

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


def play(story: Scenario, *faults: str) -> Verdict:
    (verdict,) = run(Found(Path(__file__), story), faults=faults)
    return verdict


@scenario(faults=("VHOST_VDPA_SUSPEND@disk:2:EBUSY", "UPDATE:1:delay=3us"))
async def suspended_twice(sim: Simulator) -> None:
    """The second SUSPEND is refused."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.suspend()
    await vmm.device.resume()
    with refused(E.EBUSY):
        await vmm.device.suspend()


@scenario()
async def one_sector(sim: Simulator) -> None:
    """A sector is written."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, bytes(512))


def test_the_faults_of_a_story_strike_and_stand_in_its_trace() -> None:
    verdict = play(suspended_twice)
    assert verdict.passed, verdict.found
    assert "vmm: *** fault VHOST_VDPA_SUSPEND:EBUSY at vhost-vdpa-0\n" in verdict.trace
    assert "vmm: *** fault UPDATE:delay=3000ns at vhost-vdpa-0\n" in verdict.trace
    assert "= -1 EBUSY  # fault.injected\n" in verdict.trace
    assert "--fault" not in verdict.rerun


def test_faults_from_outside_come_to_those_of_the_story_and_into_the_command() -> None:
    verdict = play(one_sector, "kick:1:drop", "call@foo:3-4:delay=5us")
    assert [finding.id for finding in verdict.found] == ["deadlock", "fault.unfired"]
    assert verdict.rerun.endswith(" --fault kick:1:drop --fault call@foo:3-4:delay=5us")

    verdict = play(suspended_twice, "open:1:EPERM")
    assert [finding.id for finding in verdict.found] == ["oserror", "fault.unfired", "fault.unfired"]


def test_a_command_quotes_a_device_that_needs_it() -> None:
    assert play(one_sector, "kick@$HOME:1:drop").rerun.endswith(" --fault 'kick@$HOME:1:drop'")


def test_a_fault_that_never_fired_fails_the_run() -> None:
    verdict = play(one_sector, "VHOST_VDPA_SUSPEND:1:EIO", "kick@disk:2:drop")
    assert not verdict.passed
    assert [finding.text for finding in verdict.found] == [
        "fault VHOST_VDPA_SUSPEND:1:EIO never fired: VHOST_VDPA_SUSPEND came at no device",
        "fault kick@disk:2:drop never fired: kick came once at vhost-vdpa-0",
    ]


def test_a_late_interrupt_only_takes_time() -> None:
    verdict = play(one_sector, "call:1:delay=5ms", "kick:1:delay=1us")
    assert verdict.passed, verdict.found
    assert "] 5001000 " in verdict.trace


def test_what_is_no_fault_is_refused_before_anything_runs() -> None:
    with pytest.raises(UsageError, match="no operation 'teleport'"):
        scenario(faults="teleport")
    with pytest.raises(ScenarioError, match="no operation 'teleport'"):
        play(one_sector, "teleport")


def test_two_runs_with_faults_give_the_same_trace() -> None:
    faults = ("call:1:delay=5ms", "VHOST_VDPA_SET_STATUS:every:delay=1us")
    assert play(one_sector, *faults).trace == play(one_sector, *faults).trace


FOLDERS = ("iotlb", "live_update", "miss", "owner")
HARMLESS = ("UsageError", "WouldBlock")
COUNTS = st.sampled_from([(1, 1), (2, 2), (1, 3), (1, None)])
"""Small, since later occurrences never come."""


def stories() -> st.SearchStrategy[Found]:
    root = Path(__file__).parent.parent.parent / "scenarios"
    return st.sampled_from(load([root / folder for folder in FOLDERS]))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.deferred(stories), st.lists(all_faults(), min_size=1, max_size=4), st.data())
def test_whatever_goes_wrong_no_story_ends_in_a_bug_of_ours(
    found: Found, faults: list[Fault], data: st.DataObject
) -> None:
    near = [Fault(f.op, "", *data.draw(COUNTS), f.errno, f.delay_ns, f.drop) for f in faults]
    kernel = data.draw(st.sampled_from(found.scenario.kernels))
    (verdict,) = run(found, kernel=kernel, faults=map(str, near))
    for finding in verdict.found:
        if finding.id == "error":
            assert any(word in finding.text for word in HARMLESS), finding.text
