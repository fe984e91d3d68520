"""Rules of the host side of a split ring (``drivers/vhost/vringh.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

_GETDESC = "vringh.c:__vringh_iov()"

register(
    [
        Rule("vringh.head", "vringh.c:__vringh_get_head()", E.EINVAL, "a head index is not below the ring size",
             "the avail index does not move: the queue is stuck on it for good"),
        Rule("vringh.chain.next", _GETDESC, E.EINVAL, "a next index is beyond the table", "the chain is consumed and never returned"),
        Rule("vringh.chain.loop", _GETDESC, E.ELOOP, "more descriptors than the ring holds", "the chain is consumed and never returned"),
        Rule("vringh.chain.order", _GETDESC, E.EINVAL, "a readable descriptor after a writable one", "the chain is consumed and never returned"),
        Rule("vringh.chain.direction", _GETDESC, E.EINVAL, "a descriptor of a direction the queue does not take"),
        Rule("vringh.indirect.length", _GETDESC, E.EINVAL, "an indirect table's length is not a multiple of 16"),
        Rule("vringh.indirect.nested", _GETDESC, E.EINVAL, "an indirect table inside an indirect table"),
        Rule("vringh.iotlb.absent", "vringh.c:iotlb_translate()", E.EINVAL, "no entry for a byte of the access"),
        Rule("vringh.iotlb.perm", "vringh.c:iotlb_translate()", E.EPERM, "the entry lacks the permission"),
        Rule("vringh.iotlb.split", "vringh.c:iotlb_translate()", E.ENOBUFS, "a 16-bit field lies across two entries"),
        Rule("vringh.copy", "vringh.c:xfer_from_iotlb()", E.EFAULT, "a bulk copy failed: any translation error, or a fault of the memory behind it"),
        Rule("vringh.used-idx-read-perm", "vringh.c:putu16_iotlb()", 0, "the used index is written though only the read permission was checked",
             switches=("used-idx-read-perm",)),
    ]
)
