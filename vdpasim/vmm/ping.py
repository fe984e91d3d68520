"""A guest that pings: address resolution and echo over IPv4 and IPv6, for a :class:`~vdpasim.vmm.net.NetVmm`.

Theory. ``resolve`` asks for the MAC of an address (ARP, or a neighbour solicitation), ``ping`` sends one echo request
there and waits for its reply in virtual time. Frames that come in between and are neither are dropped. The guest has
the addresses ``GUEST_IP4`` and ``GUEST_IP6`` and keeps no neighbour table.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from vdpasim.devices import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.vmm.net import NetVmm

GUEST_IP4, GUEST_IP6 = "192.0.2.7", "2001:db8::7"
IDENT = 0x7664
TIMEOUT_NS = 10**9
ARP_SENDER = slice(22, 28)
TARGET, TARGET_MAC = slice(62, 78), slice(80, 86)
"""Where an advertisement has the address it is about, and its option's MAC."""


async def ping(
    vmm: NetVmm, target: str, *, seq: int = 1, data: bytes = b"ping", pair: int = 0, timeout_ns: int = TIMEOUT_NS
) -> bool:
    """Whether ``target`` answers one echo request, sent on a queue pair."""
    mac = await resolve(vmm, target, pair=pair, timeout_ns=timeout_ns)
    if mac is None:
        return False
    return await echo(vmm, mac, target, seq=seq, data=data, pair=pair, timeout_ns=timeout_ns)


async def resolve(vmm: NetVmm, target: str, *, pair: int = 0, timeout_ns: int = TIMEOUT_NS) -> bytes | None:
    """The MAC of an address; None if nobody says."""
    own, far = await vmm.mac(), ip_address(target)
    if isinstance(far, IPv4Address):
        question = frames.arp(frames.ARPOP_REQUEST, (own, IPv4Address(GUEST_IP4).packed), (bytes(6), far.packed))
        await vmm.send(frames.ethernet(frames.BROADCAST, own, frames.ETH_P_ARP, question), pair)
        answer = await _wait(vmm, lambda frame: frame[12:14] == b"\x08\x06" and frame[28:32] == far.packed, timeout_ns)
        return answer and answer[ARP_SENDER]
    await vmm.send(_solicitation(own, far), pair)
    answer = await _wait(vmm, lambda frame: _icmpv6(frame) == 136 and frame[TARGET] == far.packed, timeout_ns)
    return answer and answer[TARGET_MAC]


async def echo(
    vmm: NetVmm, mac: bytes, target: str, *, seq: int, data: bytes, pair: int, timeout_ns: int = TIMEOUT_NS
) -> bool:
    """Whether the host with this MAC and address answers one echo request with the data it was sent."""
    frame = echo_request(await vmm.mac(), mac, target, seq=seq, data=data)
    await vmm.send(frame, pair)
    return await _wait(vmm, lambda answer: _replies(answer, frame), timeout_ns) is not None


def echo_request(own: bytes, mac: bytes, target: str, *, seq: int = 1, data: bytes = b"ping") -> bytes:
    """The frame of an echo request of the guest."""
    far = ip_address(target)
    if isinstance(far, IPv4Address):
        message = frames.icmp(frames.ICMP_ECHO, IDENT, seq, data)
        packet = frames.ipv4(IPv4Address(GUEST_IP4).packed, far.packed, frames.IPPROTO_ICMP, message)
        return frames.ethernet(mac, own, frames.ETH_P_IP, packet)
    source = IPv6Address(GUEST_IP6).packed
    body = IDENT.to_bytes(2, "big") + seq.to_bytes(2, "big") + data
    message = frames.icmpv6(source, far.packed, frames.ICMPV6_ECHO_REQUEST, body)
    return frames.ethernet(mac, own, frames.ETH_P_IPV6, frames.ipv6(source, far.packed, frames.IPPROTO_ICMPV6, message))


def _solicitation(own: bytes, far: IPv6Address) -> bytes:
    source = IPv6Address(GUEST_IP6).packed
    group, mac = frames.solicited_node(far.packed)
    body = bytes(4) + far.packed + b"\1\1" + own
    message = frames.icmpv6(source, group, frames.ND_NEIGHBOR_SOLICIT, body)
    packet = frames.ipv6(source, group, frames.IPPROTO_ICMPV6, message, hop_limit=255)
    return frames.ethernet(mac, own, frames.ETH_P_IPV6, packet)


def _icmpv6(frame: bytes) -> int | None:
    return frame[54] if len(frame) > 54 and frame[12:14] == b"\x86\xdd" and frame[20] == 58 else None


def _replies(answer: bytes, request: bytes) -> bool:
    # identifier, number and data are the same, and it is a reply
    if answer[12:14] != request[12:14]:
        return False
    if request[12:14] == b"\x08\x00":
        return answer[23:24] == b"\1" and answer[34:35] == b"\0" and answer[38:] == request[38:]
    return _icmpv6(answer) == frames.ICMPV6_ECHO_REPLY and answer[58:] == request[58:]


async def _wait(vmm: NetVmm, wanted: Callable[[bytes], bool], timeout_ns: int) -> bytes | None:
    kernel = vmm.process.sim.kernel
    deadline = kernel.now + timeout_ns
    while True:
        frame = await vmm.receive(max(deadline - kernel.now, 0))
        if frame is None or wanted(frame):
            return frame
