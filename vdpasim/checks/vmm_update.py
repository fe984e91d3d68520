"""``vmm.empty-update``: an UPDATE that was granted and mapped nothing.

Theory. A device that works with user addresses can be given shared mappings of files only. Anything else in the range,
memory from malloc for one, is passed over without a word and write() says yes; the first access of the device fails.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle


class VmmUpdate(Oracle):
    """Told by the kernel itself, to those who listen."""

    def on_ignored(self, seq: int, device: str, what: str, value: int) -> None:
        """Part of a request had no effect."""
        if what == "update":
            text = f"{device}: the UPDATE at iova {value:#x} mapped nothing; only MAP_SHARED memory of a file is mapped"
            where = {"device": device, "iova": hex(value)}
            self.tell("vmm.empty-update", text, seq, once=(device, value), where=where)
