"""Translation and ring metadata access of a generic vhost queue (mirrors translate_desc() and vhost_vq_init_access() of
vhost.c).

Theory. With a device IOTLB every address is an I/O address, and a byte without an entry queues a MISS and answers
EAGAIN. Without one, ring addresses are the owner's user addresses and buffers go through the memory table. Metadata
accesses in the slow path ask for read permission even when they write; a used ring that is mapped read-only is then
written anyway, because only the entry's permission was asked and the memory behind it is writable.

Not modelled here yet: the ring walk itself. A queue with a backend that is kicked says so (``UNMODELLED``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.rules import KernelError, fail
from vdpasim.core.vhost.vhost_msg import vhost_iotlb_miss
from vdpasim.uapi.vhost_types import VHOST_ACCESS_RO

if TYPE_CHECKING:
    from vdpasim.core.vhost.vhost import VhostVirtqueue

METADATA_PIECES = 64
"""Room for the pieces of one metadata access."""


def translate_desc(vq: VhostVirtqueue, addr: int, length: int, access: int, room: int) -> list[tuple[int, int]]:
    """(user address, length) pieces of a range.

    Raises:
        KernelError: EAGAIN after queueing a MISS, EFAULT, EPERM, ENOBUFS.
    """
    dev = vq.dev
    table = dev.iotlb if dev.iotlb is not None else dev.umem
    if table is None:
        raise fail("vq.translate.absent")
    found = table.translate(addr, length, access)
    if len(found.pieces) > room:
        raise fail("vq.translate.pieces")
    if found.miss is not None:
        if dev.iotlb is None:
            raise fail("vq.translate.absent")
        vhost_iotlb_miss(vq, found.miss, access)
        raise fail("vq.translate.miss")
    if found.denied is not None:
        raise fail("vq.translate.perm")
    return [(uaddr, size) for _, uaddr, size in found.pieces]


def metadata_uaddr(vq: VhostVirtqueue, addr: int, length: int) -> int:
    """The user address of a field of ring metadata (``__vhost_get_user``); a failure signals the error eventfd, a
    miss too.
    """
    if vq.dev.iotlb is None:
        return addr
    try:
        pieces = translate_desc(vq, addr, length, VHOST_ACCESS_RO, METADATA_PIECES)
    except KernelError:
        vq.signal_error()
        raise
    if len(pieces) != 1:
        vq.signal_error()
        raise fail("net.backend.used")
    return pieces[0][0]


def vhost_vq_init_access(vq: VhostVirtqueue) -> None:
    """Write used->flags and take over used->idx, at activation.

    Raises:
        KernelError: EFAULT.
    """
    try:
        flags = metadata_uaddr(vq, vq.used, 2)
    except KernelError:
        raise fail("net.backend.used") from None
    mm = vq.dev.mm
    if mm is None or mm.write(flags, b"\0\0") < 2:
        raise fail("net.backend.used")
    try:
        idx = mm.read(metadata_uaddr(vq, vq.used + 2, 2), 2)
    except KernelError:
        raise fail("net.backend.used") from None
    if len(idx) < 2:
        vq.signal_error()
        raise fail("net.backend.used")
    vq.last_used_idx = int.from_bytes(idx, vq.dev.kernel.abi.byteorder)
