"""/dev/vhost-vdpa-N: the character device over one vDPA device (mirrors drivers/vhost/vdpa.c).

Theory. vhost-vdpa has write, ioctl and mmap and nothing else: no read, no poll, no worker thread. One open at a time.
Requests come in four classes, tried in this order: SET_BACKEND_FEATURES, before the mutex; those below that need no
owner; the generic device requests of ``vhost_vring.py``, most of which do; and whatever is left is a ring request
(``vdpa_vring.py``), where an unknown number ends too. IOTLB messages need the owner; their handler's errno is hidden.

The tables ``IOCTLS`` and ``MESSAGES`` are copied per open file, so a patch series (``core/series``) can add to them or
replace a row without a change here.

A queue's notification area is mapped as a :class:`Doorbell`; a store to it is a kick that passes no eventfd. The
mapping holds the file, as every mapping of a file does.

Not modelled: IRQ bypass, VDUSE.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Self

import attrs

from vdpasim.core import series
from vdpasim.core.events import Kind
from vdpasim.core.faults import deflect
from vdpasim.core.fs.file import DEFAULT_POLLMASK
from vdpasim.core.kernel import Kernel, Mutex, Point, Steps, WaitQueue
from vdpasim.core.ports import PAGE_MASK, PAGE_SIZE
from vdpasim.core.rules import KernelError, fail, hit
from vdpasim.core.uaccess import (
    UserBuffer,
    copy_from_user,
    copy_to_user,
    get_int,
    get_struct,
    put_int,
    put_struct,
)
from vdpasim.core.vhost.vdpa_backend import get_backend_features, set_backend_features
from vdpasim.core.vhost.vdpa_irq import Interrupt
from vdpasim.core.vhost.vdpa_map import AddressSpaces
from vdpasim.core.vhost.vdpa_vring import vhost_vdpa_vring_ioctl
from vdpasim.core.vhost.vhost import VhostDev, VhostVirtqueue, eventfd_name, new_vqs
from vdpasim.core.vhost.vhost_msg import IotlbMsg, vhost_chr_write, vhost_chr_write_iter
from vdpasim.core.vhost.vhost_vring import vhost_dev_ioctl
from vdpasim.uapi import vhost as uapi
from vdpasim.uapi.mman import MAP_SHARED, PROT_READ
from vdpasim.uapi.vhost_types import (
    VHOST_BACKEND_F_IOTLB_PERSIST,
    VHOST_FILE_UNBIND,
    VHOST_IOTLB_BATCH_BEGIN,
    VHOST_IOTLB_BATCH_END,
    VHOST_IOTLB_INVALIDATE,
    VHOST_IOTLB_UPDATE,
    vhost_vdpa_config,
    vhost_vdpa_iova_range,
)
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call
    from vdpasim.core.ports import Caller, EventFd, Mm, Pages
    from vdpasim.core.vdpa.vdpa import VdpaDevice


@attrs.frozen
class Doorbell:
    """What a successful mmap leaves in ``call.out``: one queue's page, for the process to map."""

    name: str
    ring: Callable[[], None]
    """A store to the page."""


@attrs.define(eq=False)
class VhostVdpaNode:
    """The device node: lives as long as the vDPA device, opened by one file at a time."""

    kernel: Kernel
    device: VdpaDevice
    pages: Pages
    path: str
    opened: VhostVdpa | None = None
    config_ctx_dangles: bool = False
    """The config eventfd of an earlier open was put and not forgotten (a bug of old)."""

    def open(self, call: Call, flags: int) -> Steps:
        """Take the device, reset it without cleaning its map, start with fresh queues (``vhost_vdpa_open``).

        Raises:
            KernelError: EBUSY somebody has it open.
        """
        if self.kernel.points:
            yield Point("vhost_vdpa.open")
        if self.opened is not None:
            raise fail("vdpa.open.busy")
        file = self.opened = self.new_file()
        yield from self.device.quiesce()
        self.device.reset(clean_map=False)
        file.vqs = new_vqs(file, self.device.nvqs)
        file.vq_num_max = self.device.get_vq_num_max()
        if self.kernel.sink:
            family = self.path.rpartition("/")[2].rpartition("-")[0]
            self.kernel.emit(Kind.OPEN, file.name, self.device.name, family)
        return file

    def new_file(self) -> VhostVdpa:
        """The open file's object."""
        return VhostVdpa.of(self)


@attrs.define(eq=False)
class VhostVdpa(VhostDev):
    """One open of a vhost-vdpa device (``struct vhost_vdpa``)."""

    node: VhostVdpaNode = attrs.field(kw_only=True)
    device: VdpaDevice = attrs.field(kw_only=True)
    spaces: AddressSpaces = attrs.field(kw_only=True)
    ioctls: dict[int, Ioctl] = attrs.field(kw_only=True)
    messages: dict[int, Message] = attrs.field(kw_only=True)
    quiescing: set[int] = attrs.field(kw_only=True)
    """Requests that wait for the device's pass to end."""
    suspended: bool = False
    config_ctx: EventFd | None = None
    vq_num_max: int = 0
    poll_queue: WaitQueue | None = None

    @classmethod
    def of(cls, node: VhostVdpaNode) -> Self:
        """A new open file of a node."""
        kernel, device = node.kernel, node.device
        name = node.path.rpartition("/")[2]
        file = cls(
            kernel,
            name,
            [],
            Mutex(kernel, name + ".mutex"),
            WaitQueue(name + ".wait"),
            node=node,
            device=device,
            spaces=AddressSpaces(kernel, device, node.pages, name),
            ioctls={
                getattr(uapi, key).request(kernel.abi): handler
                for key, handler in IOCTLS.items()
                if key not in NEEDS or kernel.on(NEEDS[key])
            },
            messages=dict(MESSAGES),
            quiescing={getattr(uapi, key).request(kernel.abi) for key in QUIESCING},
        )
        for patch in series.active(kernel.switches):
            patch.apply(file)
        return file

    # -- file operations

    def read(self, call: Call, buffer: UserBuffer, nonblock: bool) -> Steps:
        yield from ()
        raise fail("vfs.no-read")

    def write(self, call: Call, buffer: UserBuffer) -> Steps:
        return vhost_chr_write_iter(self, call, buffer)

    def write_atomic(self, task: Caller, data: bytes) -> int:
        return vhost_chr_write(self, task, data)

    def poll(self) -> int:
        return DEFAULT_POLLMASK

    def ioctl(self, call: Call, request: int, arg: UserBuffer) -> Steps:
        """``vhost_vdpa_unlocked_ioctl``: see the module docstring for the order."""
        if self.kernel.faults is not None and (yield from self.befall_ioctl(request)):
            return 0
        if request == uapi.VHOST_SET_BACKEND_FEATURES.request(self.kernel.abi):
            set_backend_features(self, arg)
            return 0
        yield from self.mutex.lock()
        try:
            if request in self.quiescing:
                yield from self.device.quiesce()
            handler = self.ioctls.get(request)
            if handler is not None:
                handler(self, call, arg)
            elif not vhost_dev_ioctl(self, call, request, arg):
                yield from vhost_vdpa_vring_ioctl(self, call, request, arg)
            elif request == uapi.VHOST_SET_OWNER.request(self.kernel.abi):
                self.device.bind_mm(call.task.mm)
        finally:
            self.mutex.unlock()
        return 0

    def mmap(self, call: Call, length: int, prot: int, flags: int, offset: int) -> Steps:
        """``vhost_vdpa_mmap``: a doorbell page of a queue."""
        if self.kernel.points:
            yield Point("vhost_vdpa.mmap")
        if length != PAGE_SIZE:
            raise fail("vdpa.mmap.size")
        if not flags & MAP_SHARED:
            raise fail("vdpa.mmap.shared")
        if prot & PROT_READ:
            raise fail("vdpa.mmap.read")
        if not self.kernel.on("F15") and offset // PAGE_SIZE > 0xFFFF:
            raise fail("vdpa.mmap.index")
        if not self.device.supports("get_vq_notification"):
            raise fail("vdpa.mmap.unsupported")
        call.out = self._doorbell(offset // PAGE_SIZE)
        return 0

    def _doorbell(self, index: int) -> Doorbell:
        if index >= len(self.vqs):
            if not self.kernel.on("F15"):
                text = f"mmap of queue {index}, of {len(self.vqs)}, would ask the device about it"
                self.kernel.violation("kernel.oops", text)
            raise fail("vdpa.mmap.index")
        offset, size = self.device.get_vq_notification(index)
        if offset & ~PAGE_MASK:
            raise fail("vdpa.mmap.align")
        if size != PAGE_SIZE:
            raise fail("vdpa.mmap.unsupported")
        return Doorbell(f"{self.name}/doorbell{index}", partial(self.handle_kick, self.vqs[index]))

    def release(self, call: Call) -> Steps:
        """``vhost_vdpa_release``: device reset, polling stopped, maps dropped, owner forgotten."""
        yield from self.mutex.lock()
        try:
            self.spaces.in_batch = False
            yield from self.device.quiesce()
            self.reset_device()
            for vq in self.vqs:
                self.stop_poll(vq)
            self.device.unbind_mm()
            dangles = self.config_ctx is not None and self.kernel.on("bug-config-ctx-dangles")
            self.drop_config_ctx()
            self.node.config_ctx_dangles |= dangles
            self.spaces.remove_all(self.mm)
            self.cleanup()
            self.node.opened = None
            if self.kernel.sink:
                self.kernel.emit(Kind.GONE, "file", self.name)
        finally:
            self.mutex.unlock()
        return 0

    # -- what the generic layer asks

    def process_msg(self, task: Caller, asid: int, msg: IotlbMsg) -> None:
        """``vhost_vdpa_process_iotlb_msg``: owner, address space, open batch, then the type's handler."""
        if self.mm is not task.mm:
            raise fail("vdpa.msg.owner")
        spaces = self.spaces
        if msg.type in (VHOST_IOTLB_UPDATE, VHOST_IOTLB_BATCH_BEGIN):
            spaces.find_alloc(asid)
        if spaces.in_batch and spaces.batch_asid != asid:
            raise fail("vdpa.msg.batch-asid")
        if asid not in spaces.tables:
            raise fail("vdpa.msg.asid")
        handler = self.messages.get(msg.type)
        if handler is None:
            raise fail("vdpa.msg.unknown")
        handler(self, task, asid, msg)

    def handle_kick(self, vq: VhostVirtqueue) -> None:
        """The kick goes straight to the device, in the writer's context (``handle_vq_kick``)."""
        if self.kernel.sink:
            self.kernel.emit(Kind.KICK, self.name, vq.index)
        self.device.kick_vq(vq.index)

    def queue_handler(self, vq: VhostVirtqueue) -> None:
        """An answered miss lets the device look at the queue again."""
        self.device.kick_vq(vq.index)

    def change_owner(self, mm: Mm | None) -> None:
        """As any device's; pins have been moved by whoever asked, so both counts are told."""
        both = self.mm, mm
        super().change_owner(mm)
        for one in both if self.kernel.sink and self.spaces.pinned_pages else ():
            if one is not None:
                self.kernel.emit(Kind.PIN, self.name, one.ident, 0, one.pinned_vm)

    # -- device-level pieces

    def reset_device(self) -> None:
        """Reset the device; its map is cleaned unless IOTLB_PERSIST is acked (``_compat_vdpa_reset``)."""
        self.suspended = False
        clean = not self.backend_acked(VHOST_BACKEND_F_IOTLB_PERSIST)
        self.device.reset(clean_map=clean)
        if clean:
            self.spaces.device_map_lost()

    def backend_acked(self, bit: int) -> bool:
        """Whether a backend feature is acked; all queues hold the same."""
        return bool(self.vqs) and self.vqs[0].backend_has_feature(bit)

    def drop_config_ctx(self) -> None:
        """Forget the config eventfd."""
        if self.node.config_ctx_dangles:
            self.kernel.violation("kernel.oops", f"{self.name}: a config eventfd that was freed would be put again")
        if self.config_ctx is not None:
            self.config_ctx.put()
            self.config_ctx = None

    def vq_callback(self, vq: VhostVirtqueue) -> Interrupt:
        """The device's interrupt for a queue: signal its call eventfd (``vhost_vdpa_virtqueue_cb``)."""
        return Interrupt(vq.signal_call, self, "F7", lambda: vq.call)

    def config_callback(self) -> Interrupt:
        """The device's config interrupt: signal the config eventfd (``vhost_vdpa_config_cb``)."""
        return Interrupt(self.config_changed, self, "F6", lambda: self.config_ctx)

    def config_changed(self) -> None:
        """Signal the config eventfd, if there is one."""
        if self.config_ctx is None:
            if self.kernel.sink:
                self.kernel.emit(Kind.QUIET, self.name, -1, "no-eventfd")
            return
        if self.kernel.faults is not None and deflect(self.kernel, "config", self.name, self._config_interrupt):
            return
        self._config_interrupt()

    def _config_interrupt(self) -> None:
        # a delayed interrupt goes to the eventfd that is there when it comes
        if self.config_ctx is not None:
            self.config_ctx.signal()
            if self.kernel.sink:
                self.kernel.emit(Kind.SIGNAL, self.name, -1, "config", self.config_ctx.count)


Ioctl = Callable[[VhostVdpa, "Call", UserBuffer], None]
Message = Callable[[VhostVdpa, "Caller", int, IotlbMsg], None]


# -- messages


def process_iotlb_update(v: VhostVdpa, task: Caller, asid: int, msg: IotlbMsg) -> None:
    """UPDATE."""
    assert v.mm is not None
    v.spaces.update(v.mm, task.limits.memlock, asid, msg)


def process_iotlb_invalidate(v: VhostVdpa, task: Caller, asid: int, msg: IotlbMsg) -> None:
    """INVALIDATE: never fails; what it touches goes whole."""
    v.spaces.unmap(v.mm, asid, msg.iova, msg.size)


def batch_begin(v: VhostVdpa, task: Caller, asid: int, msg: IotlbMsg) -> None:
    """BATCH_BEGIN: may be repeated."""
    v.spaces.batch_asid = asid
    v.spaces.in_batch = True
    if v.kernel.sink:
        v.kernel.emit(Kind.BATCH, v.name, asid, 1)


def batch_end(v: VhostVdpa, task: Caller, asid: int, msg: IotlbMsg) -> None:
    """BATCH_END: push the map; what the device says of it is ignored."""
    if v.spaces.in_batch and v.device.supports("set_map"):
        try:
            v.spaces.push(asid)
        except KernelError:
            hit("vdpa.batch.push-ignored")
    v.spaces.in_batch = False
    if v.kernel.sink:
        v.kernel.emit(Kind.BATCH, v.name, asid, 0)


MESSAGES: dict[int, Message] = {
    VHOST_IOTLB_UPDATE: process_iotlb_update,
    VHOST_IOTLB_INVALIDATE: process_iotlb_invalidate,
    VHOST_IOTLB_BATCH_BEGIN: batch_begin,
    VHOST_IOTLB_BATCH_END: batch_end,
}
"""IOTLB message type -> handler, called by the owner with the address space known to exist."""


# -- ioctls without an owner check


def set_status(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """SET_STATUS: bits may be added; 0 resets."""
    new, old = get_int(v.kernel, arg, 1), v.device.get_status()
    if new and old & ~new:
        raise fail("vdpa.status.clears")
    if v.kernel.sink:
        v.kernel.emit(Kind.STATUS, v.name, old, new)
    if new == 0:
        v.reset_device()
    else:
        v.device.set_status(new)


def _config_range(v: VhostVdpa, arg: UserBuffer) -> tuple[int, int]:
    head = get_struct(v.kernel, arg, vhost_vdpa_config)
    size = v.device.get_config_size()
    if not head.len or head.off > size or head.len > size - head.off:
        # of old the start was not looked at, and in 32 bits what is left behind the last byte is nearly everything
        wraps = head.len and head.off > size and v.kernel.abi.bits == 32 and v.kernel.on("bug-config-underflow")
        if not wraps or head.len > size - head.off + (1 << 32):
            raise fail("vdpa.config.range")
    return head.off, head.len


def get_config(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """GET_CONFIG."""
    off, length = _config_range(v, arg)
    # a device that is asked for more than it has gives none of it
    copy_to_user(arg, v.device.get_config(off, length).ljust(length, b"\0"), 8)


def set_config(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """SET_CONFIG: at any time, in any status."""
    off, length = _config_range(v, arg)
    v.device.set_config(off, copy_from_user(arg, length, 8))


def set_features(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """SET_FEATURES: the ring layer is told what the device took."""
    if v.device.get_status() & VIRTIO_CONFIG_S_FEATURES_OK:
        raise fail("vdpa.features.busy")
    v.device.set_driver_features(get_int(v.kernel, arg, 8))
    if v.kernel.sink:
        v.kernel.emit(Kind.FEATURES, v.name, "virtio", v.device.get_driver_features())
    if v.kernel.on("bug-packed-base"):
        return  # the ring layer was not told, so to it every ring was split
    for vq in v.vqs:
        vq.acked_features = v.device.get_driver_features()


def set_config_call(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """SET_CONFIG_CALL: before F5 a bad descriptor loses the old eventfd."""
    fd = get_int(v.kernel, arg, 4, signed=True)
    try:
        ctx = None if fd == VHOST_FILE_UNBIND else call.task.files.eventfd(fd)
    except KernelError:
        if not v.kernel.on("F5"):
            hit("vdpa.config-call.lost")
            v.drop_config_ctx()
        raise
    v.drop_config_ctx()
    v.node.config_ctx_dangles = False
    v.config_ctx = ctx
    v.device.set_config_cb(v.config_callback())
    if v.kernel.sink:
        v.kernel.emit(Kind.RING, v.name, -1, "config", eventfd_name(ctx))


def suspend(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """SUSPEND: before DRIVER_OK nothing happens (newer kernels), even if the device could not."""
    if _not_running(v):
        return
    if not v.device.supports("suspend"):
        raise fail("vdpa.suspend.unsupported")
    v.device.suspend()
    _suspended(v, True)


def resume(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """RESUME."""
    if _not_running(v):
        return
    if not v.device.supports("resume"):
        raise fail("vdpa.resume.unsupported")
    v.device.resume()
    _suspended(v, False)


def _suspended(v: VhostVdpa, now: bool) -> None:
    if v.kernel.sink:
        v.kernel.emit(Kind.SUSPEND, v.name, int(v.suspended), int(now))
    v.suspended = now


def _not_running(v: VhostVdpa) -> bool:
    if v.kernel.on("suspend-needs-driver-ok") and not v.device.get_status() & VIRTIO_CONFIG_S_DRIVER_OK:
        hit("vdpa.suspend.not-running")
        return True
    return False


def get_iova_range(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """GET_IOVA_RANGE."""
    first, last = v.device.get_iova_range()
    put_struct(v.kernel, arg, vhost_vdpa_iova_range, first=first, last=last)


def log_unsupported(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
    """SET_LOG_BASE and SET_LOG_FD."""
    raise fail("vdpa.log.unsupported")


def _getter(size: int, value: Callable[[VhostVdpa], int]) -> Ioctl:
    def get(v: VhostVdpa, call: Call, arg: UserBuffer) -> None:
        put_int(v.kernel, arg, size, value(v))

    return get


IOCTLS: dict[str, Ioctl] = {
    "VHOST_VDPA_GET_DEVICE_ID": _getter(4, lambda v: v.device.device_id),
    "VHOST_VDPA_GET_STATUS": _getter(1, lambda v: v.device.get_status()),
    "VHOST_VDPA_SET_STATUS": set_status,
    "VHOST_VDPA_GET_CONFIG": get_config,
    "VHOST_VDPA_SET_CONFIG": set_config,
    "VHOST_GET_FEATURES": _getter(8, lambda v: v.device.get_device_features()),
    "VHOST_SET_FEATURES": set_features,
    "VHOST_VDPA_GET_VRING_NUM": _getter(2, lambda v: v.device.get_vq_num_max()),
    "VHOST_VDPA_GET_GROUP_NUM": _getter(4, lambda v: v.device.ngroups),
    "VHOST_VDPA_GET_AS_NUM": _getter(4, lambda v: v.device.nas),
    "VHOST_VDPA_SET_CONFIG_CALL": set_config_call,
    "VHOST_GET_BACKEND_FEATURES": get_backend_features,
    "VHOST_VDPA_GET_IOVA_RANGE": get_iova_range,
    "VHOST_VDPA_GET_CONFIG_SIZE": _getter(4, lambda v: v.device.get_config_size()),
    "VHOST_VDPA_GET_VQS_COUNT": _getter(4, lambda v: v.device.nvqs),
    "VHOST_VDPA_SUSPEND": suspend,
    "VHOST_VDPA_RESUME": resume,
    "VHOST_SET_LOG_BASE": log_unsupported,
    "VHOST_SET_LOG_FD": log_unsupported,
}
"""Requests that anybody with the file may make, by name; series add to the copy of an open file."""

QUIESCING = (
    "VHOST_SET_OWNER",
    "VHOST_SET_FEATURES",
    "VHOST_SET_VRING_ADDR",
    "VHOST_SET_VRING_BASE",
    "VHOST_VDPA_GET_STATUS",
    "VHOST_VDPA_SET_STATUS",
    "VHOST_VDPA_SET_VRING_ENABLE",
    "VHOST_VDPA_SET_GROUP_ASID",
    "VHOST_VDPA_SUSPEND",
    "VHOST_VDPA_RESUME",
)
"""Requests whose device operation takes vdpa_sim's lock, or flushes its worker."""

NEEDS = {"VHOST_VDPA_RESUME": "resume"}
"""Requests that not every kernel has, and the switch that brings each."""

