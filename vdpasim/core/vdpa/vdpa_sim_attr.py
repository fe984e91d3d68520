"""The constants of a kind of simulated device (mirrors vdpasim_dev_attr of drivers/vdpa/vdpa_sim/vdpa_sim.h).

Theory. Queues, groups, address spaces, features: what is vdpa_sim's for every kind has a default here that says "as
vdpa_sim", so that a device made from a profile names only what is different.
"""

from __future__ import annotations

import attrs

U64_MAX = (1 << 64) - 1
QUEUE_MAX = 256


@attrs.frozen
class SimAttr:
    """The constants of a device kind (``struct vdpasim_dev_attr``)."""

    kind: str
    device_id: int
    nvqs: int
    groups: tuple[int, ...]
    """Group of each queue."""
    nas: int
    features: int
    config_size: int
    ngroups: int = 0
    """Number of groups; 0: as many as ``groups`` names."""
    queue_size: int = QUEUE_MAX
    """The largest ring."""
    queue_sizes: tuple[int, ...] = ()
    """The size of each queue, for GET_VRING_SIZE; empty: the largest."""
    iova_range: tuple[int, int] = (0, U64_MAX)
    use_va: bool = True
    """Entries carry user addresses, on a kernel that has such devices."""
    by_file: bool = False
    """Of those it does not use the addresses: it maps the file behind each entry itself."""
    ops: frozenset[str] | None = None
    """Optional operations, as far as a kernel has them; None: vdpa_sim's."""
    backend_features: int | None = None
    """Backend feature bits the device adds; None: vdpa_sim's."""
    identity: int | None = None
    """How many of the first address spaces start as the identity, until the first push; None: vdpa_sim's."""
    persist: bool | None = None
    """A reset that need not clean the map leaves it alone; None: vdpa_sim's."""
    config_fixed: tuple[tuple[int, int], ...] = ()
    """Ranges of the config space, inclusive, that every GET_CONFIG puts back to what the device says."""
    config_interrupts: bool = False
    """The device interrupts when it changes its config space."""
    notification: tuple[int, int, int] = (0, 0, 0)
    """Of a notification area: how many of the first queues have one, its size, its offset in its page."""
