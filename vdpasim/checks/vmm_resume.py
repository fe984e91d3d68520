"""``vmm.resume-without-suspend``: RESUME of a device that is not suspended.

Theory. The request succeeds and looks like nothing, but the program believes of the device what is not so: the SUSPEND
was forgotten, failed, or came before DRIVER_OK, where newer kernels do nothing and say yes.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle


class VmmResume(Oracle):
    """Told by the state before the request."""

    def on_suspend(self, seq: int, device: str, old: int, new: int) -> None:
        """SUSPEND or RESUME was granted."""
        if not old and not new:
            text = f"{device}: RESUME, and it was not suspended"
            self.tell("vmm.resume-without-suspend", text, seq, once=device, where={"device": device})
