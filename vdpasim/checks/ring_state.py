"""What a queue is when it starts: where its ring is, how large, and what of it is mapped.

Theory. Shared by the oracles about starting queues of vhost-vdpa. A queue starts when it is enabled and the device was
told to run, whichever comes last, and again at RESUME. An area is mapped if one address space of the device covers it
without a hole; which address space the queue's group is bound to is not asked. The families that map on demand start
over nothing by design and are left out. The log of a program has a table (``NO_COPY``), and no copy of it.
"""

from __future__ import annotations

from typing import cast

import attrs

from vdpasim.checks.oracle import Oracle
from vdpasim.core.events import NO_COPY
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_F_RING_PACKED

AREAS = ("descriptors", "avail ring", "used ring")


@attrs.define
class Queue:
    """One queue as it was set up."""

    num: int = 0
    addresses: tuple[int, ...] = ()
    """Descriptors, avail, used; then how many of them lie in the owner's memory."""
    told: int = 0
    """When the addresses were."""
    ready: bool = False


class RingState(Oracle):
    """Follows tables and queues."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[tuple[str, int], dict[int, tuple[int, int]]] = {}
        """(device, asid) -> {serial: (start, last)}."""
        self.queues: dict[tuple[str, int], Queue] = {}
        self.running: set[str] = set()
        self.packed: set[str] = set()

    def forget(self, device: str) -> None:
        self.running.discard(device)
        self.packed.discard(device)
        for key in [key for key in self.queues if key[0] == device]:
            del self.queues[key]

    def on_map(self, seq: int, device: str, asid: int, serial: int, start: int, last: int, *rest: object) -> None:
        """An entry."""
        if asid != NO_COPY or not self.watched(device):
            self.tables.setdefault((device, asid), {})[serial] = start, last

    def on_unmap(self, seq: int, device: str, asid: int, serial: int, *rest: object) -> None:
        """One less."""
        self.tables.get((device, asid), {}).pop(serial, None)

    def on_features(self, seq: int, device: str, what: str, mask: int) -> None:
        """A packed ring has areas of other sizes."""
        if what == "virtio":
            (self.packed.add if mask >> VIRTIO_F_RING_PACKED & 1 else self.packed.discard)(device)

    def on_ring(self, seq: int, device: str, queue: int, what: str, value: object) -> None:
        """Size, addresses, enabled or not."""
        one = self.queues.setdefault((device, queue), Queue())
        if what == "num" and isinstance(value, int):
            one.num = value
        elif what == "addr" and isinstance(value, tuple):
            one.addresses, one.told = (*cast("tuple[int, ...]", value), 0, 0, 0, 0)[:4], seq
        elif what == "ready":
            began, one.ready = bool(value) and not one.ready, bool(value)
            if began and device in self.running:
                self._start(seq, device, queue, one)

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """Told to run; or reset, which forgets addresses and leaves sizes."""
        if not new:
            self.running.discard(device)
            for key, one in self.queues.items():
                if key[0] == device:
                    one.addresses, one.ready = (), False
        elif new & ~old & VIRTIO_CONFIG_S_DRIVER_OK:
            self._begin(seq, device)

    def on_suspend(self, seq: int, device: str, old: int, new: int) -> None:
        """RESUME starts every queue again, perhaps at another place."""
        if not new:
            self._begin(seq, device)

    def _begin(self, seq: int, device: str) -> None:
        self.running.add(device)
        for (name, queue), one in sorted(self.queues.items()):
            if name == device and one.ready:
                self._start(seq, device, queue, one)

    def _start(self, seq: int, device: str, queue: int, one: Queue) -> None:
        if one.addresses and self.families.get(device) == "vhost-vdpa":
            missing = [
                f"{AREAS[i]} at {start:#x}"
                for i, (start, size) in enumerate(self._areas(device, one))
                if not self._mapped(device, start, start + size - 1)
            ]
            if missing:
                self.unmapped(seq, device, queue, one, ", ".join(missing))

    def unmapped(self, seq: int, device: str, queue: int, ring: Queue, missing: str) -> None:
        """A queue started, and parts of its ring are in no address space."""

    def _areas(self, device: str, one: Queue) -> list[tuple[int, int]]:
        desc, avail, used = one.addresses[:3]
        if device in self.packed:
            return [(desc, 16 * max(one.num, 1)), (avail, 4), (used, 4)]
        return [(desc, 16 * max(one.num, 1)), (avail, 4 + 2 * one.num), (used, 4 + 8 * one.num)]

    def _mapped(self, device: str, start: int, last: int) -> bool:
        return any(_covers(table, start, last) for (name, _), table in self.tables.items() if name == device)


def _covers(table: dict[int, tuple[int, int]], start: int, last: int) -> bool:
    for first, final in sorted(table.values()):
        if first <= start <= final:
            start = final + 1
        if start > last:
            return True
    return False
