"""live-update-v1 and live-update-v2: VHOST_NEW_OWNER and VHOST_IOTLB_REMAP as posted in 2024; neither merged.

Theory. A running device is handed to a new process whose addresses differ. NEW_OWNER (ioctl 0x27) makes the caller's
address space the device's; in PA mode the count of pinned pages moves along. REMAP (message type 7) stores a new user
address in one entry of the table. Both series have a defect that no reviewer noticed and the traces prove: outside a
batch REMAP hands the device the table *before* the new address is stored, so the last region remapped stays stale
until the next push. v2 differs from v1 on a device without set_map (v1 calls a null operation there) and by dropping
vdpa_sim's advertisement of bits 9 and 10.

The null call is refused and reported instead of performed. v1 as posted also counts pages on the old address space when
it no longer holds it; the recorded kernels hold it, as v2 does, and ``lu-drops-old-mm`` brings that bug back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.events import Kind
from vdpasim.core.ports import PAGE_SIZE, U64_MAX
from vdpasim.core.rules import fail, hit
from vdpasim.core.series import Series, register
from vdpasim.core.series.handler import Handler, IotlbMessage, Request, handler
from vdpasim.core.vhost.vdpa_backend import told_backend_features
from vdpasim.uapi.vhost import VHOST_NEW_OWNER
from vdpasim.uapi.vhost_types import (
    VHOST_BACKEND_F_IOTLB_REMAP,
    VHOST_BACKEND_F_NEW_OWNER,
    VHOST_IOTLB_REMAP,
)

if TYPE_CHECKING:
    from vdpasim.core.vhost.iotlb import IotlbMap
    from vdpasim.core.vhost.vdpa import VhostVdpa

BITS = 1 << VHOST_BACKEND_F_NEW_OWNER | 1 << VHOST_BACKEND_F_IOTLB_REMAP

# -- NEW_OWNER; possession of the file is the permission


def offered(request: Request) -> None:
    """The device must say that it can change owners; whether that was acked does not matter."""
    if not offers(request.v, VHOST_BACKEND_F_NEW_OWNER):
        raise fail("vdpa.new-owner.unsupported")


def offers(v: VhostVdpa, bit: int) -> bool:
    """Whether the device itself offers a backend feature."""
    return bool(told_backend_features(v) >> bit & 1)


def owned(request: Request) -> None:
    """Somebody must be the owner."""
    request.old = request.v.mm
    if request.old is None:
        raise fail("vdpa.new-owner.unowned")


def limit(request: Request) -> None:
    """What the device pins must fit the caller's limit, on top of what the caller pins."""
    v, task = request.v, request.call.task
    if v.device.use_va:
        return
    request.pinned = v.spaces.pinned_pages
    if request.pinned + task.mm.pinned_vm > task.limits.memlock // PAGE_SIZE:
        raise fail("vdpa.new-owner.memlock")


def bind(request: Request) -> None:
    """The device works in the caller's address space from here on."""
    request.v.device.bind_mm(request.call.task.mm)


def another(request: Request) -> None:
    """The caller must not be the owner; found after the device was bound, to what it was bound to before."""
    if request.old is request.call.task.mm:
        raise fail("vdpa.new-owner.same")


def account(request: Request) -> None:
    """Pinned pages move from the old owner's count to the new one's."""
    old, v = request.old, request.v
    assert old is not None
    if request.pinned and not old.alive and v.kernel.on("lu-drops-old-mm"):
        text = f"{v.name}: NEW_OWNER counts {request.pinned} pages on an address space that was freed"
        v.kernel.violation("uaf.old-mm", text)
    old.pinned_vm -= request.pinned
    request.call.task.mm.pinned_vm += request.pinned


def take_over(request: Request) -> None:
    """The caller's address space is the owner."""
    request.v.change_owner(request.call.task.mm)


NEW_OWNER: Handler[Request] = handler(offered, owned, limit, bind, another, account, take_over)
"""VHOST_NEW_OWNER: EOPNOTSUPP device without bit 9, EINVAL never owned, ENOMEM limit, EBUSY caller is the owner."""

# -- REMAP; nothing about the address is checked


def arguments(message: IotlbMessage) -> None:
    """No permission, which stays that of the UPDATE, and a size."""
    if message.msg.perm or not message.msg.size:
        raise fail("vdpa.remap.args")


def supported(message: IotlbMessage) -> None:
    """The device must say that it needs this; whether that was acked does not matter."""
    if not message.v.device.supports("get_backend_features"):
        text = "REMAP called the null get_backend_features of a device without it"
        message.v.kernel.violation("kernel.oops", text)
        raise fail("vdpa.remap.null-features")
    if not offers(message.v, VHOST_BACKEND_F_IOTLB_REMAP):
        raise fail("vdpa.remap.unsupported")


def find(message: IotlbMessage) -> None:
    """The first entry of the range; a wrapped range mostly has none."""
    msg = message.msg
    entry = message.table.itree_first(msg.iova, msg.iova + msg.size - 1 & U64_MAX)
    if entry is None:
        raise fail("vdpa.remap.absent")
    message.entries = [entry]


def exact(message: IotlbMessage) -> None:
    """It must be the whole range, and the range the whole of it."""
    msg, (entry,) = message.msg, message.entries
    if entry.start != msg.iova or entry.last != msg.iova + msg.size - 1 & U64_MAX:
        raise fail("vdpa.remap.inexact")


def whole_maps(message: IotlbMessage) -> None:
    """v2: a device that takes single entries has no way to be told."""
    if not message.v.device.supports("set_map"):
        raise fail("vdpa.remap.no-set-map")


def push(message: IotlbMessage) -> None:
    """Outside a batch the device is handed the table, as it is at this step."""
    v = message.v
    if v.spaces.in_batch:
        return
    if not v.device.supports("set_map"):
        v.kernel.violation("kernel.oops", "REMAP called the null set_map of a device with dma_map only")
        raise fail("vdpa.remap.null-call")
    if any(entry.addr != target(message, entry) for entry in message.entries):
        hit("vdpa.remap.old-address-pushed")
    v.spaces.push(message.asid)


def target(message: IotlbMessage, entry: IotlbMap) -> int:
    """The address an entry is to have."""
    return message.msg.uaddr + entry.start - message.msg.iova & U64_MAX


def store(message: IotlbMessage) -> None:
    """The table gets the new address."""
    for entry in message.entries:
        set_address(message, entry, target(message, entry))


def set_address(message: IotlbMessage, entry: IotlbMap, addr: int) -> None:
    """One entry of the table leads elsewhere."""
    v = message.v
    if v.kernel.sink:
        v.kernel.emit(Kind.REMAP, v.name, message.asid, entry.serial, entry.start, entry.last, entry.addr, addr)
    message.table.set_addr(entry, addr)


REMAP_V1: Handler[IotlbMessage] = handler(arguments, supported, find, exact, push, store)
"""VHOST_IOTLB_REMAP: EINVAL arguments, EOPNOTSUPP device without bit 10, ENOENT, EINVAL not exactly one entry."""
REMAP_V2 = REMAP_V1.added(whole_maps, behind="exact")

V1 = Series(
    "live-update-v1",
    "VHOST_NEW_OWNER and VHOST_IOTLB_REMAP, January 2024",
    BITS,
    ioctls={VHOST_NEW_OWNER: NEW_OWNER},
    messages={VHOST_IOTLB_REMAP: REMAP_V1},
)
V2 = V1.derive(
    "live-update-v2",
    "VHOST_NEW_OWNER and VHOST_IOTLB_REMAP, July 2024",
    messages={VHOST_IOTLB_REMAP: REMAP_V2},
)
register(V1)
register(V2)
