"""``vmm.call-lost``: the device forgot the call eventfd at a reset, and nobody gave it another.

Theory. A reset takes the device's callbacks; the layer above goes on holding the eventfd, so nothing looks wrong. The
queue works after the next start, and the driver is never told. It is a mistake when the first interrupt is due and
cannot be raised; a driver that polls is owed none. The interrupt itself is missed by ``irq.py``.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle, drop


class VmmCall(Oracle):
    """Told by the reset between the last SET_VRING_CALL and the interrupt."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[tuple[str, int], int] = {}
        self.lost: dict[tuple[str, int], int] = {}

    def forget(self, device: str) -> None:
        drop(self.given, device)
        drop(self.lost, device)

    def on_ring(self, seq: int, device: str, queue: int, what: str, value: object) -> None:
        """An eventfd, or none."""
        if what == "call":
            self.lost.pop((device, queue), None)
            self.given.pop((device, queue), None)
            if value is not None:
                self.given[device, queue] = seq

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """A reset."""
        if not new:
            self.lost |= {key: seq for key in self.given if key[0] == device}

    def on_quiet(self, seq: int, device: str, queue: int, why: str) -> None:
        """No interrupt."""
        key = self.file(device), queue
        if why == "no-callback" and key in self.lost:
            text = f"{key[0]} queue {queue}: an interrupt is due, and SET_VRING_CALL was not repeated after the reset"
            where = {"device": device, "queue": queue}
            self.tell("vmm.call-lost", text, self.given[key], self.lost[key], seq, once=key, where=where)
