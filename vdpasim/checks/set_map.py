"""``set-map.ignored-error``: the device refused a map, and the caller was told that all is well.

Theory. PUSH says what the device answered, EXIT what the caller got. An UPDATE passes the refusal on; INVALIDATE and
BATCH_END throw it away, and the device goes on with an empty map or an old one.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle
from vdpasim.uapi import errno as E


class SetMap(Oracle):
    """Remembers refusals until the call they happened in ends."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, list[tuple[int, str, int, int]]] = {}
        """Unit -> (when, device, asid, errno)."""

    def on_push(self, seq: int, device: str, asid: int, maps: int, errno: int) -> None:
        """A map was handed over, or was not."""
        if errno:
            self.refused.setdefault(self.unit, []).append((seq, device, asid, errno))

    def on_exit(self, seq: int, op: str, file: str, ret: int, handler_errno: int, rule: str | None) -> None:
        """The caller learns of it or does not."""
        for when, device, asid, errno in self.refused.pop(self.unit, ()):
            if ret >= 0:
                text = f"{device} asid {asid}: the device refused the map with {E.name(errno)}, {op} returned {ret}"
                where = {"device": device, "asid": asid}
                self.tell("set-map.ignored-error", text, when, seq, once=(device, asid), where=where)
