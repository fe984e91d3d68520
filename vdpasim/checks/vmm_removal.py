"""``vmm.open-after-removal``: the device is to be removed, and a program keeps its file open.

Theory. Removing a vDPA device waits for the last close of its vhost-vdpa file, so whoever asks for it hangs until the
program lets go. A program that learns of it (a config interrupt, a management message) must close.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle


class VmmRemoval(Oracle):
    """Told by a refused removal that no close followed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, int] = {}
        self.opened: dict[str, int] = {}

    def on_open(self, seq: int, device: str, below: str, family: str) -> None:
        super().on_open(seq, device, below, family)
        self.opened[device] = seq

    def forget(self, device: str) -> None:
        self.asked.pop(device, None)

    def on_remove(self, seq: int, device: str, errno: int) -> None:
        """Somebody wants it gone."""
        if errno:
            self.asked.setdefault(device, seq)

    def finish(self) -> None:
        for device, seq in sorted(self.asked.items()):
            text = f"{device}: its removal waits for a file that is still open"
            steps = (self.opened.get(device), seq)
            self.tell("vmm.open-after-removal", text, *steps, once=device, where={"device": device})
