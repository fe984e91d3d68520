"""The dirty log of vhost-net: which guest pages the device wrote (mirrors the log half of vhost.c).

Theory. A VMM that migrates shares a bitmap (SET_LOG_BASE): bit n of it is guest page n, 4 KiB each whatever the page
size of the host. Two things are logged. *Buffers* of RX, once a frame is in them, while VHOST_F_LOG_ALL is acked. *The
used ring*, flags, elements, index and avail event, while its address was set with the log flag; without a device IOTLB
its guest address is the one given with it (``log_guest_addr``), with one that is ignored.

With a device IOTLB a descriptor holds an I/O address, which the bitmap does not know. So what was written is logged by
its user address, taken back through the memory table to *every* guest address that has it; a user range of
which no region has anything is EFAULT. SET_LOG_FD names an eventfd that is signalled when something was logged.

Not modelled: the order of bits within a word of a big-endian kernel, where vhost-net says so (``UNMODELLED``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.ports import PAGE_SHIFT, PAGE_SIZE
from vdpasim.core.rules import KernelError, fail, hit
from vdpasim.core.uaccess import access_ok
from vdpasim.uapi.virtio_config import VHOST_F_LOG_ALL

if TYPE_CHECKING:
    from vdpasim.core.vhost.iotlb import Iotlb
    from vdpasim.core.vhost.vhost import VhostVirtqueue
    from vdpasim.core.vhost.vhost_vq import Piece
    from vdpasim.uapi.abi import Abi


def log_access_ok(abi: Abi, base: int, addr: int, size: int) -> bool:
    """Whether the bits for ``size`` bytes at a guest address lie in the user part (``log_access_ok``): one a page."""
    start = base + addr // PAGE_SIZE // 8
    bits = PAGE_SIZE * 8
    return start < 1 << abi.bits and access_ok(abi, start, (size + bits - 1) // bits)


def memory_access_ok(abi: Abi, table: Iotlb, base: int | None) -> bool:
    """Whether every region lies in the user part, and its pages in a log at ``base`` (``vq_memory_access_ok``)."""
    for entry in table:
        size = entry.last - entry.start + 1
        if not access_ok(abi, entry.addr, size):
            return False
        if base is not None and not log_access_ok(abi, base, entry.start, size):
            return False
    return True


def vq_log_access_ok(vq: VhostVirtqueue, base: int, features: int) -> bool:
    """Whether a log at ``base`` holds all regions (with LOG_ALL) and the used ring (if it is logged)."""
    dev = vq.dev
    if dev.umem is None or not memory_access_ok(dev.kernel.abi, dev.umem, base if logs_all(features) else None):
        return False
    used_logged = vq.log_used and dev.iotlb is None
    return not used_logged or log_access_ok(dev.kernel.abi, base, vq.log_addr, 4 + 8 * vq.num)


def logs_all(features: int) -> bool:
    """Whether VHOST_F_LOG_ALL is among the features."""
    return bool(features >> VHOST_F_LOG_ALL & 1)


def log_write(vq: VhostVirtqueue, address: int, length: int) -> None:
    """Mark the pages of a range of guest addresses.

    Raises:
        KernelError: EFAULT the bitmap is not there.
    """
    if not length:
        return
    for page in range(address >> PAGE_SHIFT, (address + length - 1 >> PAGE_SHIFT) + 1):
        at = (vq.log_base or 0) + page // 8
        mm = vq.dev.mm
        byte = mm.read(at, 1) if mm is not None else b""
        if mm is None or not byte or not mm.write(at, bytes([byte[0] | 1 << page % 8])):
            raise fail("vhost.log.fault")


def log_write_hva(vq: VhostVirtqueue, hva: int, length: int) -> None:
    """Mark every guest page that a range of user addresses is.

    Raises:
        KernelError: EFAULT its first byte that is looked at is in no region.
    """
    found = False  # of any byte so far: behind one that was found, what is in no region is passed over
    while length:
        last, step = hva + length - 1, length
        for entry in vq.dev.umem or ():
            first = max(entry.addr, hva)
            size = min(entry.addr + entry.last - entry.start, last) - first + 1
            if size <= 0:
                continue
            found = True
            log_write(vq, entry.start + first - entry.addr, size)
            step = min(step, size)
        if not found:
            raise fail("vhost.log.unknown-hva")
        hva, length = hva + step, length - step


def signal_log(vq: VhostVirtqueue) -> None:
    """Tell the log's eventfd."""
    if vq.dev.log is not None:
        vq.dev.log.signal()


def vhost_log_write(vq: VhostVirtqueue, pieces: list[Piece], length: int) -> None:
    """Log a frame of ``length`` bytes that was put into these buffers (``vhost_log_write``).

    With a device IOTLB the buffers are logged whole, without it as far as the frame reaches.
    """
    if not logs_all(vq.acked_features):
        return
    try:
        # of old an I/O address was taken for a guest address
        if vq.dev.iotlb is not None and not vq.dev.kernel.on("bug-log-iova"):
            for piece in pieces:
                log_write_hva(vq, piece.uaddr, piece.length)
            return
        for piece in pieces:
            part = min(piece.length, length)
            log_write(vq, piece.iova, part)
            length -= part
            if not length:
                signal_log(vq)
                return
    except KernelError:
        hit("vhost.log.buffer-lost")
