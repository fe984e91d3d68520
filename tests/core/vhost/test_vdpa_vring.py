"""Ring and group requests of vhost-vdpa, in the kernel's order of checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core.support import Machine, refused
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost

if TYPE_CHECKING:
    from vdpasim.uapi.ioctl import Ioctl

ADDR = "IIQQQQ"


@pytest.fixture
def net() -> Machine:
    return Machine()


@pytest.mark.parametrize(
    "request_",
    [
        vhost.VHOST_SET_VRING_NUM,
        vhost.VHOST_SET_VRING_BASE,
        vhost.VHOST_GET_VRING_BASE,
        vhost.VHOST_SET_VRING_KICK,
        vhost.VHOST_SET_VRING_CALL,
        vhost.VHOST_SET_VRING_ERR,
        vhost.VHOST_VDPA_SET_VRING_ENABLE,
        vhost.VHOST_VDPA_GET_VRING_GROUP,
        vhost.VHOST_VDPA_SET_GROUP_ASID,
    ],
)
def test_owner_then_pointer_then_index(request_: Ioctl) -> None:
    with refused(E.EPERM, "vhost.owner.perm"):
        Machine(owner=False).call(request_, 0, 0)
    machine = Machine()
    with refused(E.EFAULT, "uaccess.from-user"):
        machine.file.ioctl_nowait(request_.request(), 0)
    with refused(E.ENOBUFS, "vhost.vring.index"):
        machine.call(request_, 3, 0)


@pytest.mark.parametrize("num", [0, 3, 0xFFFFFFFF])
def test_a_ring_size_is_a_power_of_two(net: Machine, num: int) -> None:
    with refused(E.EINVAL, "vhost.vring.num"):
        net.call(vhost.VHOST_SET_VRING_NUM, 0, num)


@pytest.mark.parametrize(("kernel", "accepted"), [("6.1", True), ("6.12", False), ("7.1", True), ("tip", False)])
def test_a_size_above_the_devices_maximum(kernel: str, accepted: bool) -> None:
    machine = Machine(kernel=kernel)
    if accepted:
        machine.call(vhost.VHOST_SET_VRING_NUM, 0, 32768)
    else:
        with refused(E.EINVAL, "vdpa.vring.num-max"):
            machine.call(vhost.VHOST_SET_VRING_NUM, 0, 32768)


@pytest.mark.parametrize(
    ("flags", "desc", "used", "avail", "log", "rule"),
    [
        (2, 0, 0, 0, 0, "vhost.vring.addr-flags"),
        (0, 0, 0, 1, 0, "vhost.vring.addr-align"),
        (0, 0, 2, 0, 0, "vhost.vring.addr-align"),
        (0, 0, 0, 0, 1, "vhost.vring.addr-align"),
        (0, 1, 0, 0, 0, None),
        (1, 0, 4, 2, 4, None),
    ],
)
def test_ring_addresses(net: Machine, flags: int, desc: int, used: int, avail: int, log: int, rule: str | None) -> None:
    if rule is None:
        net.call(vhost.VHOST_SET_VRING_ADDR, 0, flags, desc, used, avail, log, code=ADDR)
    else:
        with refused(E.EOPNOTSUPP if "flags" in rule else E.EINVAL, rule):
            net.call(vhost.VHOST_SET_VRING_ADDR, 0, flags, desc, used, avail, log, code=ADDR)


@pytest.mark.parametrize("kernel", ["6.12", "6.12-ring-needs-suspend"])
def test_addresses_of_a_running_device_need_a_suspend(kernel: str) -> None:
    machine = Machine(kernel=kernel)
    machine.status(0xF)
    args = (0, 0, 0x1000, 0x2000, 0x3000, 0)
    if kernel == "6.12":
        with refused(E.EINVAL, "vdpa.vring.running"):
            machine.call(vhost.VHOST_SET_VRING_ADDR, *args, code=ADDR)
        with refused(E.EINVAL, "vdpa.vring.running"):
            machine.call(vhost.VHOST_SET_VRING_BASE, 0, 5)
        assert machine.device.node.opened is not None
        assert machine.device.node.opened.vqs[0].desc == 0x1000, "the generic copy is overwritten all the same"
        machine.call(vhost.VHOST_VDPA_SUSPEND)
    machine.call(vhost.VHOST_SET_VRING_ADDR, *args, code=ADDR)
    machine.call(vhost.VHOST_SET_VRING_BASE, 0, 5)


def test_the_base_is_a_16_bit_index(net: Machine) -> None:
    net.call(vhost.VHOST_SET_VRING_BASE, 0, 0xFFFF)
    assert net.call(vhost.VHOST_GET_VRING_BASE, 0, 0)[4:] == (0xFFFF).to_bytes(4, "little")
    with refused(E.EINVAL, "vhost.vring.base-range"):
        net.call(vhost.VHOST_SET_VRING_BASE, 0, 0x10000)


@pytest.mark.parametrize(
    "request_", [vhost.VHOST_SET_VRING_KICK, vhost.VHOST_SET_VRING_CALL, vhost.VHOST_SET_VRING_ERR]
)
def test_eventfds_of_a_ring(net: Machine, request_: Ioctl) -> None:
    eventfd, memfd = net.process.eventfd(), net.process.memfd("m", 4096)
    net.call(request_, 0, eventfd.fd)
    with refused(E.EBADF, "eventfd.bad-fd"):
        net.call(request_, 0, 99)
    with refused(E.EINVAL, "eventfd.not-eventfd"):
        net.call(request_, 0, memfd.fd)
    net.call(request_, 0, 0xFFFFFFFF)


def test_a_saturated_kick_eventfd_is_installed_and_refused(net: Machine) -> None:
    full = net.process.eventfd()
    ctx: object = full.open_file.ops
    ctx.ctx.count = 2**64 - 1  # type: ignore[attr-defined]
    with refused(E.EINVAL, "vhost.vring.kick-saturated"):
        net.call(vhost.VHOST_SET_VRING_KICK, 0, full.fd)


def test_groups(net: Machine) -> None:
    groups = [net.call(vhost.VHOST_VDPA_GET_VRING_GROUP, index, 0)[4] for index in range(3)]
    assert groups == [0, 0, 1]
    with refused(E.EOPNOTSUPP, "vdpa.group.desc-unsupported"):
        net.call(vhost.VHOST_VDPA_GET_VRING_DESC_GROUP, 0, 0)


@pytest.mark.parametrize(("group", "asid", "errno"), [(2, 0, E.EINVAL), (0, 2, E.EINVAL), (3, 0, E.ENOBUFS)])
def test_a_group_is_bounded_as_a_queue_first(net: Machine, group: int, asid: int, errno: int) -> None:
    with refused(errno):
        net.call(vhost.VHOST_VDPA_SET_GROUP_ASID, group, asid)


@pytest.mark.parametrize(("kernel", "busy"), [("6.12", False), ("7.1", True)])
def test_binding_a_group_of_a_running_device(kernel: str, busy: bool) -> None:
    machine = Machine(kernel=kernel)
    machine.status(0xF)
    if busy:
        with refused(E.EBUSY, "vdpa.group.asid-busy"):
            machine.call(vhost.VHOST_VDPA_SET_GROUP_ASID, 1, 1)
    else:
        machine.call(vhost.VHOST_VDPA_SET_GROUP_ASID, 1, 1)


def test_the_ring_size_is_told_by_incremental_devices_only() -> None:
    with refused(E.EOPNOTSUPP, "vdpa.vring.size-unsupported"):
        Machine().call(vhost.VHOST_VDPA_GET_VRING_SIZE, 0, 0)
    machine = Machine(batch_mapping=False)
    machine.call(vhost.VHOST_SET_VRING_NUM, 0, 64)
    assert machine.call(vhost.VHOST_VDPA_GET_VRING_SIZE, 0, 0)[4:6] == (256).to_bytes(2, "little")
    machine.status(4)
    assert machine.call(vhost.VHOST_VDPA_GET_VRING_SIZE, 0, 0)[4:6] == (64).to_bytes(2, "little")
