"""``unpin.wrong-frame``: what is given back is not what was pinned.

Theory. An entry of a PA-mode table holds the physical address that was pinned for it, and giving it back goes by what
the entry holds then. A REMAP that stores a user address there makes the kernel drop somebody else's references.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle


class UnpinFrame(Oracle):
    """Remembers the address each entry was made with."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[int, int]] = {}
        """Serial -> (when, address)."""
        self.changed: dict[int, int] = {}

    def on_map(
        self, seq: int, device: str, asid: int, serial: int, start: int, last: int, addr: int, *_: object
    ) -> None:
        """An entry is made."""
        self.made[serial] = seq, addr

    def on_remap(self, seq: int, device: str, asid: int, serial: int, *_: object) -> None:
        """It gets another address."""
        self.changed[serial] = seq

    def on_unpin(self, seq: int, device: str, serial: int, addr: int, pages: int) -> None:
        """Its pages are given back."""
        if serial in self.made and self.made[serial][1] != addr:
            made, pinned = self.made[serial]
            text = f"{device}: {pages} pages at {addr:#x} are unpinned, pinned were those at {pinned:#x}"
            where = {"device": device, "pinned": hex(pinned), "unpinned": hex(addr)}
            self.tell("unpin.wrong-frame", text, made, self.changed.get(serial), seq, once=serial, where=where)
