"""Backend features of vhost-vdpa (mirrors that part of drivers/vhost/vdpa.c).

Theory. What is offered comes from three places: the layer does some things always, an optional operation of the device
brings its bit, and a device whose driver has ``get_backend_features`` adds what it likes. What may be acked is fixed by
the kernel: every bit up to the newest it knows, and those of the series that are switched on. So a bit can be known and
not offered, and acking it is refused only where the layer would need the operation behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core import series
from vdpasim.core.events import Kind
from vdpasim.core.rules import fail
from vdpasim.core.uaccess import get_int, put_int
from vdpasim.uapi.vhost_types import (
    VHOST_BACKEND_F_DESC_ASID,
    VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK,
    VHOST_BACKEND_F_IOTLB_ASID,
    VHOST_BACKEND_F_IOTLB_BATCH,
    VHOST_BACKEND_F_IOTLB_MSG_V2,
    VHOST_BACKEND_F_IOTLB_PERSIST,
    VHOST_BACKEND_F_RESUME,
    VHOST_BACKEND_F_SUSPEND,
)

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call
    from vdpasim.core.uaccess import UserBuffer
    from vdpasim.core.vhost.vdpa import VhostVdpa


def get_backend_features(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """GET_BACKEND_FEATURES: what the layer does always, plus what the device can."""
    put_int(v.kernel, arg, 8, offered_backend_features(v))


def offered_backend_features(v: VhostVdpa) -> int:
    """The mask GET_BACKEND_FEATURES answers."""
    always = (VHOST_BACKEND_F_IOTLB_MSG_V2, VHOST_BACKEND_F_IOTLB_BATCH, VHOST_BACKEND_F_IOTLB_ASID)
    mask = sum(1 << bit for bit in always)
    if v.device.supports("suspend"):
        mask |= 1 << VHOST_BACKEND_F_SUSPEND
    if v.device.supports("resume"):
        mask |= 1 << VHOST_BACKEND_F_RESUME
    if v.device.supports("get_vq_desc_group"):
        mask |= 1 << VHOST_BACKEND_F_DESC_ASID
    if v.kernel.on("iotlb-persist") and _persists(v):
        mask |= 1 << VHOST_BACKEND_F_IOTLB_PERSIST
    return mask | series.offered(v.kernel.switches) | told_backend_features(v)


def told_backend_features(v: VhostVdpa) -> int:
    """The bits the device itself tells, if its driver has the operation."""
    return v.device.get_backend_features() if v.device.supports("get_backend_features") else 0


def _persists(v: VhostVdpa) -> bool:
    named = told_backend_features(v) >> VHOST_BACKEND_F_IOTLB_PERSIST & 1
    platform = not v.device.supports("set_map") and not v.device.supports("dma_map")
    return bool(named) or platform or v.device.supports("reset_map")


def known_backend_features(v: VhostVdpa) -> int:
    """The bits SET_BACKEND_FEATURES does not refuse out of hand."""
    last = VHOST_BACKEND_F_SUSPEND
    if v.kernel.on("iotlb-persist"):
        last = VHOST_BACKEND_F_IOTLB_PERSIST
    elif v.kernel.on("resume"):
        last = VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK  # they came in this order
    mask = sum(1 << bit for bit in range(VHOST_BACKEND_F_IOTLB_MSG_V2, last + 1))
    return mask | series.backend_features(v.kernel.switches)


def set_backend_features(v: VhostVdpa, arg: UserBuffer) -> None:
    """SET_BACKEND_FEATURES: no owner, no status, may be repeated and may drop bits."""
    features = get_int(v.kernel, arg, 8)
    if features & ~known_backend_features(v):
        raise fail("vdpa.backend.unknown")

    def acks(bit: int) -> bool:
        return bool(features >> bit & 1)

    if acks(VHOST_BACKEND_F_SUSPEND) and not v.device.supports("suspend"):
        raise fail("vdpa.backend.suspend")
    if acks(VHOST_BACKEND_F_RESUME) and not v.device.supports("resume"):
        raise fail("vdpa.backend.resume")
    if acks(VHOST_BACKEND_F_DESC_ASID) and not acks(VHOST_BACKEND_F_IOTLB_ASID):
        raise fail("vdpa.backend.desc-asid")
    if acks(VHOST_BACKEND_F_DESC_ASID) and not v.device.supports("get_vq_desc_group"):
        raise fail("vdpa.backend.no-desc-group")
    if acks(VHOST_BACKEND_F_IOTLB_PERSIST) and not _persists(v):
        raise fail("vdpa.backend.persist")
    for vq in v.vqs:
        vq.acked_backend_features = features
    if v.kernel.sink:
        v.kernel.emit(Kind.FEATURES, v.name, "backend", features)
