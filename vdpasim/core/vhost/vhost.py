"""The generic vhost device: queues, owner, reset (mirrors drivers/vhost/vhost.c and vhost.h).

Theory. Every vhost device is a :class:`VhostDev`: a mutex, an array of :class:`VhostVirtqueue`, an *owner* and two
message lists. The owner is an address space, not a process: whoever did SET_OWNER lent its memory, threads share it, a
forked child or an exec'd image is somebody else. Acked features and backend features are stored per queue with one
value. The tables of ring ioctls are in ``vhost_vring.py``, of messages in ``vhost_msg.py``; what differs between
vhost-net and vhost-vdpa is in ``net.py`` and ``vdpa.py``.

Not modelled: vhost-scsi and vhost-vsock, cross-endian rings (VHOST_CROSS_ENDIAN_LEGACY is off, as in distributions).
"""

from __future__ import annotations

import abc
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import attrs

from vdpasim.core.events import Kind
from vdpasim.core.faults import befall, deflect
from vdpasim.core.kernel import Mutex
from vdpasim.core.rules import fail
from vdpasim.core.vhost.iotlb import Iotlb
from vdpasim.core.vhost.vhost_msg import codec
from vdpasim.core.vhost.virtio_byteorder import RingStructs, ring_structs
from vdpasim.uapi.catalog import by_request

if TYPE_CHECKING:
    from vdpasim.core.kernel import Kernel, Steps, WaitQueue
    from vdpasim.core.net.tun import SocketFile
    from vdpasim.core.ports import Caller, EventFd, Mm
    from vdpasim.core.vhost.iotlb import IotlbMap
    from vdpasim.core.vhost.vhost_msg import Codec, IotlbMsg, Miss

IOTLB_LIMIT = 2048
"""max_iotlb_entries of vhost, vhost_vdpa and vdpa_sim."""

NUM_MAX = 0xFFFF
VHOST_FORK_KTHREAD, VHOST_FORK_TASK = 0, 1


@attrs.frozen
class VhostStatistics:
    """Counts of one open vhost device."""

    messages: int
    """IOTLB messages that were written and understood."""
    misses: int
    """Misses queued for the reader."""
    unread: int
    """Messages nobody has read yet."""
    pending: int
    """Misses that were read and wait for an UPDATE."""
    kicks: int
    """Writes to kick eventfds that reached the device."""


@attrs.define(eq=False)
class VhostVirtqueue:
    """``struct vhost_virtqueue``: the generic layer's copy of a ring's state."""

    dev: VhostDev
    index: int
    num: int = 1
    desc: int = 0
    avail: int = 0
    used: int = 0
    log_used: bool = False
    log_addr: int = (1 << 64) - 1
    last_avail_idx: int = 0
    avail_idx: int = 0
    last_used_idx: int = 0
    acked_features: int = 0
    acked_backend_features: int = 0
    kick: EventFd | None = None
    call: EventFd | None = None
    error: EventFd | None = None
    busyloop_timeout: int = 0
    private_data: SocketFile | None = None
    """vhost-net's backend."""
    used_flags: int = 0
    signalled_used: int | None = None
    """used->idx at the last interrupt, None when it is not known (EVENT_IDX)."""
    log_base: int | None = None
    meta_iotlb: dict[str, IotlbMap] = attrs.Factory(dict["str", "IotlbMap"])
    """Area name (desc, avail, used) -> the one entry that covers it whole."""
    poll: EventFd | None = None
    """The kick eventfd this queue is subscribed to."""
    mutex: Mutex = attrs.field(init=False)
    """Held while the ring is walked; see :meth:`VhostDev.quiesce`."""

    def __attrs_post_init__(self) -> None:
        self.mutex = Mutex(self.dev.kernel, f"{self.dev.name}.vq{self.index}.mutex")

    def reset(self) -> None:
        """``vhost_vq_reset``: back to the state at open; eventfds must have been put."""
        fresh = VhostVirtqueue(self.dev, self.index)
        for field in attrs.fields(VhostVirtqueue):
            if field.name != "mutex":
                setattr(self, field.name, getattr(fresh, field.name))

    @property
    def structs(self) -> RingStructs:
        """The byte order of the ring."""
        return ring_structs(self.dev.kernel.abi, self.acked_features)

    def handle_kick(self) -> None:
        """The kick eventfd was written."""
        kernel = self.dev.kernel
        if kernel.faults is not None and deflect(kernel, "kick", self.dev.name, partial(self._kicked, self.poll)):
            return
        self._kicked(self.poll)

    def _kicked(self, poll: EventFd | None) -> None:
        # a delayed kick is lost if the queue has stopped to listen to its eventfd
        if poll is not self.poll:
            return
        self.dev.kicks_seen += 1
        self.dev.handle_kick(self)

    def has_feature(self, bit: int) -> bool:
        """Whether a virtio feature was acked (``vhost_has_feature``)."""
        return bool(self.acked_features >> bit & 1)

    def backend_has_feature(self, bit: int) -> bool:
        """Whether a backend feature was acked (``vhost_backend_has_feature``)."""
        return bool(self.acked_backend_features >> bit & 1)

    def signal_call(self) -> None:
        """Interrupt the driver through the call eventfd, if there is one."""
        kernel = self.dev.kernel
        if self.call is None:
            if kernel.sink:
                kernel.emit(Kind.QUIET, self.dev.name, self.index, "no-eventfd")
            return
        if kernel.faults is not None and deflect(kernel, "call", self.dev.name, self._called):
            return
        self._called()

    def _called(self) -> None:
        # a delayed interrupt goes to the eventfd that is there when it comes
        if self.call is not None:
            self.call.signal()
            kernel = self.dev.kernel
            if kernel.sink:
                kernel.emit(Kind.SIGNAL, self.dev.name, self.index, "call", self.call.count)

    def signal_error(self) -> None:
        """Tell the error eventfd, once per event (``vq_err``)."""
        if self.error is not None:
            self.error.signal()
            kernel = self.dev.kernel
            if kernel.sink:
                kernel.emit(Kind.SIGNAL, self.dev.name, self.index, "err", self.error.count)


@attrs.define(eq=False)
class VhostDev(abc.ABC):
    """``struct vhost_dev``: what vhost-net and vhost-vdpa have in common."""

    kernel: Kernel
    name: str
    vqs: list[VhostVirtqueue]
    mutex: Mutex
    wait: WaitQueue
    """Where readers and pollers of the message list sleep."""
    mm: Mm | None = None
    """The owner."""
    umem: Iotlb | None = None
    iotlb: Iotlb | None = None
    read_list: list[Miss] = attrs.Factory(list["Miss"])
    pending_list: list[Miss] = attrs.Factory(list["Miss"])
    log: EventFd | None = None
    walks_rings: ClassVar[bool] = False
    """Whether the device walks its rings itself, so that messages and requests must wait for a round to end."""
    fork_owner: int = VHOST_FORK_TASK
    messages_written: int = 0
    misses_queued: int = 0
    kicks_seen: int = 0
    codec: Codec = attrs.field(init=False)
    """The message layouts of the kernel's ABI."""
    knows_v2: bool = attrs.field(init=False)
    """Whether there is the second format of messages."""

    def __attrs_post_init__(self) -> None:
        self.codec = codec(self.kernel.abi)
        self.knows_v2 = not self.kernel.on("bug-no-msg-v2")

    def statistics(self) -> VhostStatistics:
        """Counts since open."""
        return VhostStatistics(
            self.messages_written, self.misses_queued, len(self.read_list), len(self.pending_list), self.kicks_seen
        )

    def check_owner(self, mm: Mm) -> bool:
        """Whether the address space is the owner's (``vhost_dev_check_owner``)."""
        return self.mm is mm and self.mm is not None

    def set_owner(self, mm: Mm) -> None:
        """``vhost_dev_set_owner``.

        Raises:
            KernelError: EBUSY somebody, perhaps the caller, is the owner already.
        """
        if self.mm is not None:
            raise fail("vhost.owner.busy")
        self.change_owner(mm)

    def change_owner(self, mm: Mm | None) -> None:
        """Record another owner and say so."""
        if self.kernel.sink:
            self.kernel.emit(
                Kind.OWNER, self.name, self.mm.ident if self.mm else None, mm.ident if mm else None
            )
        self.mm = mm

    def new_iotlb(self) -> Iotlb:
        """An empty table for device IOTLB or guest memory (``iotlb_alloc``): the oldest entry gives way at the
        limit.
        """
        return Iotlb(IOTLB_LIMIT, retire=True, enforce_limit=self.kernel.on("F1"), serials=self.kernel.serials)

    @property
    def can_miss(self) -> bool:
        """Whether a reader may hope for a message: the device IOTLB is initialised."""
        return self.iotlb is not None

    def meta_reset(self) -> None:
        """Drop the cached translations of ring metadata of all queues (``vhost_vq_meta_reset``)."""
        for vq in self.vqs:
            if vq.meta_iotlb:
                vq.meta_iotlb.clear()

    @abc.abstractmethod
    def process_msg(self, task: Caller, asid: int, msg: IotlbMsg) -> None:
        """Handle one decoded IOTLB message; the caller holds the device mutex (``msg_handler``)."""

    def befall_ioctl(self, request: int) -> Steps:
        """Whether a fault plan swallows a request; call only while there is a plan.

        Raises:
            KernelError: the plan makes it fail.
        """
        known = by_request(request, self.kernel.abi)
        return known is not None and (yield from befall(self.kernel, known.name, self.name))

    def quiesce(self) -> Steps:
        """Wait until no ring is being walked (``vhost_dev_lock_vqs``); a handler is atomic, so to have had all the
        mutexes at once is as good as holding them.
        """
        for vq in self.vqs:
            yield from vq.mutex.lock()
        for vq in self.vqs:
            vq.mutex.unlock()

    @abc.abstractmethod
    def handle_kick(self, vq: VhostVirtqueue) -> None:
        """What a written kick eventfd does."""

    @abc.abstractmethod
    def queue_handler(self, vq: VhostVirtqueue) -> None:
        """Run the queue's handler again after a miss was answered (``vhost_poll_queue``)."""

    def clear_msg(self) -> None:
        """Drop every message, read or not, and wake who waits for one (``vhost_clear_msg``)."""
        count = len(self.read_list) + len(self.pending_list)
        if count and self.kernel.sink:
            self.kernel.emit(Kind.CLEAR, self.name, count)
        self.read_list.clear()
        self.pending_list.clear()
        self.wait.wake_up()

    def cleanup(self) -> None:
        """``vhost_dev_cleanup``: eventfds, tables, messages and owner go; queues are as at open."""
        for vq in self.vqs:
            self.stop_poll(vq)
            for ctx in (vq.error, vq.kick, vq.call):
                if ctx is not None:
                    ctx.put()
            vq.reset()
        if self.log is not None:
            self.log.put()
            self.log = None
        self.umem = self.iotlb = None
        self.clear_msg()
        if self.mm is not None:
            self.change_owner(None)

    def start_poll(self, vq: VhostVirtqueue) -> None:
        """Watch the queue's kick eventfd; one that is readable kicks at once (``vhost_poll_start``)."""
        if vq.kick is None or vq.poll is vq.kick:
            return
        vq.poll = vq.kick
        vq.kick.watch(vq.handle_kick)
        if vq.kick.count:
            vq.handle_kick()

    def stop_poll(self, vq: VhostVirtqueue) -> None:
        """Stop watching (``vhost_poll_stop``)."""
        if vq.poll is not None:
            vq.poll.unwatch(vq.handle_kick)
            vq.poll = None


def eventfd_name(ctx: EventFd | None) -> str | None:
    """How traces call an eventfd; those of real processes have no name of their own."""
    return None if ctx is None else str(getattr(ctx, "name", "eventfd"))


def new_vqs(dev: VhostDev, count: int) -> list[VhostVirtqueue]:
    """The queue array of a device just opened."""
    return [VhostVirtqueue(dev, index) for index in range(count)]

