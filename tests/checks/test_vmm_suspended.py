"""``vmm.left-suspended``."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_suspended import VmmSuspended
from vdpasim.core.events import Kind
from vdpasim.scenario import refused
from vdpasim.uapi import vhost

if TYPE_CHECKING:
    from vdpasim.sim import Simulator
    from vdpasim.uapi.ioctl import Ioctl

DEV = "vhost-vdpa-0"


@pytest.fixture
def check() -> VmmSuspended:
    """Suspended."""
    one = VmmSuspended()
    feed(one, Kind.SUSPEND, device=DEV, old=0, new=1)
    return one


def step(check: VmmSuspended, ret: int, file: str = "/dev/" + DEV) -> None:
    feed(check, Kind.EXIT, op="ioctl", file=file, ret=ret, handler_errno=0, rule=None)


def found(check: VmmSuspended) -> list[str]:
    check.finish()
    return [finding.id for finding in check.findings]


@pytest.mark.parametrize(("ret", "wanted"), [(0, 0), (-errno.EAGAIN, 0), (-errno.EINTR, 0), (-errno.EPERM, 1)])
def test_a_failed_step_needs_an_answer(check: VmmSuspended, ret: int, wanted: int) -> None:
    step(check, ret)
    assert len(found(check)) == wanted


def test_a_step_on_another_file_is_not_one(check: VmmSuspended) -> None:
    step(check, -errno.EPERM, "/dev/vhost-vdpa-1")
    assert found(check) == []


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (vhost.VHOST_VDPA_GET_VRING_GROUP, 0),
        (vhost.VHOST_GET_FEATURES, 0),
        (vhost.VHOST_GET_VRING_BASE, 1),
        (vhost.VHOST_SET_VRING_NUM, 1),
        (vhost.VHOST_NEW_OWNER, 1),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_a_question_that_was_refused_is_no_step(check: VmmSuspended, request_: Ioctl, wanted: int) -> None:
    feed(check, Kind.ENTER, op="ioctl", file="/dev/" + DEV, args=(request_.request(), 0))
    step(check, -errno.ENOBUFS)
    assert len(found(check)) == wanted


def test_nor_does_it_hide_the_next_step(check: VmmSuspended) -> None:
    for request in (vhost.VHOST_GET_FEATURES, vhost.VHOST_SET_VRING_NUM):
        feed(check, Kind.ENTER, op="ioctl", file="/dev/" + DEV, args=(request.request(), 0))
        step(check, -errno.EINVAL)
    assert len(found(check)) == 1


def kick(check: VmmSuspended) -> None:
    feed(check, Kind.KICK, device=DEV, queue=0)


def test_a_guest_that_kicks_while_time_goes_by_runs(check: VmmSuspended) -> None:
    kick(check)
    assert found(check) == [], "it may have crossed the SUSPEND"
    check.now += 1
    assert found(check) == ["vmm.left-suspended"]


def test_a_kick_is_no_sign_once_another_program_has_the_device(check: VmmSuspended) -> None:
    kick(check)
    feed(check, Kind.OWNER, device=DEV, old="one", new="other")
    check.now += 1
    assert found(check) == []


@pytest.mark.parametrize("way", ["resume", "reset", "close"])
def test_the_way_back(check: VmmSuspended, way: str) -> None:
    kick(check)
    check.now += 1
    step(check, -errno.EPERM)
    if way == "resume":
        feed(check, Kind.SUSPEND, device=DEV, old=1, new=0)
    elif way == "reset":
        feed(check, Kind.STATUS, device=DEV, old=0xF, new=0)
    else:
        feed(check, Kind.GONE, what="file", name=DEV)
    assert found(check) == []


async def refused_handover(sim: Simulator, *, back: bool) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.suspend()
    with refused(errno.EFAULT):
        await vmm.device.new_owner()
    if back:
        await vmm.device.resume()


async def gave_up(sim: Simulator) -> None:
    await refused_handover(sim, back=False)


async def went_back(sim: Simulator) -> None:
    await refused_handover(sim, back=True)


async def left_to_the_guest(sim: Simulator, *, back: bool) -> None:
    vmm = await stories.boot(sim)
    await vmm.device.suspend()
    vmm.post(0, 0, 512)
    await vmm.kick_device()
    await sim.sleep(1_000_000)
    if back:
        await vmm.device.resume()


async def guest_waits(sim: Simulator) -> None:
    await left_to_the_guest(sim, back=False)


async def guest_waited(sim: Simulator) -> None:
    await left_to_the_guest(sim, back=True)


def test_a_guest_that_goes_on_without_its_device_is_caught() -> None:
    assert stories.ids(guest_waits) == {"vmm.left-suspended"}
    assert stories.watch(guest_waited) == []


def test_giving_up_is_caught_and_going_back_is_not() -> None:
    assert stories.ids(gave_up) == {"vmm.left-suspended"}
    assert stories.watch(went_back) == []
