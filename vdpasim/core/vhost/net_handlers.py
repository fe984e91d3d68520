"""The TX and RX rounds of vhost-net (mirrors handle_tx_copy() and handle_rx() of drivers/vhost/net.c).

Theory. A round begins with the prefetch and with asking the driver not to kick, and goes on until nothing is left, an
error stops it "until the next kick", or its weight (256 packets or 512 KiB) is used up and it queues itself again. TX
hands each chain to the socket without the header vhost strips; used elements are put in batches of 64 and at the end.
RX takes as many chains as the frame needs (several only with mergeable buffers, and then up to 1024); a frame that does
not fit is dropped and the chains go back to the ring.

Which header belongs to whom: with VHOST_NET_F_VIRTIO_NET_HDR vhost strips and supplies it, otherwise the socket does
(a tap with vnet headers).

Not modelled: zero-copy TX (off by default), XDP batching as such (its failures are), busy polling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.kernel import Point, Steps
from vdpasim.core.rules import KernelError, hit
from vdpasim.core.vhost.vhost_log import vhost_log_write
from vdpasim.core.vhost.vhost_vq import (
    CHAIN_PIECES,
    Chain,
    add_used_and_signal,
    disable_notify,
    discard_vq_desc,
    enable_notify,
    gather,
    put_used,
    put_used_idx,
    scatter,
    signal_if_wanted,
    vhost_get_vq_desc,
    vq_meta_prefetch,
)
from vdpasim.uapi.virtio_config import VIRTIO_F_VERSION_1
from vdpasim.uapi.virtio_net import (
    VHOST_NET_F_VIRTIO_NET_HDR,
    VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
    VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO,
    VIRTIO_NET_F_MRG_RXBUF,
)

if TYPE_CHECKING:
    from vdpasim.core.net.tun import SocketFile
    from vdpasim.core.vhost.net import VhostNet
    from vdpasim.core.vhost.vhost import VhostVirtqueue

BATCH = 64
PACKET_WEIGHT = 256
BYTE_WEIGHT = 0x80000
FRAME_MAX = 0x1_0000 + 64
"""A socket refuses longer ones; the chain is completed and the frame is lost."""
NUM_BUFFERS_AT = 10
"""Offset of ``num_buffers`` in the mergeable header."""


def header_lengths(vq: VhostVirtqueue) -> tuple[int, int]:
    """(bytes vhost strips and supplies, bytes the socket does)."""
    if vq.has_feature(VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO) or vq.has_feature(VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO):
        length = 24
    elif vq.has_feature(VIRTIO_NET_F_MRG_RXBUF) or vq.has_feature(VIRTIO_F_VERSION_1):
        length = 12
    else:
        length = 10
    return (length, 0) if vq.has_feature(VHOST_NET_F_VIRTIO_NET_HDR) else (0, length)


def _prepare(vq: VhostVirtqueue) -> SocketFile | None:
    # the backend, if the queue has one and its ring is there
    sock = vq.private_data
    if sock is None or not vq_meta_prefetch(vq):
        return None
    disable_notify(vq)
    return sock


def handle_tx(net: VhostNet, vq: VhostVirtqueue) -> Steps:
    """One TX round (``handle_tx_copy``)."""
    sock = _prepare(vq)
    if sock is None:
        return
    heads: list[tuple[int, int]] = []
    packets = total = 0
    while packets < PACKET_WEIGHT and total < BYTE_WEIGHT:
        if net.kernel.points:
            yield Point(net.name + ".descriptor")
        if len(heads) == BATCH:
            yield from _put_back(net, vq, heads)
            heads = []
        try:
            chain = vhost_get_vq_desc(vq)
        except KernelError:
            break
        if chain is None:
            if enable_notify(vq):
                disable_notify(vq)
                continue
            break
        if net.kernel.points:
            yield Point(net.name + ".data")
        length = _transmit(vq, sock, chain)
        if length is None:
            break
        heads.append((chain.head, 0))
        packets += 1
        total += length
    else:
        hit("net.weight")
        net.queue_handler(vq)
    yield from _put_back(net, vq, heads)


def _put_back(net: VhostNet, vq: VhostVirtqueue, heads: list[tuple[int, int]]) -> Steps:
    # what was served goes into the used ring; the element, the index and the interrupt can be seen apart
    if not heads:
        return
    if not net.kernel.points:
        add_used_and_signal(vq, heads)
        return
    yield Point(net.name + ".used-element")
    put_used(vq, heads)
    yield Point(net.name + ".used-index")
    put_used_idx(vq, heads)
    yield Point(net.name + ".signal")
    signal_if_wanted(vq)


def _transmit(vq: VhostVirtqueue, sock: SocketFile, chain: Chain) -> int | None:
    # bytes handed to the socket; None stops the round
    vhost_hlen, _ = header_lengths(vq)
    length = sum(piece.length for piece in chain.out) - vhost_hlen
    if chain.into or length <= 0:
        hit("net.tx.format")
        vq.signal_error()
        return None
    if length > FRAME_MAX:
        hit("net.tx.too-long")
        return length
    try:
        data = gather(vq, chain.out, vhost_hlen)
    except KernelError:
        hit("net.tx.fault")
        discard_vq_desc(vq)
        return None
    sock.transmit(data)
    return length


def handle_rx(net: VhostNet, vq: VhostVirtqueue) -> Steps:
    """One RX round (``handle_rx``)."""
    sock = _prepare(vq)
    if sock is None:
        return
    net.stop_waiting(vq)
    heads: list[tuple[int, int]] = []
    packets = total = 0
    while packets < PACKET_WEIGHT and total < BYTE_WEIGHT:
        if net.kernel.points:
            yield Point(net.name + ".descriptor")
        frame = sock.peek_frame()
        if frame is None:
            net.wait_for_frame(vq, sock)
            break
        done = _receive(vq, sock, frame, heads)
        if done is None:
            break
        if len(heads) > BATCH:
            yield from _put_back(net, vq, heads)
            heads = []
        packets += 1
        total += done
    else:
        hit("net.weight")
        net.queue_handler(vq)
    yield from _put_back(net, vq, heads)


def _receive(vq: VhostVirtqueue, sock: SocketFile, frame: bytes, heads: list[tuple[int, int]]) -> int | None:
    # bytes taken from the socket; None stops the round
    vhost_hlen, sock_hlen = header_lengths(vq)
    data = bytes(vhost_hlen or sock_hlen) + frame
    mergeable = vq.has_feature(VIRTIO_NET_F_MRG_RXBUF)
    chains = get_rx_bufs(vq, len(data), CHAIN_PIECES if mergeable else 1)
    if chains is None:
        return None
    over = len(heads) + len(chains) - CHAIN_PIECES
    if over > 0 and vq.dev.kernel.on("bug-rx-heads"):
        # of old the array had no room for those that wait to be put while a frame takes all that one may
        vq.dev.kernel.violation("kernel.oops", f"{over} used elements would be written behind the array of heads")
    if not chains:
        if enable_notify(vq):
            disable_notify(vq)
            return 0
        return None
    sock.take_frame()
    if sum(_room(chain) for chain in chains) < len(data):
        hit("net.rx.overrun")
        discard_vq_desc(vq, len(chains))
        return len(data)
    alone = not mergeable and vq.has_feature(VIRTIO_F_VERSION_1) and vq.dev.kernel.on("vhost-num-buffers")
    if alone:
        hit("net.rx.num-buffers")
    if mergeable or alone:
        data = data[:NUM_BUFFERS_AT] + len(chains).to_bytes(2, vq.structs.byteorder) + data[NUM_BUFFERS_AT + 2 :]
    filled: list[tuple[int, int]] = []
    done = 0
    try:
        for chain in chains:
            stored = scatter(vq, chain.into, data[done:])
            filled.append((chain.head, stored))
            done += stored
    except KernelError:
        hit("net.rx.fault")
        discard_vq_desc(vq, len(chains))
        return len(data)
    heads += filled
    vhost_log_write(vq, [piece for chain in chains for piece in chain.into], done)
    return done


def _room(chain: Chain) -> int:
    return sum(piece.length for piece in chain.into)


def get_rx_bufs(vq: VhostVirtqueue, length: int, quota: int) -> list[Chain] | None:
    """Chains for ``length`` bytes, at most ``quota``; none if the ring has not enough, None after an error."""
    chains: list[Chain] = []
    room = CHAIN_PIECES  # for the pieces of all of them together
    while length > 0 and len(chains) < quota:
        if not room:
            hit("net.rx.pieces")
            discard_vq_desc(vq, len(chains))
            return None
        try:
            chain = vhost_get_vq_desc(vq, room)
        except KernelError:
            discard_vq_desc(vq, len(chains))
            return None
        if chain is None:
            discard_vq_desc(vq, len(chains))
            return []
        if chain.out or not chain.into:
            hit("net.rx.format")
            vq.signal_error()
            discard_vq_desc(vq, len(chains))
            return None
        chains.append(chain)
        length -= _room(chain)
        room -= len(chain.into)
    return chains
