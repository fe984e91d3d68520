"""The far end of ``net_peer``: a small host that answers, as a function from a frame to frames; **no kernel has it**.

Theory. :func:`answer` takes one frame apart and returns what the host sends back: ARP requests for its address, ICMP
and ICMPv6 echo requests, neighbour solicitations, and UDP datagrams to the echo port 7, over IPv4 and IPv6. It never
speaks first and keeps no state, so an answer depends on the frame alone. Whatever is malformed, has a wrong checksum,
is a fragment or is meant for somebody else gets no answer; nothing raises.

Answers go to the MAC the frame came from; the host needs no neighbour table. Besides its global IPv6 address it has
the link-local one made from its MAC.

Not modelled: TCP, DHCP, router advertisements, ICMP errors, fragments, IP options and extension headers, VLAN tags.
"""

from __future__ import annotations

import attrs

from vdpasim.devices import frames
from vdpasim.devices.frames import checksum, pseudo

ECHO_PORT = 7
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
ALL_NODES_MAC = bytes.fromhex("333300000001")
UNSPECIFIED = bytes(16)
ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20
TARGET_LINK_LAYER = 2
"""Option of a neighbour advertisement."""


@attrs.frozen
class Host:
    """Who the far end is."""

    mac: bytes
    ip4: bytes
    ip6: bytes

    @property
    def addresses6(self) -> tuple[bytes, bytes]:
        """Its IPv6 addresses."""
        return self.ip6, frames.link_local(self.mac)


def answer(host: Host, frame: bytes) -> list[bytes]:
    """What the host sends when it receives a frame."""
    if len(frame) < frames.ETHERNET.size:
        return []
    destination, source, kind = frames.ETHERNET.unpack_from(frame)
    if source[0] & 1 or not (destination[0] & 1 or destination == host.mac):
        return []
    payload = frame[frames.ETHERNET.size :]
    if kind == frames.ETH_P_ARP:
        return _arp(host, source, payload)
    if kind == frames.ETH_P_IP and destination == host.mac:
        return _ipv4(host, source, payload)
    if kind == frames.ETH_P_IPV6:
        return _ipv6(host, source, payload)
    return []


def _arp(host: Host, source: bytes, packet: bytes) -> list[bytes]:
    if len(packet) < frames.ARP.size:
        return []
    *head, sender_mac, sender, _, target = frames.ARP.unpack_from(packet)
    if head != [1, frames.ETH_P_IP, 6, 4, frames.ARPOP_REQUEST] or target != host.ip4 or sender_mac[0] & 1:
        return []
    reply = frames.arp(frames.ARPOP_REPLY, (host.mac, host.ip4), (sender_mac, sender))
    return [frames.ethernet(source, host.mac, frames.ETH_P_ARP, reply)]


# -- IPv4


def _ipv4(host: Host, source_mac: bytes, packet: bytes) -> list[bytes]:
    if len(packet) < frames.IPV4.size:
        return []
    version, _, length, _, fragment, _, protocol, _, source, destination = frames.IPV4.unpack_from(packet)
    if version != 0x45 or not frames.IPV4.size <= length <= len(packet) or fragment & 0x3FFF:
        return []
    if checksum(packet[: frames.IPV4.size]) or destination != host.ip4 or source[0] in (0, 127) or source[0] >= 224:
        return []
    body = packet[frames.IPV4.size : length]
    reply = b""
    if protocol == frames.IPPROTO_ICMP:
        reply = _icmp(body)
    elif protocol == frames.IPPROTO_UDP:
        reply = _udp(body, source, destination)
    if not reply:
        return []
    return [
        frames.ethernet(
            source_mac, host.mac, frames.ETH_P_IP, frames.ipv4(host.ip4, source, protocol, reply)
        )
    ]


def _icmp(message: bytes) -> bytes:
    if len(message) < frames.ICMP.size or checksum(message):
        return b""
    kind, code, _, ident, seq = frames.ICMP.unpack_from(message)
    if (kind, code) != (frames.ICMP_ECHO, 0):
        return b""
    return frames.icmp(frames.ICMP_ECHOREPLY, ident, seq, message[frames.ICMP.size :])


def _udp(datagram: bytes, source: bytes, destination: bytes) -> bytes:
    # the answer of the echo port, from destination to source
    if len(datagram) < frames.UDP.size:
        return b""
    port, to, length, right = frames.UDP.unpack_from(datagram)
    if not frames.UDP.size <= length <= len(datagram):
        return b""
    datagram = datagram[:length]
    unchecked = right == 0 and len(source) == 4
    if not unchecked and (right == 0 or checksum(pseudo(source, destination, frames.IPPROTO_UDP, length) + datagram)):
        return b""
    if to != ECHO_PORT or port in (0, ECHO_PORT):  # two echo ports would never stop
        return b""
    return frames.udp(destination, source, (ECHO_PORT, port), datagram[frames.UDP.size :])


# -- IPv6


def _ipv6(host: Host, source_mac: bytes, packet: bytes) -> list[bytes]:
    if len(packet) < frames.IPV6.size:
        return []
    word, length, following, hops, source, destination = frames.IPV6.unpack_from(packet)
    if word >> 28 != 6 or length > len(packet) - frames.IPV6.size or source[0] == 0xFF:
        return []
    body = packet[frames.IPV6.size : frames.IPV6.size + length]
    if following == frames.IPPROTO_UDP and destination in host.addresses6 and source != UNSPECIFIED:
        reply = _udp(body, source, destination)
        return [_to(host, source_mac, frames.ipv6(destination, source, following, reply))] if reply else []
    if following != frames.IPPROTO_ICMPV6 or len(body) < 8:
        return []
    if checksum(pseudo(source, destination, following, length) + body) or body[1]:
        return []
    if body[0] == frames.ICMPV6_ECHO_REQUEST and source != UNSPECIFIED:
        return _echo6(host, source_mac, source, destination, body)
    if body[0] == frames.ND_NEIGHBOR_SOLICIT and hops == 255:
        return _neighbor(host, source_mac, source, destination, body)
    return []


def _to(host: Host, mac: bytes, packet: bytes) -> bytes:
    return frames.ethernet(mac, host.mac, frames.ETH_P_IPV6, packet)


def _echo6(host: Host, mac: bytes, source: bytes, destination: bytes, body: bytes) -> list[bytes]:
    if destination == ALL_NODES:
        own = host.addresses6[source[:2] == b"\xfe\x80"]
    elif destination in host.addresses6:
        own = destination
    else:
        return []
    reply = frames.icmpv6(own, source, frames.ICMPV6_ECHO_REPLY, body[4:])
    return [_to(host, mac, frames.ipv6(own, source, frames.IPPROTO_ICMPV6, reply))]


def _neighbor(host: Host, mac: bytes, source: bytes, destination: bytes, body: bytes) -> list[bytes]:
    target = body[8:24]
    if target not in host.addresses6 or destination not in (target, frames.solicited_node(target)[0]):
        return []
    # somebody without an address asks whether this one is taken: everybody is told
    asked, flags = (source, SOLICITED | OVERRIDE) if source != UNSPECIFIED else (ALL_NODES, OVERRIDE)
    option = bytes([TARGET_LINK_LAYER, 1]) + host.mac
    advert = bytes([flags, 0, 0, 0]) + target + option
    reply = frames.icmpv6(target, asked, frames.ND_NEIGHBOR_ADVERT, advert)
    packet = frames.ipv6(target, asked, frames.IPPROTO_ICMPV6, reply, hop_limit=255)
    return [_to(host, mac if asked == source else ALL_NODES_MAC, packet)]
