"""``vmm.open-after-removal``."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_removal import VmmRemoval
from vdpasim.core.events import Kind
from vdpasim.scenario import refused

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

DEV = "vhost-vdpa-0"


def test_a_removal_that_succeeds_waits_for_nobody() -> None:
    check = VmmRemoval()
    feed(check, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    feed(check, Kind.REMOVE, device=DEV, errno=0)
    check.finish()
    assert check.findings == []


def test_one_that_waits_is_told_until_the_file_is_closed() -> None:
    check = VmmRemoval()
    opened = feed(check, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    asked = feed(check, Kind.REMOVE, device=DEV, errno=errno.EBUSY)
    check.finish()
    assert [finding.steps for finding in check.findings] == [(opened, asked)]
    feed(check, Kind.GONE, what="file", name=DEV)
    assert check.asked == {}


async def removed(sim: Simulator, *, close: bool) -> None:
    vmm = await stories.boot(sim)
    with refused(errno.EBUSY):
        sim.vdpa.dev_del("disk")
    if close:
        await vmm.file.aclose()
        sim.vdpa.dev_del("disk")


async def kept_open(sim: Simulator) -> None:
    await removed(sim, close=False)


async def closed(sim: Simulator) -> None:
    await removed(sim, close=True)


def test_a_file_that_stays_open_is_caught() -> None:
    assert stories.ids(kept_open) == {"vmm.open-after-removal"}
    assert stories.watch(closed) == []
