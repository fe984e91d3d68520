"""The simulator framework both devices stand on (mirrors drivers/vdpa/vdpa_sim/vdpa_sim.c).

Theory. One worker per device; a kick of any ready queue makes it serve all. ``running`` follows DRIVER_OK at every
status write, SUSPEND clears it, and a kick that arrives then is remembered in one flag that RESUME replays; nothing
else clears the flag, not even close. Each address space has a map of its own. Since 6.7 it starts as *passthrough*,
the identity over all 64 bits, and the first pushed map, even an empty one, replaces it; a map-cleaning reset brings it
back.

In VA mode (``use_va``) the worker borrows the bound address space while it works, so that an owner that goes meanwhile
leaves its memory until the pass has ended; if that has died before, the worker does nothing at all. Whether a ring is
accessed through user addresses is decided when the queue is enabled: is an address space bound?

A kind that goes by files (``by_file``) has no use for the owner's address space: an :class:`IovaDomain` is what its
entries refer to.

Kept across a reset: queue sizes, config space, the remembered kick. Lost: everything else, callbacks included.

Everything a device kind is, besides what it does with its queues, is in its :class:`SimAttr`. Its last fields are for
kinds that are no kernel's vdpa_sim (``devices/stock.py`` fills them from a profile); left alone they mean vdpa_sim's
own answer.

Not modelled: the shared work queue of 6.1 (each device has its worker there too), statistics beyond counts.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import attrs

from vdpasim.core.events import Kind
from vdpasim.core.kernel import Mutex, Point, Steps, Work, Worker
from vdpasim.core.rules import KernelError, fail, hit
from vdpasim.core.vdpa.iova_domain import IovaDomain
from vdpasim.core.vdpa.vdpa import VdpaDevice
from vdpasim.core.vdpa.vdpa_sim_attr import QUEUE_MAX, U64_MAX, SimAttr
from vdpasim.core.vhost.iotlb import Iotlb
from vdpasim.core.vhost.vhost import IOTLB_LIMIT
from vdpasim.core.vhost.virtio_byteorder import RingStructs, ring_structs
from vdpasim.core.vhost.vringh import DeviceMap, IotlbMiss, Vringh
from vdpasim.uapi.vhost_types import (
    VHOST_ACCESS_RW,
    VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK,
    VHOST_BACKEND_F_IOTLB_REMAP,
    VHOST_BACKEND_F_NEW_OWNER,
)
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_F_ACCESS_PLATFORM

if TYPE_CHECKING:
    from vdpasim.core.ports import Extent, Mm, Pages, View
    from vdpasim.core.vhost.iotlb import IotlbMap
    from vdpasim.core.vhost.vdpa_irq import Interrupt

__all__ = ["QUEUE_MAX", "Behaviour", "SimAttr", "VdpaSim", "VdpasimVirtqueue"]


@attrs.frozen
class SimStatistics:
    """Counts of one simulated device since it was made."""

    kicks: int
    """Kicks that reached the device."""
    passes: int
    """Times the worker served the queues."""
    interrupts: int
    """Queue callbacks called."""
    resets: int
    """Resets, those at open and release included."""
    entries: int
    """Entries the device was handed: all of the table at each set_map, one at each dma_map."""


class Behaviour(Protocol):
    """What makes the framework a network or a block device."""

    def work(self, sim: VdpaSim) -> Steps:
        """One pass of the worker over all queues."""

    def get_config(self, sim: VdpaSim) -> None:
        """What every GET_CONFIG does to the config space before it is copied out."""


@attrs.define(eq=False)
class VdpasimVirtqueue:
    """``struct vdpasim_virtqueue``."""

    vring: Vringh
    num: int = 0
    desc: int = 0
    driver: int = 0
    device: int = 0
    ready: bool = False
    cb: Interrupt | None = None


@attrs.define(eq=False)
class VdpaSim(VdpaDevice):
    """A simulated device (``struct vdpasim``)."""

    attr: SimAttr = attrs.field(kw_only=True)
    behaviour: Behaviour = attrs.field(kw_only=True)
    pages: Pages = attrs.field(kw_only=True)
    worker: Worker = attrs.field(kw_only=True)
    features_offered: int = attrs.field(kw_only=True)
    map_limit: int = attrs.field(kw_only=True, default=IOTLB_LIMIT)
    domain: IovaDomain | None = attrs.field(init=False)
    """The files it has mapped, if it goes by those."""
    advertise: int | None = attrs.field(kw_only=True, default=None)
    """Backend feature bits of a series that it offers; None: what the series makes it offer. It may lie."""
    vqs: list[VdpasimVirtqueue] = attrs.Factory(list["VdpasimVirtqueue"])
    maps: list[DeviceMap] = attrs.Factory(list["DeviceMap"])
    mm_bound: Mm | None = None
    running: bool = False
    pending_kick: bool = False
    status: int = 0
    features: int = 0
    resets: int = 0
    kicks: int = 0
    passes: int = 0
    interrupts: int = 0
    entries: int = 0
    config_cb: Interrupt | None = None
    spaces_told: dict[int, str | None] = attrs.Factory(dict["int", "str | None"])
    """Queue -> the address space that the last SPACE event named."""
    config: bytearray = attrs.field(kw_only=True)
    config_own: bytearray = attrs.field(init=False)
    """The config space as the device, not a driver, wrote it."""
    work: Work = attrs.field(init=False)
    config_work: Work = attrs.field(init=False)
    mutex: Mutex = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.mutex = Mutex(self.kernel, self.name + ".mutex")
        self.work = Work(self.work_fn)
        self.config_work = Work(self._config_fn)
        self.config_own = bytearray(self.config)
        self.domain = IovaDomain(self.name + ".files") if self.attr.by_file and self.use_va else None
        enforce = self.kernel.on("F1")
        self.maps = [DeviceMap(Iotlb(self.map_limit, enforce_limit=enforce)) for _ in range(self.attr.nas)]
        self.vqs = [self._new_vq(index) for index in range(self.nvqs)]
        for asid in range(self.attr.nas):
            self._default_map(asid)

    def _new_vq(self, index: int) -> VdpasimVirtqueue:
        report = partial(self._report, index)
        vring = Vringh(self.kernel, self.maps[0], self.pages, on_dma=report, device=self.name, index=index)
        vq = VdpasimVirtqueue(vring)
        self._vq_reset(vq)
        return vq

    @property
    def structs(self) -> RingStructs:
        """The byte order of rings, config space and requests."""
        return ring_structs(self.kernel.abi, self.features)

    @property
    def memory(self) -> View | None:
        """What entries refer to; None: physical addresses."""
        return self.domain or (self.mm_bound if self.use_va else None)

    # -- the worker

    def work_fn(self) -> Steps:
        """Serve all queues, in the bound address space if there is one (``vdpasim_work_fn``)."""
        yield from self.mutex.lock()
        try:
            yield from self._pass()
        finally:
            self.mutex.unlock()

    def quiesce(self) -> Steps:
        yield from self.mutex.lock()
        self.mutex.unlock()

    def _pass(self) -> Steps:
        mm = self.mm_bound if self.use_va else None
        if mm is not None and not mm.get_user():
            hit("sim.worker.dead-mm")
            self._say_idle(-1, "dead-mm")
            return
        try:
            if not (self.status & VIRTIO_CONFIG_S_DRIVER_OK and self.running):
                hit("sim.worker.not-running")
                self._say_idle(-1, "not-running")
                return
            self.passes += 1
            yield from self.behaviour.work(self)
        finally:
            if mm is not None:
                mm.put_user()

    def schedule_work(self) -> None:
        """Queue the worker, once."""
        self.worker.queue(self.work)

    def notify(self, vq: VdpasimVirtqueue) -> None:
        """Interrupt for a queue."""
        if vq.cb is not None:
            self.interrupts += 1
            vq.cb.signal()
        else:
            self._say_quiet(vq.vring.index, "no-callback")

    def _say_quiet(self, idx: int, why: str) -> None:
        if self.kernel.sink:
            self.kernel.emit(Kind.QUIET, self.name, idx, why)

    def _say_idle(self, idx: int, why: str) -> None:
        if self.kernel.sink:
            self.kernel.emit(Kind.IDLE, self.name, idx, why)

    def notify_config(self) -> None:
        """A config interrupt: the config space changed by itself; vdpa_sim's own devices never do that.

        With schedule points it comes from the worker, so that others can come between.
        """
        if self.kernel.sink:
            self.kernel.emit(Kind.CONFIG, self.name)
        if self.config_cb is None:
            self._say_quiet(-1, "no-callback")
        elif self.kernel.points:
            self.worker.queue(self.config_work)
        else:
            self.config_cb.signal()

    def _config_fn(self) -> Steps:
        if self.config_cb is not None:
            yield from self.config_cb.in_steps()

    def change_config(self, offset: int, data: bytes) -> None:
        """The device itself writes its config space, and interrupts if its kind does."""
        self.config[offset : offset + len(data)] = self.config_own[offset : offset + len(data)] = data
        if self.attr.config_interrupts:
            self.notify_config()

    def notify_if_wanted(self, vq: VdpasimVirtqueue) -> None:
        """Interrupt unless the driver asked for none; unreadable flags ask for none."""
        if self._wanted(vq):
            self.notify(vq)

    def _wanted(self, vq: VdpasimVirtqueue) -> bool:
        try:
            return vq.vring.need_notify()
        except KernelError:
            self._say_quiet(vq.vring.index, "unreadable")
            return False
        except IotlbMiss:
            return True  # nobody asks again once the chain is back: an on-demand map that lost the flags wants it

    def notify_in_steps(self, vq: VdpasimVirtqueue, *, always: bool = False) -> Steps:
        """As :meth:`notify_if_wanted` (``always``: as :meth:`notify`), with schedule points before and within."""
        yield Point(self.name + ".signal")
        if always or self._wanted(vq):
            yield from self.interrupt(vq)

    def interrupt(self, vq: VdpasimVirtqueue) -> Steps:
        """As :meth:`notify`, from the worker: with schedule points somebody may come between."""
        if vq.cb is not None:
            self.interrupts += 1
            yield from vq.cb.in_steps()
        else:
            self._say_quiet(vq.vring.index, "no-callback")

    def complete(self, vring: Vringh, head: int, length: int) -> None:
        """Return a chain; a used ring that cannot be written loses it, and the device does not care."""
        try:
            vring.complete(head, length)
        except KernelError:
            hit("sim.used.lost")

    def complete_in_steps(self, vring: Vringh, head: int, length: int) -> Steps:
        """As :meth:`complete`, with schedule points before the element and before the index."""
        try:
            yield Point(self.name + ".used-element")
            vring.put_used(head, length)
            yield Point(self.name + ".used-index")
            vring.put_used_idx()
        except KernelError:
            hit("sim.used.lost")

    def statistics(self) -> SimStatistics:
        """Counts so far."""
        return SimStatistics(self.kicks, self.passes, self.interrupts, self.resets, self.entries)

    # -- queues

    def set_vq_address(self, idx: int, desc: int, driver: int, device: int) -> None:
        vq = self.vqs[idx]
        vq.desc, vq.driver, vq.device = desc, driver, device

    def set_vq_num(self, idx: int, num: int) -> None:
        self.vqs[idx].num = num

    def set_vq_cb(self, idx: int, callback: Interrupt | None) -> None:
        self.vqs[idx].cb = callback

    def set_vq_ready(self, idx: int, ready: bool) -> None:
        vq = self.vqs[idx]
        was, vq.ready = vq.ready, ready
        if ready and (not was or self.kernel.on("bug-enable-twice")):
            self._queue_ready(vq)

    def _queue_ready(self, vq: VdpasimVirtqueue) -> None:
        # both indices continue from the avail index; the used index in memory is not read
        last_avail_idx = vq.vring.last_avail_idx
        num = self.attr.queue_size if self.kernel.on("bug-ring-max") else vq.num
        if not vq.vring.init(num, vq.desc, vq.driver, vq.device, self.memory, self.structs):
            hit("sim.enable.no-size")
        if self.kernel.on("bug-enable-base"):
            last_avail_idx = 0
        vq.vring.last_avail_idx = vq.vring.last_used_idx = last_avail_idx

    def set_vq_state(self, idx: int, avail: int, used: int) -> None:
        self.vqs[idx].vring.last_avail_idx = avail & 0xFFFF

    def get_vq_state(self, idx: int) -> tuple[int, int]:
        return self.vqs[idx].vring.last_avail_idx, 0

    def kick_vq(self, idx: int) -> None:
        self.kicks += 1
        if self.status & VIRTIO_CONFIG_S_DRIVER_OK and not self.running and self.kernel.on("pending-kick"):
            hit("sim.kick.remembered")
            self._say_idle(idx, "remembered")
            self.pending_kick = True
        elif self.vqs[idx].ready:
            self.schedule_work()
        else:
            hit("sim.kick.ignored")
            self._say_idle(idx, "not-ready")

    def get_vq_num_max(self) -> int:
        return self.attr.queue_size

    def get_vq_size(self, idx: int) -> int:
        if self.status & VIRTIO_CONFIG_S_DRIVER_OK:
            return self.vqs[idx].num
        return self.attr.queue_sizes[idx] if self.attr.queue_sizes else self.attr.queue_size

    def get_vq_notification(self, idx: int) -> tuple[int, int]:
        queues, size, offset = self.attr.notification
        return (offset, size) if idx < queues else (0, 0)

    def get_vq_group(self, idx: int) -> int:
        return self.attr.groups[idx]

    def get_vq_desc_group(self, idx: int) -> int:
        raise fail("vdpa.group.desc-unsupported")

    # -- device

    def get_device_features(self) -> int:
        return self.features_offered

    def get_backend_features(self) -> int:
        mask = self.attr.backend_features or 0
        if self.attr.backend_features is None and self.kernel.on("enable-after-driver-ok"):
            mask |= 1 << VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK
        if self.advertise is not None:
            mask |= self.advertise
        elif self.kernel.on("lu-advertise"):
            mask |= 1 << VHOST_BACKEND_F_NEW_OWNER | (1 << VHOST_BACKEND_F_IOTLB_REMAP if self.use_va else 0)
        return mask

    def set_driver_features(self, features: int) -> None:
        if self.attr.features & ~features & 1 << VIRTIO_F_ACCESS_PLATFORM:
            raise fail("sim.features.platform")
        self.features = features & self.features_offered

    def get_driver_features(self) -> int:
        return self.features

    def get_status(self) -> int:
        return self.status

    def set_status(self, status: int) -> None:
        self.status = status
        self.running = bool(status & VIRTIO_CONFIG_S_DRIVER_OK)

    def reset(self, *, clean_map: bool) -> None:
        """``vdpasim_do_reset``; 6.1 cleans the map always, to empty."""
        for vq in self.vqs:
            self._vq_reset(vq)
        if self.has_map and (clean_map or not self._persists()):
            for asid in range(self.attr.nas):
                self._default_map(asid)
        self.running = False
        self.status = 0
        self.features = 0
        self.resets += 1

    @property
    def has_map(self) -> bool:
        """It translates itself; else a platform IOMMU does, whose domain no reset touches."""
        return self.supports("set_map") or self.supports("dma_map")

    def _persists(self) -> bool:
        if self.attr.persist is None:
            return self.kernel.on("passthrough")
        return self.attr.persist and self.kernel.on("iotlb-persist")

    def _vq_reset(self, vq: VdpasimVirtqueue) -> None:
        vq.ready = False
        vq.desc = vq.driver = vq.device = 0
        vq.cb = None
        vq.vring.map = self.maps[0]
        vq.vring.init(self.attr.queue_size, 0, 0, 0, None)

    def suspend(self) -> None:
        self.running = False

    def resume(self) -> None:
        self.running = True
        if self.pending_kick:
            self.pending_kick = False
            for idx in range(self.nvqs):
                self.kick_vq(idx)

    def set_config_cb(self, callback: Interrupt | None) -> None:
        self.config_cb = callback

    def get_config_size(self) -> int:
        return self.attr.config_size

    def get_config(self, offset: int, length: int) -> bytes:
        for first, last in self.attr.config_fixed:
            self.config[first : last + 1] = self.config_own[first : last + 1]
        self.behaviour.get_config(self)
        return bytes(self.config[offset : offset + length])

    def set_config(self, offset: int, data: bytes) -> None:
        self.config[offset : offset + len(data)] = data

    # -- memory

    def get_iova_range(self) -> tuple[int, int]:
        return self.attr.iova_range

    def set_group_asid(self, group: int, asid: int) -> None:
        for idx, vq in enumerate(self.vqs):
            if self.attr.groups[idx] == group:
                vq.vring.map = self.maps[asid]

    def _default_map(self, asid: int) -> None:
        one = self.maps[asid]
        one.version += 1
        one.table.reset()
        if self.domain is not None:
            self.domain.clear(asid, one.table)
        identity = self.kernel.on("passthrough") if self.attr.identity is None else asid < self.attr.identity
        one.passthrough = identity and not one.on_demand
        if one.passthrough:
            hit("sim.map.passthrough-restored")
            one.table.add_range(0, U64_MAX, 0, VHOST_ACCESS_RW)

    def demand_maps(self) -> None:
        """Make the maps on-demand ones: empty from the start, and a missing entry is a miss (no kernel does this)."""
        for asid, one in enumerate(self.maps):
            one.on_demand = True
            self._default_map(asid)

    def _change(self, asid: int) -> None:
        # the map is about to change; the first change ends the identity a device starts with
        one = self.maps[asid]
        one.version += 1
        if one.passthrough:
            hit("sim.map.passthrough-left")
            one.passthrough = False
            one.table.reset()

    def set_map(self, asid: int, table: Iotlb) -> None:
        """Replace the map; a failure leaves it empty."""
        self._change(asid)
        self.entries += len(table)
        if self.domain is None:
            self.maps[asid].table.copy(table)
        else:
            self.domain.set_map(asid, table, self.maps[asid].table)

    def dma_map(self, asid: int, iova: int, size: int, addr: int, perm: int, serial: int) -> None:
        self._change(asid)
        self.entries += 1
        self.maps[asid].table.add_range(iova, iova + size - 1 & U64_MAX, addr, perm, serial)

    def dma_unmap(self, asid: int, iova: int, size: int) -> None:
        self._change(asid)
        self.maps[asid].table.del_range(iova, iova + size - 1 & U64_MAX)

    def reset_map(self, asid: int) -> None:
        if not self.maps[asid].passthrough:
            self._default_map(asid)

    def bind_mm(self, mm: Mm) -> None:
        if not self.use_va or self.domain is not None:
            return
        self.mm_bound = mm
        for vq in self.vqs:
            if vq.vring.mm is not None:
                vq.vring.mm = mm

    def unbind_mm(self) -> None:
        self.mm_bound = None

    def _report(
        self, index: int, iova: int, length: int, access: int, entry: IotlbMap, place: tuple[Extent, ...]
    ) -> None:
        vring = self.vqs[index].vring
        mm = vring.mm if self.domain is None else None
        space = "file" if self.domain is not None else "va" if mm is not None else "pa"
        seen = mm.ident if mm is not None else None
        if self.spaces_told.get(index, "") != seen:
            self.spaces_told[index] = seen
            self.kernel.emit(Kind.SPACE, self.name, index, seen)
        target = "passthrough-" + space if vring.map.passthrough else space
        self.kernel.emit(Kind.DMA, self.name, index, iova, length, access, entry.opaque or 0, target, place)
