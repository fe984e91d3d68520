"""Backend features of vhost-vdpa: what is offered can be acked, what the kernel does not know cannot."""

from __future__ import annotations

import attrs
import pytest

from tests.core.support import Machine, refused
from vdpasim.devices.profile import load
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost


@pytest.fixture
def net() -> Machine:
    return Machine()


@pytest.mark.parametrize(
    ("features", "errno", "rule"),
    [
        (1 << 0, E.EOPNOTSUPP, "vdpa.backend.unknown"),
        (1 << 9, E.EOPNOTSUPP, "vdpa.backend.unknown"),
        (1 << 7, E.EINVAL, "vdpa.backend.desc-asid"),
        (1 << 7 | 1 << 3, E.EOPNOTSUPP, "vdpa.backend.no-desc-group"),
    ],
)
def test_backend_features_that_are_refused(net: Machine, features: int, errno: int, rule: str) -> None:
    with refused(errno, rule):
        net.call(vhost.VHOST_SET_BACKEND_FEATURES, features, code="Q")


@pytest.mark.parametrize("kernel", ["6.1", "6.12-iotlb-persist", "6.12", "6.12-resume", "7.1"])
@pytest.mark.parametrize("kind", ["vdpasim_net", "vdpasim_blk"])
def test_what_is_offered_can_be_acked(kernel: str, kind: str) -> None:
    one = Machine(kind, kernel)
    offered = one.number(vhost.VHOST_GET_BACKEND_FEATURES, 8)
    one.call(vhost.VHOST_SET_BACKEND_FEATURES, offered, code="Q")


def test_6_1_knows_backend_bits_1_to_4_only() -> None:
    machine = Machine(kernel="6.1")
    machine.call(vhost.VHOST_SET_BACKEND_FEATURES, 0x1E, code="Q")
    with refused(E.EOPNOTSUPP, "vdpa.backend.unknown"):
        machine.call(vhost.VHOST_SET_BACKEND_FEATURES, 1 << 5, code="Q")


@pytest.mark.parametrize(("tells", "offered"), [(True, 0x15E), (False, 0x11E)])
def test_a_driver_without_the_operation_adds_nothing(tells: bool, offered: int) -> None:
    given = attrs.evolve(
        load("vdpasim_blk-6.12"),
        tells_backend_features=tells,
        backend_features=1 << 6 if tells else 0,
        resume=False,
    )
    one = Machine("vdpasim_blk")
    path = one.sim.vdpa.dev_add("told", profile=given).path
    file = one.process.open_nowait(path)
    answer = file.ioctl_nowait(vhost.VHOST_GET_BACKEND_FEATURES.request(one.sim.kernel.abi), bytes(8))
    assert int.from_bytes(answer, "little") == offered
