"""Generic ring and device requests, through vhost-net."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.core.support import Machine, refused
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost

if TYPE_CHECKING:
    from vdpasim.uapi.ioctl import Ioctl

MEM = vhost.VHOST_SET_MEM_TABLE


@pytest.fixture
def net() -> Machine:
    return Machine("vhost-net")


def regions(*rows: tuple[int, int, int], count: int | None = None, padding: int = 0) -> bytes:
    head = struct.pack("<II", len(rows) if count is None else count, padding)
    return head + b"".join(struct.pack("<QQQQ", *row, 0) for row in rows)


@pytest.mark.parametrize(
    ("table", "errno", "rule"),
    [
        (regions(padding=1), E.EOPNOTSUPP, "vhost.mem.padding"),
        (regions(count=65), E.E2BIG, "vhost.mem.regions"),
        (regions(count=1), E.EFAULT, "uaccess.from-user"),
        (regions((0x1000, 0, 0)), E.EFAULT, "vhost.mem.region"),
        (regions((2**64 - 4096, 8192, 0)), E.EFAULT, "vhost.mem.region"),
    ],
)
def test_memory_tables_that_are_refused(net: Machine, table: bytes, errno: int, rule: str) -> None:
    with refused(errno, rule):
        net.file.ioctl_nowait(MEM.request(), table)


@pytest.mark.parametrize(
    "table",
    [regions(), regions((0, 0, 0)), regions((0, 4096, 0), (0, 8192, 1)), regions((0, 4096, 2**63))],
    ids=["empty", "the whole space", "overlapping", "kernel addresses without a backend"],
)
def test_memory_tables_that_are_taken(net: Machine, table: bytes) -> None:
    net.file.ioctl_nowait(MEM.request(), table)


def test_a_memory_table_needs_the_owner() -> None:
    with refused(E.EPERM, "vhost.owner.perm"):
        Machine("vhost-net", owner=False).file.ioctl_nowait(MEM.request(), regions())


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_the_fork_owner_mode_exists_since_it_does(kernel: str) -> None:
    machine = Machine("vhost-net", kernel, owner=False)
    if kernel == "6.1":
        with refused(E.EPERM, "vhost.owner.perm"):
            machine.call(vhost.VHOST_SET_FORK_FROM_OWNER, 0, code="B")
        return
    machine.call(vhost.VHOST_SET_FORK_FROM_OWNER, 0, code="B")
    assert machine.number(vhost.VHOST_GET_FORK_FROM_OWNER, 1) == 0
    with refused(E.EINVAL, "vhost.fork.value"):
        machine.call(vhost.VHOST_SET_FORK_FROM_OWNER, 2, code="B")
    machine.call(vhost.VHOST_SET_OWNER)
    with refused(E.EBUSY, "vhost.fork.busy"):
        machine.file.ioctl_nowait(vhost.VHOST_SET_FORK_FROM_OWNER.request(), 0)


def test_the_busy_loop_timeout_is_kept(net: Machine) -> None:
    net.call(vhost.VHOST_SET_VRING_BUSYLOOP_TIMEOUT, 1, 0xFFFFFFFF)
    assert net.call(vhost.VHOST_GET_VRING_BUSYLOOP_TIMEOUT, 1, 0) == struct.pack("<II", 1, 0xFFFFFFFF)


@pytest.mark.parametrize("request_", [vhost.VHOST_SET_VRING_ENDIAN, vhost.VHOST_GET_VRING_ENDIAN])
def test_cross_endian_rings_are_off(net: Machine, request_: Ioctl) -> None:
    with refused(E.ENOTTY, "vhost.ioctl.unknown"):
        net.call(request_, 0, 0)


def test_addresses_above_the_word_of_the_kernel_are_efault() -> None:
    machine = Machine("vhost-net", abi="i386")
    with refused(E.EFAULT, "vhost.vring.addr-range"):
        machine.call(vhost.VHOST_SET_VRING_ADDR, 0, 0, 1 << 32, 0, 0, 0, code="IIQQQQ")


@pytest.mark.parametrize("kernel", ["6.12", "6.12-F3"])
def test_a_moved_ring_forgets_its_translations_where_f3_is_in(kernel: str) -> None:
    machine = Machine("vhost-net", kernel)
    vq = machine.file.open_file.ops.vqs[0]  # type: ignore[attr-defined]
    vq.meta_iotlb["desc"] = object()
    machine.call(vhost.VHOST_SET_VRING_NUM, 0, 16)
    assert bool(vq.meta_iotlb) == (kernel == "6.12-F3")


def test_the_log_descriptor_is_an_eventfd(net: Machine) -> None:
    eventfd = net.process.eventfd()
    net.call(vhost.VHOST_SET_LOG_FD, eventfd.fd)
    with refused(E.EBADF, "eventfd.bad-fd"):
        net.call(vhost.VHOST_SET_LOG_FD, 99)
    net.call(vhost.VHOST_SET_LOG_FD, 0xFFFFFFFF)
