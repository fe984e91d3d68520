"""Ring and device ioctls every vhost device has (mirrors vhost_vring_ioctl() and vhost_dev_ioctl() of vhost.c).

Theory. An argument is first read as a 32-bit queue index, whatever the request: so a request nobody knows fails by its
argument, EFAULT or ENOBUFS, before it fails by its number. Then the table below decides. Size, base and (for vhost-net)
backend are refused while the queue has a backend; addresses are not. Handlers run under the device mutex and the queue
mutex; here one lock stands for both, as nothing takes the queue's alone without the data path.

Order of checks within a handler is the order of the lines.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from vdpasim.core.events import Kind
from vdpasim.core.rules import fail
from vdpasim.core.uaccess import access_ok, get_int, get_struct, put_int, put_struct
from vdpasim.core.vhost.vhost import NUM_MAX, VHOST_FORK_TASK, VhostDev, VhostVirtqueue, eventfd_name
from vdpasim.core.vhost.vhost_log import log_access_ok, logs_all, memory_access_ok, vq_log_access_ok
from vdpasim.uapi import vhost as uapi
from vdpasim.uapi.vhost_types import (
    VHOST_FILE_UNBIND,
    VHOST_VRING_F_LOG,
    vhost_memory,
    vhost_memory_region,
    vhost_vring_addr,
    vhost_vring_file,
    vhost_vring_state,
)
from vdpasim.uapi.virtio_config import VIRTIO_F_RING_PACKED

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call
    from vdpasim.core.ports import EventFd
    from vdpasim.core.uaccess import UserBuffer
    from vdpasim.core.vhost.iotlb import Iotlb
    from vdpasim.uapi.abi import Abi

__all__ = ["set_memory", "vhost_dev_ioctl", "vhost_vring_ioctl"]

U64_MAX = (1 << 64) - 1
MEM_REGIONS_MAX = 64
MEM_PERM = 3

RingHandler = Callable[[VhostDev, VhostVirtqueue, "Call", "UserBuffer"], None]


def vhost_get_vq(dev: VhostDev, arg: UserBuffer) -> VhostVirtqueue:
    """The queue the argument's first 32 bits name (``vhost_get_vq_from_user``).

    Raises:
        KernelError: EFAULT unreadable, ENOBUFS no such queue.
    """
    index = get_int(dev.kernel, arg, 4)
    if index >= len(dev.vqs):
        raise fail("vhost.vring.index")
    return dev.vqs[index]


def vhost_vring_ioctl(dev: VhostDev, call: Call, request: int, arg: UserBuffer) -> None:
    """A ring ioctl of the generic table.

    Raises:
        KernelError: EFAULT, ENOBUFS, then the handler's; ENOIOCTLCMD for an unknown request.
    """
    vq = vhost_get_vq(dev, arg)
    handler = _ring_table(dev.kernel.abi).get(request)
    if handler is None:
        raise fail("vhost.ioctl.unknown")
    handler(dev, vq, call, arg)
    if dev.kernel.sink and dev.walks_rings:
        report_vring(vq, request)


def report_vring(vq: VhostVirtqueue, request: int) -> None:
    """Tell of a granted ring request; vhost-vdpa does so when the device has granted it too."""
    kernel, told = vq.dev.kernel, _told(vq.dev.kernel.abi).get(request)
    if told is not None:
        what, value = told
        kernel.emit(Kind.RING, vq.dev.name, vq.index, what, value(vq))


def _addresses(vq: VhostVirtqueue) -> tuple[int, ...]:
    # the three, and how many of them are addresses of the owner's memory
    areas = vq.desc, vq.avail, vq.used
    mm = vq.dev.mm
    inside = 0 if mm is None else sum(bool(mm.extents(area, 1)) for area in areas)
    return (*areas, inside)


def _base(vq: VhostVirtqueue) -> int:
    packed = vq.has_feature(VIRTIO_F_RING_PACKED)
    return vq.last_avail_idx & 0xFFFF | ((vq.last_used_idx & 0xFFFF) << 16 if packed else 0)


def vhost_vring_set_num(dev: VhostDev, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_NUM."""
    if vq.private_data is not None:
        raise fail("vhost.vring.num-busy")
    num = get_struct(dev.kernel, arg, vhost_vring_state).num
    if not num or num > NUM_MAX or num & (num - 1):
        raise fail("vhost.vring.num")
    vq.num = num
    _forget_metadata(vq)


def vhost_vring_set_addr(dev: VhostDev, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_ADDR; allowed while the queue has a backend."""
    addr = get_struct(dev.kernel, arg, vhost_vring_addr)
    if addr.flags & ~(1 << VHOST_VRING_F_LOG):
        raise fail("vhost.vring.addr-flags")
    word_max = (1 << dev.kernel.abi.bits) - 1
    if max(addr.desc_user_addr, addr.used_user_addr, addr.avail_user_addr) > word_max:
        raise fail("vhost.vring.addr-range")
    if addr.avail_user_addr & 1 or addr.used_user_addr & 3 or addr.log_guest_addr & 3:
        raise fail("vhost.vring.addr-align")
    log_used = bool(addr.flags & 1 << VHOST_VRING_F_LOG)
    if vq.private_data is not None and dev.iotlb is None:
        areas = ring_areas(vq, addr.desc_user_addr, addr.avail_user_addr, addr.used_user_addr)
        if not all(access_ok(dev.kernel.abi, start, size) for start, size in areas):
            raise fail("vhost.vring.addr-access")
        if log_used and not log_access_ok(dev.kernel.abi, vq.log_base or 0, addr.log_guest_addr, areas[-1][1]):
            raise fail("vhost.vring.addr-log")
    vq.desc, vq.avail, vq.used = addr.desc_user_addr, addr.avail_user_addr, addr.used_user_addr
    vq.log_used, vq.log_addr = log_used, addr.log_guest_addr
    _forget_metadata(vq)


def _forget_metadata(vq: VhostVirtqueue) -> None:
    # before F3 a moved or resized ring went on through the translations of the old one
    if vq.dev.kernel.on("F3"):
        vq.meta_iotlb.clear()


def ring_areas(vq: VhostVirtqueue, desc: int, avail: int, used: int) -> list[tuple[int, int]]:
    """(address, size) of the three areas of a split ring of the queue's size."""
    return [(desc, 16 * vq.num), (avail, 4 + 2 * vq.num), (used, 4 + 8 * vq.num)]


def vhost_vring_set_base(dev: VhostDev, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_BASE: avail index; of a packed ring avail and used index with their wrap bits."""
    if vq.private_data is not None:
        raise fail("vhost.vring.base-busy")
    num = get_struct(dev.kernel, arg, vhost_vring_state).num
    if vq.has_feature(VIRTIO_F_RING_PACKED):
        vq.last_avail_idx, vq.last_used_idx = num & 0xFFFF, num >> 16
    else:
        if num > NUM_MAX:
            raise fail("vhost.vring.base-range")
        vq.last_avail_idx = num
    vq.avail_idx = vq.last_avail_idx


def vhost_vring_get_base(dev: VhostDev, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """GET_VRING_BASE; works while the queue has a backend."""
    put_struct(dev.kernel, arg, vhost_vring_state, index=vq.index, num=_base(vq))


def _get_eventfd(dev: VhostDev, call: Call, arg: UserBuffer) -> EventFd | None:
    fd = get_struct(dev.kernel, arg, vhost_vring_file).fd
    return None if fd == VHOST_FILE_UNBIND else call.task.files.eventfd(fd)


def vhost_vring_set_kick(dev: VhostDev, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_KICK: installing the same eventfd again does nothing."""
    ctx = _get_eventfd(dev, call, arg)
    if ctx is vq.kick:
        if ctx is not None:
            ctx.put()
        return
    dev.stop_poll(vq)
    if vq.kick is not None:
        vq.kick.put()
    vq.kick = ctx
    if ctx is not None and ctx.count == U64_MAX:
        raise fail("vhost.vring.kick-saturated")
    dev.start_poll(vq)


def vhost_vring_set_call(dev: VhostDev, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_CALL."""
    ctx = _get_eventfd(dev, call, arg)
    old, vq.call = vq.call, ctx
    if old is not None:
        old.put()


def vhost_vring_set_err(dev: VhostDev, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_ERR."""
    ctx = _get_eventfd(dev, call, arg)
    old, vq.error = vq.error, ctx
    if old is not None:
        old.put()


def vhost_vring_set_busyloop(dev: VhostDev, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """SET_VRING_BUSYLOOP_TIMEOUT: stored unchecked."""
    vq.busyloop_timeout = get_struct(dev.kernel, arg, vhost_vring_state).num


def vhost_vring_get_busyloop(dev: VhostDev, vq: VhostVirtqueue, call: Call, arg: UserBuffer) -> None:
    """GET_VRING_BUSYLOOP_TIMEOUT."""
    put_struct(dev.kernel, arg, vhost_vring_state, index=vq.index, num=vq.busyloop_timeout)


_RING_HANDLERS: dict[str, RingHandler] = {
    "VHOST_SET_VRING_NUM": vhost_vring_set_num,
    "VHOST_SET_VRING_ADDR": vhost_vring_set_addr,
    "VHOST_SET_VRING_BASE": vhost_vring_set_base,
    "VHOST_GET_VRING_BASE": vhost_vring_get_base,
    "VHOST_SET_VRING_KICK": vhost_vring_set_kick,
    "VHOST_SET_VRING_CALL": vhost_vring_set_call,
    "VHOST_SET_VRING_ERR": vhost_vring_set_err,
    "VHOST_SET_VRING_BUSYLOOP_TIMEOUT": vhost_vring_set_busyloop,
    "VHOST_GET_VRING_BUSYLOOP_TIMEOUT": vhost_vring_get_busyloop,
}
"""Ring requests by name; the numbers depend on the kernel's ABI."""

_TOLD: dict[str, tuple[str, Callable[[VhostVirtqueue], object]]] = {
    "VHOST_SET_VRING_NUM": ("num", lambda vq: vq.num),
    "VHOST_SET_VRING_ADDR": ("addr", _addresses),
    "VHOST_SET_VRING_BASE": ("base", _base),
    "VHOST_GET_VRING_BASE": ("get-base", _base),
    "VHOST_SET_VRING_KICK": ("kick", lambda vq: eventfd_name(vq.kick)),
    "VHOST_SET_VRING_CALL": ("call", lambda vq: eventfd_name(vq.call)),
    "VHOST_SET_VRING_ERR": ("err", lambda vq: eventfd_name(vq.error)),
}
"""What a RING event says of a request."""


@cache
def _told(abi: Abi) -> dict[int, tuple[str, Callable[[VhostVirtqueue], object]]]:
    return {getattr(uapi, name).request(abi): row for name, row in _TOLD.items()}


@cache
def _ring_table(abi: Abi) -> dict[int, RingHandler]:
    return {getattr(uapi, name).request(abi): handler for name, handler in _RING_HANDLERS.items()}


def vhost_dev_ioctl(dev: VhostDev, call: Call, request: int, arg: UserBuffer) -> bool:
    """A device ioctl every vhost device has; whether the request was one.

    SET_OWNER and the fork-owner requests need no owner, everything behind them does.

    Raises:
        KernelError: EBUSY, EPERM, then the handler's.
    """
    kernel = dev.kernel
    abi = kernel.abi
    if request == uapi.VHOST_SET_OWNER.request(abi):
        dev.set_owner(call.task.mm)
        return True
    if kernel.on("fork-owner") and _fork_owner_ioctl(dev, request, arg):
        return True
    if not dev.check_owner(call.task.mm):
        raise fail("vhost.owner.perm")
    if request == uapi.VHOST_SET_MEM_TABLE.request(abi):
        dev.umem = set_memory(dev, arg)
    elif request == uapi.VHOST_SET_LOG_BASE.request(abi):
        _set_log_base(dev, arg)
    elif request == uapi.VHOST_SET_LOG_FD.request(abi):
        fd = get_int(kernel, arg, 4, signed=True)
        ctx = None if fd == VHOST_FILE_UNBIND else call.task.files.eventfd(fd)
        old, dev.log = dev.log, ctx
        if old is not None:
            old.put()
    else:
        return False
    return True


def _fork_owner_ioctl(dev: VhostDev, request: int, arg: UserBuffer) -> bool:
    abi = dev.kernel.abi
    if request == uapi.VHOST_SET_FORK_FROM_OWNER.request(abi):
        if dev.mm is not None:
            raise fail("vhost.fork.busy")
        mode = get_int(dev.kernel, arg, 1)
        if mode > VHOST_FORK_TASK:
            raise fail("vhost.fork.value")
        dev.fork_owner = mode
        return True
    if request == uapi.VHOST_GET_FORK_FROM_OWNER.request(abi):
        put_int(dev.kernel, arg, 1, dev.fork_owner)
        return True
    return False


def set_memory(dev: VhostDev, arg: UserBuffer) -> Iotlb:
    """SET_MEM_TABLE: the new table; the caller installs it, so a failure keeps the old one (``vhost_set_memory``)."""
    kernel = dev.kernel
    head = get_struct(kernel, arg, vhost_memory)
    if head.padding:
        raise fail("vhost.mem.padding")
    if head.nregions > MEM_REGIONS_MAX:
        raise fail("vhost.mem.regions")
    regions = [get_struct(kernel, arg, vhost_memory_region, 8 + 32 * i) for i in range(head.nregions)]
    table = dev.new_iotlb()
    for region in regions:
        last = (region.guest_phys_addr + region.memory_size - 1) & U64_MAX
        if last < region.guest_phys_addr:
            raise fail("vhost.mem.region")
        table.add_range(region.guest_phys_addr, last, region.userspace_addr, MEM_PERM)
    for vq in dev.vqs:
        logged = vq.log_base or 0 if logs_all(vq.acked_features) else None
        if vq.private_data is not None and not memory_access_ok(kernel.abi, table, logged):
            raise fail("vhost.mem.access")
    return table


def _set_log_base(dev: VhostDev, arg: UserBuffer) -> None:
    base = get_int(dev.kernel, arg, 8)
    bad = False
    for vq in dev.vqs:
        if vq.private_data is not None and not vq_log_access_ok(vq, base, vq.acked_features):
            bad = True
        else:
            vq.log_base = base
    if bad:
        raise fail("vhost.log.range")
