"""The stock models behind a profile: vdpa_sim's own code with other values (no kernel file).

Theory. A profile becomes the constants of a :class:`~vdpasim.core.vdpa.vdpa_sim.VdpaSim`; what its queues do is chosen
by the device id: 1 is vdpa_sim's loopback network device, with as many pairs of queues as the profile has, 2 its
ramdisk, with the capacity the profile's config space begins with. What these two do to their config space at every read
is in the profile instead (``config_fixed``), because vdpa_sim's constants are not every device's.

A device on a kernel that lacks one of its operations (RESUME on 6.1) does not have it there: its driver could not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.vdpa.vdpa import MgmtDev
from vdpasim.core.vdpa.vdpa_sim import Behaviour, SimAttr, VdpaSim
from vdpasim.core.vdpa.vdpa_sim_blk import VdpasimBlk, disk_of
from vdpasim.core.vdpa.vdpa_sim_create import create
from vdpasim.core.vdpa.vdpa_sim_net import VdpasimNet, configure
from vdpasim.devices.profile_keys import DeviceProfileError
from vdpasim.uapi.virtio_ids import VIRTIO_ID_BLOCK, VIRTIO_ID_NET

if TYPE_CHECKING:
    from vdpasim.core.vdpa.vdpa import Attributes, VdpaBus, VdpaDevice
    from vdpasim.devices.profile import DeviceProfile


class StockNet(VdpasimNet):
    """The loopback device of a profile."""

    def get_config(self, sim: VdpaSim) -> None:
        """Nothing: the profile says what is put back."""


class StockBlk(VdpasimBlk):
    """The ramdisk of a profile."""

    def get_config(self, sim: VdpaSim) -> None:
        """Nothing: the profile says what is put back."""


def sim_attr(profile: DeviceProfile) -> SimAttr:
    """The constants of a profile's device."""
    notification = profile.notification_queues, profile.notification_size, profile.notification_offset
    return SimAttr(
        kind=profile.name or "profile",
        device_id=profile.device_id,
        nvqs=profile.queues,
        groups=profile.queue_groups or (0,) * profile.queues,
        nas=profile.address_spaces,
        features=profile.features,
        config_size=len(profile.config),
        ngroups=profile.groups,
        queue_size=profile.queue_size,
        queue_sizes=profile.queue_sizes,
        iova_range=profile.iova_range,
        use_va=profile.addresses != "pa",
        by_file=profile.addresses == "file",
        ops=operations(profile),
        backend_features=profile.backend_features,
        identity=profile.identity,
        persist=profile.map_persist,
        config_fixed=profile.config_fixed,
        config_interrupts=profile.config_interrupts,
        notification=notification,
    )


def operations(profile: DeviceProfile) -> frozenset[str]:
    """The optional operations a profile's driver has."""
    has = {
        "get_backend_features": profile.tells_backend_features,
        "suspend": profile.suspend,
        "resume": profile.resume,
        "reset_map": profile.map_persist and profile.map != "platform",
        "get_vq_group": bool(profile.queue_groups),
        "set_group_asid": bool(profile.queue_groups),
        "get_vq_size": bool(profile.queue_sizes),
        "get_vq_notification": bool(profile.notification_queues),
        profile.map: profile.map != "platform",
    }
    return frozenset(name for name, there in has.items() if there)


def _net(bus: VdpaBus, profile: DeviceProfile, attributes: Attributes) -> tuple[Behaviour, bytes]:
    config = bytearray(profile.config)
    configure(config, attributes, bus.kernel.abi.byteorder)
    return StockNet(), bytes(config)


def _blk(bus: VdpaBus, profile: DeviceProfile, attributes: Attributes) -> tuple[Behaviour, bytes]:
    capacity = int.from_bytes(profile.config[:8], "little")
    return StockBlk(disk_of(attributes, capacity)), profile.config


_STOCK = {
    VIRTIO_ID_NET: (_net, frozenset({"device_features", "mac", "mtu"}), frozenset({"max_iotlb_entries"})),
    VIRTIO_ID_BLOCK: (
        _blk,
        frozenset({"device_features"}),
        frozenset({"max_iotlb_entries", "backing", "write_through"}),
    ),
}
"""Device id -> what makes behaviour and config space, attributes, and options, as those of vdpa_sim's own."""


def mgmtdev(profile: DeviceProfile) -> MgmtDev:
    """What makes devices of a profile.

    Raises:
        DeviceProfileError: no stock model is of that device id.
    """
    if profile.device_id not in _STOCK:
        raise DeviceProfileError(
            f"device_id: there is no stock model of {profile.device_id}, only 1 (network) and 2 (block); give model="
        )
    furnish, words, options = _STOCK[profile.device_id]
    attr = sim_attr(profile)

    def make(bus: VdpaBus, name: str, attributes: Attributes) -> VdpaDevice:
        behaviour, config = furnish(bus, profile, attributes)
        return create(bus, name, attributes, attr, behaviour, config)

    return MgmtDev(attr.kind, attr.device_id, words, options, make)
