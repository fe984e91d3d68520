"""The simulated network device: a loopback with a MAC filter (mirrors drivers/vdpa/vdpa_sim/vdpa_sim_net.c).

Theory. Queues 0 RX, 1 TX, 2 control; the control queue is in a group of its own. A device with more queues, which is
no vdpa_sim, uses them once a driver has negotiated MQ: RX and TX by turns, the control queue last. A pass serves the
control queue first, then takes TX chains one by one, filters each by its destination address and copies header and
frame as they are into the next RX chain. Its habits, none of which is the virtio contract:

* the filter compares with ``strncmp``, so it stops at a zero byte both share: the default address 00:… matches every
  destination that begins with 00;
* without an RX buffer the frame is lost and the pass *stops*, stranding the TX chains behind it;
* the TX header is handed over unchanged, ``num_buffers`` is not set;
* the control ack carries over inside a pass: an unknown class right after a success is acked OK; a short MAC payload is
  acked ERR with the bytes that were there already stored.

The config space is one buffer: SET_CONFIG writes it and so changes the filter at once; GET_CONFIG writes LINK_UP into
it.

Without F11 a kernel takes a failed TX gather for a length and loops back what its buffer held before. That is
reported (``kernel.leak``) and not performed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from vdpasim.core.kernel import Point, Steps
from vdpasim.core.ports import PAGE_SHIFT
from vdpasim.core.rules import KernelError, hit
from vdpasim.core.vdpa.vdpa import Attributes, MgmtDev, VdpaBus, VdpaDevice, bad_value, number
from vdpasim.core.vdpa.vdpa_sim import SimAttr, VdpaSim, VdpasimVirtqueue
from vdpasim.core.vdpa.vdpa_sim_create import create
from vdpasim.core.vhost.virtio_byteorder import LITTLE
from vdpasim.core.vhost.vringh import NOWHERE, IotlbMiss, Iov
from vdpasim.uapi import virtio_net as net
from vdpasim.uapi.virtio_config import (
    VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_F_ANY_LAYOUT,
    VIRTIO_F_VERSION_1,
)
from vdpasim.uapi.virtio_ring import VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_WRITE

if TYPE_CHECKING:
    from vdpasim.core.kernel import Kernel

BUFFER_SIZE = 4096
"""A frame with its header is cut to this."""
BUDGET = 4
CONFIG_SIZE = 24
MAC_AT, STATUS_AT, MTU_AT = 0, 6, 10
DEFAULT_MTU = 1500
CTRL_MAC, CTRL_MAC_ADDR_SET = 1, 1
DESC, U16 = LITTLE.desc.unpack_from, LITTLE.u16.unpack_from
PUT_U16, USED_ELEM = LITTLE.u16.pack_into, LITTLE.used_elem.pack_into
ACK_OK, ACK_ERR = 0, 1

_FEATURES = (
    net.VIRTIO_NET_F_MTU,
    net.VIRTIO_NET_F_MAC,
    net.VIRTIO_NET_F_CTRL_VQ,
    net.VIRTIO_NET_F_CTRL_MAC_ADDR,
    VIRTIO_F_ANY_LAYOUT,
    VIRTIO_F_VERSION_1,
    VIRTIO_F_ACCESS_PLATFORM,
)


def attr(kernel: Kernel) -> SimAttr:
    """The constants of this device for a kernel."""
    features = sum(1 << bit for bit in _FEATURES)
    if kernel.on("net-status"):
        features |= 1 << net.VIRTIO_NET_F_STATUS
    return SimAttr("vdpasim_net", 1, 3, (0, 0, 1), 2, features, CONFIG_SIZE)


@attrs.define(eq=False)
class VdpasimNet:
    """The behaviour of ``vdpasim_net``."""

    def get_config(self, sim: VdpaSim) -> None:
        """LINK_UP, every time."""
        sim.config[STATUS_AT : STATUS_AT + 2] = net.VIRTIO_NET_S_LINK_UP.to_bytes(2, sim.structs.byteorder)

    def work(self, sim: VdpaSim) -> Steps:
        """``vdpasim_net_work``."""
        pairs = len(sim.vqs) // 2 if sim.features >> net.VIRTIO_NET_F_MQ & 1 else 1
        for cvq in sim.vqs[2 * pairs : 2 * pairs + 1]:
            yield from self._control(sim, cvq)
        for rx, tx in zip(sim.vqs[: 2 * pairs : 2], sim.vqs[1 : 2 * pairs : 2], strict=True):
            if rx.ready and tx.ready:
                yield from self._pair(sim, rx, tx)

    def _pair(self, sim: VdpaSim, rx: VdpasimVirtqueue, tx: VdpasimVirtqueue) -> Steps:
        taken = self._plain_frames(sim, rx, tx)
        if taken > BUDGET:
            hit("sim.net.budget")
            sim.schedule_work()
            return
        while True:
            delivered = yield from self._one_frame(sim, rx, tx)
            if delivered is None:
                return
            taken += 1 if delivered or sim.kernel.on("net-budget-frames") else 0
            if delivered and taken > BUDGET:
                hit("sim.net.budget")
                sim.schedule_work()
                return

    def _plain_frames(self, sim: VdpaSim, rx: VdpasimVirtqueue, tx: VdpasimVirtqueue) -> int:
        # Frames of one buffer each that the filter lets through, into one buffer each, every byte in a known place: in
        # as few steps as Python can. Returns how many were delivered; whatever comes next goes the long way round.
        out, into = tx.vring, rx.vring
        place, rx_place = out.placed(), into.placed()
        if place is None or rx_place is None or any(one.structs is not LITTLE for one in (sim, out, into)):
            return 0
        avail, avail_at, desc, desc_at, used, used_at, reads, _ = place
        rx_avail, rx_avail_at, rx_desc, rx_desc_at, rx_used, rx_used_at, _, writes = rx_place
        num, rx_num, done = out.num, into.num, 0
        while done <= BUDGET:
            taken, rx_taken = out.last_avail_idx, into.last_avail_idx
            (head,) = U16(avail, avail_at + 4 + 2 * (taken & num - 1))
            (rx_head,) = U16(rx_avail, rx_avail_at + 4 + 2 * (rx_taken & rx_num - 1))
            empty = U16(avail, avail_at + 2)[0] == taken or U16(rx_avail, rx_avail_at + 2)[0] == rx_taken
            if empty or head >= num or rx_head >= rx_num:
                break
            iova, size, flags, _ = DESC(desc, desc_at + 16 * head)
            rx_iova, room, rx_flags, _ = DESC(rx_desc, rx_desc_at + 16 * rx_head)
            first, last, data, shift, _ = reads.get(iova >> PAGE_SHIFT, NOWHERE)
            if flags or rx_flags != VRING_DESC_F_WRITE or not 18 <= size <= BUFFER_SIZE or not room:
                break
            size_in = min(size, room)
            rx_first, rx_last, target, rx_shift, _ = writes.get(rx_iova >> PAGE_SHIFT, NOWHERE)
            inside = first <= iova and iova + size - 1 <= last and rx_first <= rx_iova
            if not inside or rx_iova + size_in - 1 > rx_last or not self._accepts(sim, data, iova + shift):
                break
            target[rx_iova + rx_shift : rx_iova + rx_shift + size_in] = data[iova + shift : iova + shift + size_in]
            out.last_avail_idx, into.last_avail_idx = taken + 1 & 0xFFFF, rx_taken + 1 & 0xFFFF
            USED_ELEM(used, used_at + 4 + 8 * (out.last_used_idx & num - 1), head, 0)
            out.last_used_idx = out.last_used_idx + 1 & 0xFFFF
            PUT_U16(used, used_at + 2, out.last_used_idx)
            if not U16(avail, avail_at)[0] & VRING_AVAIL_F_NO_INTERRUPT:
                sim.notify(tx)
            USED_ELEM(rx_used, rx_used_at + 4 + 8 * (into.last_used_idx & rx_num - 1), rx_head, size_in)
            into.last_used_idx = into.last_used_idx + 1 & 0xFFFF
            PUT_U16(rx_used, rx_used_at + 2, into.last_used_idx)
            if not U16(rx_avail, rx_avail_at)[0] & VRING_AVAIL_F_NO_INTERRUPT:
                sim.notify(rx)
            done += 1
        return done

    def _one_frame(self, sim: VdpaSim, rx: VdpasimVirtqueue, tx: VdpasimVirtqueue) -> Steps:
        # one TX chain: True delivered, False not, None stop the pass
        points = sim.kernel.points
        if points:
            yield Point(sim.name + ".descriptor")
        try:
            chain = tx.vring.getdesc(writable=False)
        except KernelError:
            hit("sim.net.tx-broken")
            return None
        if chain is None:
            return None
        head, riov, _ = chain
        if points:
            yield Point(sim.name + ".data")
        try:
            delivered = yield from self._serve(sim, rx, tx, head, riov)
        except IotlbMiss:
            tx.vring.abandon()
            raise
        if not delivered:
            return delivered
        # the frame is in its buffer and TX is done with it: a miss from here on gives back the buffer only
        rx_head, written = delivered
        try:
            yield from self._complete(sim, rx, rx_head, written)
        except IotlbMiss:
            rx.vring.abandon()
            raise
        return True

    def _serve(self, sim: VdpaSim, rx: VdpasimVirtqueue, tx: VdpasimVirtqueue, head: int, riov: Iov) -> Steps:
        # as _one_frame, but of a frame that went through (RX head, bytes), which is still to be completed
        try:
            frame = tx.vring.pull(riov, BUFFER_SIZE)
        except KernelError:
            frame = b""
            if not sim.kernel.on("F11"):
                hit("sim.net.tx-stale")
                sim.kernel.violation("kernel.leak", f"{sim.name} would loop back what its buffer held before")
        if not frame:
            hit("sim.net.tx-failed")
            yield from self._complete(sim, tx, head, 0)
            return False
        if not self._accepts(sim, frame):
            hit("sim.net.filter")
            yield from self._complete(sim, tx, head, 0)
            return False
        return (yield from self._deliver(sim, rx, tx, head, frame))

    def _deliver(
        self, sim: VdpaSim, rx: VdpasimVirtqueue, tx: VdpasimVirtqueue, head: int, frame: bytes
    ) -> Steps:
        try:
            target = rx.vring.getdesc(readable=False)
        except KernelError:
            target = None
        if target is None:
            hit("sim.net.overrun")
            yield from self._complete(sim, tx, head, 0)
            return None if sim.kernel.on("bug-rx-overrun-stops") else False
        rx_head, _, wiov = target
        try:
            try:
                written = rx.vring.push(wiov, frame)
            except KernelError:
                written = 0
            if not written:
                hit("sim.net.rx-failed")
                return None
            yield from self._complete(sim, tx, head, 0)
        except IotlbMiss:
            rx.vring.abandon()
            raise
        return rx_head, written

    @staticmethod
    def _complete(sim: VdpaSim, vq: VdpasimVirtqueue, head: int, length: int) -> Steps:
        # a used ring that cannot be written loses the completion; the interrupt is raised all the same
        if sim.kernel.points:
            yield from sim.complete_in_steps(vq.vring, head, length)
            yield from sim.notify_in_steps(vq)
        else:
            sim.complete(vq.vring, head, length)
            sim.notify_if_wanted(vq)

    @staticmethod
    def _accepts(sim: VdpaSim, frame: bytes | bytearray, at: int = 0) -> bool:
        at += 12 if sim.features >> VIRTIO_F_VERSION_1 & 1 else 10
        if len(frame) < at + 6:
            return False
        if frame[at] & 1:
            return True
        return _strncmp_equal(frame[at : at + 6], sim.config[MAC_AT : MAC_AT + 6])

    # -- control queue

    def _control(self, sim: VdpaSim, cvq: VdpasimVirtqueue) -> Steps:
        if not sim.features >> net.VIRTIO_NET_F_CTRL_VQ & 1 or not cvq.ready:
            return
        ack = ACK_ERR
        while True:
            if sim.kernel.points:
                yield Point(sim.name + ".descriptor")
            try:
                chain = cvq.vring.getdesc()
            except KernelError:
                return
            if chain is None:
                return
            head, riov, wiov = chain
            if sim.kernel.points:
                yield Point(sim.name + ".data")
            try:
                next_ack = self._command(sim, cvq, riov, ack)
                if next_ack is None:
                    return
                ack = next_ack
                yield from self._ack(sim, cvq, head, wiov, ack)
            except IotlbMiss:
                cvq.vring.abandon()
                raise

    def _command(self, sim: VdpaSim, cvq: VdpasimVirtqueue, riov: Iov, ack: int) -> int | None:
        try:
            header = cvq.vring.pull(riov, 2)
        except KernelError:
            header = b""
        if len(header) < 2:
            hit("sim.net.ctrl-short")
            return None
        kind, command = header
        if kind != CTRL_MAC:
            hit("sim.net.ctrl-carry")
            return ack if sim.kernel.on("bug-ctrl-ack-carry") else ACK_ERR
        if command != CTRL_MAC_ADDR_SET:
            return ACK_ERR
        payload = b""
        try:
            for piece in cvq.vring.pull_pieces(riov, 6):
                payload += piece
            whole = len(payload) == 6
        except KernelError:
            whole = False
        if whole or sim.kernel.on("bug-ctrl-partial-mac"):
            sim.config[MAC_AT : MAC_AT + len(payload)] = payload
        if whole:
            return ACK_OK
        hit("sim.net.ctrl-partial")
        return ACK_ERR

    @staticmethod
    def _ack(sim: VdpaSim, cvq: VdpasimVirtqueue, head: int, wiov: Iov, ack: int) -> Steps:
        # the used length is whatever the push returned, an errno as unsigned included
        try:
            written = cvq.vring.push(wiov, bytes([ack]))
        except KernelError as error:
            written = -error.errno
        if sim.kernel.points:
            yield from sim.complete_in_steps(cvq.vring, head, written)
            yield from sim.notify_in_steps(cvq, always=True)
        else:
            sim.complete(cvq.vring, head, written)
            sim.notify(cvq)


def _strncmp_equal(a: bytes | bytearray, b: bytearray) -> bool:
    for left, right in zip(a, b, strict=True):
        if left != right:
            return False
        if left == 0:
            return True
    return True


def _mac(text: object) -> bytes:
    parts = str(text).split(":")
    try:
        mac = bytes(int(part, 16) for part in parts)
    except ValueError:
        raise bad_value() from None
    if len(mac) != 6:
        raise bad_value()
    return mac


def configure(config: bytearray, attributes: Attributes, byteorder: Literal["little", "big"]) -> None:
    """Put an administrator's ``mac`` and ``mtu`` into a config space.

    Raises:
        KernelError: EINVAL a malformed one.
    """
    if "mac" in attributes:
        config[MAC_AT : MAC_AT + 6] = _mac(attributes["mac"])
    if "mtu" in attributes:
        mtu = number(attributes, "mtu", DEFAULT_MTU)
        if not 0 <= mtu <= 0xFFFF:
            raise bad_value()
        config[MTU_AT : MTU_AT + 2] = mtu.to_bytes(2, byteorder)  # no feature is negotiated yet


def make(bus: VdpaBus, name: str, attributes: Attributes) -> VdpaDevice:
    """``vdpa dev add … mgmtdev vdpasim_net [mac M] [mtu N]``."""
    config = bytearray(CONFIG_SIZE)
    configure(config, {"mtu": DEFAULT_MTU, **attributes}, bus.kernel.abi.byteorder)
    return create(bus, name, attributes, attr(bus.kernel), VdpasimNet(), bytes(config))


MGMTDEV = MgmtDev(
    "vdpasim_net",
    1,
    frozenset({"mac", "mtu", "device_features"}),
    frozenset({"use_va", "batch_mapping", "max_iotlb_entries", "advertise"}),
    make,
)
