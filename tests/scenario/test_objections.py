"""What runs say to each objection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs
import pytest

from tests.scenario.test_catalogue import FIXED, V1, V2, verdict
from vdpasim.core.rules import RULES
from vdpasim.explore import explore
from vdpasim.scenario.catalogue import WIDTH
from vdpasim.scenario.objections import MEANS, OBJECTIONS, UNPLAYED, objections
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.virtio_blk import VIRTIO_BLK_T_IN
from vdpasim.vmm.blk import SECTOR, BlkVmm

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

RESUME = ("objection:resume",)


def row_of(text: str, slug: str) -> list[list[str]]:
    """The lines of an objection's row, as cells."""
    lines = text.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith(slug + " "))
    more = [line for line in lines[first + 1 : first + 9] if line.startswith("   ")]
    return [re.split(r" {2,}", line.strip()) for line in (lines[first], *more)]


def test_an_objection_has_a_row_with_what_its_stories_came_to_under_every_dialect() -> None:
    tags = ("objection:resume", "LU1")
    guarded = FIXED + "+lu-guard-resume"
    text = objections([
        verdict("a", V1, "dma.fault", tags=tags),
        verdict("c", V1, tags=tags),
        verdict("a", FIXED, tags=tags),
        verdict("a", guarded, tags=tags, trace="[1] 1 vmm: ioctl(f, x) = -1 EBUSY  # vdpa.guard.stale\n"),
        verdict("b", "6.12", tags=("objection:mine",)),
    ])
    assert text.splitlines()[0].split() == ["objection", "v1", "v2", "fixed", "mainline"]
    assert row_of(text, "resume") == [["resume", "dma.fault", "-", "clean", "-"]]
    assert row_of(text, "mine") == [["mine", "-", "-", "-", "clean"]]
    below = text.partition(f"\nresume: {OBJECTIONS['resume']}\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split() for line in below[:4]] == [
        ["a", "v1", "dma.fault"],
        ["fixed", "clean"],
        ["fixed+guard-resume", "EBUSY", "vdpa.guard.stale"],
        ["c", "v1", "clean"],
    ]
    assert "\nmine: an objection of your own\n  b  mainline  clean\n" in text
    assert text.count("no story of these plays it") == len(OBJECTIONS) - 1


def test_like_is_compared_with_like() -> None:
    """A story that is not played under every series would make the others look better."""
    everywhere = [verdict("a", kernel, "dma.fault", tags=RESUME) for kernel in (V1, FIXED)]
    text = objections([*everywhere, verdict("b", V1, "irq.lost", tags=RESUME)])
    assert row_of(text, "resume") == [["resume", "dma.fault", "-", "dma.fault", "-"]]
    assert "  b  v1        irq.lost\n  not in the table, where like is compared with like: b\n" in text
    assert "not in the table" not in objections([*everywhere, verdict("b", "6.12", "irq.lost", tags=RESUME)])


@pytest.mark.parametrize("kernel", [V1 + "-pending-kick", FIXED + "+lu-guard-resume", "tip-F7"])
def test_a_kernel_with_switches_of_its_own_speaks_for_itself_only(kernel: str) -> None:
    text = objections([verdict("a", kernel, "dma.fault", tags=RESUME)])
    assert row_of(text, "resume") == [["resume", "-", "-", "-", "-"]]
    assert text.count("dma.fault") == 1


def test_the_table_tells_refusals_by_what_the_handler_said() -> None:
    trace = "[1] 1 vmm: write(f, x) = -1 EFAULT (EINVAL inside)  # vdpa.remap.no-set-map\n"
    text = objections([verdict("a", V2, tags=("objection:dma-map-only",), trace=trace)])
    assert row_of(text, "dma-map-only") == [["dma-map-only", "-", "refused: EINVAL", "-", "-"]]
    (rule,) = MEANS
    assert f"  a  v2  EFAULT (EINVAL inside) {rule}\n  {rule}: {MEANS[rule]}\n" in text
    assert MEANS[rule] not in objections([verdict("a", V2, tags=("objection:dma-map-only",))])


def test_what_only_exploring_finds_is_marked() -> None:
    text = objections([verdict("a", V1, tags=(*RESUME, "explore"))])
    assert row_of(text, "resume")[1] == ["explore finds more"]
    assert "  a  v1  clean (found by exploring)\n  found by exploring: vdpasim explore a.py::a\n" in text


async def call_behind_suspend(sim: Simulator) -> None:
    """The guest kicks while its VMM suspends, and hears of an answer when SUSPEND has returned."""
    with sim.calm():
        vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    vmm.post(VIRTIO_BLK_T_IN, 0, SECTOR)
    guest = sim.spawn(vmm.kick_device, name="guest")
    await vmm.device.suspend()
    told = await vmm.call.poll(POLLIN, timeout_ns=0)
    await guest.join()
    await sim.settle()
    assert await vmm.call.poll(POLLIN, timeout_ns=0) == told


def test_no_order_of_events_has_an_interrupt_behind_suspend() -> None:
    """So no story plays that objection."""
    campaign = explore(call_behind_suspend, strategy="dfs", preemptions=2)
    campaign.check()
    assert campaign.complete
    assert "SUSPEND waits for the worker" in UNPLAYED["interrupt-after-suspend"]


def test_what_nothing_can_play_says_why() -> None:
    text = objections([verdict("a", V1, tags=RESUME)])
    for slug, why in UNPLAYED.items():
        assert f"{slug}: {OBJECTIONS[slug]}\n  no story of these plays it: {why}\n" in text


def test_an_objection_names_what_its_stories_rest_on() -> None:
    played = verdict("a", V1, "dma.fault", tags=RESUME)
    resting = attrs.evolve(played, unconfirmed={"vq.indirect.loop": "inferred"})
    assert "dma.fault\n  * v1: inferred: vq.indirect.loop\n" in objections([played, resting])
    assert "*" not in objections([played])


def test_a_twin_says_nothing_to_an_objection() -> None:
    text = objections([verdict("a_fixed", V1, tags=("objection:resume", "LU1:twin"))])
    assert row_of(text, "resume") == [["resume", "-", "-", "-", "-"]]
    assert "a_fixed" not in text
    both = objections([verdict("twin_of_another", V1, tags=("objection:resume", "LU1:twin", "LU2"))])
    assert "  twin_of_another  v1  clean\n" in both


def test_several_ids_stand_below_each_other() -> None:
    ids = tuple(f"some.identifier-{n}" for n in range(3))
    text = objections([verdict("a", kernel, *ids, tags=("objection:resume",)) for kernel in (V1, V2)])
    assert row_of(text, "resume") == [["resume", ids[0], ids[0], "-", "-"], [ids[1]] * 2, [ids[2]] * 2]
    assert max(map(len, text.splitlines())) <= WIDTH


def test_every_line_fits() -> None:
    assert len(OBJECTIONS) == 9
    assert max(map(len, objections([]).splitlines())) <= WIDTH
    assert set(UNPLAYED) <= set(OBJECTIONS)
    assert set(MEANS) <= set(RULES)
