"""``net_peer``: a virtio-net device by the specification, with a small host at its far end; **no kernel has it**.

Theory. A pass serves the control queue, then each active pair: TX frames go to the host of ``host.py``, whose answers
come back on the same pair. What a queue does is virtio's (1.3, section 5.1), not vdpa_sim_net's: ``num_buffers`` is
set, acks say what happened, a command that is malformed or was not negotiated is refused and changes nothing, and one
interrupt announces all that a pass has done to a queue.

A queue whose ring or chain cannot be read stands: nothing is consumed, and the next look meets the same error. Other
queues go on, and the status byte does not change.

The device is made by ``vdpa dev add … mgmtdev net_peer`` in a simulator with ``extensions=("net_peer",)``. Options
are switches (``status``, ``ctrl_vq``, ``mq``, ``event_idx``, ``indirect``, ``packed``, ``mrg_rxbuf``), the addresses of
the far end (``ip4``, ``ip6``, ``peer_mac``) and those of vdpa_sim.

Not modelled: checksum and segmentation offloads, RSS, VLAN filters, announcements.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.kernel import Point, Steps
from vdpasim.core.rules import KernelError, hit
from vdpasim.core.vdpa.vdpa import Attributes, MgmtDev, VdpaBus, VdpaDevice, bad_value, number
from vdpasim.core.vdpa.vdpa_sim import SimAttr, VdpaSim, VdpasimVirtqueue
from vdpasim.core.vdpa.vdpa_sim_create import create, flag
from vdpasim.core.vdpa.vdpa_sim_net import CONFIG_SIZE, DEFAULT_MTU
from vdpasim.devices.host import Host, answer
from vdpasim.devices.peer_device import OF_CTRL_VQ, NetPeer
from vdpasim.devices.rx_filter import TABLE_MAX
from vdpasim.uapi import virtio_net as net
from vdpasim.uapi.virtio_config import VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1
from vdpasim.uapi.virtio_ring import VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC

if TYPE_CHECKING:
    from vdpasim.core.vhost.vringh import Iov

EXTENSION = "net_peer"

HEADER = 12
"""Bytes of virtio_net_hdr_v1; num_buffers are the last two."""
FRAME_MAX = 0x10000
CTRL_MAX = 2 + 2 * (4 + 6 * TABLE_MAX)
"""The longest control command."""
BUDGET = 64
"""Frames of one direction that a pass moves before others may run."""
PAIRS_MAX = 16
MTU_MIN = 68

DEFAULT_MAC = "02:00:00:00:00:01"
PEER_MAC = "02:00:00:00:00:fe"
DEFAULT_IP4, DEFAULT_IP6 = "192.0.2.1", "2001:db8::1"

ALWAYS = (net.VIRTIO_NET_F_MTU, net.VIRTIO_NET_F_MAC, VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM)
OPTIONS: dict[str, tuple[tuple[int, ...], bool]] = {
    "status": ((net.VIRTIO_NET_F_STATUS,), True),
    "ctrl_vq": ((net.VIRTIO_NET_F_CTRL_VQ, *OF_CTRL_VQ[:3]), True),
    "mq": ((net.VIRTIO_NET_F_MQ,), True),
    "event_idx": ((VIRTIO_RING_F_EVENT_IDX,), True),
    "indirect": ((VIRTIO_RING_F_INDIRECT_DESC,), True),
    "packed": ((VIRTIO_F_RING_PACKED,), False),
    "mrg_rxbuf": ((net.VIRTIO_NET_F_MRG_RXBUF,), False),
}
"""Option -> the features it offers, and whether it is on by default. MQ needs CTRL_VQ and more than one pair."""

PeerStep = Callable[[NetPeer, VdpasimVirtqueue, int], bool]
"""One chain of a queue of a pair; False when there is nothing to do."""


@attrs.define(eq=False)
class PeerBehaviour:
    """What the worker does."""

    def get_config(self, sim: VdpaSim) -> None:
        """Nothing: the device answers from its state."""

    def work(self, sim: VdpaSim) -> Steps:
        """One pass over all queues."""
        assert isinstance(sim, NetPeer)
        if not sim.has(VIRTIO_F_VERSION_1):
            return
        control = sim.control
        if control is not None and control < len(sim.vqs):
            yield from _serve(sim, control, ".ctrl", _control)
        for pair in range(sim.active):
            yield from _serve(sim, 2 * pair + 1, ".tx", _send)
            yield from _serve(sim, 2 * pair, ".rx", _receive)


def _serve(sim: NetPeer, index: int, point: str, step: PeerStep) -> Steps:
    # as long as there is something to do and budget for it
    vq = sim.vqs[index]
    done = 0
    try:
        while vq.ready and done < BUDGET:
            if sim.kernel.points:
                yield Point(sim.name + point)
            if not step(sim, vq, index // 2):
                break
            done += 1
        else:
            if vq.ready:
                sim.schedule_work()
    except KernelError:
        _error(sim)
    if done:
        yield from _interrupt(sim, vq)


def _interrupt(sim: NetPeer, vq: VdpasimVirtqueue) -> Steps:
    try:
        wanted = vq.vring.need_notify()
    except KernelError:
        _error(sim)
    else:
        if wanted:
            yield from sim.interrupt(vq)


def _error(sim: NetPeer) -> None:
    hit("peer.queue.error")
    sim.counts.errors += 1


@contextmanager
def _taken(vq: VdpasimVirtqueue, *heads: int) -> Generator[Callable[[int], None]]:
    # chains that are completed in order by what this yields, or given back, the last one first
    left = list(heads)

    def complete(length: int) -> None:
        vq.vring.complete(left[0], length)
        del left[0]

    try:
        yield complete
    except KernelError:
        for _ in left:
            vq.vring.abandon()
        raise


# -- transmit


def _send(sim: NetPeer, vq: VdpasimVirtqueue, pair: int) -> bool:
    chain = vq.vring.getdesc(writable=False)
    if chain is None:
        return False
    head, riov, _ = chain
    with _taken(vq, head) as complete:
        frame = vq.vring.pull(riov, HEADER + FRAME_MAX)[HEADER:]
        complete(0)
    if not sim.link or not sim.fits(frame):
        sim.counts.dropped += 1
        return True
    sim.counts.tx += 1
    sim.capture.add(sim.kernel.now, frame, outward=True)
    for reply in answer(sim.host, frame):
        sim.arrive(reply, pair)
    return True


# -- receive


def _receive(sim: NetPeer, vq: VdpasimVirtqueue, pair: int) -> bool:
    waiting = sim.backlog[pair]
    if not waiting:
        return False
    frame = waiting[0]
    several = sim.has(net.VIRTIO_NET_F_MRG_RXBUF)
    chains = _buffers(vq, HEADER + len(frame), several)
    if not chains:
        return False
    data = bytes(HEADER - 2) + len(chains).to_bytes(2, "little") + frame
    if sum(iov.total for _, iov in chains) < len(data):
        for _ in chains:
            vq.vring.abandon()
        if several:  # more buffers will make it enough
            return False
        hit("peer.rx.small")
        sim.counts.dropped += 1
        waiting.popleft()
        return True
    with _taken(vq, *(head for head, _ in chains)) as complete:
        _fill(vq, chains, data, complete)
    waiting.popleft()
    sim.counts.rx += 1
    sim.capture.add(sim.kernel.now, frame, outward=False)
    return True


def _buffers(vq: VdpasimVirtqueue, need: int, several: bool) -> list[tuple[int, Iov]]:
    # chains for so many bytes, or as many as there are: one, or several with MRG_RXBUF
    chains: list[tuple[int, Iov]] = []
    room = 0
    try:
        while room < need and (several or not chains):
            chain = vq.vring.getdesc(readable=False)
            if chain is None:
                break
            chains.append((chain[0], chain[2]))
            room += chain[2].total
    except KernelError:
        for _ in chains:
            vq.vring.abandon()
        raise
    return chains


def _fill(vq: VdpasimVirtqueue, chains: list[tuple[int, Iov]], data: bytes, complete: Callable[[int], None]) -> None:
    # all bytes first, so that a fault completes none
    lengths: list[int] = []
    for _, iov in chains:
        lengths.append(vq.vring.push(iov, data[sum(lengths) :]))
    for length in lengths:
        complete(length)


# -- control


def _control(sim: NetPeer, vq: VdpasimVirtqueue, pair: int) -> bool:
    chain = vq.vring.getdesc()
    if chain is None:
        return False
    head, riov, wiov = chain
    with _taken(vq, head) as complete:
        data = vq.vring.pull(riov, CTRL_MAX)
        understood = not riov.left and len(data) >= 2 and _command(sim, data[0], data[1], data[2:])
        written = vq.vring.push(wiov, bytes([net.VIRTIO_NET_OK if understood else net.VIRTIO_NET_ERR]))
        complete(written)
    sim.counts.commands += 1
    return True


def _command(sim: NetPeer, kind: int, command: int, payload: bytes) -> bool:
    # whether it was understood, and done
    if kind == net.VIRTIO_NET_CTRL_RX and sim.has(net.VIRTIO_NET_F_CTRL_RX):
        return sim.filter.set_mode(command, payload, extra=sim.has(net.VIRTIO_NET_F_CTRL_RX_EXTRA))
    if kind == net.VIRTIO_NET_CTRL_MAC:
        if command == net.VIRTIO_NET_CTRL_MAC_TABLE_SET and sim.has(net.VIRTIO_NET_F_CTRL_RX):
            return sim.filter.set_tables(payload)
        if command == net.VIRTIO_NET_CTRL_MAC_ADDR_SET and sim.has(net.VIRTIO_NET_F_CTRL_MAC_ADDR):
            return sim.filter.set_mac(payload)
    if kind == net.VIRTIO_NET_CTRL_MQ and sim.has(net.VIRTIO_NET_F_MQ):
        pairs_set = command == net.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET and len(payload) == 2
        return pairs_set and sim.set_active(int.from_bytes(payload, "little"))
    return False


# -- making one


def make(bus: VdpaBus, name: str, attributes: Attributes) -> VdpaDevice:
    """``vdpa dev add … mgmtdev net_peer [mac M] [mtu N] [max_vqp N]`` and the options.

    Raises:
        KernelError: EINVAL a malformed value, MQ without CTRL_VQ.
    """
    pairs, mtu = number(attributes, "max_vqp", 1), number(attributes, "mtu", DEFAULT_MTU)
    if not 1 <= pairs <= PAIRS_MAX or not MTU_MIN <= mtu <= 0xFFFF:
        raise bad_value()
    features = _features(attributes, pairs)
    control = features >> net.VIRTIO_NET_F_CTRL_VQ & 1
    groups = (0,) * (2 * pairs) + (1,) * control
    attr = SimAttr(EXTENSION, 1, len(groups), groups, 1 + control, features, CONFIG_SIZE)
    far = Host(_mac(attributes, "peer_mac", PEER_MAC), *_addresses(attributes))
    home = _mac(attributes, "mac", DEFAULT_MAC)
    device = partial(NetPeer, host=far, home=home, mtu=mtu, pairs=pairs)
    return create(bus, name, attributes, attr, PeerBehaviour(), make=device)


def _features(attributes: Attributes, pairs: int) -> int:
    on = {option: flag({option: attributes.get(option, default)}, option) for option, (_, default) in OPTIONS.items()}
    if "mq" in attributes and on["mq"] and not on["ctrl_vq"]:
        raise bad_value()
    on["mq"] = on["mq"] and on["ctrl_vq"] and pairs > 1
    bits = [*ALWAYS, *(bit for option, (some, _) in OPTIONS.items() if on[option] for bit in some)]
    return sum(1 << bit for bit in bits)


def _mac(attributes: Attributes, name: str, default: str) -> bytes:
    try:
        mac = bytes(int(part, 16) for part in str(attributes.get(name, default)).split(":"))
    except ValueError:
        raise bad_value() from None
    if len(mac) != 6 or mac[0] & 1:
        raise bad_value()
    return mac


def _addresses(attributes: Attributes) -> tuple[bytes, bytes]:
    try:
        ip4 = IPv4Address(str(attributes.get("ip4", DEFAULT_IP4)))
        ip6 = IPv6Address(str(attributes.get("ip6", DEFAULT_IP6)))
    except AddressValueError:
        raise bad_value() from None
    if ip4.is_multicast or ip6.is_multicast:
        raise bad_value()
    return ip4.packed, ip6.packed


MGMTDEV = MgmtDev(
    EXTENSION,
    1,
    frozenset({"mac", "mtu", "max_vqp", "device_features"}),
    frozenset({"use_va", "batch_mapping", "max_iotlb_entries", "advertise", "ip4", "ip6", "peer_mac", *OPTIONS}),
    make,
)


def mgmtdevs() -> list[MgmtDev]:
    """The management devices of this extension."""
    return [MGMTDEV]
