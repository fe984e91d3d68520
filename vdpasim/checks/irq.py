"""``irq.lost`` and ``irq.config-lost``: the driver was to be told, and was not.

Theory. After a used index moved there is a SIGNAL of the queue's call eventfd, or a QUIET that says why there is none.
That the driver wants none is a reason, so is a program that never gave the device an eventfd, or took it away, and so
is a fault plan. What is no reason: the eventfd was given, and the device does not know it any more (a reset makes it
forget). A change of the config space is held to the same. Whether anybody listens is not asked: a program that gave
the eventfd to KVM closes its own descriptor.

Several moves may share an interrupt, so the last one has until the run is over: until nothing is left to run, or until
virtual time has moved on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.checks.oracle import Oracle, drop

if TYPE_CHECKING:
    from collections.abc import Callable

Key = tuple[str, int]
CONFIG = -1
"""In place of a queue."""
IDENT = {True: "irq.config-lost", False: "irq.lost"}
REASONS = frozenset({"driver", "unreadable"})


@attrs.define
class Given:
    """An eventfd that the device was given."""

    name: str
    seq: int


class Irq(Oracle):
    """Waits for the interrupt of every move."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[Key, Given] = {}
        self.pending: dict[Key, tuple[int, int]] = {}
        """(when, at which virtual time)."""

    def forget(self, device: str) -> None:
        drop(self.given, device)
        drop(self.pending, device)

    def on_ring(self, seq: int, device: str, queue: int, what: str, value: object) -> None:
        """An eventfd is given, exchanged or taken away."""
        if what in ("config", "call"):
            self.given.pop((device, queue), None)
            if value is not None:
                self.given[device, queue] = Given(str(value), seq)

    def on_used(self, seq: int, device: str, queue: int, *moved: object) -> None:
        """The driver is owed an interrupt, or a reason."""
        self.pending.setdefault((self.file(device), queue), (seq, self.now))

    def on_config(self, seq: int, device: str) -> None:
        """As for a used index."""
        self.pending.setdefault((self.file(device), CONFIG), (seq, self.now))

    def on_signal(self, seq: int, device: str, queue: int, what: str, count: int) -> None:
        """It got it."""
        if what != "err":
            self.pending.pop((device, queue), None)

    def on_quiet(self, seq: int, device: str, queue: int, why: str) -> None:
        """It got none for a reason, good or not."""
        key = self.file(device), queue
        moved, _ = self.pending.pop(key, (0, 0))
        given = self.given.get(key)
        if why not in REASONS and given is not None:
            self._lost(key, f"{given.name} was given for it, and the device knows none", given.seq, moved, seq)

    def on_fault(self, seq: int, device: str, what: str, errno: int) -> None:
        """A plan is a reason."""
        if what.startswith("call:"):
            changed = self.pending.pop((self.file(device), CONFIG), None)
            drop(self.pending, self.file(device))
            self.pending |= {(self.file(device), CONFIG): changed} if changed else {}
        elif what.startswith("config:"):
            self.pending.pop((self.file(device), CONFIG), None)

    def on_still(self, seq: int) -> None:
        """Nothing is left that could still come."""
        self._overdue(lambda _: True)

    def finish(self) -> None:
        self._overdue(lambda then: then < self.now)

    def _overdue(self, late: Callable[[int], bool]) -> None:
        for key, (seq, then) in sorted(self.pending.items()):
            if late(then):
                self._lost(key, "there was no interrupt and no reason for none", seq)

    def _lost(self, key: Key, why: str, *steps: int) -> None:
        device, queue = key
        what = "the config space changed" if queue == CONFIG else f"queue {queue}: the used index moved"
        where = {"device": device} | ({} if queue == CONFIG else {"queue": queue})
        self.tell(IDENT[queue == CONFIG], f"{device}: {what}, {why}", *steps, once=key, where=where)
