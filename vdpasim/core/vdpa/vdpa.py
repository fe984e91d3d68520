"""The vDPA bus: devices, their operations, and management (mirrors drivers/vdpa/vdpa.c and include/linux/vdpa.h).

Theory. A vDPA device is a table of operations, some of which a driver may lack; the bus asks ``supports(name)`` and
never tries. Two ways to map exist: whole maps (``set_map``) or single ones (``dma_map``/``dma_unmap``). A device with
neither leaves translation to the platform's IOMMU, whose domain is filled entry by entry; here that domain is the map
the device reads, through the same calls. ``use_va`` says that entries carry user addresses of the bound address space.
A *management device* makes devices on request, in iproute2's grammar: ``vdpa dev add name foo mgmtdev vdpasim_net mac
02:00:00:00:00:01``.

Not modelled: netlink itself, IOMMU groups and capabilities, an aperture of the IOMMU.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.core.events import Kind
from vdpasim.core.rules import KernelError, fail
from vdpasim.core.vhost.vdpa import VhostVdpaNode
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from vdpasim.core.fs.file import CharDev
    from vdpasim.core.kernel import Kernel, Steps
    from vdpasim.core.ports import Mm, Pages
    from vdpasim.core.vhost.iotlb import Iotlb
    from vdpasim.core.vhost.vdpa_irq import Interrupt

U64_MAX = (1 << 64) - 1


@attrs.define(eq=False)
class VdpaDevice(abc.ABC):
    """``struct vdpa_device`` with its ``vdpa_config_ops``.

    Queue indices are bounded by the caller. Refusals are :class:`KernelError` with the errno of the operation.
    """

    kernel: Kernel
    name: str
    device_id: int
    nvqs: int
    ngroups: int
    nas: int
    use_va: bool
    """Entries carry user addresses of the bound address space."""
    ops: frozenset[str]
    """Names of the optional operations this device has."""

    def supports(self, op: str) -> bool:
        """Whether the device has an optional operation."""
        return op in self.ops

    # queues

    @abc.abstractmethod
    def set_vq_address(self, idx: int, desc: int, driver: int, device: int) -> None:
        """Ring addresses (IOVAs)."""

    @abc.abstractmethod
    def set_vq_num(self, idx: int, num: int) -> None:
        """Ring size."""

    @abc.abstractmethod
    def set_vq_cb(self, idx: int, callback: Interrupt | None) -> None:
        """What to call at a used buffer."""

    @abc.abstractmethod
    def set_vq_ready(self, idx: int, ready: bool) -> None:
        """Enable or disable a queue."""

    @abc.abstractmethod
    def set_vq_state(self, idx: int, avail: int, used: int) -> None:
        """Indices; ``used`` matters for packed rings only."""

    @abc.abstractmethod
    def get_vq_state(self, idx: int) -> tuple[int, int]:
        """(avail, used) as for :meth:`set_vq_state`."""

    @abc.abstractmethod
    def kick_vq(self, idx: int) -> None:
        """The driver notified the queue."""

    @abc.abstractmethod
    def get_vq_num_max(self) -> int:
        """Largest ring size."""

    @abc.abstractmethod
    def get_vq_size(self, idx: int) -> int:
        """Optional: the size of one queue."""

    @abc.abstractmethod
    def get_vq_group(self, idx: int) -> int:
        """Optional: the group of a queue."""

    @abc.abstractmethod
    def get_vq_desc_group(self, idx: int) -> int:
        """Optional: the group of a queue's descriptor area."""

    def get_vq_notification(self, idx: int) -> tuple[int, int]:
        """Optional: a queue's notification area, as its offset in a page and its size; size 0 is none."""
        return 0, 0

    # device

    @abc.abstractmethod
    def get_device_features(self) -> int:
        """Offered virtio features."""

    @abc.abstractmethod
    def get_backend_features(self) -> int:
        """Backend feature bits the device adds to the layer's own."""

    @abc.abstractmethod
    def set_driver_features(self, features: int) -> None:
        """Negotiated features; may refuse with EINVAL, may drop bits."""

    @abc.abstractmethod
    def get_driver_features(self) -> int:
        """What was stored."""

    @abc.abstractmethod
    def get_status(self) -> int:
        """Status byte."""

    @abc.abstractmethod
    def set_status(self, status: int) -> None:
        """Non-zero status."""

    @abc.abstractmethod
    def reset(self, *, clean_map: bool) -> None:
        """Back to the initial state; with ``clean_map`` the device's map too."""

    @abc.abstractmethod
    def suspend(self) -> None:
        """Optional: stop, keeping state."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Optional: go on."""

    @abc.abstractmethod
    def set_config_cb(self, callback: Interrupt | None) -> None:
        """What to call at a config change."""

    @abc.abstractmethod
    def get_config_size(self) -> int:
        """Bytes of config space."""

    @abc.abstractmethod
    def get_config(self, offset: int, length: int) -> bytes:
        """Bytes of config space; the range is valid."""

    @abc.abstractmethod
    def set_config(self, offset: int, data: bytes) -> None:
        """Write config space; the range is valid."""

    def quiesce(self) -> Steps:
        """Wait until the device is between two passes, as the operations that take its lock do."""
        yield from ()

    def get_iova_range(self) -> tuple[int, int]:
        """First and last usable I/O address, inclusive."""
        return 0, U64_MAX

    # memory

    @abc.abstractmethod
    def set_group_asid(self, group: int, asid: int) -> None:
        """Optional: bind a group to an address space."""

    @abc.abstractmethod
    def set_map(self, asid: int, table: Iotlb) -> None:
        """Optional: take a whole map."""

    @abc.abstractmethod
    def dma_map(self, asid: int, iova: int, size: int, addr: int, perm: int, serial: int) -> None:
        """Optional: add one entry; ``serial`` is that of the vhost-vdpa entry, for events."""

    @abc.abstractmethod
    def dma_unmap(self, asid: int, iova: int, size: int) -> None:
        """Optional: remove what overlaps."""

    @abc.abstractmethod
    def reset_map(self, asid: int) -> None:
        """Optional: restore the default map."""

    @abc.abstractmethod
    def bind_mm(self, mm: Mm) -> None:
        """The address space that VA entries refer to; nothing for a device without ``use_va``."""

    @abc.abstractmethod
    def unbind_mm(self) -> None:
        """Forget it."""


Value = Any
"""What an option is given as: a word, a number, or an object that the device takes (a disk's storage)."""
Attributes = Mapping[str, Value]
Maker = Callable[["VdpaBus", str, Attributes], VdpaDevice]


@attrs.frozen
class MgmtDev:
    """A management device: makes devices of one kind."""

    name: str
    device_id: int
    attributes: frozenset[str]
    """iproute2 keywords it takes."""
    options: frozenset[str]
    """Module options, given per device here (``use_va``, ``batch_mapping``, ``max_iotlb_entries``)."""
    make: Maker
    node: str = "vhost-vdpa"
    """Stem of the character device's name."""
    node_class: type[VhostVdpaNode] = VhostVdpaNode


@attrs.define(eq=False)
class VdpaBus:
    """The bus: management devices, devices by name, and the character devices over them."""

    kernel: Kernel
    pages: Pages
    nodes: dict[str, CharDev]
    mgmtdevs: dict[str, MgmtDev] = attrs.Factory(dict["str", "MgmtDev"])
    devices: dict[str, VdpaDevice] = attrs.Factory(dict["str", "VdpaDevice"])
    paths: dict[str, str] = attrs.Factory(dict["str", "str"])
    """Device name -> path of its vhost-vdpa node."""

    def dev_add(self, name: str, mgmtdev: str, attributes: Attributes) -> VhostVdpaNode:
        """Make a device and bind vhost-vdpa to it.

        Raises:
            KernelError: EEXIST, ENODEV no such mgmtdev, EOPNOTSUPP unknown attribute, then the maker's (EINVAL).
        """
        if name in self.devices:
            raise fail("vdpa.dev.exists")
        mgmt = self.mgmtdevs.get(mgmtdev)
        if mgmt is None:
            raise fail("vdpa.dev.mgmtdev")
        return self.add(name, mgmt, attributes)

    def add(self, name: str, mgmt: MgmtDev, attributes: Attributes) -> VhostVdpaNode:
        """As :meth:`dev_add`, of a management device that need not be on the bus."""
        if name in self.devices:
            raise fail("vdpa.dev.exists")
        if not set(attributes) <= mgmt.attributes | mgmt.options:
            raise fail("vdpa.dev.attr")
        device = mgmt.make(self, name, attributes)
        self.devices[name] = device
        return self._bind(name, device, mgmt)

    def _bind(self, name: str, device: VdpaDevice, mgmt: MgmtDev) -> VhostVdpaNode:
        stem = f"/dev/{mgmt.node}-"
        path = next(stem + str(n) for n in range(len(self.paths) + 1) if stem + str(n) not in self.nodes)
        node = mgmt.node_class(self.kernel, device, self.pages, path)
        self.paths[name] = path
        self.nodes[path] = node
        return node

    def dev_del(self, name: str) -> None:
        """Remove a device; its node goes at once, so no new open finds it.

        Raises:
            KernelError: ENODEV; EBUSY while it is open, where the real call would wait for the release.
        """
        path = self.paths.get(name)
        if path is None:
            raise fail("vdpa.dev.absent")
        node = self.nodes[path]
        opened = node.opened if isinstance(node, VhostVdpaNode) else None
        if self.kernel.sink:
            self.kernel.emit(Kind.REMOVE, path.rpartition("/")[2], 0 if opened is None else E.EBUSY)
        if opened is not None:
            raise fail("vdpa.dev.open")
        del self.nodes[path], self.paths[name], self.devices[name]


def bad_value() -> KernelError:
    """The refusal of a malformed attribute value."""
    return fail("vdpa.dev.value")


def number(attributes: Attributes, name: str, default: int) -> int:
    """An attribute that is a number.

    Raises:
        KernelError: EINVAL it is none.
    """
    try:
        return int(attributes.get(name, default))
    except ValueError:
        raise bad_value() from None
