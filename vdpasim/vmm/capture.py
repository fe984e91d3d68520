"""Writing down what a vhost-vdpa device says of itself, as a profile (no kernel file).

Theory. Every question is a request that reads; what vhost-vdpa answers to the owner only (the group and the size of
each queue) is asked only if the caller allows SET_OWNER, which lasts until the file is closed. Four keys of a profile
no request answers: how the device is mapped, what entries hold, the identity, and config interrupts; they are written
as comments, and so is what this kernel or device refuses to say. The layer's own backend features are left out and
those of operations become keys, so a captured profile does not depend on the kernel's layer beyond what that knows.

A real device was reset by the open that came before: vhost-vdpa does that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.devices.profile import DeviceProfile, dumps
from vdpasim.devices.profile_keys import QUEUES_MAX, DeviceProfileError
from vdpasim.uapi import errno as E
from vdpasim.uapi.vhost_types import (
    VHOST_BACKEND_F_DESC_ASID,
    VHOST_BACKEND_F_IOTLB_ASID,
    VHOST_BACKEND_F_IOTLB_BATCH,
    VHOST_BACKEND_F_IOTLB_MSG_V2,
    VHOST_BACKEND_F_IOTLB_PERSIST,
    VHOST_BACKEND_F_RESUME,
    VHOST_BACKEND_F_SUSPEND,
)
from vdpasim.vmm.handles import VhostVdpa

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from vdpasim.uapi.abi import Abi
    from vdpasim.vmm.transport import Transport

NOT_ASKED = "only the owner is told; capture again with --owner"
UNKNOWABLE = {
    "map": "no ioctl tells set_map, dma_map or platform",
    "addresses": "no ioctl tells pa or va",
    "identity": "no ioctl tells it",
    "config_interrupts": "no ioctl tells it",
    "config_fixed": "only writing the config space would tell",
    "notification_queues": "only mmap would tell",
}
"""Keys of a profile that no request answers -> why."""
_LAYER = VHOST_BACKEND_F_IOTLB_MSG_V2, VHOST_BACKEND_F_IOTLB_BATCH, VHOST_BACKEND_F_IOTLB_ASID
_DERIVED = (
    VHOST_BACKEND_F_SUSPEND,
    VHOST_BACKEND_F_RESUME,
    VHOST_BACKEND_F_DESC_ASID,
    VHOST_BACKEND_F_IOTLB_PERSIST,
)


class CaptureError(Exception):
    """A file that does not answer as a vhost-vdpa device; the message names the request."""


@attrs.frozen
class Captured:
    """What was learnt."""

    profile: DeviceProfile
    unknown: dict[str, str]
    """Keys that were not learnt -> why; the profile has their defaults."""

    def toml(self) -> str:
        """The file."""
        return dumps(self.profile, self.unknown)


async def capture(
    file: Transport, *, abi: Abi | None = None, name: str = "", source: str = "", owner: bool = False
) -> Captured:
    """Ask an open vhost-vdpa device everything.

    Raises:
        CaptureError: it lacks a request that every vhost-vdpa device has, or its answers make no profile.
    """
    device = VhostVdpa(file, abi=abi) if abi is not None else VhostVdpa(file)
    answers: dict[str, Any] = {"name": name, "source": source}
    unknown = dict(UNKNOWABLE)
    answers["device_id"] = await _must("GET_DEVICE_ID", device.get_device_id())
    answers["features"] = await _must("GET_FEATURES", device.get_features())
    answers["queue_size"] = await _must("GET_VRING_NUM", device.get_vring_num())
    answers["iova_range"] = await _must("GET_IOVA_RANGE", device.get_iova_range())
    answers |= _backend(await _must("GET_BACKEND_FEATURES", device.get_backend_features()))
    size = await _must("GET_CONFIG_SIZE", device.get_config_size())
    answers["config"] = await _must("GET_CONFIG", device.get_config(0, size)) if size else b""
    answers["queues"] = await _must("GET_VQS_COUNT", device.get_vqs_count())
    for key, request, answer in (
        ("groups", "GET_GROUP_NUM", device.get_group_num()),
        ("address_spaces", "GET_AS_NUM", device.get_as_num()),
    ):
        # old parents announce none at all
        count = await _must(request, answer)
        answers[key] = max(count, 1)
        if not count:
            unknown[key] = f"{request} says 0"
    if answers["queues"] > QUEUES_MAX:
        raise CaptureError(f"the device has {answers['queues']} queues; a profile has at most {QUEUES_MAX}")
    answers |= await _of_queues(device, answers["queues"], unknown, owner=owner)
    try:
        return Captured(DeviceProfile(**answers), unknown)
    except DeviceProfileError as error:
        raise CaptureError(f"the device's answers make no profile: {error}") from None


async def _must(request: str, answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except OSError as error:
        # vhost-net's answer to what it does not know is EPERM
        foreign = error.errno in (E.ENOTTY, E.EPERM)
        hint = "; is it a vhost-vdpa device, and the kernel 6.1 or newer?" if foreign else ""
        raise CaptureError(f"{request}: {error.strerror or error}{hint}") from error


def _backend(mask: int) -> dict[str, Any]:
    own = mask & ~sum(1 << bit for bit in (*_LAYER, *_DERIVED)) & ~1
    return {
        "backend_features": own,
        "suspend": bool(mask >> VHOST_BACKEND_F_SUSPEND & 1),
        "resume": bool(mask >> VHOST_BACKEND_F_RESUME & 1),
        "map_persist": bool(mask >> VHOST_BACKEND_F_IOTLB_PERSIST & 1),
    }


async def _of_queues(device: VhostVdpa, queues: int, unknown: dict[str, str], *, owner: bool) -> dict[str, Any]:
    if not owner:
        unknown.update(dict.fromkeys(("queue_groups", "queue_sizes"), NOT_ASKED))
        return {}
    await _must("SET_OWNER", device.set_owner())
    found: dict[str, Any] = {}
    for key, request, ask in (
        ("queue_groups", "GET_VRING_GROUP", device.get_vring_group),
        ("queue_sizes", "GET_VRING_SIZE", device.get_vring_size),
    ):
        try:
            found[key] = tuple([await ask(index) for index in range(queues)])
        except OSError as error:
            # EOPNOTSUPP is the answer "the device does not tell"; a kernel without the request says ENOTTY
            if error.errno == E.ENOTTY:
                unknown[key] = f"this kernel has no {request}"
            elif error.errno != E.EOPNOTSUPP:
                raise CaptureError(f"{request}: {error.strerror or error}") from error
    return found
