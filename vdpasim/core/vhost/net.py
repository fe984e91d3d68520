"""/dev/vhost-net: ioctls, backends and the device IOTLB (mirrors drivers/vhost/net.c).

Theory. Each open is a device of its own with two queues, 0 RX and 1 TX. Features and backend features need no owner;
the backend and everything generic does. SET_FEATURES with ACCESS_PLATFORM turns the device IOTLB on (a new, empty one
each time); then ring addresses are I/O addresses, misses are read from the file and answered by UPDATE. IOTLB messages
have no owner check at all.

A backend can be set only when SET_MEM_TABLE was done, even to remove one. Activating writes the used ring's flags and
reads its index, through the IOTLB.

Each open has a worker thread once it has an owner; kicks, answered misses and a backend that becomes ready queue the
handler of their queue on it (``net_handlers.py``).

Not modelled: VIRTIO_F_IN_ORDER, which newer kernels offer, and which is reported when it is acked (chains then complete
one by one all the same); that the worker keeps its owner's address space alive after the owner has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.events import Kind
from vdpasim.core.fs.file import OpenFile, unmodelled
from vdpasim.core.kernel import Kernel, Mutex, Point, Steps, WaitQueue, Work, Worker
from vdpasim.core.net.tun import SocketFile
from vdpasim.core.rules import KernelError, fail, hit
from vdpasim.core.uaccess import MmBuffer, UserBuffer, access_ok, copy_to_user, get_int, get_struct, put_int
from vdpasim.core.vhost.net_handlers import handle_rx, handle_tx
from vdpasim.core.vhost.vhost import VhostDev, VhostVirtqueue, new_vqs
from vdpasim.core.vhost.vhost_log import logs_all, vq_log_access_ok
from vdpasim.core.vhost.vhost_msg import (
    IotlbMsg,
    vhost_chr_poll,
    vhost_chr_read_iter,
    vhost_chr_write,
    vhost_chr_write_iter,
    vhost_process_iotlb_msg,
)
from vdpasim.core.vhost.vhost_vq import vhost_vq_init_access
from vdpasim.core.vhost.vhost_vring import (
    ring_areas,
    vhost_dev_ioctl,
    vhost_vring_ioctl,
)
from vdpasim.uapi import vhost as uapi
from vdpasim.uapi.vhost_types import (
    VHOST_BACKEND_F_IOTLB_MSG_V2,
    VHOST_FILE_UNBIND,
    vhost_vring_file,
)
from vdpasim.uapi.virtio_config import (
    VHOST_F_LOG_ALL,
    VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_F_IN_ORDER,
    VIRTIO_F_NOTIFY_ON_EMPTY,
    VIRTIO_F_RING_RESET,
    VIRTIO_F_VERSION_1,
)
from vdpasim.uapi.virtio_net import (
    VHOST_NET_F_VIRTIO_NET_HDR,
    VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
    VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO,
    VIRTIO_NET_F_MRG_RXBUF,
)
from vdpasim.uapi.virtio_ring import VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call
    from vdpasim.core.ports import Caller

NVQS = 2
RX, TX = 0, 1
BACKEND_FEATURES = 1 << VHOST_BACKEND_F_IOTLB_MSG_V2
FEATURE_WORDS = 2

_FEATURES = (
    VIRTIO_F_NOTIFY_ON_EMPTY,
    VHOST_F_LOG_ALL,
    VHOST_NET_F_VIRTIO_NET_HDR,
    VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_F_VERSION_1,
    VIRTIO_F_ACCESS_PLATFORM,
)


def offered_features(kernel: Kernel) -> int:
    """All offered feature bits; those above 63 are reached by the FEATURES_ARRAY requests only."""
    mask = sum(1 << bit for bit in _FEATURES)
    if kernel.on("vhost-ring-reset"):
        mask |= 1 << VIRTIO_F_RING_RESET
    if kernel.on("vhost-in-order"):
        mask |= 1 << VIRTIO_F_IN_ORDER
    if kernel.on("features-array"):
        mask |= 1 << VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO | 1 << VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO
    return mask


@attrs.define(eq=False)
class VhostNetNode:
    """The device node; any number of opens."""

    kernel: Kernel
    path: str = "/dev/vhost-net"

    def open(self, call: Call, flags: int) -> Steps:
        """A new device (``vhost_net_open``)."""
        if self.kernel.points:
            yield Point("vhost_net.open")
        name = self.kernel.name("vhost-net")
        wait = WaitQueue(name + ".wait")
        mutex = Mutex(self.kernel, name + ".mutex")
        net = VhostNet(
            self.kernel,
            name,
            [],
            mutex,
            wait,
            poll_queue=wait,
            ioctls=_requests(self.kernel),
            worker=Worker(self.kernel, name + ".worker"),
        )
        net.vqs = new_vqs(net, NVQS)
        handlers = {RX: handle_rx, TX: handle_tx}
        if self.kernel.sink:
            self.kernel.emit(Kind.OPEN, name, name, "vhost-net")
        net.works = [Work(partial(_with_mutex, handlers[vq.index], net, vq)) for vq in net.vqs]
        return net


def _with_mutex(handler: Callable[[VhostNet, VhostVirtqueue], Steps], net: VhostNet, vq: VhostVirtqueue) -> Steps:
    yield from vq.mutex.lock()
    try:
        yield from handler(net, vq)
    finally:
        vq.mutex.unlock()


@attrs.define(eq=False)
class VhostNet(VhostDev):
    """One open of /dev/vhost-net (``struct vhost_net``)."""

    walks_rings = True
    poll_queue: WaitQueue | None = attrs.field(kw_only=True)
    ioctls: dict[int, Ioctl] = attrs.field(kw_only=True)
    worker: Worker = attrs.field(kw_only=True)
    works: list[Work] = attrs.Factory(list["Work"])
    """The handler of each queue."""

    # -- file operations

    def read(self, call: Call, buffer: UserBuffer, nonblock: bool) -> Steps:
        return vhost_chr_read_iter(self, call, buffer, nonblock)

    def write(self, call: Call, buffer: UserBuffer) -> Steps:
        return vhost_chr_write_iter(self, call, buffer)

    def write_atomic(self, task: Caller, data: bytes) -> int:
        return vhost_chr_write(self, task, data)

    def poll(self) -> int:
        return vhost_chr_poll(self)

    def mmap(self, call: Call, length: int, prot: int, flags: int, offset: int) -> Steps:
        yield from ()
        raise fail("vfs.no-mmap")

    def ioctl(self, call: Call, request: int, arg: UserBuffer) -> Steps:
        """``vhost_net_ioctl``: requests without owner first, then the backend, then the generic ones."""
        if self.kernel.faults is not None and (yield from self.befall_ioctl(request)):
            return 0
        yield from self.mutex.lock()
        try:
            yield from self.quiesce()
            handler = self.ioctls.get(request)
            if handler is not None:
                steps = handler(self, call, arg)
                if steps is not None:
                    yield from steps
            elif not vhost_dev_ioctl(self, call, request, arg):
                vhost_vring_ioctl(self, call, request, arg)
        finally:
            self.mutex.unlock()
        return 0

    def release(self, call: Call) -> Steps:
        """``vhost_net_release``."""
        yield from self.mutex.lock()
        try:
            yield from self.quiesce()
            self.worker.stop()
            self._detach()
            self.cleanup()
            if self.kernel.sink:
                self.kernel.emit(Kind.GONE, "file", self.name)
        finally:
            self.mutex.unlock()
        return 0

    # -- what the generic layer asks

    def process_msg(self, task: Caller, asid: int, msg: IotlbMsg) -> None:
        """The generic handler; no owner is asked for."""
        vhost_process_iotlb_msg(self, asid, msg)

    def handle_kick(self, vq: VhostVirtqueue) -> None:
        """A kick without a backend does nothing; with one the ring walk would run."""
        self.queue_handler(vq)

    def queue_handler(self, vq: VhostVirtqueue) -> None:
        """``vhost_poll_queue``."""
        if self.mm is not None:
            self.worker.queue(self.works[vq.index])

    # -- pieces

    def set_features(self, features: int) -> None:
        """SET_FEATURES: at any time, by anybody (``vhost_net_set_features``)."""
        if features & ~offered_features(self.kernel):
            raise fail("net.features.unknown")
        active = [vq for vq in self.vqs if vq.private_data is not None]
        if logs_all(features) and not all(vq_log_access_ok(vq, vq.log_base or 0, features) for vq in active):
            raise fail("net.features.log")
        if logs_all(features) and self.kernel.abi.byteorder == "big":
            unmodelled(self.kernel, self.name, "the order of bits in the dirty log of a big-endian kernel")
        if features >> VIRTIO_F_IN_ORDER & 1:
            unmodelled(self.kernel, self.name, "used elements of whole batches (VIRTIO_F_IN_ORDER)")
        if features >> VIRTIO_F_ACCESS_PLATFORM & 1:
            self._init_device_iotlb()
        elif self.kernel.on("F9") and self.iotlb is not None:
            hit("net.features.iotlb-gone")
            self.iotlb = None
            self._wipe_rings()
            self.clear_msg()
        for vq in self.vqs:
            vq.acked_features = features
        if self.kernel.sink:
            self.kernel.emit(Kind.FEATURES, self.name, "virtio", features)

    def _init_device_iotlb(self) -> None:
        hit("net.features.iotlb-new")
        if self.iotlb is None and self.kernel.on("F8"):
            hit("net.features.rings-wiped")
            self._wipe_rings()
        if self.kernel.on("bug-iotlb-recreate-cache") and self.iotlb is not None:
            self.iotlb.reset()  # freed: its entries are dead, and the queues' caches keep them
            self.iotlb = self.new_iotlb()
            return
        self.iotlb = self.new_iotlb()
        self.meta_reset()

    def _wipe_rings(self) -> None:
        for vq in self.vqs:
            vq.desc = vq.avail = vq.used = 0
            vq.log_used, vq.log_addr = False, (1 << 64) - 1
        self.meta_reset()

    def set_backend(self, call: Call, index: int, fd: int) -> SocketFile | None:
        """NET_SET_BACKEND behind the owner check (``vhost_net_set_backend``): the backend, if it is a new one."""
        if index >= NVQS:
            raise fail("net.backend.index")
        vq = self.vqs[index]
        if fd == VHOST_FILE_UNBIND and not self.kernel.on("bug-stale-misses"):
            self.clear_msg()
        if not self._vq_access_ok(vq):
            raise fail("net.backend.access")
        sock = None if fd == VHOST_FILE_UNBIND else self._get_socket(call, fd)
        old = vq.private_data
        if sock is old:
            return None
        self.stop_waiting(vq)
        vq.private_data = sock
        if sock is None:
            self._say_backend(vq, None)
            return None
        try:
            vhost_vq_init_access(vq)
            if not sock.attached:
                raise fail("net.backend.poll")
        except KernelError:
            vq.private_data = old
            raise
        self._say_backend(vq, sock.ifname)
        self._enable_vq(vq, sock)
        return sock

    def look_up_ring(self, call: Call, fd: int, sock: SocketFile) -> Steps:
        """Of old the ring of the tap was looked up by the descriptor again, and not taken of the socket's file."""
        yield Point(self.name + ".backend.lookup")
        try:
            again = self._get_socket(call, fd)
        except KernelError:
            return
        if again is not sock and again.kind == "tap":
            self.kernel.violation("kernel.oops", f"{self.name} would use the ring of a file that it does not hold")

    def _say_backend(self, vq: VhostVirtqueue, name: str | None) -> None:
        if self.kernel.sink:
            self.kernel.emit(Kind.RING, self.name, vq.index, "backend", name)

    def _enable_vq(self, vq: VhostVirtqueue, sock: SocketFile) -> None:
        # poll the backend: a tap can always be written, and is readable while a frame waits (vhost_net_enable_vq)
        if vq.index == TX:
            self.queue_handler(vq)
            return
        self.wait_for_frame(vq, sock)
        if sock.inbox:
            self.queue_handler(vq)

    def wait_for_frame(self, vq: VhostVirtqueue, sock: SocketFile) -> None:
        """Run the queue's handler when the backend gets a frame (``vhost_poll_start``)."""
        sock.waiting[vq] = lambda: self.queue_handler(vq)

    def stop_waiting(self, vq: VhostVirtqueue) -> None:
        """Stop polling the backend (``vhost_poll_stop``)."""
        if vq.private_data is not None:
            vq.private_data.waiting.pop(vq, None)

    def _vq_access_ok(self, vq: VhostVirtqueue) -> bool:
        if not vq_log_access_ok(vq, vq.log_base or 0, vq.acked_features):
            return False
        if self.iotlb is not None:
            return True
        areas = ring_areas(vq, vq.desc, vq.avail, vq.used)
        return all(access_ok(self.kernel.abi, start, size) for start, size in areas)

    @staticmethod
    def _get_socket(call: Call, fd: int) -> SocketFile:
        file = call.task.files.get(fd)
        if not isinstance(file, OpenFile) or not isinstance(file.ops, SocketFile) or not file.ops.backend:
            raise fail("net.backend.not-socket")
        return file.ops

    def _detach(self) -> None:
        for vq in self.vqs:
            self.stop_waiting(vq)
            vq.private_data = None

    def reset_owner(self) -> None:
        """RESET_OWNER: everything back to defaults, with an empty memory table instead of none."""
        self._detach()
        self.cleanup()
        self.fork_owner = 1
        self.umem = self.new_iotlb()


Ioctl = Callable[[VhostNet, "Call", UserBuffer], Steps | None]
"""A request; it is one step unless it returns its steps."""


def get_features(net: VhostNet, call: Call, arg: UserBuffer) -> None:
    """GET_FEATURES: the low 64 bits."""
    put_int(net.kernel, arg, 8, offered_features(net.kernel))


def set_features(net: VhostNet, call: Call, arg: UserBuffer) -> None:
    """SET_FEATURES."""
    net.set_features(get_int(net.kernel, arg, 8))


def get_features_array(net: VhostNet, call: Call, arg: UserBuffer) -> None:
    """GET_FEATURES_ARRAY: the zero-fill of 7.1 starts at word 0."""
    count = get_int(net.kernel, arg, 8)
    features = offered_features(net.kernel)
    order = net.kernel.abi.byteorder
    words = [(features >> 64 * i & (1 << 64) - 1).to_bytes(8, order) for i in range(min(count, FEATURE_WORDS))]
    copy_to_user(arg, b"".join(words), 8)
    if count > FEATURE_WORDS:
        buggy = net.kernel.on("bug-features-array-zero-fill")
        if buggy:
            hit("net.features.array-zero-fill")
        _clear_user(arg, 8 if buggy else 8 + 8 * FEATURE_WORDS, 8 * (count - FEATURE_WORDS))


def _clear_user(arg: UserBuffer, offset: int, size: int) -> None:
    # a size that leaves the user half clears nothing; otherwise in pieces, and the first fault ends it
    if isinstance(arg, MmBuffer) and arg.addr + offset + size > arg.mm.task_size:
        raise fail("uaccess.to-user")
    while size > 0:
        piece = min(size, 1 << 16)
        copy_to_user(arg, bytes(piece), offset)
        offset, size = offset + piece, size - piece


def set_features_array(net: VhostNet, call: Call, arg: UserBuffer) -> None:
    """SET_FEATURES_ARRAY: words that are missing count as zero."""
    kernel = net.kernel
    count = get_int(kernel, arg, 8)
    features = 0
    for i in range(count):
        word = int.from_bytes(_word(arg, i), kernel.abi.byteorder)
        if i >= FEATURE_WORDS and word:
            raise fail("net.features.array-unknown")
        features |= word << 64 * min(i, FEATURE_WORDS)
    net.set_features(features)


def _word(arg: UserBuffer, i: int) -> bytes:
    data = arg.peek(8 + 8 * i, 8)
    if len(data) < 8:
        raise fail("uaccess.from-user")
    return data


def get_backend_features(net: VhostNet, call: Call, arg: UserBuffer) -> None:
    """GET_BACKEND_FEATURES."""
    put_int(net.kernel, arg, 8, BACKEND_FEATURES if net.knows_v2 else 0)


def set_backend_features(net: VhostNet, call: Call, arg: UserBuffer) -> None:
    """SET_BACKEND_FEATURES: MSG_V2 or nothing."""
    features = get_int(net.kernel, arg, 8)
    if features & ~(BACKEND_FEATURES if net.knows_v2 else 0):
        raise fail("net.backend-features.unknown")
    for vq in net.vqs:
        vq.acked_backend_features = features
    if net.kernel.sink:
        net.kernel.emit(Kind.FEATURES, net.name, "backend", features)


def set_backend(net: VhostNet, call: Call, arg: UserBuffer) -> Steps | None:
    """NET_SET_BACKEND: the pointer is looked at before the owner."""
    file = get_struct(net.kernel, arg, vhost_vring_file)
    _need_owner(net, call)
    sock = net.set_backend(call, file.index, file.fd)
    if sock is not None and file.index == RX and net.kernel.points and net.kernel.on("bug-backend-fd-twice"):
        return net.look_up_ring(call, file.fd, sock)
    return None


def reset_owner(net: VhostNet, call: Call, arg: UserBuffer) -> None:
    """RESET_OWNER."""
    _need_owner(net, call)
    net.reset_owner()


def _need_owner(net: VhostNet, call: Call) -> None:
    if not net.check_owner(call.task.mm):
        raise fail("vhost.owner.perm")


IOCTLS: dict[str, tuple[Ioctl, str]] = {
    "VHOST_GET_FEATURES": (get_features, ""),
    "VHOST_SET_FEATURES": (set_features, ""),
    "VHOST_GET_FEATURES_ARRAY": (get_features_array, "features-array"),
    "VHOST_SET_FEATURES_ARRAY": (set_features_array, "features-array"),
    "VHOST_GET_BACKEND_FEATURES": (get_backend_features, ""),
    "VHOST_SET_BACKEND_FEATURES": (set_backend_features, ""),
    "VHOST_NET_SET_BACKEND": (set_backend, ""),
    "VHOST_RESET_OWNER": (reset_owner, ""),
}
"""Requests vhost-net answers itself, and the switch that brings each."""


def _requests(kernel: Kernel) -> dict[int, Ioctl]:
    return {
        getattr(uapi, name).request(kernel.abi): handler
        for name, (handler, switch) in IOCTLS.items()
        if not switch or kernel.on(switch)
    }
