"""``vmm.left-suspended``: a step failed behind SUSPEND, and the device was left as it was.

Theory. SUSPEND begins something: a save, a handover. If a request to the device is refused after it the way back is
RESUME, a reset, or to close; a program that only gives up leaves a guest whose disk answers no more. A run that ends
suspended without any refusal ended in the middle of a story, and that is not wrong.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle
from vdpasim.uapi import errno as E

HARMLESS = frozenset({E.EAGAIN, E.EINTR})


class VmmSuspended(Oracle):
    """Told by refusals behind SUSPEND, when the run is over."""

    def __init__(self) -> None:
        super().__init__()
        self.since: dict[str, int] = {}
        self.failed: dict[str, tuple[int, str]] = {}

    def forget(self, device: str) -> None:
        self.since.pop(device, None)
        self.failed.pop(device, None)

    def on_suspend(self, seq: int, device: str, old: int, new: int) -> None:
        """It begins, or ends."""
        self.forget(device)
        if new:
            self.since[device] = seq

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """Reset, or told to run again."""
        self.forget(device)

    def on_exit(self, seq: int, op: str, file: str, ret: int, handler_errno: int, rule: str | None) -> None:
        """A step ends."""
        device = file.rpartition("/")[2]
        if device in self.since and ret < 0 and -ret not in HARMLESS and device not in self.failed:
            self.failed[device] = seq, f"{op} failed with {E.name(handler_errno or -ret)}"

    def finish(self) -> None:
        for device, (seq, what) in sorted(self.failed.items()):
            text = f"{device}: {what} behind SUSPEND, and there was neither RESUME nor reset"
            self.tell("vmm.left-suspended", text, self.since[device], seq, once=device, where={"device": device})
