"""``queue.stalled``: the driver notified the device, and nothing of its memory was looked at since.

Theory. After a kick the device looks at a ring, or says why it does not. IDLE says that it declined: its owner's
address space is gone, it does not run, the queue is not enabled. That is not wrong by itself; a kick while suspended
waits for RESUME. It is wrong if the queue is enabled, the device was told to run and is not suspended, and when the run
is over no byte of the device's memory was looked at since. Two more ways to the same end:

* *silence*: there is neither IDLE nor access. The device ran and found nothing it could read, because the ring was not
  mapped just then, or is not where it was said to be. A pass may want more than the queue that was kicked, so this is
  told only of devices that have worked, and while all queues they looked at are enabled;
* *a reset*: kicked, reset before anything was looked at, and started again from an index other than 0. The ring goes on
  where it was, so the request is in it still; a driver that begins anew begins at 0, and the old kick is void.

What no event tells: a kick by an eventfd that the device does not know any more is a write nobody listens to, and
whether a device that looked has seen what the driver meant (a ring in another format) is in the memory alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.checks.oracle import Oracle, drop
from vdpasim.checks.vmm_ring_base import FRESH
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK

if TYPE_CHECKING:
    from collections.abc import Callable

Key = tuple[str, int]
SILENT = "it found nothing to read"
RESET = "reset before it looked"
WHY = {
    "dead-mm": "its owner's address space is gone",
    "not-running": "it did not run",
    "not-ready": "the queue was not enabled",
    "remembered": "it was suspended, and remembered that",
}


@attrs.define
class Kick:
    """A kick nobody has followed yet."""

    seq: int
    since: int
    """Virtual time from which on the device could have looked."""
    shown: int = 0
    """When it was clear that it would not."""
    why: str = ""
    """Why it would not; empty: it has not said."""


class QueueStalled(Oracle):
    """Keeps kicks until something is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.kicked: dict[Key, Kick] = {}
        self.before: dict[Key, Kick] = {}
        """Kicks that a reset has cut off."""
        self.ready: set[Key] = set()
        self.seen: set[Key] = set()
        """Queues that were ever looked at."""
        self.running: dict[str, int] = {}
        """Device -> when it was told to run, and neither stopped nor suspended since."""

    def forget(self, device: str) -> None:
        self._stop(device)
        drop(self.before, device)
        self.seen = {key for key in self.seen if key[0] != device}

    def _stop(self, device: str) -> None:
        self.running.pop(device, None)
        self.ready = {key for key in self.ready if key[0] != device}
        drop(self.kicked, device)

    def _go(self, seq: int, device: str) -> None:
        self.running[device] = seq
        for key, kick in self.kicked.items():
            if key[0] == device:
                kick.since = self.now

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """Told to run, or reset."""
        if not new:
            for key in [key for key in self.kicked if key[0] == device]:
                self.before[key] = attrs.evolve(self.kicked[key], shown=seq, why=RESET)
            self._stop(device)
        elif new & VIRTIO_CONFIG_S_DRIVER_OK:
            self._go(seq, device)

    def on_suspend(self, seq: int, device: str, old: int, new: int) -> None:
        """Told to pause, or to go on."""
        self.running.pop(device, None)
        if not new:
            self._go(seq, device)

    def on_ring(self, seq: int, device: str, queue: int, what: str, value: object) -> None:
        """A queue is enabled or disabled, or goes on from an index."""
        key = device, queue
        if what == "ready":
            (self.ready.add if value else self.ready.discard)(key)
        elif what == "base" and key in self.before:
            kick = self.before.pop(key)
            if value not in FRESH:
                self.kicked.setdefault(key, kick)

    def on_kick(self, seq: int, device: str, queue: int) -> None:
        """The driver wants something done."""
        self.kicked[device, queue] = Kick(seq, self.now)

    def on_idle(self, seq: int, device: str, queue: int, why: str) -> None:
        """It is not done, of this queue or (-1) of all that were kicked."""
        name = self.file(device)
        for key, kick in self.kicked.items():
            if key[0] == name and queue in (-1, key[1]):
                kick.shown, kick.why, kick.since = seq, WHY.get(why, why), self.now

    def on_dma(self, seq: int, device: str, queue: int, *rest: object) -> None:
        """The device has looked: a pass serves all queues."""
        name = self.file(device)
        self.seen.add((name, queue))
        if self.kicked:
            drop(self.kicked, name)

    def on_miss(self, seq: int, device: str, *rest: object) -> None:
        """The device has looked, and waits for a translation."""
        drop(self.kicked, self.file(device))

    def on_fault(self, seq: int, device: str, what: str, errno: int) -> None:
        """An access that a plan has struck was one."""
        if what.startswith(("dma:", "dma.")):
            drop(self.kicked, self.file(device))

    def on_still(self, seq: int) -> None:
        """Nothing is left that could still look."""
        self._stalled(lambda _: True)

    def finish(self) -> None:
        self._stalled(lambda since: since < self.now)

    def _stalled(self, late: Callable[[int], bool]) -> None:
        for key, kick in sorted(self.kicked.items()):
            told = kick.why or (SILENT if self._works(key[0]) else "")
            if told and key in self.ready and key[0] in self.running and late(kick.since):
                device, queue = key
                text = f"{device}: queue {queue} was kicked, {told}, and nothing was looked at since"
                where = {"device": device, "queue": queue}
                steps = (kick.seq, kick.shown, self.running[device])
                self.tell("queue.stalled", text, *steps, once=key, where=where)

    def _works(self, device: str) -> bool:
        # it has looked before, and nothing of what it looks at is disabled
        seen = {key for key in self.seen if key[0] == device}
        return bool(seen) and seen <= self.ready
