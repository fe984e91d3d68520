"""``queue.stalled``: the driver notified the device, the device did nothing, and nothing happened since.

Theory. IDLE says that a device that was kicked declined: its owner's address space is gone, it does not run, the queue
is not enabled. That is not wrong by itself; a kick while suspended waits for RESUME. It is wrong if the queue is
enabled, the device was told to run and is not suspended, and when the run is over no byte of the device's memory was
looked at since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.checks.oracle import Oracle, drop
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK

if TYPE_CHECKING:
    from collections.abc import Callable

Key = tuple[str, int]
WHY = {
    "dead-mm": "its owner's address space is gone",
    "not-running": "it did not run",
    "not-ready": "the queue was not enabled",
    "remembered": "it was suspended, and remembered that",
}


@attrs.define
class Declined:
    """A kick nobody followed."""

    kicked: int
    seq: int
    why: str
    since: int
    """Virtual time from which on the device could have looked."""


class QueueStalled(Oracle):
    """Keeps kicks until something is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.kicked: dict[Key, int] = {}
        self.declined: dict[Key, Declined] = {}
        self.ready: set[Key] = set()
        self.running: dict[str, int] = {}
        """Device -> when it was told to run, and neither stopped nor suspended since."""

    def forget(self, device: str) -> None:
        drop(self.kicked, device)
        self._stop(device)

    def _stop(self, device: str) -> None:
        self.running.pop(device, None)
        self.ready = {key for key in self.ready if key[0] != device}
        drop(self.declined, device)

    def _go(self, seq: int, device: str) -> None:
        self.running[device] = seq
        for key, declined in self.declined.items():
            if key[0] == device:
                declined.since = self.now

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """Told to run, or reset."""
        if not new:
            self._stop(device)
        elif new & VIRTIO_CONFIG_S_DRIVER_OK:
            self._go(seq, device)

    def on_suspend(self, seq: int, device: str, old: int, new: int) -> None:
        """Told to pause, or to go on."""
        self.running.pop(device, None)
        if not new:
            self._go(seq, device)

    def on_ring(self, seq: int, device: str, queue: int, what: str, value: object) -> None:
        """A queue is enabled or disabled."""
        if what == "ready":
            (self.ready.add if value else self.ready.discard)((device, queue))

    def on_kick(self, seq: int, device: str, queue: int) -> None:
        """The driver wants something done."""
        self.kicked[device, queue] = seq

    def on_idle(self, seq: int, device: str, queue: int, why: str) -> None:
        """It is not done, of this queue or (-1) of all that were kicked."""
        name = self.file(device)
        for key in [(name, queue)] if queue >= 0 else [key for key in self.kicked if key[0] == name]:
            if key in self.kicked:
                self.declined[key] = Declined(self.kicked[key], seq, why, self.now)

    def on_dma(self, seq: int, device: str, *rest: object) -> None:
        """The device has looked: a pass serves all queues."""
        if self.kicked:
            name = self.file(device)
            drop(self.kicked, name)
            drop(self.declined, name)

    def on_miss(self, seq: int, device: str, *rest: object) -> None:
        """The device has looked, and waits for a translation."""
        self.on_dma(seq, device)

    def on_still(self, seq: int) -> None:
        """Nothing is left that could still look."""
        self._stalled(lambda _: True)

    def finish(self) -> None:
        self._stalled(lambda since: since < self.now)

    def _stalled(self, late: Callable[[int], bool]) -> None:
        for key, one in sorted(self.declined.items()):
            if key in self.ready and key[0] in self.running and late(one.since):
                device, queue = key
                why = WHY.get(one.why, one.why)
                text = f"{device}: queue {queue} was kicked, {why}, and nothing was looked at since"
                where = {"device": device, "queue": queue}
                steps = (one.kicked, one.seq, self.running[device])
                self.tell("queue.stalled", text, *steps, once=key, where=where)
