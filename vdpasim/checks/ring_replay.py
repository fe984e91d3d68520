"""``ring.replay``: a request that was answered is carried out once more.

Theory. Whoever sets a queue up says from which index it goes on, and the used ring in memory says how far it was
answered. When a device moves the used index and finds in memory one that is ahead of its own, it has begun too early:
what lies between was answered before. The same if it answers more than it has taken. An index that is behind is the
other mistake, see ``vmm_ring_base.py``.

Packed rings have no used index; nothing is said of them.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle

HALF = 0x8000
"""Indices are 16 bits: less than half of them ahead is ahead."""


class RingReplay(Oracle):
    """Compares the device's used index with the one in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.bases: dict[tuple[str, int], int] = {}

    def on_ring(self, seq: int, device: str, queue: int, what: str, value: object) -> None:
        """Where a queue begins."""
        if what == "base":
            self.bases[device, queue] = seq

    def on_used(self, seq: int, device: str, queue: int, old: int, new: int, found: int | None, taken: int) -> None:
        """The index moves."""
        name = self.file(device)
        where = {"device": device, "queue": queue, "index": old, "in memory": found}
        ahead = 0 if found is None else found - old & 0xFFFF
        steps = (self.bases.get((name, queue)), seq)
        if 0 < ahead < HALF:
            text = f"{device} queue {queue}: goes on at {old}, but {found} were answered: {ahead} are carried out again"
            self.tell("ring.replay", text, *steps, once=(name, queue, steps[0]), where=where)
        elif 0 < (new - taken & 0xFFFF) < HALF:
            text = f"{device} queue {queue}: {new} are answered of {taken} that were taken"
            self.tell("ring.replay", text, *steps, once=(name, queue, steps[0]), where=where)
