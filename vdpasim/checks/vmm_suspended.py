"""``vmm.left-suspended``: something failed behind SUSPEND, and the device was left as it was.

Theory. SUSPEND begins something: a save, a handover. If it fails the way back is RESUME, a reset, or to close; a
program that only gives up leaves a guest whose disk answers no more. Two things tell that it has given up:

* a request to the device was refused behind SUSPEND, other than one that only asks what the device is;
* the guest runs. An exec or a peer that failed is no request to the device, but a program that gives up lets the guest
  go on, and the guest kicks. A kick may also have crossed the SUSPEND, so it counts when virtual time has moved on
  since: everybody had slept, and nobody had resumed the device. A kick is no sign once the device has changed owners.

A run that ends suspended without either ended in the middle of a story, and that is not wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vdpasim.checks.oracle import Oracle
from vdpasim.uapi import errno as E
from vdpasim.uapi.abi import X86_64
from vdpasim.uapi.catalog import by_request

if TYPE_CHECKING:
    from vdpasim.uapi.abi import Abi

HARMLESS = frozenset({E.EAGAIN, E.EINTR})
ASKS, SAVES = "GET_", "GET_VRING_BASE"
"""Requests that only ask, and the one among them that a save cannot do without."""


class VmmSuspended(Oracle):
    """Told by refusals and kicks behind SUSPEND, when the run is over."""

    def __init__(self, abi: Abi = X86_64) -> None:
        super().__init__()
        self.abi = abi
        self.asking: dict[tuple[str, str], str] = {}
        """(unit, file) -> the request under way."""
        self.since: dict[str, int] = {}
        self.failed: dict[str, tuple[int, str]] = {}
        self.kicked: dict[str, tuple[int, int]] = {}
        """Device -> (the first kick while it was suspended, at which virtual time)."""

    def forget(self, device: str) -> None:
        self.since.pop(device, None)
        self.failed.pop(device, None)
        self.kicked.pop(device, None)

    def on_suspend(self, seq: int, device: str, old: int, new: int) -> None:
        """It begins, or ends."""
        self.forget(device)
        if new:
            self.since[device] = seq

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """Reset, or told to run again."""
        self.forget(device)

    def on_enter(self, seq: int, op: str, file: str, args: tuple[Any, ...]) -> None:
        """What is asked."""
        request = args[0] if op == "ioctl" and args and isinstance(args[0], int) else 0
        known = by_request(request & 0xFFFF_FFFF, self.abi)
        self.asking[self.unit, file] = known.name if known else ""

    def on_exit(self, seq: int, op: str, file: str, ret: int, handler_errno: int, rule: str | None) -> None:
        """A step ends."""
        device = file.rpartition("/")[2]
        asked = self.asking.pop((self.unit, file), "")
        if ASKS in asked and SAVES not in asked:
            return
        if device in self.since and ret < 0 and -ret not in HARMLESS and device not in self.failed:
            self.failed[device] = seq, f"{op} failed with {E.name(handler_errno or -ret)}"

    def on_kick(self, seq: int, device: str, queue: int) -> None:
        """The guest runs, or ran when it was suspended."""
        if device in self.since:
            self.kicked.setdefault(device, (seq, self.now))

    def on_owner(self, seq: int, device: str, *rest: object) -> None:
        """It is another program's business now."""
        self.kicked.pop(device, None)

    def finish(self) -> None:
        for device, (seq, then) in sorted(self.kicked.items()):
            if then < self.now:
                self.failed.setdefault(device, (seq, "the guest kicks"))
        for device, (seq, what) in sorted(self.failed.items()):
            text = f"{device}: {what} behind SUSPEND, and there was neither RESUME nor reset"
            self.tell("vmm.left-suspended", text, self.since[device], seq, once=device, where={"device": device})
