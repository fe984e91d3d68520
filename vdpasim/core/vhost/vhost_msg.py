"""IOTLB messages: write(), read(), poll() and the life of a miss (mirrors vhost_chr_write_iter() and neighbours of
vhost.c).

Theory, write. Four bytes of type word decide how many bytes are skipped before the message: the hole of v1 (4 bytes
where u64 is 8-aligned, none on i386) or the asid word of v2. Then 32 (28) bytes of message are taken, and nothing else
of the 72 is ever looked at: 40 bytes are enough, and the return value is a constant, the size of the whole structure.
All copies are of the short kind, so a bad pointer is a short message, EINVAL. Whatever the handler says is turned into
EFAULT; the call keeps both errnos.

Theory, read. Two lists: messages nobody has read (*read list*) and misses that were read and wait for an UPDATE
(*pending list*). An UPDATE wakes a queue only for pending misses whose address it covers; answered before it was read,
a miss stays in the read list and wakes nobody. The format of a message is fixed when it is queued.

Not modelled: the limit on outstanding misses per queue (F12): only its title is known, so it is unlimited.
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

import attrs

from vdpasim.core.events import NO_COPY, Kind
from vdpasim.core.faults import befall, swallow
from vdpasim.core.kernel import Point, Sleep, Steps, Woken
from vdpasim.core.rules import KernelError, fail, hit
from vdpasim.core.uaccess import access_ok
from vdpasim.uapi.fcntl import POLLIN, POLLRDNORM
from vdpasim.uapi.layout import layout
from vdpasim.uapi.message import TYPE_NAMES
from vdpasim.uapi.vhost_types import (
    VHOST_ACCESS_RW,
    VHOST_BACKEND_F_IOTLB_ASID,
    VHOST_BACKEND_F_IOTLB_MSG_V2,
    VHOST_IOTLB_INVALIDATE,
    VHOST_IOTLB_MISS,
    VHOST_IOTLB_MSG,
    VHOST_IOTLB_MSG_V2,
    VHOST_IOTLB_UPDATE,
    vhost_iotlb_msg,
    vhost_msg,
    vhost_msg_v2,
)

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call, Kernel
    from vdpasim.core.ports import Caller
    from vdpasim.core.uaccess import UserBuffer
    from vdpasim.core.vhost.iotlb import IotlbMap
    from vdpasim.core.vhost.vhost import VhostDev, VhostVirtqueue
    from vdpasim.uapi.abi import Abi

U64_MAX = (1 << 64) - 1


class IotlbMsg(NamedTuple):
    """``struct vhost_iotlb_msg``."""

    iova: int
    size: int
    uaddr: int
    perm: int
    type: int


class Codec(NamedTuple):
    """How one ABI lays out the two message formats."""

    word: Struct
    """The type word, signed."""
    asid: Struct
    msg: Struct
    """iova, size, uaddr, perm, type."""
    v2: Struct
    """A whole message in the second format: type word, asid, then as ``msg``."""
    v1_offset: int
    v2_offset: int
    msg_size: int
    """Bytes of the inner message that must be there, padding included."""
    v1_size: int
    v2_size: int


@cache
def codec(abi: Abi) -> Codec:
    """The message layouts of an ABI, computed once."""
    order = "<" if abi.byteorder == "little" else ">"
    v1, v2 = layout(vhost_msg, abi), layout(vhost_msg_v2, abi)
    return Codec(
        Struct(order + "i"),
        Struct(order + "I"),
        Struct(order + "QQQBB"),
        Struct(order + "iIQQQBB"),
        v1.offset("iotlb"),
        v2.offset("iotlb"),
        layout(vhost_iotlb_msg, abi).size,
        v1.size,
        v2.size,
    )


@attrs.define(eq=False)
class Miss:
    """A queued message to user space (``struct vhost_msg_node``); only misses are ever produced."""

    vq: VhostVirtqueue
    iova: int
    """First unmapped byte, not aligned."""
    perm: int
    """VHOST_ACCESS_RO or VHOST_ACCESS_WO, as wanted."""
    v2: bool

    def encode(self, abi: Abi) -> bytes:
        """The message as read() returns it: every byte that is not a field is zero."""
        shape = codec(abi)
        offset, size = (shape.v2_offset, shape.v2_size) if self.v2 else (shape.v1_offset, shape.v1_size)
        data = bytearray(size)
        shape.word.pack_into(data, 0, VHOST_IOTLB_MSG_V2 if self.v2 else VHOST_IOTLB_MSG)
        shape.msg.pack_into(data, offset, self.iova, 0, 0, self.perm, VHOST_IOTLB_MISS)
        return bytes(data)


# -- write


def vhost_chr_write_iter(dev: VhostDev, call: Call, buffer: UserBuffer) -> Steps:
    """write() of one message; the constant size of its format.

    Raises:
        KernelError: EINVAL for bytes that are no message, EFAULT for anything the handler refuses.
    """
    shape = dev.codec
    if dev.kernel.points:
        yield Point(dev.name + ".write.copy")
    asid, msg, ret = decode_msg(dev, shape, buffer.peek(0, shape.v2_size))
    dev.messages_written += 1
    if dev.kernel.faults is not None and (yield from _befall(dev, msg)):
        return ret
    if dev.kernel.on("bug-message-unlocked"):
        yield from _unlocked(dev, call.task, asid, msg)
        return ret
    yield from dev.mutex.lock()
    try:
        if dev.walks_rings:
            yield from dev.quiesce()
        _process(dev, call.task, asid, msg)
    finally:
        dev.mutex.unlock()
    return ret


def _unlocked(dev: VhostDev, task: Caller, asid: int, msg: IotlbMsg) -> Steps:
    # of old the handler took no lock: the table it had looked up could go while it worked on it
    table = dev.iotlb
    if dev.kernel.points:
        yield Point(dev.name + ".write.handler")
    if table is not None and dev.iotlb is not table:
        dev.kernel.violation("kernel.oops", f"{dev.name}: a message would change a device IOTLB that was freed")
        raise _hidden(fail("vhost.msg.no-iotlb"))
    _process(dev, task, asid, msg)


def vhost_chr_write(dev: VhostDev, task: Caller, data: bytes) -> int:
    """:func:`vhost_chr_write_iter` in one step, for when nothing else can run: the mutex is free and nobody watches.

    Raises:
        KernelError: as there.
    """
    asid, msg, ret = decode_msg(dev, dev.codec, data)
    dev.messages_written += 1
    _process(dev, task, asid, msg)
    return ret


def _process(dev: VhostDev, task: Caller, asid: int, msg: IotlbMsg) -> None:
    # whatever the handler says, the writer sees EFAULT
    try:
        dev.process_msg(task, asid, msg)
    except KernelError as error:
        raise _hidden(error) from None


def _hidden(error: KernelError) -> KernelError:
    return KernelError(fail("vhost.msg.handler").errno, error.rule, error.errno)


def _befall(dev: VhostDev, msg: IotlbMsg) -> Steps:
    # what a fault plan does to a message is done where its handler would begin; MISS is for those the device queues
    name = TYPE_NAMES.get(msg.type, "").removeprefix("VHOST_IOTLB_")
    if msg.type == VHOST_IOTLB_MISS or not name:
        return False
    try:
        return (yield from befall(dev.kernel, name, dev.name))
    except KernelError as error:
        raise _hidden(error) from None


def decode_msg(dev: VhostDev, shape: Codec, data: bytes) -> tuple[int, IotlbMsg, int]:
    """(asid, message, return value) of the bytes offered, in the kernel's order of checks."""
    if len(data) >= shape.v2_offset + shape.msg_size:
        words = shape.v2.unpack_from(data)
        if words[0] == VHOST_IOTLB_MSG_V2 and dev.knows_v2:
            asid = words[1]
            return _decoded(dev, _acked_asid(dev, asid) if asid else 0, words[2:], shape.v2_size)
    if len(data) < 4:
        raise fail("vhost.msg.type-short")
    (word,) = shape.word.unpack_from(data)
    if word not in (VHOST_IOTLB_MSG, VHOST_IOTLB_MSG_V2) or (word == VHOST_IOTLB_MSG_V2 and not dev.knows_v2):
        raise fail("vhost.msg.type")
    if word == VHOST_IOTLB_MSG_V2 or len(data) < shape.v1_offset + shape.msg_size:
        raise fail("vhost.msg.short")
    return _decoded(dev, 0, shape.msg.unpack_from(data, shape.v1_offset), shape.v1_size)


def _acked_asid(dev: VhostDev, asid: int) -> int:
    # the word is not even read unless the feature was acked
    if dev.vqs[0].acked_backend_features >> VHOST_BACKEND_F_IOTLB_ASID & 1:
        return asid
    hit("vhost.msg.asid-ignored")
    if dev.kernel.sink:
        dev.kernel.emit(Kind.IGNORED, dev.name, "asid", asid)
    return 0


def _decoded(dev: VhostDev, asid: int, fields: tuple[int, ...], ret: int) -> tuple[int, IotlbMsg, int]:
    msg = IotlbMsg._make(fields)
    if not msg.size and _needs_size(dev.kernel, msg.type):
        raise fail("vhost.msg.update-size")
    return asid, msg, ret


def _needs_size(kernel: Kernel, kind: int) -> bool:
    # first nothing was asked, then a size of every message, then of two kinds
    if kind == VHOST_IOTLB_UPDATE:
        return not kernel.on("bug-update-size-zero")
    return kernel.on("bug-invalidate-size-zero" if kind == VHOST_IOTLB_INVALIDATE else "bug-batch-size-zero")


def vhost_process_iotlb_msg(dev: VhostDev, asid: int, msg: IotlbMsg) -> None:
    """The generic handler: vhost-net's. There is no owner check, and overlaps are accepted.

    Raises:
        KernelError: seen by the writer as EFAULT.
    """
    if asid:
        raise fail("vhost.msg.asid")
    if msg.type == VHOST_IOTLB_UPDATE:
        _update(dev, msg)
    elif msg.type == VHOST_IOTLB_INVALIDATE:
        if dev.iotlb is None:
            raise _no_iotlb(dev)
        dev.meta_reset()
        for entry in dev.iotlb.del_range(msg.iova, (msg.iova + msg.size - 1) & U64_MAX):
            if dev.kernel.sink:
                dev.kernel.emit(Kind.UNMAP, dev.name, NO_COPY, entry.serial, entry.start, entry.last)
    else:
        raise fail("vhost.msg.unknown")


def _no_iotlb(dev: VhostDev) -> KernelError:
    if dev.kernel.on("bug-message-without-iotlb"):
        dev.kernel.violation("kernel.oops", f"{dev.name}: the device IOTLB would be reached through a null pointer")
    return fail("vhost.msg.no-iotlb")


def _overflows(dev: VhostDev, uaddr: int, size: int) -> bool:
    # vhost_overflow(): the last byte there is may be the range's last
    beyond = uaddr + size - 1 - U64_MAX
    return beyond > 0 or (beyond == 0 and dev.kernel.on("bug-user-range-off-by-one"))


def _update(dev: VhostDev, msg: IotlbMsg) -> None:
    if dev.iotlb is None:
        raise _no_iotlb(dev)
    wraps = _overflows(dev, msg.uaddr, msg.size)
    if wraps or (msg.perm & VHOST_ACCESS_RW and not access_ok(dev.kernel.abi, msg.uaddr, msg.size)):
        raise fail("vhost.msg.update-access")
    dev.meta_reset()
    entries = dev.iotlb.add_range(msg.iova, (msg.iova + msg.size - 1) & U64_MAX, msg.uaddr, msg.perm)
    if dev.kernel.sink:
        _promise(dev, entries)
    vhost_iotlb_notify_vq(dev, msg.iova, msg.size)


def _promise(dev: VhostDev, entries: list[IotlbMap]) -> None:
    # an entry of the device IOTLB promises what is at its address in the owner now; nobody may own the device yet
    for one in entries:
        place = tuple(dev.mm.extents(one.addr, one.size)) if dev.mm is not None else ()
        dev.kernel.emit(Kind.MAP, dev.name, NO_COPY, one.serial, one.start, one.last, one.addr, one.perm, place)


def vhost_iotlb_notify_vq(dev: VhostDev, iova: int, size: int) -> None:
    """Consume the pending misses an UPDATE covers, and run their queues; permissions are not compared."""
    if not (dev.pending_list or dev.read_list):
        return
    last = iova + size - 1 - dev.kernel.on("bug-miss-last-byte")
    for miss in [m for m in dev.pending_list if iova <= m.iova <= last]:
        dev.pending_list.remove(miss)
        hit("vhost.miss.woken")
        if dev.kernel.sink:
            dev.kernel.emit(Kind.WAKE, dev.name, miss.vq.index, miss.iova)
        dev.queue_handler(miss.vq)
    if any(iova <= m.iova <= last for m in dev.read_list):
        hit("vhost.miss.unread")


# -- read


def vhost_iotlb_miss(vq: VhostVirtqueue, iova: int, perm: int) -> None:
    """Queue a MISS for the first unmapped byte; identical ones are not merged."""
    dev = vq.dev
    if dev.kernel.faults is not None and swallow(dev.kernel, "MISS", dev.name):
        return
    dev.misses_queued += 1
    dev.read_list.append(Miss(vq, iova, perm, vq.backend_has_feature(VHOST_BACKEND_F_IOTLB_MSG_V2)))
    if dev.kernel.sink:
        dev.kernel.emit(Kind.MISS, dev.name, vq.index, iova, perm)
    dev.wait.wake_up()


def _wait_for_message(dev: VhostDev, call: Call, nonblock: bool) -> Steps:
    if nonblock:
        raise fail("vhost.read.again")
    if call.signal_pending:
        call.signal_pending = False
        raise fail("vfs.signal")
    if not dev.can_miss:
        raise fail("vhost.read.no-iotlb")
    if dev.kernel.points:
        yield Point(dev.wait.name + ".sleep")
        if dev.read_list:
            return  # it was in the queue before it looked, so no wake-up is lost
    if (yield Sleep(dev.wait, interruptible=True)) is Woken.SIGNAL:
        raise fail("vfs.signal")
    if dev.kernel.points:
        yield Point(dev.wait.name + ".woken")


def vhost_chr_read_iter(dev: VhostDev, call: Call, buffer: UserBuffer, nonblock: bool) -> Steps:
    """read() of one message, 72 bytes however large the buffer (68 on a native i386 kernel for v1).

    Raises:
        KernelError: EAGAIN, EINTR, EBADFD.
    """
    if buffer.length < dev.codec.v1_size:
        hit("vhost.read.small")
        return 0
    while not dev.read_list:
        yield from _wait_for_message(dev, call, nonblock)
    miss = dev.read_list.pop(0)
    if dev.kernel.points:
        yield Point(dev.name + ".read.copy")
    data = miss.encode(dev.kernel.abi)
    if dev.kernel.on("bug-message-padding"):
        padding = len(data) - dev.codec.word.size - dev.codec.msg.size - (dev.codec.asid.size if miss.v2 else 0)
        dev.kernel.violation("kernel.leak", f"{dev.name}: {padding} bytes of old kernel memory between the fields")
    stored = buffer.poke(0, data[: buffer.length])
    if stored < len(data):
        hit("vhost.read.lost")
        return stored
    if dev.kernel.points:
        yield Point(dev.name + ".read.copied")
    dev.pending_list.append(miss)
    dev.wait.wake_up()
    return stored


def vhost_chr_poll(dev: VhostDev) -> int:
    """POLLIN and POLLRDNORM while a message waits to be read; never anything else."""
    return POLLIN | POLLRDNORM if dev.read_list else 0
