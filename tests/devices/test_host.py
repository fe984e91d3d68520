"""The far end's host: what it answers, judged by dpkt, and what it lets lie."""

from __future__ import annotations

from typing import Any

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdpasim.devices import frames as f
from vdpasim.devices.host import ALL_NODES, ALL_NODES_MAC, UNSPECIFIED, Host, answer

MAC, PEER = bytes.fromhex("020000000001"), bytes.fromhex("0200000000fe")
IP, PEER_IP = bytes([192, 0, 2, 7]), bytes([192, 0, 2, 1])
IP6, PEER_IP6 = bytes.fromhex("20010db8" + "00" * 11 + "07"), bytes.fromhex("20010db8" + "00" * 11 + "01")
LOCAL = f.link_local(MAC)
HOST = Host(PEER, PEER_IP, PEER_IP6)


def arp(*, target: bytes = PEER_IP, operation: int = 1, to: bytes = f.BROADCAST, sender: bytes = MAC) -> bytes:
    return f.ethernet(to, MAC, f.ETH_P_ARP, f.arp(operation, (sender, IP), (bytes(6), target)))


def ip4(body: bytes, protocol: int = 1, *, source: bytes = IP, to: bytes = PEER_IP, mac: bytes = PEER) -> bytes:
    return f.ethernet(mac, MAC, f.ETH_P_IP, f.ipv4(source, to, protocol, body))


def ping(data: bytes = b"ping", **how: Any) -> bytes:
    return ip4(f.icmp(8, 0x1234, 7, data), **how)


def udp(data: bytes = b"echo", ports: tuple[int, int] = (4000, 7)) -> bytes:
    return ip4(f.udp(IP, PEER_IP, ports, data), 17)


def ip6(body: bytes, following: int = 58, *, source: bytes = IP6, to: bytes = PEER_IP6, hops: int = 64) -> bytes:
    mac = PEER if to[0] != 0xFF else b"\x33\x33" + to[-4:]
    return f.ethernet(mac, MAC, f.ETH_P_IPV6, f.ipv6(source, to, following, body, hops))


def ping6(*, source: bytes = IP6, to: bytes = PEER_IP6, data: bytes = b"ping") -> bytes:
    return ip6(f.icmpv6(source, to, 128, b"\x12\x34\0\7" + data), source=source, to=to)


def udp6(data: bytes = b"echo", ports: tuple[int, int] = (4000, 7)) -> bytes:
    return ip6(f.udp(IP6, PEER_IP6, ports, data), 17)


def solicit(target: bytes = PEER_IP6, *, source: bytes = IP6, to: bytes | None = None, hops: int = 255) -> bytes:
    group = f.solicited_node(target)[0] if to is None else to
    return ip6(f.icmpv6(source, group, 135, bytes(4) + target + b"\1\1" + MAC), source=source, to=group, hops=hops)


GOOD = {
    "arp": arp(),
    "ping": ping(),
    "udp": udp(),
    "ping6": ping6(),
    "udp6": udp6(),
    "solicit": solicit(),
}


def only(frame: bytes) -> Any:
    """The one answer, taken apart by dpkt; the outer header is checked."""
    (reply,) = answer(HOST, frame)
    parsed = dpkt.ethernet.Ethernet(reply)
    assert (parsed.src, parsed.dst) == (PEER, MAC)
    return parsed.data


class TestAnswers:
    def test_arp(self) -> None:
        reply = only(arp())
        assert (reply.op, reply.sha, reply.spa, reply.tha, reply.tpa) == (2, PEER, PEER_IP, MAC, IP)
        assert only(arp(to=PEER)).op == 2, "also to one that is sent to it alone"

    @pytest.mark.parametrize("size", [0, 1, 56, 1472])
    def test_echo(self, size: int) -> None:
        packet = only(ping(bytes(range(256))[: size % 256] * (size // 256 + 1)))
        assert (packet.src, packet.dst, packet.p) == (PEER_IP, IP, 1)
        assert f.checksum(bytes(packet)[:20]) == 0
        assert f.checksum(bytes(packet.data)) == 0
        message = packet.data
        assert (message.type, message.code, message.data.id, message.data.seq) == (0, 0, 0x1234, 7)
        assert message.data.data == bytes(range(256))[: size % 256] * (size // 256 + 1)

    def test_echo_over_ipv6(self) -> None:
        packet = only(ping6())
        assert (packet.src, packet.dst) == (PEER_IP6, IP6)
        assert packet.data.type == 129
        assert bytes(packet.data.data) == b"\x12\x34\0\7ping"
        assert f.checksum(f.pseudo(packet.src, packet.dst, 58, packet.plen) + bytes(packet.data)) == 0

    def test_its_link_local_address_and_all_nodes(self) -> None:
        assert only(ping6(source=LOCAL, to=f.link_local(PEER))).src == f.link_local(PEER)
        assert only(ping6(source=LOCAL, to=ALL_NODES)).src == f.link_local(PEER)
        assert only(ping6(to=ALL_NODES)).src == PEER_IP6

    @pytest.mark.parametrize("frame", [udp(), udp6()])
    def test_udp_echo(self, frame: bytes) -> None:
        packet = only(frame)
        assert (packet.data.sport, packet.data.dport, packet.data.data) == (7, 4000, b"echo")
        covered = f.pseudo(packet.src, packet.dst, 17, packet.data.ulen)
        assert f.checksum(covered + bytes(packet.data)) == 0

    def test_udp_without_a_checksum_over_ipv4(self) -> None:
        datagram = bytearray(f.udp(IP, PEER_IP, (4000, 7), b"echo"))
        datagram[6:8] = b"\0\0"
        assert only(ip4(bytes(datagram), 17)).data.data == b"echo"

    @pytest.mark.parametrize("target", [PEER_IP6, f.link_local(PEER)])
    def test_neighbour_solicitation(self, target: bytes) -> None:
        packet = only(solicit(target))
        assert (packet.src, packet.dst, packet.hlim) == (target, IP6, 255)
        body = bytes(packet.data)
        assert (body[0], body[4], body[8:24], body[24:]) == (136, 0x60, target, b"\2\1" + PEER)
        assert f.checksum(f.pseudo(packet.src, packet.dst, 58, len(body)) + body) == 0

    def test_neighbour_solicitation_sent_to_it_alone(self) -> None:
        assert bytes(only(solicit(to=PEER_IP6)).data)[0] == 136

    def test_duplicate_address_detection_is_answered_to_everybody(self) -> None:
        (reply,) = answer(HOST, solicit(source=UNSPECIFIED))
        parsed = dpkt.ethernet.Ethernet(reply)
        assert (parsed.dst, parsed.data.dst) == (ALL_NODES_MAC, ALL_NODES)
        assert bytes(parsed.data.data)[4] == 0x20, "not solicited"

    def test_what_follows_the_packet_in_the_frame_is_padding(self) -> None:
        for frame in GOOD.values():
            assert answer(HOST, frame + bytes(20)) == answer(HOST, frame)


def changed(frame: bytes, at: int, to: bytes) -> bytes:
    return frame[:at] + to + frame[at + len(to) :]


class TestSilence:
    @pytest.mark.parametrize(
        "frame",
        [
            arp(target=bytes([192, 0, 2, 99])),
            arp(operation=2),
            arp(sender=f.BROADCAST),
            arp(to=bytes.fromhex("0200000000aa")),
            ping(to=bytes([192, 0, 2, 99])),
            ping(mac=f.BROADCAST),
            ping(source=bytes([224, 0, 0, 1])),
            ping(source=bytes(4)),
            ping(source=bytes([127, 0, 0, 1])),
            ip4(f.icmp(0, 1, 1, b"reply")),
            ip4(f.icmp(8, 1, 1, b""), 6),
            udp(ports=(4000, 8)),
            udp(ports=(7, 7)),
            udp(ports=(0, 7)),
            udp6(ports=(4000, 8)),
            ping6(to=IP6),
            ping6(source=UNSPECIFIED),
            ping6(source=bytes.fromhex("ff02" + "00" * 13 + "01")),
            ip6(f.icmpv6(IP6, PEER_IP6, 129, bytes(4))),
            solicit(IP6),
            solicit(hops=64),
            solicit(to=ALL_NODES),
            f.ethernet(PEER, MAC, 0x8100, bytes(40)),
        ],
    )
    def test_meets_what_is_not_for_the_host_or_no_question(self, frame: bytes) -> None:
        assert answer(HOST, frame) == []

    @pytest.mark.parametrize(
        ("name", "at", "to"),
        [
            ("ping", 6, b"\xff"),  # from a multicast address
            ("ping", 14, b"\x65"),  # version 6
            ("ping", 14, b"\x46"),  # options
            ("ping", 16, b"\0\x13"),  # shorter than its header
            ("ping", 16, b"\xff\xff"),  # longer than the frame
            ("ping", 20, b"\x20\0"),  # a fragment
            ("ping", 24, b"\0\0"),  # the header's checksum
            ("ping", 36, b"\0\0"),  # the message's
            ("udp", 40, b"\1\1"),
            ("udp", 38, b"\0\7"),  # shorter than its header
            ("udp", 38, b"\0\xff"),
            ("ping6", 14, b"\x40"),
            ("ping6", 18, b"\xff\xff"),
            ("ping6", 56, b"\0\0"),
            ("ping6", 55, b"\1"),  # code
            ("udp6", 60, b"\0\0"),  # IPv6 has no UDP without checksum
            ("arp", 14, b"\0\6"),
            ("arp", 18, b"\5"),
        ],
    )
    def test_meets_what_is_malformed(self, name: str, at: int, to: bytes) -> None:
        assert answer(HOST, GOOD[name]) != []
        assert answer(HOST, changed(GOOD[name], at, to)) == []

    @pytest.mark.parametrize(
        ("at", "to", "answers"),
        [
            (14, b"\x65", 0),  # version 6
            (14, b"\x44", 0),  # a header shorter than a header
            (16, b"\0\x13", 0),  # a packet shorter than its header
            (16, b"\0\xff", 0),  # a packet longer than the frame
            (20, b"\x20\0", 0),  # the first fragment
            (20, b"\0\1", 0),  # a later one
            (20, b"\x40\0", 1),  # must not be fragmented
            (22, b"\1", 1),  # the last hop
            (23, b"\6", 0),  # another protocol
        ],
    )
    def test_meets_a_header_it_does_not_take_though_its_checksum_is_right(
        self, at: int, to: bytes, answers: int
    ) -> None:
        frame = changed(changed(GOOD["ping"], at, to), 24, b"\0\0")
        frame = changed(frame, 24, f.checksum(frame[14:34]).to_bytes(2, "big"))
        assert len(answer(HOST, frame)) == answers

    @pytest.mark.parametrize("name", GOOD)
    def test_meets_every_cut(self, name: str) -> None:
        for size in range(len(GOOD[name])):
            assert answer(HOST, GOOD[name][:size]) == []


@given(st.binary(max_size=200))
def test_noise_never_raises(data: bytes) -> None:
    for kind in (b"\x08\x00", b"\x08\x06", b"\x86\xdd"):
        assert isinstance(answer(HOST, PEER + MAC + kind + data), list)
    assert isinstance(answer(HOST, data), list)


@settings(max_examples=400)
@given(
    st.sampled_from(sorted(GOOD)),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 90),
)
def test_frames_with_errors_never_raise_and_answers_are_well_formed(
    name: str, errors: list[tuple[int, int]], cut: int
) -> None:
    frame = bytearray(GOOD[name])
    for at, value in errors:
        frame[at % len(frame)] = value
    for reply in answer(HOST, bytes(frame[: max(cut, 40)])) + answer(HOST, bytes(frame)):
        parsed = dpkt.ethernet.Ethernet(reply)
        assert parsed.src == PEER
        assert len(reply) <= len(frame) + 32
        if isinstance(parsed.data, dpkt.ip.IP):
            assert f.checksum(reply[14:34]) == 0
