"""``vmm.wrong-request``."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.vmm_request import VmmRequest
from vdpasim.core.events import Kind
from vdpasim.uapi import vhost
from vdpasim.uapi.abi import I386, PPC64, X86_64

if TYPE_CHECKING:
    from vdpasim.checks import Finding
    from vdpasim.sim import Simulator

GET_FEATURES = vhost.VHOST_GET_FEATURES.request(X86_64)


def test_numbers_are_packed_otherwise_elsewhere() -> None:
    number = vhost.VHOST_GET_BACKEND_FEATURES.request(PPC64)
    for check, wanted in ((VmmRequest(PPC64), 0), (VmmRequest(), 1)):
        feed(check, Kind.ENTER, op="ioctl", file="/dev/vhost-net", args=(number, b""))
        feed(check, Kind.EXIT, op="ioctl", file="/dev/vhost-net", ret=0, handler_errno=0, rule=None)
        assert len(check.findings) == wanted


def asked(request: int) -> list[Finding]:
    async def story(sim: Simulator) -> None:
        file = await sim.process("vmm").open("/dev/vhost-net")
        with suppress(OSError):
            await file.ioctl(request, bytes(64))

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
