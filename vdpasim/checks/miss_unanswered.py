"""``miss.unanswered``: a queue waits for a translation that never comes.

Theory. A MISS stops its queue. It is over when the queue is woken for it (WAKE), when messages are dropped with what
they were for (CLEAR), or when the queue has reached the address after all, woken by something else. A miss that is
open when a run is over is not wrong by itself: the program may have been about to answer. It is, if

* the address was mapped since and the queue not woken: an answer that comes before the question was read wakes nobody;
* the owner's address space is gone, and with it whoever had read the question;
* virtual time has moved on: everybody had slept, and nobody had answered.
"""

from __future__ import annotations

import attrs

from vdpasim.checks.oracle import Oracle


@attrs.define
class Miss:
    """One open question."""

    seq: int
    time: int
    mapped: int = 0
    """When the address was mapped."""


class MissUnanswered(Oracle):
    """Keeps what is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[tuple[str, int], dict[int, Miss]] = {}
        """(device, queue) -> {I/O address: miss}."""
        self.owners: dict[str, str] = {}

    def on_owner(self, seq: int, device: str, old: str | None, new: str | None) -> None:
        """Who has to answer, if it is vhost-net."""
        self.owners.pop(device, None)
        if new is not None:
            self.owners[device] = new

    def on_miss(self, seq: int, device: str, queue: int, iova: int, perm: int) -> None:
        """One more."""
        self.open.setdefault((device, queue), {})[iova] = Miss(seq, self.now)

    def on_map(self, seq: int, device: str, asid: int, serial: int, start: int, last: int, *rest: object) -> None:
        """Perhaps an answer."""
        for key, misses in self.open.items():
            if key[0] == device:
                for iova, miss in misses.items():
                    miss.mapped = seq if start <= iova <= last else miss.mapped

    def on_wake(self, seq: int, device: str, queue: int, iova: int) -> None:
        """Answered."""
        self.open.get((device, queue), {}).pop(iova, None)

    def on_clear(self, seq: int, device: str, count: int) -> None:
        """Given up."""
        for key in self.open:
            if key[0] == device:
                self.open[key].clear()

    def on_dma(self, seq: int, device: str, queue: int, iova: int, length: int, *rest: object) -> None:
        """The queue got there, by whatever way."""
        misses = self.open.get((self.file(device), queue))
        if misses:
            for reached in [one for one in misses if iova <= one < iova + length]:
                del misses[reached]

    def finish(self) -> None:
        for (device, queue), misses in sorted(self.open.items()):
            for iova, miss in misses.items():
                gone = self.gone.get(("mm", self.owners.get(device, "")), 0)
                if miss.mapped:
                    why = "it was mapped, and the queue was not woken"
                elif gone > miss.seq:
                    why = "the program that had to answer is gone"
                elif miss.time < self.now:
                    why = "nobody has answered"
                else:
                    continue
                text = f"{device} queue {queue}: waits for iova {iova:#x}; {why}"
                where = {"device": device, "queue": queue, "iova": hex(iova)}
                steps = (miss.seq, miss.mapped, gone)
                self.tell("miss.unanswered", text, *steps, once=(device, queue, iova), where=where)
