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
        self.refused: dict[str, list[tuple[int, str, int | None, int]]] = {}
        """Unit -> (when, device, asid, errno); a fault plan does not say which address space."""

    def on_push(self, seq: int, device: str, asid: int, maps: int, errno: int) -> None:
        """A map was handed over, or was not."""
        if errno:
            self.refused.setdefault(self.unit, []).append((seq, device, asid, errno))

    def on_fault(self, seq: int, device: str, what: str, errno: int) -> None:
        """A fault plan lets the device refuse; a map that it drops the device says it took."""
        if what.startswith("set_map:") and errno:
            self.refused.setdefault(self.unit, []).append((seq, device, None, errno))

    def on_exit(self, seq: int, op: str, file: str, ret: int, handler_errno: int, rule: str | None) -> None:
        """The caller learns of it or does not."""
        for when, device, asid, errno in self.refused.pop(self.unit, ()):
            if ret >= 0:
                which = "" if asid is None else f" asid {asid}"
                text = f"{device}{which}: the device refused the map with {E.name(errno)}, {op} returned {ret}"
                where = {"device": device} if asid is None else {"device": device, "asid": asid}
                self.tell("set-map.ignored-error", text, when, seq, once=(device, asid), where=where)
