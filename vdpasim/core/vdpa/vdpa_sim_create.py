"""Makes simulated devices: options, features, what a driver of a kernel can do (mirrors vdpasim_create of
drivers/vdpa/vdpa_sim/vdpa_sim.c).

Theory. A device is its kind's constants (:class:`~vdpasim.core.vdpa.vdpa_sim_attr.SimAttr`), changed by the module
options, which here are given per device, and by the attributes of ``vdpa dev add``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.kernel import Worker
from vdpasim.core.rules import fail
from vdpasim.core.vdpa.vdpa import Attributes, VdpaBus, bad_value, number
from vdpasim.core.vdpa.vdpa_sim import VdpaSim
from vdpasim.core.vhost.vhost import IOTLB_LIMIT
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_IOTLB_REMAP, VHOST_BACKEND_F_NEW_OWNER

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.kernel import Kernel
    from vdpasim.core.vdpa.vdpa_sim import Behaviour
    from vdpasim.core.vdpa.vdpa_sim_attr import SimAttr

ADVERTISED = {"NEW_OWNER": VHOST_BACKEND_F_NEW_OWNER, "IOTLB_REMAP": VHOST_BACKEND_F_IOTLB_REMAP}
"""Backend features that ``advertise`` names; others by their mask."""


def create(
    bus: VdpaBus,
    name: str,
    attributes: Attributes,
    attr: SimAttr,
    behaviour: Behaviour,
    config: bytes = b"",
    make: Callable[..., VdpaSim] | None = None,
) -> VdpaSim:
    """A device of a kind, with the options and attributes given (``vdpasim_create``); config space is zero-extended.

    ``make`` is for devices that no kernel has: what to make instead of a :class:`VdpaSim`.

    Raises:
        KernelError: EINVAL features that are not a subset, or a malformed option.
    """
    kernel = bus.kernel
    offered = number(attributes, "device_features", attr.features)
    if offered & ~attr.features:
        raise fail("sim.dev.features")
    use_va = attr.use_va and flag(attributes, "use_va") and kernel.on("va-mode")
    limit = number(attributes, "max_iotlb_entries", IOTLB_LIMIT)
    if limit < 2:
        raise bad_value()
    return (make or VdpaSim)(
        kernel,
        name,
        attr.device_id,
        attr.nvqs,
        *_announced(kernel, attr),
        use_va,
        _optional_ops(kernel, flag(attributes, "batch_mapping")) if attr.ops is None else _known(kernel, attr.ops),
        attr=attr,
        behaviour=behaviour,
        pages=bus.pages,
        worker=Worker(kernel, name + ".worker"),
        features_offered=offered,
        map_limit=limit,
        advertise=_advertised(attributes),
        config=bytearray(config.ljust(attr.config_size, b"\0")),
    )


def _announced(kernel: Kernel, attr: SimAttr) -> tuple[int, int]:
    # the numbers of groups and of address spaces the bus is told; of old the block device left both out
    if attr.kind == "vdpasim_blk" and kernel.on("bug-blk-no-groups"):
        return 0, 0
    return attr.ngroups or max(attr.groups) + 1, attr.nas


def flag(attributes: Attributes, name: str) -> bool:
    """A module option that is on unless told otherwise, in the words a kernel takes (``kstrtobool``).

    Raises:
        KernelError: EINVAL any other word.
    """
    value = str(attributes.get(name, True)).lower()
    if value in ("1", "y", "yes", "on", "true", "t"):
        return True
    if value in ("0", "n", "no", "off", "false", "f"):
        return False
    raise bad_value()


def _advertised(attributes: Attributes) -> int | None:
    # a mask, or names of backend features that series bring
    given = attributes.get("advertise")
    if given is None or isinstance(given, int):
        return given
    words = given.replace(",", " ").split() if isinstance(given, str) else list(given)
    if not all(word in ADVERTISED for word in words):
        raise bad_value()
    return sum(1 << ADVERTISED[word] for word in dict.fromkeys(words))


def _optional_ops(kernel: Kernel, batch_mapping: bool) -> frozenset[str]:
    ops = {"get_vq_group", "set_group_asid", "suspend", "get_backend_features"}
    ops |= {"set_map"} if batch_mapping else {"dma_map", "get_vq_size"}
    if kernel.on("resume"):
        ops.add("resume")
    if kernel.on("iotlb-persist"):
        ops.add("reset_map")
    return frozenset(ops)


def _known(kernel: Kernel, ops: frozenset[str]) -> frozenset[str]:
    # an operation that the kernel has no word for is not in its drivers either
    absent = {op for op, switch in (("resume", "resume"), ("reset_map", "iotlb-persist")) if not kernel.on(switch)}
    return ops - absent
