"""An entropy device (virtio device 4) with one queue, whose writable buffers it fills: the worked example of a model.

    device = sim.vdpa.dev_add("rng", model="docs/examples/entropy.py", seed=7)

Its bytes come from a counter and the seed, so that a run can be repeated; nobody should mistake them for entropy. Each
block of 32 is the SHA-256 of both, and the counter goes on from request to request, across resets too.
"""
# ruff: noqa: INP001 - a folder of examples, not a package

from __future__ import annotations

from hashlib import sha256
from typing import ClassVar

from vdpasim.devices.model import DeviceModel, Queue
from vdpasim.uapi.virtio_ids import VIRTIO_ID_RNG


class Entropy(DeviceModel):
    """Reproducible bytes for whoever asks."""

    device_id = VIRTIO_ID_RNG
    queues = 1
    options: ClassVar[dict[str, int]] = {"seed": 0}
    seed: int

    def start(self) -> None:
        self.counter = 0

    def handle_queue(self, queue: Queue) -> None:
        for request in queue:
            request.write(self.draw(request.writable))

    def draw(self, length: int) -> bytes:
        """The next bytes."""
        blocks = bytearray()
        while len(blocks) < length:
            blocks += sha256(f"{self.seed} {self.counter}".encode()).digest()
            self.counter += 1
        return bytes(blocks[:length])
