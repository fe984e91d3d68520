"""vhost-vdpa as a caller meets it: open, dispatch, requests without owner, messages, batches, reset, mmap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core.support import ACCESS_PLATFORM, Machine, refused
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost

if TYPE_CHECKING:
    from vdpasim.uapi.ioctl import Ioctl

BEGIN, END, MISS, ACCESS_FAIL, REMAP = 5, 6, 1, 4, 7
PAGE = 4096


@pytest.fixture
def net() -> Machine:
    return Machine()


# -- open and owner


def test_a_second_open_is_busy_until_the_last_close(net: Machine) -> None:
    with refused(E.EBUSY, "vdpa.open.busy"):
        net.process.open_nowait(net.path)
    net.file.close_nowait()
    net.process.open_nowait(net.path)


def test_set_owner_twice_is_busy_also_for_the_owner(net: Machine) -> None:
    with refused(E.EBUSY, "vhost.owner.busy"):
        net.call(vhost.VHOST_SET_OWNER)


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.1", "tip"])
def test_unknown_requests_fail_by_their_argument_before_they_fail_by_their_number(kernel: str) -> None:
    machine = Machine(kernel=kernel)
    for request in (0x0000AF02, 0x4008AF99, 0x0000AF27):
        with refused(E.EFAULT, "uaccess.from-user"):
            machine.file.ioctl_nowait(request, 0)
        with refused(E.ENOBUFS, "vhost.vring.index"):
            machine.file.ioctl_nowait(request, (77).to_bytes(4, "little"))
        with refused(E.ENOTTY, "vhost.ioctl.unknown"):
            machine.file.ioctl_nowait(request, bytes(8))


def test_unknown_requests_of_a_stranger_are_eperm() -> None:
    with refused(E.EPERM, "vhost.owner.perm"):
        Machine(owner=False).file.ioctl_nowait(0x4008AF99, bytes(8))


OWNERLESS = [
    (vhost.VHOST_VDPA_GET_DEVICE_ID, 4, 1),
    (vhost.VHOST_VDPA_GET_STATUS, 1, 0),
    (vhost.VHOST_VDPA_GET_VRING_NUM, 2, 256),
    (vhost.VHOST_VDPA_GET_GROUP_NUM, 4, 2),
    (vhost.VHOST_VDPA_GET_AS_NUM, 4, 2),
    (vhost.VHOST_VDPA_GET_VQS_COUNT, 4, 3),
    (vhost.VHOST_VDPA_GET_CONFIG_SIZE, 4, 24),
    (vhost.VHOST_GET_FEATURES, 8, 0x308830028),
    (vhost.VHOST_GET_BACKEND_FEATURES, 8, 0x17E),
]


@pytest.mark.parametrize(("request_", "size", "value"), OWNERLESS)
def test_what_needs_no_owner_answers_anybody(request_: Ioctl, size: int, value: int) -> None:
    assert Machine(owner=False).number(request_, size) == value


@pytest.mark.parametrize("request_", [one for one, _, _ in OWNERLESS])
def test_a_result_that_cannot_be_stored_is_efault(net: Machine, request_: Ioctl) -> None:
    with refused(E.EFAULT, "uaccess.to-user"):
        net.file.ioctl_nowait(request_.request(), 0)


@pytest.mark.parametrize("request_", [vhost.VHOST_SET_LOG_BASE, vhost.VHOST_SET_LOG_FD])
def test_there_is_no_log_not_even_with_a_bad_pointer(net: Machine, request_: Ioctl) -> None:
    with refused(E.ENOTTY, "vdpa.log.unsupported"):
        net.file.ioctl_nowait(request_.request(), 0)


# -- status and features


@pytest.mark.parametrize("status", [1, 4, 8, 0x0F, 0x40, 0x80, 0xFF])
def test_any_status_bits_may_be_set_in_any_order(net: Machine, status: int) -> None:
    net.status(status)
    assert net.number(vhost.VHOST_VDPA_GET_STATUS, 1) == status


def test_bits_may_not_be_taken_back_one_by_one(net: Machine) -> None:
    net.status(3)
    with refused(E.EINVAL, "vdpa.status.clears"):
        net.status(1)
    net.status(0)
    assert net.number(vhost.VHOST_VDPA_GET_STATUS, 1) == 0


def test_features_after_features_ok_are_busy_before_the_pointer_is_looked_at(net: Machine) -> None:
    net.status(8)
    with refused(E.EBUSY, "vdpa.features.busy"):
        net.file.ioctl_nowait(vhost.VHOST_SET_FEATURES.request(), 0)


def test_unsupported_features_are_dropped_silently_but_the_platform_bit_is_needed(net: Machine) -> None:
    net.features(ACCESS_PLATFORM | 1 << 50)
    with refused(E.EINVAL, "sim.features.platform"):
        net.features(1 << 32)


# -- config


@pytest.mark.parametrize(("off", "length"), [(0, 0), (24, 0), (24, 1), (0, 25), (25, 1), (0xFFFFFFFF, 0xFFFFFFFF)])
@pytest.mark.parametrize("request_", [vhost.VHOST_VDPA_GET_CONFIG, vhost.VHOST_VDPA_SET_CONFIG])
def test_config_outside_its_space_is_einval(net: Machine, request_: Ioctl, off: int, length: int) -> None:
    with refused(E.EINVAL, "vdpa.config.range"):
        net.call(request_, off, length, *([0] * 16))


def test_config_is_read_and_written_in_place(net: Machine) -> None:
    header = bytes(4) + (6).to_bytes(4, "little")
    net.file.ioctl_nowait(vhost.VHOST_VDPA_SET_CONFIG.request(), header + b"\x02\0\0\0\0\7")
    out = net.file.ioctl_nowait(vhost.VHOST_VDPA_GET_CONFIG.request(), header + bytes(6))
    assert out[8:] == b"\x02\0\0\0\0\7"


@pytest.mark.parametrize(("kernel", "kept"), [("6.12", True), ("7.1", False), ("tip", True)])
def test_a_bad_config_eventfd_keeps_or_loses_the_old_one(kernel: str, kept: bool) -> None:
    machine = Machine(kernel=kernel)
    eventfd = machine.process.eventfd()
    machine.call(vhost.VHOST_VDPA_SET_CONFIG_CALL, eventfd.fd)
    with refused(E.EBADF, "eventfd.bad-fd"):
        machine.call(vhost.VHOST_VDPA_SET_CONFIG_CALL, 99)
    opened = machine.device.node.opened
    assert opened is not None
    assert (opened.config_ctx is not None) == kept


# -- suspend


@pytest.mark.parametrize(("kernel", "after"), [("6.1", True), ("6.12", False)])
def test_suspend_before_driver_ok_asks_the_device_on_old_kernels_only(kernel: str, after: bool) -> None:
    machine = Machine(kernel=kernel)
    machine.call(vhost.VHOST_VDPA_SUSPEND)
    assert machine.device.node.opened is not None
    assert machine.device.node.opened.suspended == after


def test_resume_does_not_exist_on_6_1() -> None:
    with refused(E.ENOTTY, "vhost.ioctl.unknown"):
        Machine(kernel="6.1").call(vhost.VHOST_VDPA_RESUME, 0)


# -- messages


def test_a_message_of_a_stranger_is_eperm_inside_and_efault_outside() -> None:
    machine = Machine(owner=False)
    with refused(E.EFAULT, "vdpa.msg.owner", inside=E.EPERM):
        machine.invalidate(0, 0)


@pytest.mark.parametrize("kind", [3, END])
def test_an_address_space_nobody_used_refuses_what_would_not_make_it(net: Machine, kind: int) -> None:
    with refused(E.EFAULT, "vdpa.msg.asid", inside=E.EINVAL):
        net.message(kind)


def test_an_address_space_the_device_lacks_is_refused(net: Machine) -> None:
    net.call(vhost.VHOST_SET_BACKEND_FEATURES, 0xE, code="Q")
    with refused(E.EFAULT, "vdpa.msg.asid", inside=E.EINVAL):
        net.message(BEGIN, asid=2)


@pytest.mark.parametrize("kind", [0, MISS, ACCESS_FAIL, REMAP, 255])
def test_other_types_are_unknown(net: Machine, kind: int) -> None:
    net.message(BEGIN)
    with refused(E.EFAULT, "vdpa.msg.unknown", inside=E.EINVAL):
        net.message(kind)


def test_in_a_batch_another_address_space_is_refused_and_the_batch_stays(net: Machine) -> None:
    net.call(vhost.VHOST_SET_BACKEND_FEATURES, 0xE, code="Q")
    net.message(BEGIN, asid=1)
    for kind in (3, BEGIN, END):
        with refused(E.EFAULT, "vdpa.msg.batch-asid", inside=E.EINVAL):
            net.message(kind, asid=0)
    net.message(END, asid=1)
    net.message(BEGIN, asid=0)


def test_begin_may_be_repeated_and_end_may_stand_alone(net: Machine) -> None:
    for kind in (BEGIN, BEGIN, END, END):
        assert net.message(kind) == 72


def test_close_ends_a_batch(net: Machine) -> None:
    net.message(BEGIN)
    net.file.close_nowait()
    net.file = net.process.open_nowait(net.path)
    assert net.device.node.opened is not None
    assert not net.device.node.opened.spaces.in_batch


# -- reset and release


def test_reset_keeps_the_table_and_loses_the_devices_copy(net: Machine) -> None:
    ram = net.memory()
    net.update(0, PAGE, ram.addr)
    net.status(1)
    net.status(0)
    with refused(E.EFAULT, "vdpa.iotlb.update-overlap", inside=E.EEXIST):
        net.update(0, PAGE, ram.addr)


def test_release_forgets_everything(net: Machine) -> None:
    ram = net.memory()
    net.update(0, PAGE, ram.addr)
    net.call(vhost.VHOST_SET_BACKEND_FEATURES, 0xE, code="Q")
    net.file.close_nowait()
    net.file = net.process.open_nowait(net.path)
    net.call(vhost.VHOST_SET_OWNER)
    net.update(0, PAGE, ram.addr)
    assert net.device.node.opened is not None
    assert not net.device.node.opened.backend_acked(3)


# -- the rest of the file


def test_there_is_no_read_and_no_poll(net: Machine) -> None:
    with refused(E.EINVAL, "vfs.no-read"):
        net.file.read_nowait(72)
    assert net.file.poll_nowait(0x1F) == 5


@pytest.mark.parametrize(
    ("length", "prot", "flags", "offset", "errno"),
    [
        (8192, 2, 1, 0, E.EINVAL),
        (PAGE, 2, 2, 0, E.EINVAL),
        (PAGE, 1, 1, 0, E.EINVAL),
        (PAGE, 2, 1, 0, E.ENOTSUPP),
        (100, 2, 1, 0, E.ENOTSUPP),
        (PAGE, 2, 1, 100, E.EINVAL),
        (0, 2, 1, 0, E.EINVAL),
        (PAGE, 2, 0, 0, E.EINVAL),
    ],
)
def test_a_doorbell_cannot_be_mapped(net: Machine, length: int, prot: int, flags: int, offset: int, errno: int) -> None:
    with refused(errno):
        net.file.mmap_nowait(length, prot, flags, offset)
