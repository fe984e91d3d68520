"""``vhost-vdpa+miss``: a vDPA device that maps on demand and whose misses are read; **no kernel has this**.

Theory. A real vhost-vdpa file has no read() and its device never misses: what is not mapped is an error. This kind
joins the two halves that exist separately, the vDPA device and vhost-net's message protocol: the device's map starts
empty (no passthrough), a byte without an entry stops the queue with nothing consumed and queues a MISS, read() and
poll() deliver it, and an UPDATE that covers a *pending* miss runs the queue again. All rules of the two lists are
vhost-net's: a miss answered before it was read wakes nobody, misses are not merged, INVALIDATE wakes nobody.

The order of misses is vhost-net's too: descriptor table, avail ring, used ring, then the buffers of the chain, each
whole and in order; a permission that is too small is an error as on any vDPA device. Inside a batch the device sees
new entries only at BATCH_END, so that is when pending misses are consumed.

The nodes are called ``/dev/vhost-vdpa+miss-N`` and the management devices ``vdpasim_blk+miss`` and
``vdpasim_net+miss``; both are there only when a simulator was made with ``extensions=("vhost-vdpa+miss",)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import attrs

from vdpasim.core.rules import Rule, hit, register
from vdpasim.core.vdpa import vdpa_sim_blk, vdpa_sim_net
from vdpasim.core.vdpa.vdpa_sim import Behaviour, VdpaSim
from vdpasim.core.vhost.vdpa import VhostVdpa, VhostVdpaNode, batch_end, process_iotlb_update
from vdpasim.core.vhost.vhost_msg import (
    IotlbMsg,
    vhost_chr_poll,
    vhost_chr_read_iter,
    vhost_iotlb_miss,
    vhost_iotlb_notify_vq,
)
from vdpasim.core.vhost.vringh import IotlbMiss
from vdpasim.uapi.vhost_types import VHOST_IOTLB_BATCH_END, VHOST_IOTLB_UPDATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.kernel import Call, Steps
    from vdpasim.core.ports import Caller
    from vdpasim.core.uaccess import UserBuffer
    from vdpasim.core.vdpa.vdpa import Attributes, MgmtDev, VdpaBus, VdpaDevice

EXTENSION = "vhost-vdpa+miss"

register(
    [
        Rule(
            "miss.stopped",
            "vdpasim: devices/vdpa_miss.py",
            0,
            "an access found no entry: the queue stops with nothing consumed and a MISS is queued",
            "not a kernel's behaviour",
            source="inferred",
        )
    ]
)


@attrs.define(eq=False)
class OnDemand:
    """A device behaviour whose misses are reported instead of failing."""

    inner: Behaviour
    report: Callable[[int, IotlbMiss], None] = attrs.field(init=False)

    def get_config(self, sim: VdpaSim) -> None:
        """As the device's."""
        self.inner.get_config(sim)

    def work(self, sim: VdpaSim) -> Steps:
        """A pass of the device; a miss ends it."""
        try:
            yield from self.inner.work(sim)
        except IotlbMiss as miss:
            hit("miss.stopped")
            index = next(i for i, vq in enumerate(sim.vqs) if vq.vring is miss.vring)
            self.report(index, miss)


@attrs.define(eq=False)
class VhostVdpaMissNode(VhostVdpaNode):
    """The node of such a device."""

    def new_file(self) -> VhostVdpaMiss:
        """An open file with read and poll."""
        return VhostVdpaMiss.of(self)


@attrs.define(eq=False)
class VhostVdpaMiss(VhostVdpa):
    """One open of such a device."""

    @classmethod
    def of(cls, node: VhostVdpaNode) -> Self:
        """A new open file; UPDATE and BATCH_END also consume pending misses."""
        file = super().of(node)
        file.poll_queue = file.wait
        file.messages[VHOST_IOTLB_UPDATE] = update_and_wake
        file.messages[VHOST_IOTLB_BATCH_END] = end_and_wake
        device = node.device
        if isinstance(device, VdpaSim) and isinstance(device.behaviour, OnDemand):
            device.behaviour.report = file.report
        return file

    @property
    def can_miss(self) -> bool:
        """Always: the device maps on demand from the start."""
        return True

    def report(self, index: int, miss: IotlbMiss) -> None:
        """Queue the miss for the reader."""
        if index < len(self.vqs):
            vhost_iotlb_miss(self.vqs[index], miss.iova, miss.access)

    def read(self, call: Call, buffer: UserBuffer, nonblock: bool) -> Steps:
        return vhost_chr_read_iter(self, call, buffer, nonblock)

    def poll(self) -> int:
        return vhost_chr_poll(self)


def update_and_wake(v: VhostVdpa, task: Caller, asid: int, msg: IotlbMsg) -> None:
    """UPDATE; outside a batch the misses it covers are answered."""
    process_iotlb_update(v, task, asid, msg)
    if not v.spaces.in_batch:
        vhost_iotlb_notify_vq(v, msg.iova, msg.size)


def end_and_wake(v: VhostVdpa, task: Caller, asid: int, msg: IotlbMsg) -> None:
    """BATCH_END; whatever the table now covers is answered."""
    batch_end(v, task, asid, msg)
    table = v.spaces.tables[asid]
    for iova in sorted({miss.iova for miss in v.pending_list}):
        if table.itree_first(iova, iova) is not None:
            vhost_iotlb_notify_vq(v, iova, 1)


def mgmtdevs() -> list[MgmtDev]:
    """The management devices of this kind, one beside each of the kernel's."""
    return [_beside(mgmtdev) for mgmtdev in (vdpa_sim_net.MGMTDEV, vdpa_sim_blk.MGMTDEV)]


def _beside(mgmtdev: MgmtDev) -> MgmtDev:
    def make(bus: VdpaBus, name: str, attributes: Attributes) -> VdpaDevice:
        device = mgmtdev.make(bus, name, attributes)
        assert isinstance(device, VdpaSim)
        device.behaviour = OnDemand(device.behaviour)
        device.ops -= {"reset_map"}
        device.demand_maps()
        return device

    return attrs.evolve(
        mgmtdev, name=mgmtdev.name + "+miss", make=make, node="vhost-vdpa+miss", node_class=VhostVdpaMissNode
    )

