"""Behaviour switches: every difference between kernels, one name each.

Theory. A driver never asks for a version; it asks ``kernel.on("F4")``. A profile (``profiles.py``) is a set of
switches, and a user's string adds or removes single ones: ``7.1+live-update-v1-F3``. The ``Fn`` names are the fixes
that went in after 7.1 and were backported unevenly; ``bug-*`` are bugs, on in the kernels that have them, which for
most is none any more; the other names are features and changes of behaviour; ``live-update-*`` are patch series that
never merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.frozen
class Switch:
    """One difference in behaviour."""

    name: str
    """Stable name, as users write it."""
    doc: str
    """What is different when it is on."""
    since: str = ""
    """Kernel that brought it, as far as known."""
    fixed: str = ""
    """Of a bug: kernel that mended it, as far as known; empty for one that the newest still has."""
    unmodelled: str = ""
    """Why turning it changes nothing here; empty for a switch that does."""


@attrs.frozen
class Switches:
    """The set of switches of one kernel object, with the string it came from."""

    spec: str
    names: frozenset[str]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.names))


_ROWS = (
    # fixes after 7.1, as listed for the stable kernels
    ("F1", "the entry limit is enforced, limit 0 is refused, vhost-vdpa address spaces hold 2048 entries", "7.2"),
    ("F2", "the page count of a PA-mode UPDATE is checked for overflow", "7.2"),
    ("F3", "SET_VRING_NUM and SET_VRING_ADDR drop the metadata cache", "7.2"),
    ("F4", "vhost-vdpa SET_VRING_NUM refuses sizes above the device maximum, and fetches its index once", "7.3"),
    ("F5", "SET_CONFIG_CALL with a bad descriptor keeps the old eventfd", "7.3"),
    ("F6", "a config interrupt cannot race with the replacement of its eventfd", "7.3"),
    ("F7", "the queue callback is removed before the call eventfd is released", "7.3"),
    ("F8", "turning the device IOTLB on for the first time, or off, wipes ring addresses", "7.3"),
    ("F9", "vhost-net SET_FEATURES without ACCESS_PLATFORM discards the device IOTLB", "7.3"),
    ("F10", "vdpa_sim_blk refuses start sectors beyond the capacity", "7.3"),
    ("F11", "vdpa_sim_net completes a failed TX read as an error and loops nothing back", "7.3"),
    ("F12", "outstanding misses per queue are limited", "7.3"),
    ("F13", "vdpa_sim takes its lock before dma_unmap leaves passthrough", "7.3"),
    ("F14", "the avail index is validated before it is cached", "7.1.4"),
    ("F15", "doorbell mmap checks the queue index", "7.1.4"),
    ("F16", "SET_GROUP_ASID checks the group number against the number of groups", "7.0"),
    # features and changes of behaviour
    ("va-mode", "vdpa_sim knows use_va and maps by VMA when it is set", "6.4"),
    ("passthrough", "vdpa_sim starts, and ends a map-cleaning reset, with an identity map", "6.7"),
    ("resume", "VHOST_VDPA_RESUME exists and vdpa_sim resumes", "6.3"),
    ("pending-kick", "vdpa_sim remembers a kick while suspended and replays it at RESUME", "6.3"),
    ("iotlb-persist", "backend feature IOTLB_PERSIST and reset_map exist", "6.7"),
    ("enable-after-driver-ok", "backend feature ENABLE_AFTER_DRIVER_OK exists", "6.6"),
    ("desc-asid", "descriptor groups (GET_VRING_DESC_GROUP, DESC_ASID) exist", "6.7"),
    ("vring-size", "VHOST_VDPA_GET_VRING_SIZE exists", "6.9"),
    ("suspend-needs-driver-ok", "SUSPEND and RESUME before DRIVER_OK succeed without acting", "6.9"),
    ("ring-needs-suspend", "SET_VRING_ADDR and SET_VRING_BASE under DRIVER_OK need a suspended device", "6.8"),
    ("group-asid-needs-stopped", "SET_GROUP_ASID under DRIVER_OK is EBUSY", "7.0"),
    ("used-idx-read-perm", "vringh checks read permission for the write of used->idx", "6.4"),
    ("net-status", "vdpa_sim_net offers VIRTIO_NET_F_STATUS", "6.3"),
    ("net-budget-frames", "vdpa_sim_net counts every frame taken against its budget, not the delivered ones", "6.3"),
    ("blk-zoned", "struct virtio_blk_config has its zoned part: 96 bytes instead of 72", "6.3"),
    ("vhost-ring-reset", "vhost-net offers VIRTIO_F_RING_RESET", "6.2"),
    ("vhost-num-buffers", "vhost-net sets num_buffers to 1 with VERSION_1 and without MRG_RXBUF", "6.14"),
    ("vhost-in-order", "vhost-net offers VIRTIO_F_IN_ORDER", "7.0"),
    ("features-array", "VHOST_GET/SET_FEATURES_ARRAY exist on vhost-net", "6.18"),
    ("fork-owner", "VHOST_SET/GET_FORK_FROM_OWNER exist", "6.17"),
    ("bug-features-array-zero-fill", "GET_FEATURES_ARRAY with count > 2 zeroes from word 0", "6.18"),
    # bugs the newest kernels still have
    ("bug-va-undo-wipes-all", "a VA-mode UPDATE at iova 0 that maps nothing is undone by unmapping it all", "5.15"),
    ("bug-get-id-status", "vdpa_sim_blk's GET_ID writes all its 20 bytes, over the status byte if need be", "5.13"),
    ("bug-rx-overrun-stops", "vdpa_sim_net stops its pass when a frame finds no RX buffer", "5.7"),
    ("bug-ctrl-ack-carry", "vdpa_sim_net acks an unknown control class as it acked the command before", "5.19"),
    ("bug-ctrl-partial-mac", "vdpa_sim_net stores a MAC address that is too short as far as it goes", "5.19"),
    # series that never merged
    ("live-update-v1", "VHOST_NEW_OWNER and VHOST_IOTLB_REMAP as posted in January 2024", ""),
    ("live-update-v2", "VHOST_NEW_OWNER and VHOST_IOTLB_REMAP as posted in July 2024", ""),
    ("live-update-fixed", "VHOST_NEW_OWNER and VHOST_IOTLB_REMAP without the defects of the posted series; ours", ""),
    ("lu-drops-old-mm", "NEW_OWNER counts pages on an old address space it no longer holds (v1 as posted)", ""),
    ("lu-guard-resume", "live-update-fixed: no RESUME or DRIVER_OK with an address of the old image", ""),
    ("lu-guard-same-object", "live-update-fixed: REMAP refuses an address that shows other memory", ""),
    ("lu-advertise", "vdpa_sim offers backend features 9 and, in VA mode, 10 (in v1's patch 12; absent from v2)", ""),
)

_MENDED = (
    # messages, IOTLB, misses
    ("bug-message-without-iotlb", "vhost-net takes IOTLB messages before there is a device IOTLB", "4.11"),
    ("bug-message-unlocked", "IOTLB messages are handled without the device's mutex", "4.17"),
    ("bug-message-padding", "what is no field of a message that is read holds old kernel memory", "4.18"),
    ("bug-no-msg-v2", "messages have one format, the one whose layout depends on the program's word size", "4.19"),
    ("bug-miss-last-byte", "an UPDATE whose last byte is the missed one wakes nobody", "4.20"),
    ("bug-iotlb-recreate-cache", "a device IOTLB made anew leaves the cached translations of the old one", "4.19"),
    ("bug-log-iova", "vhost-net takes the I/O address of a buffer for the guest's when it marks it dirty", "5.0"),
    ("bug-update-size-zero", "UPDATE with size 0 is taken: at 0 it maps everything, with a size of 0", "5.17"),
    ("bug-batch-size-zero", "BATCH_BEGIN and BATCH_END are refused unless they name a size", "5.17"),
    ("bug-invalidate-size-zero", "INVALIDATE with size 0 is refused", "6.6"),
    ("bug-lookup-grows", "the end of a look-up moves on with every piece of the buffer", "6.2"),
    ("bug-stale-misses", "removing the backend leaves its misses to be read", "6.2"),
    ("bug-update-wrap", "vhost-vdpa takes an UPDATE that wraps around the end of the address space", "5.14"),
    ("bug-user-range-off-by-one", "a user range that ends with the last byte there is counts as an overflow", "5.14"),
    ("bug-pin-leak", "a PA-mode UPDATE that fails half-way leaves the pages pinned that it had not mapped yet", "5.10"),
    ("bug-close-leaks-asid", "close drops the entries of address space 0 only", "6.2"),
    # rings
    ("bug-log-overflow", "descriptors of length 0 take entries of vhost-net's log array, without number", "5.3"),
    ("bug-rx-heads", "vhost-net's array of used elements has no room for what waits while a frame takes 1024", "5.0"),
    ("bug-indirect-limit", "vringh counts the descriptors of an indirect table against the size of the ring", "5.19"),
    ("bug-zero-length-segment", "vringh's copies do not get past a descriptor of length 0", "6.6"),
    ("bug-vringh-short-copy", "vringh takes a copy that came up short for a whole one", "6.18"),
    ("bug-backend-fd-twice", "vhost-net looks a backend's descriptor up twice, for the socket and its ring", "5.18"),
    # control
    ("bug-config-ctx-dangles", "close puts the config eventfd and the device goes on pointing at it", "5.12"),
    ("bug-config-underflow", "32-bit kernels let GET_CONFIG and SET_CONFIG begin beyond the end", "5.17"),
    ("bug-packed-base", "vhost-vdpa's rings do not learn the features, so GET/SET_VRING_BASE are of split ones", "6.4"),
    # vdpa_sim
    ("bug-ring-max", "vdpa_sim sets rings up with the largest size instead of the one that was set", "6.2"),
    ("bug-enable-base", "vdpa_sim starts a ring at index 0 when it is enabled, whatever SET_VRING_BASE said", "6.3"),
    ("bug-enable-twice", "vdpa_sim sets a ring up again when it is enabled though it is", "5.19"),
    ("bug-blk-no-groups", "vdpa_sim_blk says that it has neither groups nor address spaces", "6.0"),
)
"""Bugs that every profile has mended: name, what is different, and the mainline kernel it was mended in."""

_UNMODELLED = {
    "F12": "only its title is known, neither the limit nor what happens at it",
    "F13": "leaving passthrough and unmapping are one step",
}

SWITCHES: dict[str, Switch] = {
    **{name: Switch(name, doc, since, unmodelled=_UNMODELLED.get(name, "")) for name, doc, since in _ROWS},
    **{name: Switch(name, doc, fixed=fixed) for name, doc, fixed in _MENDED},
}
"""Every switch by name, in the order of the table."""
