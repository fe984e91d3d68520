"""The state of a ``net_peer`` device and what vhost-vdpa asks of it; **no kernel has this device**.

Theory. It stands on vdpa_sim's framework (worker, maps, suspend, reset), so vhost-vdpa treats it as any vDPA device.
Rings are split or packed as negotiated (``split_event.py``, ``packed.py``). Frames from the wire pass the RX filter
when they arrive and wait in a bounded backlog for RX buffers. What a pass does is in ``net_peer.py``.

Differences from the framework, all towards the specification: the device looks at its rings whenever it begins to run
(DRIVER_OK, RESUME, a queue enabled late), because a driver with event index may have no reason to kick; a set-up that
cannot be a ring leaves the queue disabled; packed state is vhost's, wrap counters included; config space is read-only
and little-endian; VERSION_1 is required.

The link is one end's business: :meth:`NetPeer.set_link` at run time changes the status word and raises the config
interrupt if STATUS was negotiated. A suspended device must not change its configuration, so there it waits for RESUME.
While the link is down frames are taken and lost, as on a cable that was pulled.

Not modelled: rings reset one by one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.rules import fail, hit
from vdpasim.core.vdpa.vdpa_sim import VdpaSim
from vdpasim.devices.packed import START, PackedRing
from vdpasim.devices.pcap import Capture
from vdpasim.devices.rx_filter import RxFilter
from vdpasim.devices.split_event import SplitRing
from vdpasim.uapi import virtio_net as net
from vdpasim.uapi.virtio_config import (
    VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_VERSION_1,
)
from vdpasim.uapi.virtio_ring import VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC

if TYPE_CHECKING:
    from vdpasim.core.vdpa.vdpa_sim import VdpasimVirtqueue
    from vdpasim.devices.host import Host


BACKLOG = 256
"""Frames that wait for RX buffers, each pair."""
ETH_HLEN = 14
VLAN_TAG = 4
OF_CTRL_VQ = (
    net.VIRTIO_NET_F_CTRL_RX,
    net.VIRTIO_NET_F_CTRL_RX_EXTRA,
    net.VIRTIO_NET_F_CTRL_MAC_ADDR,
    net.VIRTIO_NET_F_MQ,
)
"""Features that mean nothing without CTRL_VQ."""


@attrs.define
class PeerCounts:
    """Counts of one device since it was made."""

    tx: int = 0
    """Frames the guest sent."""
    rx: int = 0
    """Frames the guest was given."""
    filtered: int = 0
    """Frames that were not for the guest."""
    dropped: int = 0
    """Frames that were lost: no link, no room, too long."""
    commands: int = 0
    """Control commands answered."""
    errors: int = 0
    """Looks at a ring that met an error."""


@attrs.define(eq=False)
class NetPeer(VdpaSim):
    """The device."""

    host: Host = attrs.field(kw_only=True)
    home: bytes = attrs.field(kw_only=True)
    """The MAC it has after a reset."""
    mtu: int = attrs.field(kw_only=True)
    pairs: int = attrs.field(kw_only=True)
    link: bool = True
    link_wanted: bool = True
    active: int = 1
    """Queue pairs in use."""
    filter: RxFilter = attrs.field(init=False)
    backlog: list[deque[bytes]] = attrs.field(init=False)
    capture: Capture = attrs.Factory(Capture)
    counts: PeerCounts = attrs.Factory(PeerCounts)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._forget()

    def _forget(self) -> None:
        self.active = 1
        self.filter = RxFilter(self.home)
        self.backlog = [deque(maxlen=BACKLOG) for _ in range(self.pairs)]
        self.link = self.link_wanted

    def has(self, bit: int) -> bool:
        """Whether a feature was negotiated."""
        return bool(self.features >> bit & 1)

    @property
    def control(self) -> int | None:
        """Index of the control queue: behind all pairs with MQ, behind the first without, None without CTRL_VQ."""
        if not self.has(net.VIRTIO_NET_F_CTRL_VQ):
            return None
        return 2 * self.pairs if self.has(net.VIRTIO_NET_F_MQ) else 2

    # -- what the wire does

    def fits(self, frame: bytes) -> bool:
        """Whether it is a frame at all, and no longer than the MTU allows."""
        return ETH_HLEN <= len(frame) <= self.mtu + ETH_HLEN + VLAN_TAG

    def set_link(self, up: bool) -> None:
        """Plug the cable in or pull it; the driver is told by a config interrupt."""
        self.link_wanted = up
        if self.status & VIRTIO_CONFIG_S_DRIVER_OK and not self.running:
            hit("peer.link.deferred")
        else:
            self._settle_link()

    def _settle_link(self) -> None:
        if self.link is self.link_wanted:
            return
        self.link = self.link_wanted
        if not self.link:
            for waiting in self.backlog:
                self.counts.dropped += len(waiting)
                waiting.clear()
        running = self.status & VIRTIO_CONFIG_S_DRIVER_OK
        if running and self.has(net.VIRTIO_NET_F_STATUS):
            self.notify_config()

    def inject(self, frame: bytes, pair: int = 0) -> None:
        """A frame from the wire that nobody asked for."""
        self.arrive(frame, pair)
        self.schedule_work()

    def arrive(self, frame: bytes, pair: int) -> None:
        """A frame at the guest's door: filtered, and kept until there is a buffer for it."""
        waiting = self.backlog[pair if pair < self.active else 0]
        if not self.link or not self.fits(frame):
            self.counts.dropped += 1
        elif not self.filter.accepts(frame, commanded=self.has(net.VIRTIO_NET_F_CTRL_RX)):
            self.counts.filtered += 1
        elif len(waiting) == BACKLOG:
            hit("peer.rx.backlog")
            self.counts.dropped += 1
        else:
            waiting.append(frame)

    def pcap(self) -> bytes:
        """What passed, as a pcap file."""
        return self.capture.pcap()

    # -- what vhost-vdpa asks

    def set_driver_features(self, features: int) -> None:
        if not features >> VIRTIO_F_VERSION_1 & 1:
            raise fail("peer.features.version-1")
        if not features >> net.VIRTIO_NET_F_CTRL_VQ & 1 and any(features >> bit & 1 for bit in OF_CTRL_VQ):
            raise fail("peer.features.ctrl-vq")
        was = self.has(VIRTIO_F_RING_PACKED)
        super().set_driver_features(features)
        if self.has(VIRTIO_F_RING_PACKED) is not was:
            for vq in self.vqs:
                start = 0 if was else START
                vq.vring.last_avail_idx = vq.vring.last_used_idx = start

    def set_status(self, status: int) -> None:
        super().set_status(status)
        self._run()

    def resume(self) -> None:
        super().resume()
        self._run()

    def _run(self) -> None:
        # the rings may hold what nobody will kick for
        if self.running:
            self._settle_link()
            self.schedule_work()

    def reset(self, *, clean_map: bool) -> None:
        super().reset(clean_map=clean_map)
        for vq in self.vqs:
            vq.vring.last_avail_idx = vq.vring.last_used_idx = 0
        self._forget()

    def set_active(self, pairs: int) -> bool:
        """Use so many queue pairs from now on; whether there are so many."""
        if not 1 <= pairs <= self.pairs:
            return False
        self.active = pairs
        for waiting in self.backlog[pairs:]:
            self.counts.dropped += len(waiting)
            waiting.clear()
        return True

    def set_vq_ready(self, idx: int, ready: bool) -> None:
        super().set_vq_ready(idx, ready)
        if ready and self.running:
            self.schedule_work()

    def _queue_ready(self, vq: VdpasimVirtqueue) -> None:
        old = vq.vring
        make = PackedRing if self.has(VIRTIO_F_RING_PACKED) else SplitRing
        ring = make(self.kernel, old.map, self.pages, on_dma=old.on_dma, device=old.device, index=old.index)
        ring.event_idx = self.has(VIRTIO_RING_F_EVENT_IDX)
        if isinstance(ring, PackedRing):
            ring.indirect = self.has(VIRTIO_RING_F_INDIRECT_DESC)
        started = ring.init(vq.num, vq.desc, vq.driver, vq.device, self.memory, self.structs)
        if not started or not ring.restore(old.last_avail_idx, old.last_used_idx):
            hit("peer.enable.refused")
            vq.ready = False
            return
        vq.vring = ring

    def set_vq_state(self, idx: int, avail: int, used: int) -> None:
        vring = self.vqs[idx].vring
        vring.last_avail_idx = avail & 0xFFFF
        vring.last_used_idx = used & 0xFFFF if self.has(VIRTIO_F_RING_PACKED) else vring.last_avail_idx

    def get_vq_state(self, idx: int) -> tuple[int, int]:
        vring = self.vqs[idx].vring
        return vring.last_avail_idx, vring.last_used_idx if self.has(VIRTIO_F_RING_PACKED) else 0

    def get_vq_group(self, idx: int) -> int:
        """The control queue, wherever it is, has a group of its own."""
        return int(idx == self.control)

    def set_group_asid(self, group: int, asid: int) -> None:
        for idx, vq in enumerate(self.vqs):
            if self.get_vq_group(idx) == group:
                vq.vring.map = self.maps[asid]

    def get_config(self, offset: int, length: int) -> bytes:
        status = net.VIRTIO_NET_S_LINK_UP if self.link else 0
        words = (status, self.pairs, self.mtu)
        config = self.filter.mac + b"".join(word.to_bytes(2, "little") for word in words)
        return config.ljust(self.attr.config_size, b"\0")[offset : offset + length]

    def set_config(self, offset: int, data: bytes) -> None:
        hit("peer.config.read-only")
