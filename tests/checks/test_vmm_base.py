"""``vmm.base-while-running``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_base import VmmBase
from vdpasim.core.events import Kind

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

DEV = "vhost-vdpa-0"
STOPS: dict[str, tuple[Kind, dict[str, Any]]] = {
    "suspend": (Kind.SUSPEND, {"device": DEV, "old": 0, "new": 1}),
    "reset": (Kind.STATUS, {"device": DEV, "old": 0xF, "new": 0}),
    "disable": (Kind.RING, {"device": DEV, "queue": 0, "what": "ready", "value": 0}),
    "close": (Kind.GONE, {"what": "file", "name": DEV}),
}


def ring(check: VmmBase, what: str, value: object, device: str = DEV) -> None:
    feed(check, Kind.RING, device=device, queue=0, what=what, value=value)


@pytest.fixture
def check() -> VmmBase:
    """A queue at work."""
    one = VmmBase()
    ring(one, "ready", 1)
    feed(one, Kind.STATUS, device=DEV, old=0xB, new=0xF)
    return one


def test_a_queue_at_work_has_no_base(check: VmmBase) -> None:
    ring(check, "get-base", 3)
    assert [finding.id for finding in check.findings] == ["vmm.base-while-running"]


@pytest.mark.parametrize("stop", STOPS)
def test_one_at_rest_has(check: VmmBase, stop: str) -> None:
    kind, fields = STOPS[stop]
    feed(check, kind, **fields)
    ring(check, "get-base", 3)
    assert check.findings == []


def test_resume_sets_it_to_work(check: VmmBase) -> None:
    feed(check, Kind.SUSPEND, device=DEV, old=0, new=1)
    feed(check, Kind.SUSPEND, device=DEV, old=1, new=0)
    ring(check, "get-base", 3)
    assert len(check.findings) == 1


@pytest.mark.parametrize(("backend", "wanted"), [("tap0", 1), (None, 0)])
def test_vhost_net_is_at_work_while_it_has_a_backend(backend: str | None, wanted: int) -> None:
    check = VmmBase()
    feed(check, Kind.OPEN, device="n", below="n", family="vhost-net")
    ring(check, "backend", backend, "n")
    ring(check, "get-base", 3, "n")
    assert len(check.findings) == wanted


async def asked(sim: Simulator, *, suspend: bool) -> None:
    vmm = await stories.boot(sim)
    if suspend:
        await vmm.device.suspend()
    await vmm.device.get_vring_base(0)


async def while_running(sim: Simulator) -> None:
    await asked(sim, suspend=False)


async def while_suspended(sim: Simulator) -> None:
    await asked(sim, suspend=True)


def test_a_base_of_a_running_queue_is_caught() -> None:
    assert stories.ids(while_running) == {"vmm.base-while-running"}
    assert stories.watch(while_suspended) == []
