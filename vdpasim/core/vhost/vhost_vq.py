"""The ring walk of vhost-net: prefetch, translation, descriptors, used ring (mirrors the vhost_virtqueue half of
vhost.c).

Theory. With a device IOTLB every address is an I/O address, and a byte without an entry queues a MISS and answers
EAGAIN. Without one, ring addresses are the owner's user addresses and buffers go through the memory table. Each round
starts with a *prefetch*: descriptor table, avail ring, used ring, in this order, each mapped whole or the round ends;
an area that lies in one entry is cached until the next UPDATE or INVALIDATE. A permission that is too small ends the
round without a MISS.

A head is taken only when its whole chain was walked and translated, so a bad chain is met again at every kick. Errors
other than a miss signal the error eventfd. Metadata accesses outside the cache ask for read permission even when they
write; a used ring mapped read-only is then written anyway, because only the entry's permission was asked.

Not modelled: busy polling, packed rings (vhost has none).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

from vdpasim.core.events import Kind
from vdpasim.core.faults import cut_short
from vdpasim.core.rules import KernelError, fail, hit
from vdpasim.core.vhost.vhost_log import log_write, log_write_hva, logs_all, signal_log
from vdpasim.core.vhost.vhost_msg import U64_MAX, vhost_iotlb_miss
from vdpasim.uapi import errno as E
from vdpasim.uapi.vhost_types import VHOST_ACCESS_RO, VHOST_ACCESS_WO
from vdpasim.uapi.virtio_config import VIRTIO_F_NOTIFY_ON_EMPTY
from vdpasim.uapi.virtio_ring import (
    VIRTIO_RING_F_EVENT_IDX,
    VRING_AVAIL_F_NO_INTERRUPT,
    VRING_DESC_F_INDIRECT,
    VRING_DESC_F_NEXT,
    VRING_DESC_F_WRITE,
    VRING_USED_F_NO_NOTIFY,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.core.ports import Mm
    from vdpasim.core.vhost.iotlb import Iotlb, Translation
    from vdpasim.core.vhost.vhost import VhostVirtqueue

METADATA_PIECES = 64
"""Room for the pieces of one metadata access."""
CHAIN_PIECES = 1024
"""Room for the pieces of one chain (UIO_MAXIOV)."""
INDIRECT_MAX = 0x1_0000
"""More descriptors in an indirect table are refused."""



class Piece(NamedTuple):
    """A run of a buffer in the owner's memory."""

    uaddr: int
    length: int
    iova: int


@attrs.define
class Chain:
    """A descriptor chain, translated."""

    head: int
    out: list[Piece]
    """What the device reads."""
    into: list[Piece]
    """What the device writes."""
    empty: int = 0
    """Writable descriptors of length 0, which are no pieces."""


def translate_desc(vq: VhostVirtqueue, addr: int, length: int, access: int, room: int) -> list[Piece]:
    """The pieces of a range.

    Raises:
        KernelError: EAGAIN after queueing a MISS, EFAULT, EPERM, ENOBUFS.
    """
    dev = vq.dev
    table = dev.iotlb if dev.iotlb is not None else dev.umem
    if table is None:
        raise fail("vq.translate.absent")
    found = table.translate(addr, length, access)
    # the room is looked at before each look-up, so a byte behind the last piece there is room for asks no question
    incomplete = found.miss is not None or found.denied is not None
    if len(found.pieces) > room or (incomplete and len(found.pieces) == room):
        raise fail("vq.translate.pieces")
    miss = found.miss if len(found.pieces) < 2 else _grown(vq, addr, length, found)
    if miss is not None:
        if dev.iotlb is None:
            raise fail("vq.translate.absent")
        vhost_iotlb_miss(vq, miss, access)
        raise fail("vq.translate.miss")
    if found.denied is not None:
        raise fail("vq.translate.perm")
    out: list[Piece] = []
    for _, uaddr, size in found.pieces:
        out.append(Piece(uaddr, size, addr))
        addr += size
    return out


def _grown(vq: VhostVirtqueue, addr: int, length: int, found: Translation) -> int | None:
    # the byte that has no translation; with the bug every piece is looked for up to the length of the whole behind it,
    # and where that wraps the range is degenerate and finds nothing
    if vq.dev.kernel.on("bug-lookup-grows"):
        at = addr
        for _, _, size in found.pieces[:-1]:
            at += size
            if at + length - 1 > U64_MAX:
                return at
    return found.miss


# -- ring metadata


def areas(vq: VhostVirtqueue) -> list[tuple[str, int, int, int]]:
    """(name, address, bytes, access) of the three areas, in the order they are prefetched."""
    extra = 2 if vq.has_feature(VIRTIO_RING_F_EVENT_IDX) else 0
    return [
        ("desc", vq.desc, 16 * vq.num, VHOST_ACCESS_RO),
        ("avail", vq.avail, 4 + 2 * vq.num + extra, VHOST_ACCESS_RO),
        ("used", vq.used, 4 + 8 * vq.num + extra, VHOST_ACCESS_WO),
    ]


def vq_meta_prefetch(vq: VhostVirtqueue) -> bool:
    """Whether the whole ring is mapped; the first byte that is not is asked for (``vq_meta_prefetch``)."""
    if vq.dev.kernel.on("F8") and not (vq.desc or vq.avail or vq.used):
        hit("vq.prefetch.no-ring")
        return False
    if vq.dev.iotlb is None:
        return True
    if vq.dev.kernel.on("bug-iotlb-recreate-cache"):
        _report_freed(vq)
    if vq.dev.kernel.on("bug-update-size-zero") and _spins(vq, vq.dev.iotlb):
        return False
    return all(_iotlb_access_ok(vq, *area) for area in areas(vq))


def _report_freed(vq: VhostVirtqueue) -> None:
    for name, entry in list(vq.meta_iotlb.items()):
        if not entry.live:
            vq.dev.kernel.violation(
                "kernel.oops", f"{vq.dev.name} queue {vq.index}: the {name} area would be reached through a freed entry"
            )
            del vq.meta_iotlb[name]


def _spins(vq: VhostVirtqueue, table: Iotlb) -> bool:
    # an entry of the whole address space had size 0, so from address 0 on a walk made no step; here it is two halves
    lower = table.itree_first(0, 0)
    upper = table.itree_first(U64_MAX, U64_MAX)
    whole = lower is not None and upper is not None and lower.last + 1 == upper.start == 1 << 63
    if not whole or 0 not in (vq.desc, vq.avail, vq.used):
        return False
    vq.dev.kernel.violation("kernel.hang", f"{vq.dev.name} queue {vq.index}: the walk from address 0 would never end")
    return True


def _iotlb_access_ok(vq: VhostVirtqueue, name: str, addr: int, length: int, access: int) -> bool:
    if name in vq.meta_iotlb:
        return True
    assert vq.dev.iotlb is not None
    found = vq.dev.iotlb.translate(addr, length, access)
    if found.miss is not None:
        vhost_iotlb_miss(vq, found.miss, access)
        return False
    if found.denied is not None:
        hit("vq.prefetch.perm")
        return False
    if len(found.pieces) == 1:
        vq.meta_iotlb[name] = found.pieces[0][0]
    return True


def metadata_uaddr(vq: VhostVirtqueue, area: str, addr: int, length: int) -> int:
    """The user address of a field of ring metadata (``__vhost_get_user``); a failure signals the error eventfd.

    Raises:
        KernelError: no translation, a miss included, or one in several pieces.
    """
    if vq.dev.iotlb is None:
        return addr
    cached = vq.meta_iotlb.get(area)
    if cached is not None:
        return cached.addr + addr - cached.start
    try:
        pieces = translate_desc(vq, addr, length, VHOST_ACCESS_RO, METADATA_PIECES)
    except KernelError:
        vq.signal_error()
        raise
    if len(pieces) != 1:
        vq.signal_error()
        raise fail("vq.metadata.split")
    return pieces[0].uaddr


def _owner(vq: VhostVirtqueue) -> Mm:
    if vq.dev.mm is None:
        raise fail("vq.copy")
    return vq.dev.mm


def _load(vq: VhostVirtqueue, iova: int, uaddr: int, length: int) -> bytes:
    kernel = vq.dev.kernel
    if kernel.sink:
        _observe(vq, iova, uaddr, length, VHOST_ACCESS_RO)
    if kernel.faults is not None and cut_short(kernel, "dma.read", vq.dev.name):
        return b""
    return _owner(vq).read(uaddr, length)


def _store(vq: VhostVirtqueue, iova: int, uaddr: int, data: bytes) -> int:
    kernel, done = vq.dev.kernel, 0
    if kernel.faults is None or not cut_short(kernel, "dma.write", vq.dev.name):
        done = _owner(vq).write(uaddr, data)
    if kernel.sink:
        # the place is known behind the write: a private page took the place of the file's only now
        _observe(vq, iova, uaddr, len(data), VHOST_ACCESS_WO)
    return done


def _observe(vq: VhostVirtqueue, iova: int, uaddr: int, length: int, access: int) -> None:
    # without a device IOTLB addresses go through the memory table, whose regions promise nothing
    entry = vq.dev.iotlb.itree_first(iova, iova) if vq.dev.iotlb is not None else None
    serial = entry.serial if entry is not None else 0
    place = tuple(_owner(vq).extents(uaddr, length))
    vq.dev.kernel.emit(Kind.DMA, vq.dev.name, vq.index, iova, length, access, serial, "va", place)


def _get(vq: VhostVirtqueue, area: str, addr: int, length: int) -> bytes:
    data = _load(vq, addr, metadata_uaddr(vq, area, addr, length), length)
    if len(data) < length:
        raise fail("vq.copy")
    return data


def _descriptor(vq: VhostVirtqueue, i: int) -> tuple[int, int, int, int]:
    # (address, length, flags, next); unlike a 16-bit field it may lie in several entries (vhost_copy_from_user)
    addr = vq.desc + 16 * i
    if vq.dev.iotlb is None or "desc" in vq.meta_iotlb:
        return vq.structs.desc.unpack(_get(vq, "desc", addr, 16))
    try:
        pieces = translate_desc(vq, addr, 16, VHOST_ACCESS_RO, METADATA_PIECES)
    except KernelError:
        vq.signal_error()
        raise
    return vq.structs.desc.unpack(b"".join([_copy_in(vq, piece) for piece in pieces]))


def _put(vq: VhostVirtqueue, area: str, addr: int, data: bytes) -> None:
    if _store(vq, addr, metadata_uaddr(vq, area, addr, len(data)), data) < len(data):
        raise fail("vq.copy")


def get_u16(vq: VhostVirtqueue, area: str, addr: int) -> int:
    """A 16-bit field of the ring.

    Raises:
        KernelError: it cannot be reached.
    """
    return int.from_bytes(_get(vq, area, addr, 2), vq.structs.byteorder)


def vhost_vq_init_access(vq: VhostVirtqueue) -> None:
    """Write used->flags and take over used->idx, at activation.

    Raises:
        KernelError: EFAULT.
    """
    try:
        _put(vq, "used", vq.used, vq.used_flags.to_bytes(2, vq.structs.byteorder))
    except KernelError:
        raise fail("net.backend.used") from None
    log_used(vq, 0, 2)
    vq.signalled_used = None
    try:
        vq.last_used_idx = get_u16(vq, "used", vq.used + 2)
    except KernelError:
        vq.signal_error()
        raise fail("net.backend.used") from None


def disable_notify(vq: VhostVirtqueue) -> None:
    """Ask the driver not to kick (``vhost_disable_notify``)."""
    if vq.used_flags & VRING_USED_F_NO_NOTIFY:
        return
    vq.used_flags |= VRING_USED_F_NO_NOTIFY
    if not vq.has_feature(VIRTIO_RING_F_EVENT_IDX):
        _put_or_signal(vq, vq.used, vq.used_flags)


def enable_notify(vq: VhostVirtqueue) -> bool:
    """Ask the driver to kick again; whether something new had slipped in (``vhost_enable_notify``)."""
    if not vq.used_flags & VRING_USED_F_NO_NOTIFY:
        return False
    vq.used_flags &= ~VRING_USED_F_NO_NOTIFY
    if vq.has_feature(VIRTIO_RING_F_EVENT_IDX):
        stored = _put_or_signal(vq, vq.used + 4 + 8 * vq.num, vq.avail_idx)
    else:
        stored = _put_or_signal(vq, vq.used, vq.used_flags)
    if not stored:
        return False
    known = vq.avail_idx
    try:
        _fetch_avail_idx(vq)
    except KernelError:
        return False
    # before F14 a chain that could not be served counted as new for ever
    return vq.avail_idx != (known if vq.dev.kernel.on("F14") else vq.last_avail_idx)


def _put_or_signal(vq: VhostVirtqueue, addr: int, value: int) -> bool:
    try:
        _put(vq, "used", addr, value.to_bytes(2, vq.structs.byteorder))
    except KernelError:
        vq.signal_error()
        return False
    log_used(vq, addr - vq.used, 2)
    return True


# -- chains


def _fetch_avail_idx(vq: VhostVirtqueue) -> None:
    # before F14 an index that is refused had been cached, and whoever came next served what it promises
    try:
        avail_idx = get_u16(vq, "avail", vq.avail + 2)
    except KernelError:
        vq.signal_error()
        raise
    jump = (avail_idx - vq.last_avail_idx) & 0xFFFF > vq.num
    if not jump or not vq.dev.kernel.on("F14"):
        vq.avail_idx = avail_idx
    if jump:
        vq.signal_error()
        raise fail("vq.avail.jump")


def vhost_get_vq_desc(vq: VhostVirtqueue, room: int = CHAIN_PIECES) -> Chain | None:
    """The next chain, translated into at most ``room`` pieces; None when there is none. Nothing is taken on failure.

    Raises:
        KernelError: EAGAIN a MISS was queued; anything else has signalled the error eventfd.
    """
    if vq.avail_idx == vq.last_avail_idx:
        _fetch_avail_idx(vq)
        if vq.avail_idx == vq.last_avail_idx:
            return None
    try:
        head = get_u16(vq, "avail", vq.avail + 4 + 2 * (vq.last_avail_idx & (vq.num - 1)))
        if head >= vq.num:
            raise fail("vq.chain.head")
        chain = Chain(head, [], [])
        _walk(vq, chain, room)
        if chain.empty:
            _check_log(vq, chain)
    except KernelError as error:
        if error.errno != E.EAGAIN:
            vq.signal_error()
        raise
    vq.last_avail_idx = (vq.last_avail_idx + 1) & 0xFFFF
    return chain


def _walk(vq: VhostVirtqueue, chain: Chain, room: int) -> None:
    i, found = chain.head, 0
    while True:
        if i >= vq.num:
            raise fail("vq.chain.next")
        found += 1
        if found > vq.num:
            raise fail("vq.chain.loop")
        addr, length, flags, following = _descriptor(vq, i)
        if flags & VRING_DESC_F_INDIRECT:
            _walk_indirect(vq, chain, room, addr, length)
        else:
            _take(vq, chain, room, addr, length, flags)
        if not flags & VRING_DESC_F_NEXT:
            return
        i = following


def _walk_indirect(vq: VhostVirtqueue, chain: Chain, room: int, table: int, size: int) -> None:
    # the table is read in sequence and only as far as the chain goes: whether there is one more is asked of NEXT, where
    # it is of nobody (from memory of get_indirect(), whose iterator only advances)
    if size % 16:
        raise fail("vq.indirect.length")
    pieces = translate_desc(vq, table, size, VHOST_ACCESS_RO, CHAIN_PIECES)
    if size // 16 > INDIRECT_MAX:
        raise fail("vq.indirect.size")
    for data in _sixteens(vq, pieces):
        addr, length, flags, _ = vq.structs.desc.unpack(data)
        if flags & VRING_DESC_F_INDIRECT:
            raise fail("vq.indirect.nested")
        _take(vq, chain, room, addr, length, flags)
        if not flags & VRING_DESC_F_NEXT:
            return
    raise fail("vq.indirect.loop")


def _sixteens(vq: VhostVirtqueue, pieces: list[Piece]) -> Iterator[bytes]:
    # what the pieces hold, a descriptor at a time, whose parts may lie in several
    data = b""
    for piece in pieces:
        at = 0
        while at < piece.length:
            size = min(16 - len(data), piece.length - at)
            data += _copy_in(vq, Piece(piece.uaddr + at, size, piece.iova + at))
            at += size
            if len(data) == 16:
                yield data
                data = b""


def _check_log(vq: VhostVirtqueue, chain: Chain) -> None:
    # of old every writable descriptor took an entry of the log's array, which has room for as many as there are pieces
    over = chain.empty + len(chain.into) - CHAIN_PIECES
    if over > 0 and logs_all(vq.acked_features) and vq.dev.kernel.on("bug-log-overflow"):
        vq.dev.kernel.violation("kernel.oops", f"{over} entries would be written behind the array of the log")


def _take(vq: VhostVirtqueue, chain: Chain, room: int, addr: int, length: int, flags: int) -> None:
    room -= len(chain.out) + len(chain.into)
    write = bool(flags & VRING_DESC_F_WRITE)
    pieces = translate_desc(vq, addr, length, VHOST_ACCESS_WO if write else VHOST_ACCESS_RO, room)
    if write and not length:
        chain.empty += 1
    if not write and chain.into:
        raise fail("vq.chain.order")
    (chain.into if write else chain.out).extend(pieces)


def _copy_in(vq: VhostVirtqueue, piece: Piece) -> bytes:
    data = _load(vq, piece.iova, piece.uaddr, piece.length)
    if len(data) < piece.length:
        raise fail("vq.copy")
    return data


def discard_vq_desc(vq: VhostVirtqueue, count: int = 1) -> None:
    """Give chains back to the ring (``vhost_discard_vq_desc``)."""
    vq.last_avail_idx = (vq.last_avail_idx - count) & 0xFFFF


# -- buffers


def gather(vq: VhostVirtqueue, pieces: list[Piece], skip: int = 0) -> bytes:
    """The bytes of a chain's readable part behind the first ``skip``.

    Raises:
        KernelError: EFAULT the memory is not there.
    """
    return b"".join([_copy_in(vq, piece) for piece in pieces])[skip:]


def scatter(vq: VhostVirtqueue, pieces: list[Piece], data: bytes) -> int:
    """Store into a chain's writable part; the bytes that fitted.

    Raises:
        KernelError: EFAULT the memory is not there.
    """
    done = 0
    for piece in pieces:
        part = data[done : done + piece.length]
        if not part:
            break
        if _store(vq, piece.iova, piece.uaddr, part) < len(part):
            raise fail("vq.copy")
        done += len(part)
    return done


# -- used ring


def log_used(vq: VhostVirtqueue, offset: int, length: int, *, signal: bool = True) -> None:
    """Log a write into the used ring, if that is wanted; what goes wrong is nobody's concern."""
    if not vq.log_used:
        return
    try:
        if vq.dev.iotlb is None:
            log_write(vq, vq.log_addr + offset, length)
        else:
            for piece in translate_desc(vq, vq.used + offset, length, VHOST_ACCESS_WO, METADATA_PIECES):
                log_write_hva(vq, piece.uaddr, piece.length)
    except KernelError:
        hit("vhost.log.used-lost")
    if signal:
        signal_log(vq)


def add_used_and_signal(vq: VhostVirtqueue, heads: list[tuple[int, int]]) -> None:
    """Put used elements (head, bytes written), move the index, interrupt if wanted
    (``vhost_add_used_and_signal_n``).
    """
    if not heads:
        return
    put_used(vq, heads)
    put_used_idx(vq, heads)
    signal_if_wanted(vq)


def put_used(vq: VhostVirtqueue, heads: list[tuple[int, int]]) -> None:
    """The elements of :func:`add_used_and_signal`; what could not be written is taken out of ``heads``.

    They are written in at most two runs, as the ring has an end, and each counts as a whole (``__vhost_add_used_n``).
    """
    done = 0
    while done < len(heads):
        start = vq.last_used_idx & (vq.num - 1)
        run = heads[done : done + vq.num - start]
        elements = b"".join([vq.structs.used_elem.pack(head, length) for head, length in run])
        try:
            _put_checked(vq, vq.used + 4 + 8 * start, elements)
        except KernelError:
            vq.signal_error()
            break
        log_used(vq, 4 + 8 * start, len(elements), signal=False)
        vq.last_used_idx = (vq.last_used_idx + len(run)) & 0xFFFF
        if vq.signalled_used is not None and (vq.last_used_idx - vq.signalled_used) & 0xFFFF < len(run):
            vq.signalled_used = None  # the index went all the way round since
        done += len(run)
    del heads[done:]


def put_used_idx(vq: VhostVirtqueue, heads: list[tuple[int, int]]) -> None:
    """The index that makes them visible, unless they could not be written."""
    if not heads:
        return
    try:
        _put(vq, "used", vq.used + 2, vq.last_used_idx.to_bytes(2, vq.structs.byteorder))
        log_used(vq, 2, 2)
    except KernelError:
        vq.signal_error()
        return
    if vq.dev.kernel.sink:
        new, old = vq.last_used_idx, (vq.last_used_idx - len(heads)) & 0xFFFF
        vq.dev.kernel.emit(Kind.USED, vq.dev.name, vq.index, old, new, None, vq.last_avail_idx)


def signal_if_wanted(vq: VhostVirtqueue) -> None:
    """Interrupt the driver unless it wants none (``vhost_signal``); without a call eventfd nobody is asked."""
    if vq.call is None or _wants_interrupt(vq):
        vq.signal_call()
    elif vq.dev.kernel.sink:
        vq.dev.kernel.emit(Kind.QUIET, vq.dev.name, vq.index, "driver")


def _put_checked(vq: VhostVirtqueue, addr: int, data: bytes) -> None:
    # used elements are written with the right permission, in as many pieces as it takes
    if vq.dev.iotlb is None or "used" in vq.meta_iotlb:
        _put(vq, "used", addr, data)
        return
    done = 0
    for piece in translate_desc(vq, addr, len(data), VHOST_ACCESS_WO, METADATA_PIECES):
        part = data[done : done + piece.length]
        if _store(vq, piece.iova, piece.uaddr, part) < len(part):
            raise fail("vq.copy")
        done += piece.length


def _wants_interrupt(vq: VhostVirtqueue) -> bool:
    if vq.has_feature(VIRTIO_F_NOTIFY_ON_EMPTY) and vq.avail_idx == vq.last_avail_idx:
        return True
    try:
        if not vq.has_feature(VIRTIO_RING_F_EVENT_IDX):
            return not get_u16(vq, "avail", vq.avail) & VRING_AVAIL_F_NO_INTERRUPT
        old, vq.signalled_used = vq.signalled_used, vq.last_used_idx
        if old is None:
            return True
        event = get_u16(vq, "avail", vq.avail + 4 + 2 * vq.num)
    except KernelError:
        vq.signal_error()
        return True
    return (vq.last_used_idx - event - 1) & 0xFFFF < (vq.last_used_idx - old) & 0xFFFF
