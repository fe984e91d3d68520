"""``vmm.wrong-request``."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_request import VmmRequest
from vdpasim.core.events import Kind
from vdpasim.trace.fields import Buffer
from vdpasim.uapi import vhost
from vdpasim.uapi.abi import I386, PPC64, X86_64
from vdpasim.uapi.vhost_types import vhost_vring_state
from vdpasim.vmm.net import IOVA, RAM, NetVmm

if TYPE_CHECKING:
    from vdpasim.checks import Finding
    from vdpasim.sim import Simulator
    from vdpasim.uapi.ioctl import Ioctl

GET_FEATURES = vhost.VHOST_GET_FEATURES.request(X86_64)


def test_numbers_are_packed_otherwise_elsewhere() -> None:
    number = vhost.VHOST_GET_BACKEND_FEATURES.request(PPC64)
    for check, wanted in ((VmmRequest(PPC64), 0), (VmmRequest(), 1)):
        feed(check, Kind.ENTER, op="ioctl", file="/dev/vhost-net", args=(number, b""))
        feed(check, Kind.EXIT, op="ioctl", file="/dev/vhost-net", ret=0, handler_errno=0, rule=None)
        assert len(check.findings) == wanted


def asked(request: int, data: bytes = bytes(64)) -> list[Finding]:
    async def story(sim: Simulator) -> None:
        file = await sim.process("vmm").open("/dev/vhost-net")
        with suppress(OSError):
            await file.ioctl(request, data)

    return stories.watch(story)


@pytest.mark.parametrize(
    ("request_", "meant"),
    [(0x4008_AF26, "VHOST_GET_BACKEND_FEATURES"), (GET_FEATURES ^ 0x0004_0000, "VHOST_GET_FEATURES")],
)
def test_a_wrong_direction_or_size_is_caught(request_: int, meant: str) -> None:
    (finding,) = asked(request_)
    assert finding.id == "vmm.wrong-request"
    assert meant in finding.text
    assert finding.steps


@pytest.mark.parametrize(
    "request_",
    [
        GET_FEATURES,
        vhost.VHOST_NEW_OWNER.request(X86_64),
        vhost.VHOST_SET_MEM_TABLE.request(I386),
        0x5421,
        0xAFEE,
    ],
)
def test_what_is_known_somewhere_or_nowhere_is_not(request_: int) -> None:
    assert asked(request_) == []


def asked_of_a_disk(request: Ioctl, data: bytes) -> list[str]:
    async def story(sim: Simulator) -> None:
        file = await sim.process("vmm").open(sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        with suppress(OSError):
            await file.ioctl(request.request(X86_64), data)

    return [finding.id for finding in stories.watch(story) if finding.id == "vmm.wrong-request"]


RING = bytes(4) + b"\x10" + bytes(34) + b"\1"


@pytest.mark.parametrize(
    ("request_", "data", "wanted"),
    [
        (vhost.VHOST_VDPA_GET_VRING_NUM, bytes(16), True),
        (vhost.VHOST_VDPA_GET_IOVA_RANGE, bytes(16), False),
        (vhost.VHOST_VDPA_GET_VRING_NUM, bytes(8), False),
        (vhost.VHOST_VDPA_GET_VRING_NUM, bytes(64), False),
        (vhost.VHOST_SET_VRING_NUM, RING, True),
        (vhost.VHOST_SET_VRING_NUM, RING[:8].ljust(40, b"\0"), False),
        (vhost.VHOST_VDPA_GET_CONFIG, (8).to_bytes(8, "little") + bytes(8), False),
    ],
)
def test_a_buffer_that_only_another_request_takes_is_caught(request_: Ioctl, data: bytes, wanted: bool) -> None:
    assert bool(asked_of_a_disk(request_, data)) == wanted


def test_what_sets_something_in_another_driver_is_caught_and_probing_is_not() -> None:
    assert asked_of_a_disk(vhost.VHOST_NET_SET_BACKEND, bytes(8))
    assert asked(vhost.VHOST_VDPA_SUSPEND.request(X86_64))
    assert asked(vhost.VHOST_VDPA_GET_DEVICE_ID.request(X86_64)) == []
    assert asked_of_a_disk(vhost.VHOST_SET_MEM_TABLE, bytes(8)) == [], "of every driver"


async def second_space(sim: Simulator, request: Ioctl, *, use: bool = True, then: Ioctl | None = None) -> None:
    vmm = await NetVmm.create(sim.process("vmm"), sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path)
    await vmm.device.set_owner()
    await vmm.device.set_backend_features(await vmm.device.get_backend_features())
    await vmm.negotiate()
    for one in (request, then):
        if one is not None:
            await vmm.device.put_struct(one, vhost_vring_state, index=1, num=1)
    for asid in range(1 + use):
        await vmm.device.iotlb_update(IOVA, RAM, vmm.ram.addr, asid=asid)
    await vmm.start()


GROUP = vhost.VHOST_VDPA_GET_VRING_GROUP
BIND = vhost.VHOST_VDPA_SET_GROUP_ASID


@pytest.mark.parametrize(
    ("first", "use", "then", "wanted"),
    [
        (GROUP, True, None, {"vmm.wrong-request"}),
        (vhost.VHOST_GET_VRING_BASE, True, None, {"vmm.wrong-request"}),
        (BIND, True, None, set[str]()),
        (GROUP, True, BIND, set[str]()),
        (GROUP, False, None, set[str]()),
    ],
)
def test_a_question_that_was_meant_to_bind_a_group_is_caught(
    first: Ioctl, use: bool, then: Ioctl | None, wanted: set[str]
) -> None:
    async def story(sim: Simulator) -> None:
        await second_space(sim, first, use=use, then=then)

    assert stories.ids(story) & {"vmm.wrong-request"} == wanted


def test_another_life_of_the_device_is_another_story() -> None:
    check = VmmRequest()
    state = Buffer(*[bytes([1, 0, 0, 0, 1, 0, 0, 0])] * 2)
    for file, op in (("/dev/vhost-vdpa-0", "ioctl"), ("", "close")):
        args = (GROUP.request(X86_64), state)
        feed(check, Kind.ENTER, op=op, file=file, args=args)
        feed(check, Kind.EXIT, op=op, file=file, ret=0, handler_errno=0, rule=None)
    where = {"device": "vhost-vdpa-0", "asid": 1, "serial": 1, "start": 0, "last": 4095}
    feed(check, Kind.MAP, **where, addr=0, perm=3, promise=())
    feed(check, Kind.GONE, what="file", name="vhost-vdpa-0")
    feed(check, Kind.STATUS, device="vhost-vdpa-0", old=0xB, new=0xF)
    assert check.findings == []
