"""``irq.lost`` and ``irq.config-lost``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.irq import Irq
from vdpasim.core.events import Kind
from vdpasim.core.vdpa.vdpa_sim import VdpaSim, VdpasimVirtqueue
from vdpasim.vmm.net import NetVmm

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

DEV = "vhost-vdpa-0"


@pytest.fixture
def check() -> Irq:
    """A queue with a call eventfd, and a config eventfd."""
    one = Irq()
    feed(one, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    feed(one, Kind.RING, device=DEV, queue=0, what="call", value="eventfd-0")
    feed(one, Kind.RING, device=DEV, queue=-1, what="config", value="eventfd-1")
    return one


def used(check: Irq) -> None:
    feed(check, Kind.USED, device="disk", queue=0, old=0, new=1, found=0, taken=1)


def signal(check: Irq, what: str = "call", queue: int = 0) -> None:
    feed(check, Kind.SIGNAL, device=DEV, queue=queue, what=what, count=1)


def quiet(check: Irq, why: str, device: str = "disk", queue: int = 0) -> None:
    feed(check, Kind.QUIET, device=device, queue=queue, why=why)


def found(check: Irq) -> list[str]:
    feed(check, Kind.STILL)
    return [finding.id for finding in check.findings]


def test_an_interrupt_for_several_moves_is_enough(check: Irq) -> None:
    used(check)
    used(check)
    signal(check)
    assert found(check) == []


def test_none_at_all_is_not(check: Irq) -> None:
    used(check)
    signal(check, "err")
    assert found(check) == ["irq.lost"]


@pytest.mark.parametrize("why", ["driver", "unreadable"])
def test_a_driver_that_wants_none_is_a_reason(check: Irq, why: str) -> None:
    used(check)
    quiet(check, why)
    assert found(check) == []


def test_a_device_that_forgot_is_none(check: Irq) -> None:
    used(check)
    quiet(check, "no-callback")
    assert found(check) == ["irq.lost"]


def test_a_program_that_gave_nothing_is_a_reason(check: Irq) -> None:
    feed(check, Kind.RING, device=DEV, queue=0, what="call", value=None)
    used(check)
    quiet(check, "no-callback")
    assert found(check) == []


def test_kvm_may_hold_what_no_process_has_open(check: Irq) -> None:
    feed(check, Kind.GONE, what="eventfd", name="eventfd-0")
    used(check)
    signal(check)
    assert found(check) == []


def test_a_fault_plan_is_a_reason_for_what_it_strikes(check: Irq) -> None:
    used(check)
    feed(check, Kind.CONFIG, device="disk")
    feed(check, Kind.FAULT, device=DEV, what="call:drop", errno=0)
    assert found(check) == ["irq.config-lost"]


def test_a_released_file_is_owed_nothing(check: Irq) -> None:
    used(check)
    feed(check, Kind.GONE, what="file", name=DEV)
    assert found(check) == []


def test_a_run_that_was_cut_off_says_nothing_yet(check: Irq) -> None:
    used(check)
    check.finish()
    assert check.findings == []
    check.now = 1
    check.finish()
    assert [finding.id for finding in check.findings] == ["irq.lost"], "time moves when nothing is ready"


def test_a_config_change_is_held_to_the_same(check: Irq) -> None:
    feed(check, Kind.CONFIG, device="disk")
    signal(check, "config", -1)
    assert found(check) == []
    feed(check, Kind.CONFIG, device="disk")
    quiet(check, "no-eventfd", DEV, -1)
    assert found(check) == ["irq.config-lost"]


def test_a_config_fault_is_a_reason(check: Irq) -> None:
    feed(check, Kind.CONFIG, device="disk")
    feed(check, Kind.FAULT, device=DEV, what="config:drop", errno=0)
    assert found(check) == []


async def one_request(sim: Simulator) -> None:
    vmm = await stories.boot(sim)
    vmm.post(0, 0, 512)
    await vmm.kick_device()
    await sim.settle()


def test_a_device_that_does_not_call_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stories.watch(one_request) == []

    def forgets(device: VdpaSim, vq: VdpasimVirtqueue) -> None:
        pass

    monkeypatch.setattr(VdpaSim, "notify", forgets)
    assert stories.ids(one_request) == {"irq.lost"}


async def link_down(sim: Simulator) -> None:
    device = sim.vdpa.dev_add("net", mgmtdev="net_peer")
    await NetVmm.boot(sim.process("vmm"), device.path)
    device.set_link(False)
    await sim.settle()


def test_a_device_that_does_not_tell_of_its_config_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    machine: dict[str, Any] = {"extensions": ("net_peer",)}
    assert stories.watch(link_down, **machine) == []

    def forgets(device: VdpaSim) -> None:
        device.kernel.emit(Kind.CONFIG, device.name)

    monkeypatch.setattr(VdpaSim, "notify_config", forgets)
    assert stories.ids(link_down, **machine) == {"irq.config-lost"}
