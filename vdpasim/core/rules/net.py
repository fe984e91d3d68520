"""Rules of vhost-net (``drivers/vhost/net.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

_BACKEND = "net.c:vhost_net_set_backend()"

register(
    [
        Rule("net.features.unknown", "net.c:vhost_net_ioctl()", E.EOPNOTSUPP, "a feature vhost-net does not offer"),
        Rule("net.features.log", "net.c:vhost_net_set_features()", E.EFAULT, "LOG_ALL and an active queue's memory or log range is bad"),
        Rule("net.features.iotlb-new", "vhost.c:vhost_init_device_iotlb()", 0, "ACCESS_PLATFORM makes a new empty device IOTLB, each time"),
        Rule("net.features.rings-wiped", "vhost.c:vhost_init_device_iotlb()", 0, "the first device IOTLB wipes the ring addresses", switches=("F8",)),
        Rule("net.features.iotlb-gone", "net.c:vhost_net_set_features()", 0, "without ACCESS_PLATFORM the device IOTLB is discarded", switches=("F9",)),
        Rule("net.features.array-unknown", "net.c:vhost_net_ioctl()", E.EOPNOTSUPP, "a word beyond the known ones is not zero", switches=("features-array",)),
        Rule("net.features.array-zero-fill", "net.c:vhost_net_ioctl()", 0, "a count above 2 zeroes from word 0 on instead of behind the known words",
             switches=("bug-features-array-zero-fill",)),
        Rule("net.backend-features.unknown", "net.c:vhost_net_ioctl()", E.EOPNOTSUPP, "a backend feature other than MSG_V2"),
        Rule("net.backend.index", _BACKEND, E.ENOBUFS, "a queue other than 0 and 1"),
        Rule("net.backend.access", _BACKEND, E.EFAULT, "there is no memory table, or a ring or region is outside the user half",
             "for fd -1 and in IOTLB mode too: SET_MEM_TABLE, of an empty table at least, must come first"),
        Rule("net.backend.not-socket", _BACKEND, E.ENOTSOCK, "neither a raw packet socket nor a tun/tap file, a closed descriptor included"),
        Rule("net.backend.used", "vhost.c:vhost_vq_init_access()", E.EFAULT, "the used ring cannot be written or read",
             "in IOTLB mode an unmapped used ring queues a MISS with perm RO"),
        Rule("net.backend.poll", "vhost.c:vhost_poll_start()", E.EINVAL, "the backend reports an error when polled: a tun file without interface"),
        Rule("vq.translate.miss", "vhost.c:translate_desc()", E.EAGAIN, "no device IOTLB entry for a byte: a MISS is queued"),
        Rule("vq.translate.absent", "vhost.c:translate_desc()", E.EFAULT, "no memory table entry for a byte"),
        Rule("vq.translate.perm", "vhost.c:translate_desc()", E.EPERM, "the entry lacks the permission"),
        Rule("vq.translate.pieces", "vhost.c:translate_desc()", E.ENOBUFS, "the range lies in more pieces than there is room for", "asked before each look-up: what lies behind the last piece asks no question"),
        Rule("vq.prefetch.no-ring", "vhost.c:vq_meta_prefetch()", 0, "all three ring addresses are zero: the queue is not ready, quietly", switches=("F8",)),
        Rule("vq.prefetch.perm", "vhost.c:iotlb_access_ok()", 0, "a ring area is mapped without the permission: the round ends without a MISS and without an error",
             "the queue stalls until the mapping is invalidated and made again"),
        Rule("vq.metadata.split", "vhost.c:__vhost_get_user_slow()", E.EFAULT, "a ring field lies across two entries"),
        Rule("vq.copy", "vhost.c:vhost_copy_from_user()", E.EFAULT, "the owner's memory is not there"),
        Rule("vq.avail.jump", "vhost.c:vhost_get_avail_idx()", E.EINVAL, "the avail index moved by more than the ring holds"),
        Rule("vq.chain.head", "vhost.c:vhost_get_vq_desc()", E.EINVAL, "a head index is not below the ring size", "it is met again at every kick"),
        Rule("vq.chain.next", "vhost.c:vhost_get_vq_desc()", E.EINVAL, "a next index is not below the ring size", "the chain is met again at every kick"),
        Rule("vq.chain.loop", "vhost.c:vhost_get_vq_desc()", E.EINVAL, "more links than the ring holds"),
        Rule("vq.chain.order", "vhost.c:vhost_get_vq_desc()", E.EINVAL, "a readable descriptor after a writable one"),
        Rule("vq.indirect.length", "vhost.c:get_indirect()", E.EINVAL, "an indirect table's length is not a multiple of 16"),
        Rule("vq.indirect.size", "vhost.c:get_indirect()", E.E2BIG, "an indirect table of more than 65536 descriptors"),
        Rule("vq.indirect.loop", "vhost.c:get_indirect()", E.EINVAL, "an indirect chain longer than its table", "the table is read in sequence and its next fields are not looked at", source="inferred"),
        Rule("vq.indirect.nested", "vhost.c:get_indirect()", E.EINVAL, "an indirect table inside an indirect table"),
        Rule("net.socket.empty", "datagram.c:__skb_recv_datagram()", E.EAGAIN, "no frame waits on a packet socket that does not block"),
        Rule("net.weight", "vhost.c:vhost_exceeds_weight()", 0, "256 packets or 512 KiB in a round: the queue runs again after the others"),
        Rule("net.tx.format", "net.c:get_tx_bufs()", 0, "a TX chain with writable parts, or with nothing behind the header vhost strips: error event, the round ends"),
        Rule("net.tx.too-long", "net.c:handle_tx_copy()", 0, "the socket refuses a frame of more than 64 KiB: it is lost, its chain completes", source="inferred"),
        Rule("net.tx.fault", "net.c:vhost_net_build_xdp()", 0, "the memory of a TX buffer is not there: the chain goes back to the ring"),
        Rule("net.rx.format", "net.c:get_rx_bufs()", 0, "an RX chain with readable parts: error event, the round ends"),
        Rule("net.rx.num-buffers", "net.c:handle_rx()", 0, "num_buffers is 1 with VERSION_1 and without MRG_RXBUF", "the standard wants it written; older kernels left it zero",
             switches=("vhost-num-buffers",), source="inferred"),
        Rule("net.rx.pieces", "net.c:get_rx_bufs()", E.ENOBUFS, "the chains taken for a frame have used up the room for pieces: they go back to the ring, the frame waits, the round ends",
             "the 1024 pieces are for all chains of the frame together", source="inferred"),
        Rule("net.rx.overrun", "net.c:handle_rx()", 0, "the frame does not fit the buffers: it is dropped and the chains go back to the ring"),
        Rule("net.rx.fault", "net.c:handle_rx()", 0, "the memory of an RX buffer is not there: the frame is lost and the chains go back to the ring"),
    ]
)
