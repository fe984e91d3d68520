"""``vmm.unacked-feature``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_features import NAMES, VmmFeatures
from vdpasim.core.events import Kind
from vdpasim.vmm.blk import BlkVmm

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

DEV = "d"
USES: list[tuple[int, Kind, dict[str, Any]]] = [
    (2, Kind.BATCH, {"asid": 0, "open": 1}),
    (3, Kind.IGNORED, {"what": "asid", "value": 1}),
    (4, Kind.SUSPEND, {"old": 0, "new": 1}),
    (5, Kind.SUSPEND, {"old": 1, "new": 0}),
    (6, Kind.RING, {"queue": 0, "what": "ready", "value": 1}),
    (9, Kind.OWNER, {"old": "mm:a", "new": "mm:b"}),
    (10, Kind.REMAP, {"asid": 0, "serial": 1, "start": 0, "last": 9, "old": 1, "new": 2}),
]


@pytest.fixture
def check() -> VmmFeatures:
    """A running device, nothing acked."""
    one = VmmFeatures()
    feed(one, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    feed(one, Kind.STATUS, device=DEV, old=0xB, new=0xF)
    return one


@pytest.mark.parametrize(("bit", "kind", "fields"), USES)
def test_what_is_used_must_be_acked(check: VmmFeatures, bit: int, kind: Kind, fields: dict[str, Any]) -> None:
    feed(check, Kind.FEATURES, device=DEV, what="virtio", mask=1 << bit)
    feed(check, kind, device=DEV, **fields)
    feed(check, kind, device=DEV, **fields)
    (finding,) = check.findings
    assert f"{NAMES[bit]} (bit {bit})" in finding.text


@pytest.mark.parametrize(("bit", "kind", "fields"), USES)
def test_what_is_acked_may_be_used(check: VmmFeatures, bit: int, kind: Kind, fields: dict[str, Any]) -> None:
    feed(check, Kind.FEATURES, device=DEV, what="backend", mask=1 << bit)
    feed(check, kind, device=DEV, **fields)
    assert check.findings == []


def test_uses_are_all_of_them() -> None:
    assert {bit for bit, _, _ in USES} == set(NAMES)


def test_a_released_file_has_acked_nothing(check: VmmFeatures) -> None:
    feed(check, Kind.FEATURES, device=DEV, what="backend", mask=1 << 4)
    feed(check, Kind.GONE, what="file", name=DEV)
    feed(check, Kind.SUSPEND, device=DEV, old=0, new=1)
    assert len(check.findings) == 1


def test_in_a_log_that_has_no_ack_nothing_is_known() -> None:
    one = VmmFeatures()
    feed(one, Kind.OPEN, device=DEV, below="", family="vhost-vdpa")
    feed(one, Kind.SUSPEND, device=DEV, old=0, new=1)
    assert one.findings == []
    feed(one, Kind.FEATURES, device=DEV, what="backend", mask=0)
    feed(one, Kind.SUSPEND, device=DEV, old=0, new=1)
    assert len(one.findings) == 1


def test_a_queue_is_enabled_once(check: VmmFeatures) -> None:
    feed(check, Kind.STATUS, device=DEV, old=0xF, new=0)
    for value in (1, 1, 0):
        feed(check, Kind.RING, device=DEV, queue=0, what="ready", value=value)
    assert check.findings == []


async def suspended(sim: Simulator) -> None:
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await BlkVmm.boot(sim.process("vmm"), path, backend_features=0)
    await vmm.device.suspend()


def test_a_forgotten_ack_is_caught() -> None:
    assert stories.ids(suspended) == {"vmm.unacked-feature"}
    assert stories.watch(stories.hand_over, stories.SERIES) == []
