"""Ethernet frames as bytes: building them, and the Internet checksum; pure functions, no kernel file mirrored.

Theory. Addresses are bytes (6, 4 or 16), ports and identifiers integers. ``ipv4`` and ``ipv6`` add their header to a
payload, ``icmp``, ``icmpv6`` and ``udp`` make payloads with right checksums, ``ethernet`` puts the outer header on.
Taking frames apart is the business of ``host.py``, which trusts none.

Not modelled: VLAN tags, options, extension headers, fragments; no padding to 60 bytes, as a tap has none.
"""

from __future__ import annotations

from struct import Struct

ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 0x0800, 0x0806, 0x86DD
IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_ICMPV6 = 1, 17, 58
ICMP_ECHOREPLY, ICMP_ECHO = 0, 8
ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY = 128, 129
ND_NEIGHBOR_SOLICIT, ND_NEIGHBOR_ADVERT = 135, 136
ARPOP_REQUEST, ARPOP_REPLY = 1, 2
BROADCAST = b"\xff" * 6
HOP_LIMIT = 64

ETHERNET = Struct(">6s6sH")
ARP = Struct(">HHBBH6s4s6s4s")
IPV4 = Struct(">BBHHHBBH4s4s")
IPV6 = Struct(">IHBB16s16s")
UDP = Struct(">HHHH")
ICMP = Struct(">BBHHH")


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over data that holds its own right one."""
    padded = data + b"\0" * (len(data) & 1)
    total = sum(int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(destination: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    """A frame without its check sequence."""
    return ETHERNET.pack(destination, source, kind) + payload


def arp(operation: int, sender: tuple[bytes, bytes], target: tuple[bytes, bytes]) -> bytes:
    """ARP for IPv4 over Ethernet; sender and target are (MAC, address)."""
    return ARP.pack(1, ETH_P_IP, 6, 4, operation, *sender, *target)


def ipv4(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    """An IPv4 packet that must not be fragmented."""
    fields = (0x45, 0, IPV4.size + len(payload), 0, 0x4000, HOP_LIMIT, protocol)
    right = checksum(IPV4.pack(*fields, 0, source, destination))
    return IPV4.pack(*fields, right, source, destination) + payload


def ipv6(source: bytes, destination: bytes, following: int, payload: bytes, hop_limit: int = HOP_LIMIT) -> bytes:
    """An IPv6 packet."""
    return IPV6.pack(6 << 28, len(payload), following, hop_limit, source, destination) + payload


def pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """The pseudo-header that checksums of UDP and ICMPv6 cover, for either family."""
    if len(source) == 4:
        return source + destination + protocol.to_bytes(2, "big") + length.to_bytes(2, "big")
    return source + destination + length.to_bytes(4, "big") + protocol.to_bytes(4, "big")


def icmp(kind: int, ident: int, seq: int, data: bytes) -> bytes:
    """An ICMP echo message."""
    right = checksum(ICMP.pack(kind, 0, 0, ident, seq) + data)
    return ICMP.pack(kind, 0, right, ident, seq) + data


def icmpv6(source: bytes, destination: bytes, kind: int, body: bytes) -> bytes:
    """An ICMPv6 message: type, code 0, checksum, then ``body``."""
    head = bytes([kind, 0])
    covered = pseudo(source, destination, IPPROTO_ICMPV6, 4 + len(body))
    return head + checksum(covered + head + b"\0\0" + body).to_bytes(2, "big") + body


def udp(source: bytes, destination: bytes, ports: tuple[int, int], data: bytes) -> bytes:
    """A UDP datagram from and to ``ports``; its checksum is never 0."""
    length = UDP.size + len(data)
    covered = pseudo(source, destination, IPPROTO_UDP, length)
    right = checksum(covered + UDP.pack(*ports, length, 0) + data) or 0xFFFF
    return UDP.pack(*ports, length, right) + data


def solicited_node(address: bytes) -> tuple[bytes, bytes]:
    """The multicast address a neighbour solicitation for an IPv6 address goes to, and its MAC."""
    group = bytes.fromhex("ff0200000000000000000001ff") + address[-3:]
    return group, b"\x33\x33" + group[-4:]


def link_local(mac: bytes) -> bytes:
    """The IPv6 link-local address made from a MAC (EUI-64)."""
    return bytes.fromhex("fe80000000000000") + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
