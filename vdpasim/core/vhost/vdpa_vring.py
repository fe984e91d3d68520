"""Ring and group ioctls of vhost-vdpa (mirrors vhost_vdpa_vring_ioctl() of drivers/vhost/vdpa.c).

Theory. The queue index is read and bounded first, also for group requests, whose first word is a group number: a group
that is no queue number either is ENOBUFS. Some requests vhost-vdpa answers itself; for the others the generic handler
of ``vhost_vring.py`` runs first and the device is told after it. Because of that order a refusal that only the device
layer knows (a running device's addresses) comes when the generic copy has been overwritten already.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from vdpasim.core.events import Kind
from vdpasim.core.kernel import Point, Steps
from vdpasim.core.rules import fail
from vdpasim.core.uaccess import get_struct, put_struct
from vdpasim.core.vhost.vhost_vring import report_vring, vhost_get_vq, vhost_vring_ioctl
from vdpasim.uapi import vhost as uapi
from vdpasim.uapi.vhost_types import vhost_vring_state
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_F_RING_PACKED

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call
    from vdpasim.core.uaccess import UserBuffer
    from vdpasim.core.vhost.vdpa import VhostVdpa
    from vdpasim.core.vhost.vhost import VhostVirtqueue
    from vdpasim.uapi.abi import Abi

RingHandler = Callable[["VhostVdpa", "VhostVirtqueue", "Call", "UserBuffer"], None]


def vhost_vdpa_vring_ioctl(v: VhostVdpa, call: Call, request: int, arg: UserBuffer) -> Steps:
    """A ring request, or one nobody knows.

    Before F4 the index of SET_VRING_NUM that chooses the device's queue is read before, and apart from, the one that
    chooses the generic layer's.

    Raises:
        KernelError: EFAULT, ENOBUFS, then the handler's; ENOIOCTLCMD for an unknown request.
    """
    is_num = request == uapi.VHOST_SET_VRING_NUM.request(v.kernel.abi)
    once = v.kernel.on("F4")
    if is_num and once:
        # the whole argument is fetched once, so a short one fails before its index is looked at
        get_struct(v.kernel, arg, vhost_vring_state)
    vq = vhost_get_vq(v, arg)
    if is_num and not once and v.kernel.points:
        yield Point(v.name + ".vring.refetch")
    own, before, after = _numbered(v.kernel.abi)
    if request in own:
        handler, switch = own[request]
        if not switch or v.kernel.on(switch):
            handler(v, vq, call, arg)
            return
    if request in before:
        before[request](v, vq, call, arg)
    vhost_vring_ioctl(v, call, request, arg)
    if request in after:
        after[request](v, vq, call, arg)
    if v.kernel.sink:
        report_vring(vq, request)


# -- answered here


def set_vring_enable(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_ENABLE: no status, feature or address is checked."""
    ready = get_struct(v.kernel, arg, vhost_vring_state).num != 0
    v.device.set_vq_ready(vq.index, ready)
    if v.kernel.sink:
        v.kernel.emit(Kind.RING, v.name, vq.index, "ready", int(ready))


def get_vring_group(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """GET_VRING_GROUP."""
    if not v.device.supports("get_vq_group"):
        raise fail("vdpa.group.unsupported")
    _put_group(v, vq, arg, v.device.get_vq_group(vq.index))


def get_vring_desc_group(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """GET_VRING_DESC_GROUP."""
    if not v.device.supports("get_vq_desc_group"):
        raise fail("vdpa.group.desc-unsupported")
    _put_group(v, vq, arg, v.device.get_vq_desc_group(vq.index))


def _put_group(v: VhostVdpa, vq: VhostVirtqueue, arg: UserBuffer, group: int) -> None:
    if group >= v.device.ngroups:
        raise fail("vdpa.group.range")
    put_struct(v.kernel, arg, vhost_vring_state, index=vq.index, num=group)


def set_group_asid(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_GROUP_ASID: the index is a group number that was bounded as a queue number, before F16 as nothing else."""
    state = get_struct(v.kernel, arg, vhost_vring_state)
    if state.num >= v.device.nas or (state.index >= v.device.ngroups and v.kernel.on("F16")):
        raise fail("vdpa.group.asid-range")
    running = v.device.get_status() & VIRTIO_CONFIG_S_DRIVER_OK
    if running and v.kernel.on("group-asid-needs-stopped"):
        raise fail("vdpa.group.asid-busy")
    if not v.device.supports("set_group_asid"):
        raise fail("vdpa.group.asid-unsupported")
    v.device.set_group_asid(state.index, state.num)


def get_vring_size(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """GET_VRING_SIZE."""
    if not v.device.supports("get_vq_size"):
        raise fail("vdpa.vring.size-unsupported")
    put_struct(v.kernel, arg, vhost_vring_state, index=vq.index, num=v.device.get_vq_size(vq.index))


# -- before and after the generic handler


def fetch_base(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """GET_VRING_BASE: the generic layer learns the device's indices before it answers."""
    vq.last_avail_idx, vq.last_used_idx = v.device.get_vq_state(vq.index)


def check_num(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_NUM: newer kernels hold it against the maximum captured at open."""
    num = get_struct(v.kernel, arg, vhost_vring_state).num
    if v.kernel.on("F4") and num > v.vq_num_max and num & (num - 1) == 0:
        raise fail("vdpa.vring.num-max")


def set_num(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_NUM."""
    v.device.set_vq_num(vq.index, vq.num)


def set_addr(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_ADDR: addresses are IOVAs; the log flag is accepted and ignored."""
    _check_stopped(v)
    v.device.set_vq_address(vq.index, vq.desc, vq.avail, vq.used)


def set_base(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_BASE."""
    _check_stopped(v)
    used = vq.last_used_idx if vq.has_feature(VIRTIO_F_RING_PACKED) else 0
    v.device.set_vq_state(vq.index, vq.last_avail_idx, used)


def _check_stopped(v: VhostVdpa) -> None:
    running = v.device.get_status() & VIRTIO_CONFIG_S_DRIVER_OK and not v.suspended
    if running and v.kernel.on("ring-needs-suspend"):
        raise fail("vdpa.vring.running")


def set_call(v: VhostVdpa, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_CALL: (re)installs the device's callback, which a reset has removed."""
    v.device.set_vq_cb(vq.index, v.vq_callback(vq) if vq.call is not None else None)


_OWN: dict[str, tuple[RingHandler, str]] = {
    "VHOST_VDPA_SET_VRING_ENABLE": (set_vring_enable, ""),
    "VHOST_VDPA_GET_VRING_GROUP": (get_vring_group, ""),
    "VHOST_VDPA_GET_VRING_DESC_GROUP": (get_vring_desc_group, "desc-asid"),
    "VHOST_VDPA_SET_GROUP_ASID": (set_group_asid, ""),
    "VHOST_VDPA_GET_VRING_SIZE": (get_vring_size, "vring-size"),
}
"""Requests answered without the generic layer, and the switch that brings each."""

_BEFORE: dict[str, RingHandler] = {"VHOST_GET_VRING_BASE": fetch_base, "VHOST_SET_VRING_NUM": check_num}
_AFTER: dict[str, RingHandler] = {
    "VHOST_SET_VRING_NUM": set_num,
    "VHOST_SET_VRING_ADDR": set_addr,
    "VHOST_SET_VRING_BASE": set_base,
    "VHOST_SET_VRING_CALL": set_call,
}


@cache
def _numbered(abi: Abi) -> tuple[dict[int, tuple[RingHandler, str]], dict[int, RingHandler], dict[int, RingHandler]]:
    def number(name: str) -> int:
        return int(getattr(uapi, name).request(abi))

    return (
        {number(name): row for name, row in _OWN.items()},
        {number(name): handler for name, handler in _BEFORE.items()},
        {number(name): handler for name, handler in _AFTER.items()},
    )
