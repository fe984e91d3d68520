"""Which frames ``net_peer`` hands to the guest (virtio 1.3, 5.1.6.5.1 and 5.1.6.5.2); no kernel has this device.

Theory. Six switches, two tables and one address decide by the destination alone. Commands change them; a command that
is malformed or names something unknown changes nothing. What the driver may not command, because it did not negotiate
CTRL_RX, is decided in its favour: without the feature every multicast frame passes.
"""

from __future__ import annotations

import attrs

from vdpasim.devices.frames import BROADCAST
from vdpasim.uapi import virtio_net as net

MODES = {
    net.VIRTIO_NET_CTRL_RX_PROMISC: "promisc",
    net.VIRTIO_NET_CTRL_RX_ALLMULTI: "allmulti",
    net.VIRTIO_NET_CTRL_RX_ALLUNI: "alluni",
    net.VIRTIO_NET_CTRL_RX_NOMULTI: "nomulti",
    net.VIRTIO_NET_CTRL_RX_NOUNI: "nouni",
    net.VIRTIO_NET_CTRL_RX_NOBCAST: "nobcast",
}
"""Command of class RX -> the switch it sets; all but the first two need CTRL_RX_EXTRA."""
BASIC = (net.VIRTIO_NET_CTRL_RX_PROMISC, net.VIRTIO_NET_CTRL_RX_ALLMULTI)
TABLE_MAX = 64
"""Addresses a table holds; a longer one is refused."""


@attrs.define
class RxFilter:
    """The filter of one device."""

    mac: bytes
    modes: set[str] = attrs.Factory(set["str"])
    unicast: tuple[bytes, ...] = ()
    multicast: tuple[bytes, ...] = ()

    def accepts(self, frame: bytes, *, commanded: bool = True) -> bool:
        """Whether the frame is for the guest; ``commanded``: CTRL_RX was negotiated."""
        destination = frame[:6]
        if "promisc" in self.modes:
            return True
        if destination == BROADCAST:
            return "nobcast" not in self.modes
        if destination[0] & 1:
            if "nomulti" in self.modes:
                return False
            return not commanded or "allmulti" in self.modes or destination in self.multicast
        if "nouni" in self.modes:
            return False
        return "alluni" in self.modes or destination == self.mac or destination in self.unicast

    def set_mode(self, command: int, payload: bytes, *, extra: bool) -> bool:
        """A command of class RX; whether it was understood."""
        if command not in MODES or not (extra or command in BASIC) or payload not in (b"\0", b"\1"):
            return False
        if payload == b"\1":
            self.modes.add(MODES[command])
        else:
            self.modes.discard(MODES[command])
        return True

    def set_tables(self, payload: bytes) -> bool:
        """MAC_TABLE_SET: a unicast table, then a multicast one; whether both were whole and nothing came behind."""
        tables: list[tuple[bytes, ...]] = []
        for _ in range(2):
            count = int.from_bytes(payload[:4], "little")
            if len(payload) < 4 or count > TABLE_MAX or len(payload) < 4 + 6 * count:
                return False
            tables.append(tuple(payload[at : at + 6] for at in range(4, 4 + 6 * count, 6)))
            payload = payload[4 + 6 * count :]
        if payload:
            return False
        self.unicast, self.multicast = tables
        return True

    def set_mac(self, payload: bytes) -> bool:
        """MAC_ADDR_SET; whether it is an address a station may have."""
        if len(payload) != 6 or payload[0] & 1:
            return False
        self.mac = payload
        return True
