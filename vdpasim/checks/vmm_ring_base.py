"""``vmm.stale-ring-base``: a queue goes on from an index that nobody saved.

Theory. After a reset the driver begins anew, from 0, unless the program saved where the queue was: by GET_VRING_BASE,
or by the used index the driver saw. Any other base is left over from an earlier life of the queue, unless that life has
come back: who reverts to a snapshot sets an old base over old memory. So it is told when the device has moved the used
index and found another one in memory, or when it ran, was never seen to move one, and GET_VRING_BASE never gave that
base.

It also shows when the device moves the used index and finds one in memory that is behind: requests were skipped. A
destination of a migration, which never ran here, may set what it likes. The first base of a packed ring is its wrap
counter, and what moves in one is not seen. In the log of a program no device moves an index: there a base is judged if
the log has where the queue was.
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
    """Told by the bases that are set, those that were saved, and what lies in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: dict[Key, set[int]] = {}
        self.asked: dict[Key, set[int]] = {}
        """Queue -> every answer of GET_VRING_BASE."""
        self.ran: set[str] = set()
        self.reset: dict[str, int] = {}
        """Device -> when it was reset after it had run."""
        self.based: dict[Key, tuple[int, int]] = {}
        """Queue -> (when its base was set, the base)."""
        self.doubted: dict[Key, tuple[int, int, int]] = {}
        """Queue -> (reset, base set, base): one that was saved nowhere."""
        self.running: set[str] = set()

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """Runs, or is reset."""
        if not new:
            self.forget(device)
            drop(self.based, device)
            if device in self.ran:
                self.reset[device] = seq
        elif new & ~old & VIRTIO_CONFIG_S_DRIVER_OK:
            self.ran.add(device)
            self.running.add(device)
            self.reset.pop(device, None)
            drop(self.saved, device)
            # as long as nothing moves, a queue is where it began
            for key, (_, base) in self.based.items():
                if key[0] == device and self.watched(device):
                    self.saved[key] = {base}

    def on_ring(self, seq: int, device: str, queue: int, what: str, value: object) -> None:
        """An index is saved or set."""
        key = device, queue
        if what == "get-base":
            self.saved.setdefault(key, set()).add(cast("int", value))
            self.asked.setdefault(key, set()).add(cast("int", value))
        elif what == "base":
            base, saved = cast("int", value), self.saved.get(key, set())
            self.based[key] = seq, base
            self.doubted.pop(key, None)
            if device in self.running and self.watched(device):
                self.saved[key] = {base}
            judged = bool(saved) or self.watched(device)
            if device in self.reset and base not in FRESH and base not in saved and judged:
                self.doubted[key] = self.reset[device], seq, base

    def on_used(self, seq: int, device: str, queue: int, old: int, new: int, found: int | None, taken: int) -> None:
        """The index that is in memory is as good as a saved one; it must not be behind."""
        key = self.file(device), queue
        saved = self.saved.setdefault(key, set())
        saved.discard(old)
        saved.add(new)
        if found == old:
            self.doubted.pop(key, None)
        self._tell_of(key, seq)
        if found is not None and 0 < (old - found & 0xFFFF) < HALF:
            text = f"{device} queue {queue} goes on from {old}, but only {found} were answered: the rest is skipped"
            where = {"device": device, "queue": queue}
            based, _ = self.based.get(key, (None, 0))
            self.tell("vmm.stale-ring-base", text, based, seq, once=(key, based), where=where)

    def forget(self, device: str) -> None:
        for key in [key for key in self.doubted if key[0] == device]:
            # of a queue that stood still nobody knows whether its memory went back, too
            if device in self.running and self.doubted[key][2] not in self.asked.get(key, ()):
                self._tell_of(key)
            self.doubted.pop(key, None)
        self.running.discard(device)

    def finish(self) -> None:
        for device in sorted(self.running):
            self.forget(device)

    def _tell_of(self, key: Key, seq: int | None = None) -> None:
        # at the move that showed it, or where the base was set
        if key in self.doubted:
            reset, based, base = self.doubted.pop(key)
            device, queue = key
            text = f"{device} queue {queue} goes on from {base} after a reset, and that was saved nowhere"
            where = {"device": device, "queue": queue}
            self.tell("vmm.stale-ring-base", text, reset, based, seq, once=(key, based), where=where)
