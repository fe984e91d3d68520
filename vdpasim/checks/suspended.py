"""``worker.ran-while-suspended``: memory is touched between SUSPEND and RESUME.

Theory. When SUSPEND returns the device has come to rest, and until RESUME, a reset or another DRIVER_OK (which vdpa_sim
takes for one) nothing of it may run: the program is about to move the memory. A worker that was queued before, and runs
after, works with addresses of nobody knows whom.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle


class Suspended(Oracle):
    """Remembers who is suspended."""

    def __init__(self) -> None:
        super().__init__()
        self.since: dict[str, int] = {}

    def forget(self, device: str) -> None:
        self.since.pop(device, None)

    def on_suspend(self, seq: int, device: str, old: int, new: int) -> None:
        """It begins or ends."""
        if new:
            self.since[device] = seq
        else:
            self.since.pop(device, None)

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """A reset ends it, and so does any other status."""
        self.since.pop(device, None)

    def on_dma(self, seq: int, device: str, queue: int, iova: int, length: int, *rest: object) -> None:
        """Nobody should be at work."""
        name = self.file(device)
        if name in self.since:
            text = f"{device} queue {queue}: {length} bytes at iova {iova:#x} while suspended"
            where = {"device": device, "queue": queue, "iova": hex(iova)}
            self.tell("worker.ran-while-suspended", text, self.since[name], seq, once=name, where=where)
