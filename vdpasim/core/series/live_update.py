"""live-update-v1 and live-update-v2: VHOST_NEW_OWNER and VHOST_IOTLB_REMAP as posted in 2024; neither merged.

Theory. A running device is handed to a new process whose addresses differ. NEW_OWNER (ioctl 0x27) makes the caller's
address space the device's; in PA mode the count of pinned pages moves along. REMAP (message type 7) stores a new user
address in one entry of the table. Both series have a defect that no reviewer noticed and the traces prove: outside a
batch REMAP hands the device the table *before* the new address is stored, so the last region remapped stays stale
until the next push. v2 differs from v1 on a device without set_map (v1 calls a null operation there) and by dropping
vdpa_sim's advertisement of bits 9 and 10.

Two deviations from v1 as posted: the reference to the old address space is held as in v2, and the null call is refused
and reported instead of performed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.events import Kind
from vdpasim.core.ports import PAGE_SIZE, U64_MAX
from vdpasim.core.rules import fail, hit
from vdpasim.core.series import Series, register
from vdpasim.uapi import vhost as uapi
from vdpasim.uapi.vhost_types import (
    VHOST_BACKEND_F_IOTLB_REMAP,
    VHOST_BACKEND_F_NEW_OWNER,
    VHOST_IOTLB_REMAP,
)

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call
    from vdpasim.core.ports import Caller
    from vdpasim.core.uaccess import UserBuffer
    from vdpasim.core.vhost.vdpa import VhostVdpa
    from vdpasim.core.vhost.vhost_msg import IotlbMsg

BITS = 1 << VHOST_BACKEND_F_NEW_OWNER | 1 << VHOST_BACKEND_F_IOTLB_REMAP


def new_owner(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """VHOST_NEW_OWNER: possession of the file is the permission.

    Raises:
        KernelError: EOPNOTSUPP device without bit 9, EINVAL never owned, ENOMEM limit, EBUSY caller is the owner.
    """
    if not v.device.get_backend_features() >> VHOST_BACKEND_F_NEW_OWNER & 1:
        raise fail("vdpa.new-owner.unsupported")
    old, new = v.mm, call.task.mm
    if old is None:
        raise fail("vdpa.new-owner.unowned")
    pinned = 0 if v.device.use_va else v.spaces.pinned_pages
    if not v.device.use_va and pinned + new.pinned_vm > call.task.limits.memlock // PAGE_SIZE:
        raise fail("vdpa.new-owner.memlock")
    v.device.bind_mm(new)
    if old is new:
        v.device.bind_mm(old)
        raise fail("vdpa.new-owner.same")
    old.pinned_vm -= pinned
    new.pinned_vm += pinned
    v.change_owner(new)


def iotlb_remap(v: VhostVdpa, task: Caller, asid: int, msg: IotlbMsg) -> None:
    """VHOST_IOTLB_REMAP: give one entry a new user address; nothing about the address is checked.

    Raises:
        KernelError: EINVAL arguments, EOPNOTSUPP device without bit 10, ENOENT, EINVAL not exactly one entry.
    """
    if msg.perm or not msg.size:
        raise fail("vdpa.remap.args")
    if not v.device.get_backend_features() >> VHOST_BACKEND_F_IOTLB_REMAP & 1:
        raise fail("vdpa.remap.unsupported")
    table = v.spaces.tables[asid]
    last = msg.iova + msg.size - 1 & U64_MAX
    entry = table.itree_first(msg.iova, last)
    if entry is None:
        raise fail("vdpa.remap.absent")
    if entry.start != msg.iova or entry.last != last:
        raise fail("vdpa.remap.inexact")
    if not v.device.supports("set_map") and v.kernel.on("live-update-v2"):
        raise fail("vdpa.remap.no-set-map")
    if not v.spaces.in_batch:
        if not v.device.supports("set_map"):
            v.kernel.violation("kernel.oops", "REMAP called the null set_map of a device with dma_map only")
            raise fail("vdpa.remap.null-call")
        hit("vdpa.remap.old-address-pushed")
        v.spaces.push(asid)
    if v.kernel.sink:
        v.kernel.emit(Kind.REMAP, v.name, asid, entry.serial, entry.start, entry.last, entry.addr, msg.uaddr)
    table.set_addr(entry, msg.uaddr)


def _apply(v: VhostVdpa) -> None:
    request = uapi.VHOST_NEW_OWNER.request(v.kernel.abi)
    v.ioctls[request] = new_owner
    v.quiescing.add(request)
    v.messages[VHOST_IOTLB_REMAP] = iotlb_remap


register(Series("live-update-v1", "VHOST_NEW_OWNER and VHOST_IOTLB_REMAP, January 2024", BITS, _apply))
register(Series("live-update-v2", "VHOST_NEW_OWNER and VHOST_IOTLB_REMAP, July 2024", BITS, _apply))
