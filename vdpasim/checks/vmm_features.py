"""``vmm.unacked-feature``: something was used whose backend feature was not acked.

Theory. SET_BACKEND_FEATURES says what the program knows of. The kernels do not ask again when a request comes, with one
exception (the address space of a message, which is ignored without the bit), so a program that forgets the ack works
until it meets a device or a kernel that does. The last SET counts; bits can be dropped. The log of a program may not
have the ack: of a device that is in no trace but such a log nothing is told before one is seen.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle
from vdpasim.uapi import vhost_types as types
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK

NAMES = {
    types.VHOST_BACKEND_F_IOTLB_BATCH: "IOTLB_BATCH",
    types.VHOST_BACKEND_F_IOTLB_ASID: "IOTLB_ASID",
    types.VHOST_BACKEND_F_SUSPEND: "SUSPEND",
    types.VHOST_BACKEND_F_RESUME: "RESUME",
    types.VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK: "ENABLE_AFTER_DRIVER_OK",
    types.VHOST_BACKEND_F_NEW_OWNER: "NEW_OWNER",
    types.VHOST_BACKEND_F_IOTLB_REMAP: "IOTLB_REMAP",
}


class VmmFeatures(Oracle):
    """Told by what takes effect, against the last ack."""

    def __init__(self) -> None:
        super().__init__()
        self.acked: dict[str, tuple[int, int]] = {}
        """Device -> (when, mask)."""
        self.running: set[str] = set()
        self.ready: set[tuple[str, int]] = set()

    def forget(self, device: str) -> None:
        self.acked.pop(device, None)
        self._stop(device)

    def _stop(self, device: str) -> None:
        self.running.discard(device)
        self.ready = {key for key in self.ready if key[0] != device}

    def on_features(self, seq: int, device: str, what: str, mask: int) -> None:
        """The program says what it knows."""
        if what == "backend":
            self.acked[device] = seq, mask

    def on_status(self, seq: int, device: str, old: int, new: int) -> None:
        """Whether the device runs; a reset disables its queues."""
        if not new:
            self._stop(device)
        elif new & VIRTIO_CONFIG_S_DRIVER_OK:
            self.running.add(device)

    def on_batch(self, seq: int, device: str, asid: int, opened: int) -> None:
        """A batch."""
        if opened:
            self._use(seq, device, types.VHOST_BACKEND_F_IOTLB_BATCH)

    def on_ignored(self, seq: int, device: str, what: str, value: int) -> None:
        """An address space was named, and not looked at."""
        if what == "asid":
            self._use(seq, device, types.VHOST_BACKEND_F_IOTLB_ASID)

    def on_suspend(self, seq: int, device: str, old: int, new: int) -> None:
        """SUSPEND and RESUME have a bit each."""
        self._use(seq, device, types.VHOST_BACKEND_F_SUSPEND if new else types.VHOST_BACKEND_F_RESUME)

    def on_ring(self, seq: int, device: str, queue: int, what: str, value: object) -> None:
        """Enabled while the device runs."""
        key = device, queue
        if what == "ready" and not value:
            self.ready.discard(key)
        elif what == "ready" and key not in self.ready:
            self.ready.add(key)
            if device in self.running:
                self._use(seq, device, types.VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK)

    def on_owner(self, seq: int, device: str, old: str | None, new: str | None) -> None:
        """Taken over by NEW_OWNER."""
        if old is not None and new is not None:
            self._use(seq, device, types.VHOST_BACKEND_F_NEW_OWNER)

    def on_remap(self, seq: int, device: str, *rest: object) -> None:
        """REMAP."""
        self._use(seq, device, types.VHOST_BACKEND_F_IOTLB_REMAP)

    def _use(self, seq: int, device: str, bit: int) -> None:
        if device not in self.acked and not self.watched(device):
            return
        when, mask = self.acked.get(device, (0, 0))
        if not mask >> bit & 1:
            text = f"{device}: {NAMES[bit]} (bit {bit}) was used, acked are {mask:#x}"
            self.tell("vmm.unacked-feature", text, when, seq, once=(device, bit), where={"device": device, "bit": bit})
