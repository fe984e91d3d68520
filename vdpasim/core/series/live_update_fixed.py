"""live-update-fixed: what the live-update series would be without its defects; ours, posted nowhere.

Theory. What is different from v2, and why:

* REMAP asks a device what it offers only if its driver has that operation.
* NEW_OWNER looks for the present owner first, so that EBUSY is EBUSY on any limit and nothing was bound.
* REMAP is for devices whose entries hold user addresses. On one that pins it is refused, whatever the device offers.
* REMAP matches what an UPDATE mapped, not the pieces it was split into: the program knows only the former.
* The range is checked as UPDATE checks it, and the user address must not wrap.
* Store, then push: the device is handed what the table will be. If it refuses, the old addresses come back, it is
  handed those, and the writer is told. A device that takes single entries has each taken away and given anew.
* BATCH_END answers what the device says of the map. If it refuses, what the batch remapped leads where it led before,
  what it mapped is unmapped, and what it unmapped stays so: its pages and files are gone. The device is handed that.

``lu-guard-resume`` refuses to let a device go on that still has an address of the old owner's image. One that was never
stopped is not asked.
``lu-guard-same-object`` refuses an address that does not show the memory that the entry was made for, or shows it
privately: the first write would be to a copy.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.events import Kind
from vdpasim.core.ports import U64_MAX
from vdpasim.core.rules import KernelError, fail, hit
from vdpasim.core.series import live_update as posted
from vdpasim.core.series import register
from vdpasim.core.series.handler import Handler, IotlbMessage, Request, handler, mainline
from vdpasim.core.uaccess import get_int
from vdpasim.uapi.vhost import VHOST_NEW_OWNER, VHOST_VDPA_RESUME, VHOST_VDPA_SET_STATUS
from vdpasim.uapi.vhost_types import (
    VHOST_BACKEND_F_IOTLB_REMAP,
    VHOST_IOTLB_BATCH_END,
    VHOST_IOTLB_REMAP,
    VHOST_IOTLB_UPDATE,
)
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdpasim.core.ports import Extent, Mm
    from vdpasim.core.vhost.iotlb import IotlbMap

    Undo = list[tuple[IotlbMessage, IotlbMap, int]]

ORIGINS = "origins"
"""Kept: {(asid, iova, size): :class:`Origin`} of every UPDATE; what one skipped another may map."""
UNDO = "undo"
"""Kept: [(message, entry, old address)] of the REMAPs of the open batch."""
MADE = "made"
"""Kept: the entries that the open batch mapped."""
STALE = "stale"
"""Kept: the entries that were there at NEW_OWNER and have not been remapped."""
BEFORE = "before"
"""Kept: how many REMAPs of the open batch the old owner sent; theirs are addresses of the old image."""


@attrs.frozen
class Origin:
    """What one UPDATE mapped."""

    entries: tuple[IotlbMap, ...]
    shown: tuple[tuple[Extent, ...], ...]
    """The memory behind each entry, by object and offset."""


def remember(message: IotlbMessage) -> None:
    """UPDATE: its arguments are what a REMAP must name."""
    msg, mm = message.msg, message.task.mm
    if not message.v.device.use_va:
        return
    entries = tuple(message.table.overlaps(msg.iova, msg.iova + msg.size - 1))
    shown = tuple(tuple(mm.extents(entry.addr, entry.size)) for entry in entries)
    message.kept.setdefault(ORIGINS, {})[message.asid, msg.iova, msg.size] = Origin(entries, shown)


def note_made(message: IotlbMessage) -> None:
    """UPDATE in a batch: what it mapped goes again if the device refuses the whole."""
    msg = message.msg
    if message.v.spaces.in_batch:
        made = message.table.overlaps(msg.iova, msg.iova + msg.size - 1)
        message.kept.setdefault(MADE, []).extend(made)


# -- NEW_OWNER


def another(request: Request) -> None:
    """The caller must not be the owner; nothing was changed yet."""
    if request.old is request.call.task.mm:
        raise fail("vdpa.new-owner.same")


def note_stale(request: Request) -> None:
    """Every entry has an address of the old owner's image."""
    if request.v.device.use_va:
        request.kept[STALE] = {entry for table in request.v.spaces.tables.values() for entry in table}
        request.kept[BEFORE] = len(request.kept.get(UNDO, ()))


NEW_OWNER = posted.NEW_OWNER.without("another").added(another, behind="owned").added(note_stale)

# -- REMAP


def user_addresses(message: IotlbMessage) -> None:
    """Entries of a device that pins are physical."""
    if not message.v.device.use_va:
        raise fail("vdpa.remap.pinned")


def supported(message: IotlbMessage) -> None:
    """A device that cannot say that it needs this does not."""
    if not posted.offers(message.v, VHOST_BACKEND_F_IOTLB_REMAP):
        raise fail("vdpa.remap.unsupported")


def in_range(message: IotlbMessage) -> None:
    """Neither range may wrap, and the first must be one the device can have."""
    first, last = message.v.device.get_iova_range()
    msg = message.msg
    if msg.iova < first or msg.iova + msg.size - 1 > last or msg.uaddr + msg.size - 1 > U64_MAX:
        raise fail("vdpa.remap.range")


def find(message: IotlbMessage) -> None:
    """Everything that one UPDATE mapped, if all of it is there."""
    msg = message.msg
    if message.table.itree_first(msg.iova, msg.iova + msg.size - 1) is None:
        raise fail("vdpa.remap.absent")
    origin = _origin(message)
    if origin is None or not origin.entries or not all(entry.live for entry in origin.entries):
        raise fail("vdpa.remap.no-update")
    message.entries = list(origin.entries)


def _origin(message: IotlbMessage) -> Origin | None:
    found: Origin | None = message.kept.get(ORIGINS, {}).get((message.asid, message.msg.iova, message.msg.size))
    return found


def same_object(message: IotlbMessage) -> None:
    """``lu-guard-same-object``: each new address must show the memory the UPDATE was given."""
    origin, mm = _origin(message), message.task.mm
    if origin is None or not message.v.kernel.on("lu-guard-same-object"):
        return
    for entry, shown in zip(origin.entries, origin.shown, strict=True):
        addr = posted.target(message, entry)
        if tuple(mm.extents(addr, entry.size)) != shown or not _shared(mm, addr, addr + entry.size - 1):
            raise fail("vdpa.remap.other-object")


def _shared(mm: Mm, addr: int, last: int) -> bool:
    return all(vma.shared for vma in takewhile(lambda vma: vma.start <= last, mm.vmas(addr)))


def store_and_push(message: IotlbMessage) -> None:
    """The new addresses, in the table and in the device, or the old ones in both."""
    undo = [(message, entry, entry.addr) for entry in message.entries]
    posted.store(message)
    if message.v.spaces.in_batch and message.v.device.supports("set_map"):
        message.kept.setdefault(UNDO, []).extend(undo)
        return
    try:
        _hand_over(message, message.entries)
    except KernelError:
        _roll_back(message, undo)
        raise
    _settled(undo)


def _hand_over(message: IotlbMessage, entries: list[IotlbMap]) -> None:
    spaces = message.v.spaces
    if message.v.device.supports("set_map"):
        spaces.push(message.asid)
        return
    for entry in entries:
        spaces.replace(message.asid, entry)


def _roll_back(message: IotlbMessage, undo: Undo, made: Sequence[IotlbMap] = ()) -> None:
    hit("vdpa.remap.rolled-back")
    spaces = message.v.spaces
    for entry in made:
        if entry.live:
            spaces.iotlb_unmap(message.v.mm, message.asid, entry.start, entry.last)
    # the latest first: one entry may have been remapped twice
    for remap, entry, old in reversed(undo):
        if entry.live:
            posted.set_address(remap, entry, old)
    # a device that refuses what it had has nothing there; its owner was told of the first refusal
    if message.v.device.supports("set_map"):
        with suppress(KernelError):
            spaces.push(message.asid)
        return
    for _, entry, _ in undo:
        with suppress(KernelError):
            spaces.replace(message.asid, entry)


def _settled(undo: Undo) -> None:
    for message, entry, _ in undo:
        message.kept.get(STALE, set()).discard(entry)


def batch_end(message: IotlbMessage) -> None:
    """BATCH_END: the table as it is now, or what the batch did undone."""
    v, kept = message.v, message.kept
    undo: Undo = kept.pop(UNDO, [])
    made: list[IotlbMap] = kept.pop(MADE, [])
    before = kept.pop(BEFORE, 0)
    if not v.spaces.in_batch or not v.device.supports("set_map"):
        mainline(message)
        return
    v.spaces.in_batch = False
    if v.kernel.sink:
        v.kernel.emit(Kind.BATCH, v.name, message.asid, 0)
    try:
        v.spaces.push(message.asid)
    except KernelError:
        _roll_back(message, undo, made)
        raise
    _settled(undo[before:])


REMAP: Handler[IotlbMessage] = handler(
    posted.arguments, supported, user_addresses, in_range, find, same_object, store_and_push
)

# -- the guard


def guard_resume(request: Request) -> None:
    """``lu-guard-resume``: no device goes on with an address of the old owner's image."""
    stale: set[IotlbMap] = request.kept.get(STALE, set())
    if request.v.kernel.on("lu-guard-resume") and any(entry.live for entry in stale):
        raise fail("vdpa.guard.stale")


def guard_driver_ok(request: Request) -> None:
    """As :func:`guard_resume`, for DRIVER_OK."""
    if get_int(request.v.kernel, request.arg, 1) & VIRTIO_CONFIG_S_DRIVER_OK:
        guard_resume(request)


FIXED = posted.V2.derive(
    "live-update-fixed",
    "VHOST_NEW_OWNER and VHOST_IOTLB_REMAP without the defects of the posted series; ours",
    ioctls={
        VHOST_NEW_OWNER: NEW_OWNER,
        VHOST_VDPA_RESUME: handler(guard_resume, mainline),
        VHOST_VDPA_SET_STATUS: handler(guard_driver_ok, mainline),
    },
    messages={
        VHOST_IOTLB_REMAP: REMAP,
        VHOST_IOTLB_UPDATE: handler(mainline, remember, note_made),
        VHOST_IOTLB_BATCH_END: handler(batch_end),
    },
)
register(FIXED)
