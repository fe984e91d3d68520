"""``vmm.hva-ring-address``: a ring was given by its address in the program, where the device wants an I/O address.

Theory. SET_VRING_ADDR takes I/O addresses, however much its fields are called ``desc_user_addr``. An address that no
entry maps when the queue starts, and that is one of the owner's memory, was meant for vhost-net without a device IOTLB.
A program whose I/O addresses are its own addresses maps them, and is right.
"""

from __future__ import annotations

from vdpasim.checks.ring_state import Queue, RingState


class VmmRingAddress(RingState):
    """Told by where the address was when it was set."""

    def unmapped(self, seq: int, device: str, queue: int, ring: Queue, missing: str) -> None:
        if ring.addresses[3]:
            text = f"{device} queue {queue} starts with {missing}: mapped for no device, but memory of the program"
            where = {"device": device, "queue": queue}
            self.tell("vmm.hva-ring-address", text, ring.told, seq, once=(device, queue), where=where)
