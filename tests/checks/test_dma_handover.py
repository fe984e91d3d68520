"""``dma.after-handover`` and ``uaf.old-mm``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.dma_handover import DmaHandover
from vdpasim.core.events import Kind
from vdpasim.core.vdpa.vdpa_sim import VdpaSim
from vdpasim.explore import Target
from vdpasim.explore.campaign import Plan
from vdpasim.explore.strategy import Settings

if TYPE_CHECKING:
    from vdpasim.core.ports import Mm
    from vdpasim.sim import Simulator


@pytest.fixture
def check() -> DmaHandover:
    """A device of ``old`` that works in its memory."""
    one = DmaHandover()
    feed(one, Kind.OPEN, device="vhost-vdpa-0", below="disk", family="vhost-vdpa")
    owner(one, None, "old")
    space(one, "old")
    return one


def owner(check: DmaHandover, old: str | None, new: str | None) -> None:
    feed(check, Kind.OWNER, device="vhost-vdpa-0", old=old, new=new)


def space(check: DmaHandover, mm: str | None) -> None:
    feed(check, Kind.SPACE, device="disk", queue=0, mm=mm)


def dma(check: DmaHandover) -> list[str]:
    where = {"device": "disk", "queue": 0, "iova": 0, "length": 8}
    feed(check, Kind.DMA, **where, access=1, serial=1, target="va", place=())
    return [finding.id for finding in check.findings]


def test_the_owners_memory_is_fine(check: DmaHandover) -> None:
    assert dma(check) == []


def test_the_memory_of_the_owner_before_is_not(check: DmaHandover) -> None:
    owner(check, "old", "new")
    assert dma(check) == ["dma.after-handover"]
    assert dma(check) == ["dma.after-handover"], "told once"


def test_nor_is_that_of_one_who_is_gone(check: DmaHandover) -> None:
    owner(check, "old", "new")
    feed(check, Kind.GONE, what="mm", name="old")
    assert dma(check) == ["uaf.old-mm"]


def test_nobody_may_be_worked_for_who_is_gone(check: DmaHandover) -> None:
    space(check, None)
    feed(check, Kind.GONE, what="mm", name="old")
    assert dma(check) == ["dma.after-handover"]


@pytest.mark.parametrize("op", ["exec", "exit"])
def test_nor_for_a_program_that_has_gone_on(check: DmaHandover, op: str) -> None:
    feed(check, Kind.EXIT, op=op, file="other", ret=-2, handler_errno=0, rule=None)
    assert dma(check) == [], "an exec that failed"
    feed(check, Kind.EXIT, op=op, file="other", ret=0, handler_errno=0, rule=None)
    assert dma(check) == ["dma.after-handover"], "though the worker holds the address space"


def test_a_released_file_has_no_owner(check: DmaHandover) -> None:
    feed(check, Kind.GONE, what="file", name="vhost-vdpa-0")
    owner(check, "old", None)
    assert dma(check) == []


async def taken_by_a_child(sim: Simulator, *, old_exits: bool = False) -> None:
    vmm = await stories.boot(sim)
    await vmm.write_sector(0, bytes(512))
    await vmm.device.suspend()
    child = vmm.process.fork("child")
    theirs = child.receive(vmm.file)
    await type(vmm.device)(theirs).new_owner()
    if old_exits:
        await vmm.process.exit()
    await type(vmm.device)(theirs).resume()
    await child.file(vmm.kick.fd).write(bytes([1]) + bytes(7))
    await sim.settle()


async def taken_from_one_who_exits(sim: Simulator) -> None:
    await taken_by_a_child(sim, old_exits=True)


def forgets_its_rings(device: VdpaSim, mm: Mm) -> None:
    device.mm_bound = mm


@pytest.mark.parametrize(
    ("story", "wanted"), [(taken_by_a_child, "dma.after-handover"), (taken_from_one_who_exits, "uaf.old-mm")]
)
def test_a_bind_that_forgets_the_rings_is_caught(story: Any, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = {"dma.after-handover", "uaf.old-mm"}
    assert stories.ids(story, stories.SERIES) & watched == set(), "without the bug"
    monkeypatch.setattr(VdpaSim, "bind_mm", forgets_its_rings)
    assert stories.ids(story, stories.SERIES) & watched == {wanted}


async def exec_while_running(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    vmm.post(0, 0, 512)
    await vmm.exec(stories.NEW_ADDRESS)
    await vmm.kick_device()
    await sim.settle()


def test_pinned_pages_outlive_their_owner_and_are_nobodys() -> None:
    assert "dma.after-handover" in stories.ids(exec_while_running, stories.SERIES, options=stories.PA)
    assert "dma.after-handover" not in stories.ids(exec_while_running, stories.SERIES), "such a device stands still"


async def exec_in_the_middle(sim: Simulator, *, suspended: bool) -> None:
    vmm = await stories.boot(sim)
    vmm.post(0, 0, 512)
    guest = sim.spawn(vmm.kick_device, name="guest")
    await guest.join()
    if suspended:
        await vmm.device.suspend()
    await vmm.exec(stories.NEW_ADDRESS)
    await sim.settle()


@pytest.mark.parametrize(("suspended", "wanted"), [(False, {"dma.after-handover"}), (True, set())])
def test_a_request_in_flight_at_exec_is_caught_in_some_order(suspended: bool, wanted: set[str]) -> None:
    async def story(sim: Simulator) -> None:
        await exec_in_the_middle(sim, suspended=suspended)

    campaign = Plan(Target("in flight", story, stories.SERIES), "dfs", 3000, Settings(preemptions=1)).run()
    found = {ident for failure in campaign.failures for ident in failure.ids}
    assert found & {"dma.after-handover", "uaf.old-mm"} == wanted
