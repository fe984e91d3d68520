"""``vmm.base-while-running``: GET_VRING_BASE of a queue that is at work.

Theory. The answer is where the queue is at that moment, and it moves on: what is saved is out of date before it is
written down. Before asking, a vhost-vdpa device is suspended or reset or the queue disabled, and vhost-net's queue has
its backend taken.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle, drop
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK


class VmmBase(Oracle):
    """Told by the state of device and queue."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[tuple[str, int], int] = {}
        """Queue -> when it was enabled, or got a backend."""
        self.running: dict[str, int] = {}

    def forget(self, device: str) -> None:
        drop(self.live, device)
        self.running.pop(device, None)

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """Told to run, or reset."""
        if not new:
            self.forget(device)
        elif new & VIRTIO_CONFIG_S_DRIVER_OK:
            self.running.setdefault(device, seq)

    def on_suspend(self, seq: int, device: str, old: int, new: int) -> None:
        """At rest, or not."""
        self.running.pop(device, None)
        if not new:
            self.running[device] = seq

    def on_ring(self, seq: int, device: str, queue: int, what: str, value: object) -> None:
        """A queue is enabled, or asked."""
        key = device, queue
        if what in ("ready", "backend"):
            self.live.pop(key, None)
            if value:
                self.live[key] = seq
        elif what == "get-base" and key in self.live and (device in self.running or self._walks_rings(device)):
            text = f"{device} queue {queue}: GET_VRING_BASE while it runs"
            steps = (self.live[key], self.running.get(device), seq)
            self.tell("vmm.base-while-running", text, *steps, once=key, where={"device": device, "queue": queue})

    def _walks_rings(self, device: str) -> bool:
        return self.families.get(device) == "vhost-net"
