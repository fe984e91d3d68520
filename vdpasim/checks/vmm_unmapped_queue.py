"""``vmm.unmapped-queue``: a queue was started, and its ring is mapped nowhere.

Theory. Addresses may be set and queues enabled before anything is mapped, as QEMU does; when the device is told to run
the ring must be there. That vdpa_sim begins with an identity map, where an address may happen to work, is its own
affair. Addresses of the program are the business of ``vmm_ring_address.py``.
"""

from __future__ import annotations

from vdpasim.checks.ring_state import Queue, RingState


class VmmUnmappedQueue(RingState):
    """Told by the tables at the start."""

    def unmapped(self, seq: int, device: str, queue: int, ring: Queue, missing: str) -> None:
        if not ring.addresses[3]:
            text = f"{device} queue {queue} starts over unmapped memory: {missing}"
            where = {"device": device, "queue": queue}
            self.tell("vmm.unmapped-queue", text, ring.told, seq, once=(device, queue), where=where)
