"""Misses that nobody answers, or answers wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.checks.diagnosis import diagnose
from vdpasim.sim import Simulator
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import IOVA
from vdpasim.vmm.vhost_net import VhostNetVmm

if TYPE_CHECKING:
    from vdpasim.core.events import Event

MSG_V2 = 1 << 1
PAGE = 4096


def shown(kind: str) -> list[int]:
    sim = Simulator("6.12")
    events: list[Event] = []
    sim.listen(events.append)

    async def story(sim: Simulator) -> None:
        vmm = await VhostNetVmm.create(sim)
        await vmm.negotiate()
        await vmm.net.set_backend_features(MSG_V2)
        await vmm.net.iotlb_update(IOVA, PAGE, vmm.ram.addr)
        await vmm.set_up_ring()
        await vmm.attach()
        vmm.post(b"frame".ljust(60, b"."))
        await vmm.kick_device()
        await sim.settle()
        assert await vmm.file.poll(POLLIN, timeout_ns=0)
        if kind != "unread":
            miss = await vmm.net.read_miss()
            page = miss.iova & -PAGE
            if kind == "stale":
                await vmm.net.iotlb_invalidate(page, PAGE)
                sim.violation("miss.stale-answer", "so it was")
            if kind in ("stale", "answered"):
                await vmm.net.iotlb_update(page, PAGE, vmm.ram.addr + page - IOVA)
        if kind == "formats":
            sim.violation("vmm.message-misread", "so it was")
        await vmm.process.exec()

    sim.run(story)
    return [one.number for one in diagnose(events) if one.number > 51]


@pytest.mark.parametrize(
    ("kind", "number"), [("unread", [52]), ("read", [53]), ("answered", []), ("stale", [55]), ("formats", [53])]
)
def test_what_becomes_of_a_miss(kind: str, number: list[int]) -> None:
    assert shown(kind) == number
