"""``set-map.ignored-error``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.set_map import SetMap
from vdpasim.core.events import Kind
from vdpasim.vmm.blk import IOVA, RAM

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


@pytest.mark.parametrize(("errno", "ret", "wanted"), [(28, 72, 1), (28, -14, 0), (0, 72, 0)])
def test_a_refusal_must_reach_the_caller(errno: int, ret: int, wanted: int) -> None:
    check = SetMap()
    push = feed(check, Kind.PUSH, device="d", asid=0, maps=3, errno=errno)
    end = feed(check, Kind.EXIT, op="write", file="f", ret=ret, handler_errno=0, rule=None)
    assert [finding.steps for finding in check.findings] == [(push, end)] * wanted


async def plugged(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.batch_begin()
    for n in (1, 2):
        await vmm.device.iotlb_update(IOVA + n * RAM, RAM, vmm.process.mmap(RAM, vmm.memfd).addr)
    await vmm.device.batch_end()


def test_a_device_that_is_full_is_caught_and_one_with_room_is_not() -> None:
    assert "set-map.ignored-error" in stories.ids(plugged, options={"max_iotlb_entries": 2})
    assert stories.watch(plugged) == []


@pytest.mark.parametrize(("what", "wanted"), [("set_map:EIO", 1), ("set_map:drop", 0), ("dma_map:EIO", 0)])
def test_a_fault_plan_refuses_as_a_device_does(what: str, wanted: int) -> None:
    check = SetMap()
    feed(check, Kind.FAULT, device="d", what=what, errno=5 if what.endswith("EIO") else 0)
    feed(check, Kind.EXIT, op="write", file="f", ret=72, handler_errno=0, rule=None)
    assert [finding.text.partition(":")[0] for finding in check.findings] == ["d"] * wanted
