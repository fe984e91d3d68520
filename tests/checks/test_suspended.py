"""``worker.ran-while-suspended``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.suspended import Suspended
from vdpasim.core.events import Kind
from vdpasim.core.vdpa.vdpa_sim import VdpaSim

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

DEV = "vhost-vdpa-0"


@pytest.mark.parametrize(
    ("ends", "wanted"), [("no", 1), ("resume", 0), ("reset", 0), ("driver-ok", 0), ("close", 0)]
)
def test_memory_is_left_alone_until_it_ends(ends: str, wanted: int) -> None:
    check = Suspended()
    feed(check, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    feed(check, Kind.SUSPEND, device=DEV, old=0, new=1)
    if ends == "resume":
        feed(check, Kind.SUSPEND, device=DEV, old=1, new=0)
    elif ends == "close":
        feed(check, Kind.GONE, what="file", name=DEV)
    elif ends != "no":
        feed(check, Kind.STATUS, device=DEV, old=0xF, new=0 if ends == "reset" else 0xF)
    for _ in range(2):
        where = {"device": "disk", "queue": 0, "iova": 0, "length": 2}
        feed(check, Kind.DMA, **where, access=1, serial=1, target="va", place=())
    assert [finding.id for finding in check.findings] == ["worker.ran-while-suspended"] * wanted


async def kicked_while_suspended(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.suspend()
    await vmm.kick_device()
    await sim.settle()


def test_a_suspend_that_stops_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stories.watch(kicked_while_suspended) == []

    def stops_nothing(device: VdpaSim) -> None:
        pass

    monkeypatch.setattr(VdpaSim, "suspend", stops_nothing)
    assert stories.ids(kicked_while_suspended) == {"worker.ran-while-suspended"}
