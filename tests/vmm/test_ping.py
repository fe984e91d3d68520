"""Pinging: what counts as an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.devices import frames
from vdpasim.sim import Simulator
from vdpasim.vmm.net import NetVmm
from vdpasim.vmm.ping import echo, ping, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from vdpasim.sim.vdpa import Device

FAR = ("192.0.2.1", "2001:db8::1")
PEER_MAC = bytes.fromhex("0200000000fe")


def run(story: Callable[[NetVmm, Device], Coroutine[Any, Any, None]]) -> None:
    async def main(sim: Simulator) -> None:
        device = sim.vdpa.dev_add("foo", mgmtdev="net_peer")
        await story(await NetVmm.boot(sim.process("vmm"), device.path), device)

    Simulator(extensions=("net_peer",)).run(main)


@pytest.mark.parametrize("target", [*FAR, "fe80::ff:fe00:fe"])
def test_the_far_end_is_found_and_answers(target: str) -> None:
    async def story(guest: NetVmm, device: Device) -> None:
        assert await resolve(guest, target) == PEER_MAC
        assert await ping(guest, target, data=bytes(1000))

    run(story)


@pytest.mark.parametrize("target", ["192.0.2.99", "2001:db8::99"])
def test_nobody_else_does(target: str) -> None:
    async def story(guest: NetVmm, device: Device) -> None:
        assert await resolve(guest, target, timeout_ns=100) is None
        assert not await ping(guest, target, timeout_ns=100)
        assert not await echo(guest, PEER_MAC, target, seq=1, data=b"", pair=0, timeout_ns=100)

    run(story)


@pytest.mark.parametrize("target", FAR)
def test_other_frames_in_between_are_passed_over(target: str) -> None:
    async def story(guest: NetVmm, device: Device) -> None:
        own = await guest.mac()
        for kind in (frames.ETH_P_IP, frames.ETH_P_IPV6, frames.ETH_P_ARP, 0x88B5):
            device.inject(frames.ethernet(own, PEER_MAC, kind, bytes(60)))
            device.inject(frames.ethernet(own, PEER_MAC, kind, b""))
        assert await ping(guest, target)

    run(story)


def test_an_old_answer_is_not_taken_for_a_new_one() -> None:
    async def story(guest: NetVmm, device: Device) -> None:
        own = await guest.mac()
        for seq, data in ((1, b"ping"), (2, b"pong")):
            stale = frames.ipv4(bytes([192, 0, 2, 1]), bytes([192, 0, 2, 7]), 1, frames.icmp(0, 0x7664, seq, data))
            device.inject(frames.ethernet(own, PEER_MAC, frames.ETH_P_IP, stale))
        assert not await echo(guest, PEER_MAC, "192.0.2.9", seq=2, data=b"ping", pair=0, timeout_ns=1)

    run(story)
