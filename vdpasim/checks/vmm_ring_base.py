"""``vmm.stale-ring-base``: a queue goes on from an index that nobody saved.

Theory. After a reset the driver begins anew, from 0, unless the program saved where the queue was: by GET_VRING_BASE,
or by the used index the driver saw. Any other base is left over from an earlier life of the queue. It also shows when
the device moves the used index and finds one in memory that is behind: requests were skipped. A destination of a
migration, which never ran here, may set what it likes. The first base of a packed ring is its wrap counter. In the
log of a program no device moves an index: there a base is judged if the log has where the queue was.
"""

from __future__ import annotations

from typing import cast

from vdpasim.checks.oracle import Oracle, drop
from vdpasim.checks.ring_replay import HALF
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK

Key = tuple[str, int]
FRESH = frozenset({0, 0x8000, 0x8000_8000})
"""Where a ring begins, split or packed."""


class VmmRingBase(Oracle):
    """Told by the bases that are set and those that were saved."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: dict[Key, set[int]] = {}
        self.ran: set[str] = set()
        self.reset: dict[str, int] = {}
        """Device -> when it was reset after it had run."""
        self.based: dict[Key, int] = {}

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """Runs, or is reset."""
        if not new and device in self.ran:
            self.reset[device] = seq
        elif new & ~old & VIRTIO_CONFIG_S_DRIVER_OK:
            self.ran.add(device)
            self.reset.pop(device, None)
            drop(self.saved, device)

    def on_ring(self, seq: int, device: str, queue: int, what: str, value: object) -> None:
        """An index is saved or set."""
        key = device, queue
        if what == "get-base":
            self.saved.setdefault(key, set()).add(cast("int", value))
        elif what == "base":
            self.based[key] = seq
            saved = self.saved.get(key, ())
            told = bool(saved) or self.watched(device)
            if device in self.reset and value not in FRESH and value not in saved and told:
                text = f"{device} queue {queue} goes on from {value} after a reset, and that was saved nowhere"
                where = {"device": device, "queue": queue}
                self.tell("vmm.stale-ring-base", text, self.reset[device], seq, once=(key, seq), where=where)

    def on_used(self, seq: int, device: str, queue: int, old: int, new: int, found: int | None, taken: int) -> None:
        """The index that is in memory is as good as a saved one; it must not be behind."""
        key = self.file(device), queue
        self.saved.setdefault(key, set()).add(new)
        if found is not None and 0 < (old - found & 0xFFFF) < HALF:
            text = f"{device} queue {queue} goes on from {old}, but only {found} were answered: the rest is skipped"
            where = {"device": device, "queue": queue}
            based = self.based.get(key)
            self.tell("vmm.stale-ring-base", text, based, seq, once=(key, based), where=where)
