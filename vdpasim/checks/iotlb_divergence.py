"""``iotlb.divergence``: the device's copy of a map differs from vhost-vdpa's table while the device may use it.

Theory. The table is followed by MAP, UNMAP and REMAP; the device's copy becomes the table at every successful PUSH, empty at
a failed one, and the device's default at a reset that cleans it (a PUSH of -1 maps). Inside a batch the two differ by
design, so the comparison is made when a device is kicked or started, and at the end.
"""

from __future__ import annotations

import attrs

from vdpasim.checks import Finding
from vdpasim.core.events import Event, Kind

Key = tuple[str, int]
"""(device, asid)."""
Table = dict[int, tuple[int, int, int]]
"""serial -> (start, last, addr)."""


@attrs.define
class IotlbDivergence:
    """Follows every table and its device copy."""

    findings: list[Finding] = attrs.Factory(list["Finding"])
    tables: dict[Key, Table] = attrs.Factory(dict["Key", "Table"])
    copies: dict[Key, Table] = attrs.Factory(dict["Key", "Table"])
    seq: int = 0
    _told: set[tuple[Key, int, int]] = attrs.Factory(set["tuple[Key, int, int]"])

    def event(self, event: Event) -> None:
        self.seq, kind, fields = event[0], event[3], event[4:]
        if kind == Kind.MAP:
            device, asid, serial, start, last, addr, _, _ = fields
            self.tables.setdefault((device, asid), {})[serial] = (start, last, addr)
        elif kind == Kind.UNMAP:
            self.tables.get(fields[:2], {}).pop(fields[2], None)
        elif kind == Kind.REMAP:
            device, asid, serial, start, last, _, new = fields
            self.tables.setdefault((device, asid), {})[serial] = (start, last, new)
        elif kind == Kind.PUSH:
            device, asid, maps, errno = fields
            good = not errno and maps >= 0
            self.copies[device, asid] = dict(self.tables.get((device, asid), {})) if good else {}
        elif kind == Kind.KICK:
            self._compare(fields[0])

    def finish(self) -> None:
        for device in sorted({device for device, _ in self.tables}):
            self._compare(device)

    def _compare(self, device: str) -> None:
        for key in sorted(key for key in self.tables if key[0] == device):
            table, copy = self.tables[key], self.copies.get(key, {})
            for serial, (start, last, addr) in table.items():
                held = copy.get(serial)
                if held is None:
                    self._tell(key, serial, -1, f"has no map of [{start:#x}, {last:#x}], the table says {addr:#x}")
                elif held[2] != addr:
                    self._tell(
                        key, serial, held[2], f"maps [{start:#x}, {last:#x}] to {held[2]:#x}, the table says {addr:#x}"
                    )

    def _tell(self, key: Key, serial: int, held: int, what: str) -> None:
        if (key, serial, held) in self._told:
            return
        self._told.add((key, serial, held))
        self.findings.append(Finding("iotlb.divergence", f"{key[0]} asid {key[1]}: the device {what}", self.seq))
