"""Rules of the IOTLB container (``drivers/vhost/iotlb.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

_ADD = "iotlb.c:vhost_iotlb_add_range_ctx()"

register(
    [
        Rule("iotlb.add.wraps", _ADD, E.EFAULT, "last is below start: the range wraps"),
        Rule("iotlb.add.limit-zero", _ADD, E.EINVAL, "the table's limit is 0", switches=("F1",)),
        Rule("iotlb.add.full", _ADD, E.ENOSPC, "the table is full and does not retire its oldest entry", switches=("F1",)),
        Rule("iotlb.add.retire", _ADD, 0, "the table is full: the entry inserted first gives way without a word"),
        Rule("iotlb.add.split-all", _ADD, 0, "[0, 2^64-1] becomes two entries, because its size does not fit 64 bits"),
    ]
)
