"""The RX filter: what passes in which mode."""

from __future__ import annotations

import pytest

from vdpasim.devices.rx_filter import MODES, TABLE_MAX, RxFilter
from vdpasim.uapi import virtio_net as net

OWN, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("020000000099")
GROUP, BROADCAST = bytes.fromhex("01005e000001"), b"\xff" * 6
RX = net.VIRTIO_NET_CTRL_RX_PROMISC, net.VIRTIO_NET_CTRL_RX_ALLMULTI


@pytest.fixture
def rx() -> RxFilter:
    return RxFilter(OWN)


def passing(rx: RxFilter, *, commanded: bool = True) -> str:
    """Which of own, other, group and broadcast pass, by their first letters."""
    kinds = {"o": OWN, "x": OTHER, "g": GROUP, "b": BROADCAST}
    return "".join(letter for letter, to in kinds.items() if rx.accepts(to + bytes(8), commanded=commanded))


def test_at_first_own_and_broadcast_pass(rx: RxFilter) -> None:
    assert passing(rx) == "ob"


def test_a_driver_that_cannot_command_gets_every_group(rx: RxFilter) -> None:
    assert passing(rx, commanded=False) == "ogb"


@pytest.mark.parametrize(
    ("mode", "passes"),
    [
        (net.VIRTIO_NET_CTRL_RX_PROMISC, "oxgb"),
        (net.VIRTIO_NET_CTRL_RX_ALLMULTI, "ogb"),
        (net.VIRTIO_NET_CTRL_RX_ALLUNI, "oxb"),
        (net.VIRTIO_NET_CTRL_RX_NOMULTI, "ob"),
        (net.VIRTIO_NET_CTRL_RX_NOUNI, "b"),
        (net.VIRTIO_NET_CTRL_RX_NOBCAST, "o"),
    ],
)
def test_a_mode_is_switched_on_and_off(rx: RxFilter, mode: int, passes: str) -> None:
    assert rx.set_mode(mode, b"\1", extra=True)
    assert passing(rx) == passes
    assert rx.set_mode(mode, b"\0", extra=True)
    assert passing(rx) == "ob"


def test_nomulti_beats_allmulti_and_promiscuous_beats_all(rx: RxFilter) -> None:
    for mode in MODES:
        if mode != net.VIRTIO_NET_CTRL_RX_PROMISC:
            rx.set_mode(mode, b"\1", extra=True)
    assert passing(rx) == ""
    rx.set_mode(net.VIRTIO_NET_CTRL_RX_PROMISC, b"\1", extra=True)
    assert passing(rx) == "oxgb"


@pytest.mark.parametrize("mode", MODES)
def test_extra_modes_need_their_feature(rx: RxFilter, mode: int) -> None:
    assert rx.set_mode(mode, b"\1", extra=False) is (mode in RX)


@pytest.mark.parametrize(("mode", "payload"), [(6, b"\1"), (0, b""), (0, b"\2"), (0, b"\1\0")])
def test_what_is_not_understood_changes_nothing(rx: RxFilter, mode: int, payload: bytes) -> None:
    assert not rx.set_mode(mode, payload, extra=True)
    assert rx.modes == set()


def table(*macs: bytes, count: int | None = None) -> bytes:
    return (len(macs) if count is None else count).to_bytes(4, "little") + b"".join(macs)


class TestTables:
    def test_let_further_addresses_pass(self, rx: RxFilter) -> None:
        assert rx.set_tables(table(OTHER) + table(GROUP))
        assert passing(rx) == "oxgb"
        assert rx.set_tables(table() + table())
        assert passing(rx) == "ob"

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            table(OTHER),
            table(OTHER) + b"\0\0\0",
            table(OTHER) + table(GROUP)[:-1],
            table(OTHER) + table(GROUP) + b"\0",
            table(OTHER, count=2) + table(),
            table(*[OTHER] * (TABLE_MAX + 1)) + table(),
            table(count=0xFFFFFFFF) + table(),
        ],
    )
    def test_that_are_not_whole_change_nothing(self, rx: RxFilter, payload: bytes) -> None:
        assert not rx.set_tables(payload)
        assert passing(rx) == "ob"

    def test_may_be_full(self, rx: RxFilter) -> None:
        assert rx.set_tables(table(*[OTHER] * TABLE_MAX) + table(*[GROUP] * TABLE_MAX))


def test_another_address(rx: RxFilter) -> None:
    assert rx.set_mac(OTHER)
    assert passing(rx) == "xb"
    for bad in (b"", OTHER[:5], OTHER + b"\0", GROUP):
        assert not rx.set_mac(bad)
    assert rx.mac == OTHER
