"""The generic device: eventfds are referenced once, kicks arrive, clean-up leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core.support import KICK, Machine
from vdpasim.core.fs.eventfd_file import EventFdFile
from vdpasim.core.vhost.vhost import VhostDev
from vdpasim.uapi import vhost

if TYPE_CHECKING:
    from vdpasim.sim import File

UNBIND = 0xFFFFFFFF


def refs(eventfd: File) -> int:
    ops = eventfd.open_file.ops
    assert isinstance(ops, EventFdFile)
    return ops.ctx.refs


@pytest.fixture(params=["vhost-net", "vdpasim_net"])
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param)


@pytest.mark.parametrize("request_", ["KICK", "CALL", "ERR"])
def test_a_replaced_or_removed_eventfd_is_let_go(machine: Machine, request_: str) -> None:
    setter = getattr(vhost, f"VHOST_SET_VRING_{request_}")
    first, second = machine.process.eventfd(), machine.process.eventfd()
    before = refs(first)
    for fd in (first.fd, first.fd, second.fd, UNBIND):
        machine.call(setter, 0, fd)
    assert (refs(first), refs(second)) == (before, before)


def test_close_lets_every_eventfd_go(machine: Machine) -> None:
    eventfds = [machine.process.eventfd() for _ in range(3)]
    before = [refs(one) for one in eventfds]
    for name, one in zip(("KICK", "CALL", "ERR"), eventfds, strict=True):
        machine.call(getattr(vhost, f"VHOST_SET_VRING_{name}"), 0, one.fd)
    machine.file.close_nowait()
    assert [refs(one) for one in eventfds] == before


def kicks(machine: Machine) -> int:
    ops = machine.file.open_file.ops
    assert isinstance(ops, VhostDev)
    return ops.statistics().kicks


def test_every_write_is_a_kick_and_the_counter_is_left_alone(machine: Machine) -> None:
    kick = machine.process.eventfd()
    machine.call(vhost.VHOST_SET_VRING_KICK, 0, kick.fd)
    kick.write_nowait(KICK)
    kick.write_nowait(bytes(8))
    assert kicks(machine) == 2
    assert kick.read_nowait(8) == KICK


def test_a_readable_eventfd_kicks_when_it_is_installed_and_not_again(machine: Machine) -> None:
    kick = machine.process.eventfd(5)
    machine.call(vhost.VHOST_SET_VRING_KICK, 0, kick.fd)
    machine.call(vhost.VHOST_SET_VRING_KICK, 0, kick.fd)
    assert kicks(machine) == 1


def test_a_removed_eventfd_kicks_no_more(machine: Machine) -> None:
    kick = machine.process.eventfd()
    machine.call(vhost.VHOST_SET_VRING_KICK, 0, kick.fd)
    machine.call(vhost.VHOST_SET_VRING_KICK, 0, UNBIND)
    kick.write_nowait(KICK)
    assert kicks(machine) == 0
