"""Frames as bytes, judged by dpkt."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.devices import frames

MAC_A, MAC_B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
IP_A, IP_B = bytes([192, 0, 2, 7]), bytes([192, 0, 2, 1])
IP6_A, IP6_B = bytes.fromhex("20010db8" + "00" * 11 + "07"), bytes.fromhex("20010db8" + "00" * 11 + "01")


class TestChecksum:
    def test_is_that_of_rfc_1071(self) -> None:
        assert frames.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D

    @given(st.binary(max_size=99))
    def test_is_dpkt_s(self, data: bytes) -> None:
        assert frames.checksum(data) == dpkt.in_cksum(data)

    @given(st.binary(max_size=98).map(lambda data: data + b"\0" * (len(data) & 1)))
    def test_covers_itself(self, data: bytes) -> None:
        assert frames.checksum(data + frames.checksum(data).to_bytes(2, "big")) == 0


def test_arp_is_understood() -> None:
    frame = frames.ethernet(
        frames.BROADCAST, MAC_A, frames.ETH_P_ARP, frames.arp(1, (MAC_A, IP_A), (bytes(6), IP_B))
    )
    arp = dpkt.ethernet.Ethernet(frame).data
    assert (arp.op, arp.sha, arp.spa, arp.tha, arp.tpa) == (1, MAC_A, IP_A, bytes(6), IP_B)


@given(st.binary(max_size=200), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_an_echo_over_ipv4_is_what_dpkt_makes(data: bytes, ident: int, seq: int) -> None:
    packet = frames.ipv4(IP_A, IP_B, frames.IPPROTO_ICMP, frames.icmp(8, ident, seq, data))
    parsed = dpkt.ip.IP(packet)
    assert (parsed.src, parsed.dst, parsed.p, parsed.len) == (IP_A, IP_B, 1, len(packet))
    again = dpkt.icmp.ICMP(type=8, data=dpkt.icmp.ICMP.Echo(id=ident, seq=seq, data=data))
    assert bytes(parsed.data) == bytes(again)
    assert frames.checksum(packet[:20]) == 0


@given(st.binary(max_size=200), st.booleans())
def test_udp_has_the_checksum_dpkt_computes(data: bytes, six: bool) -> None:
    source, destination = (IP6_A, IP6_B) if six else (IP_A, IP_B)
    datagram = frames.udp(source, destination, (1234, 7), data)
    parsed = dpkt.udp.UDP(datagram)
    stored, parsed.sum = parsed.sum, 0
    covered = frames.pseudo(source, destination, 17, len(datagram))
    assert stored == (dpkt.in_cksum(covered + bytes(parsed)) or 0xFFFF)
    assert (parsed.sport, parsed.dport, parsed.ulen, bytes(parsed.data)) == (1234, 7, len(datagram), data)


def test_a_udp_checksum_is_never_zero() -> None:
    for word in range(0x10000):
        data = word.to_bytes(2, "big")
        if frames.udp(IP_A, IP_B, (1234, 7), data)[6:8] == b"\xff\xff":
            return
    pytest.fail("no datagram came to a checksum of 0")


def test_ipv6_is_understood() -> None:
    body = frames.icmpv6(IP6_A, IP6_B, 128, b"\0\1\0\2ping")
    packet = dpkt.ip6.IP6(frames.ipv6(IP6_A, IP6_B, frames.IPPROTO_ICMPV6, body))
    assert (packet.src, packet.dst, packet.nxt, packet.plen, packet.hlim) == (IP6_A, IP6_B, 58, 12, 64)
    assert packet.data.type == 128
    assert frames.checksum(frames.pseudo(IP6_A, IP6_B, 58, len(body)) + body) == 0


def test_addresses_made_from_others() -> None:
    group, mac = frames.solicited_node(bytes.fromhex("20010db8000000000000000000123456"))
    assert (group.hex(), mac.hex()) == ("ff0200000000000000000001ff123456", "3333ff123456")
    assert frames.link_local(bytes.fromhex("0200000000fe")).hex() == "fe80000000000000000000fffe0000fe"
