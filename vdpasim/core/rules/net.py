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
        Rule("vq.translate.pieces", "vhost.c:translate_desc()", E.ENOBUFS, "the range lies in more pieces than there is room for"),
    ]
)
