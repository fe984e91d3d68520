"""``iotlb.divergence``: the device's copy of a map differs from vhost-vdpa's table while the device may use it.

Theory. The table is followed by MAP, UNMAP and REMAP; the device's copy becomes the table at every successful PUSH,
empty at a failed one, and the device's default at a reset that cleans it (a PUSH of -1 maps). An entry is *due* when a
push should have handed it over as it is now: every entry of the table at a PUSH, and one remapped behind a PUSH in the
same call. What is changed inside a batch is not due before BATCH_END, however often a running guest kicks meanwhile.
Kicks compare what is due; DRIVER_OK and the end of the run compare everything, and the end also what the device still
has and the table does not. A device that was reset and not started again uses nothing, and a released one has nothing.
"""

from __future__ import annotations

import attrs

from vdpasim.checks import Finding
from vdpasim.core.events import NO_COPY, Event, Kind
from vdpasim.uapi.virtio_config import VIRTIO_CONFIG_S_DRIVER_OK

Key = tuple[str, int]
"""(device, asid)."""
Table = dict[int, tuple[int, int, int]]
"""serial -> (start, last, addr)."""

RELEASING = frozenset({"close", "exec", "exit"})
"""Calls in which a device's last file may go; what they unmap, the device loses too."""


@attrs.define
class Space:
    """One address space as both sides have it."""

    table: Table = attrs.Factory(dict["int", "tuple[int, int, int]"])
    copy: Table = attrs.Factory(dict["int", "tuple[int, int, int]"])
    due: set[int] = attrs.Factory(set["int"])
    changed: dict[int, int] = attrs.Factory(dict["int", "int"])
    """serial -> when it got the address it has."""
    pushed: int = 0
    """When the device was handed the table, or lost its copy."""


@attrs.define
class IotlbDivergence:
    """Follows every table and its device copy."""

    findings: list[Finding] = attrs.Factory(list["Finding"])
    spaces: dict[Key, Space] = attrs.Factory(dict["Key", "Space"])
    seq: int = 0
    stopped: set[str] = attrs.Factory(set["str"])
    """Devices that were reset and not started since."""
    _told: set[tuple[Key, int, int]] = attrs.Factory(set["tuple[Key, int, int]"])
    _pushing: dict[str, Key] = attrs.Factory(dict["str", "Key"])
    """Unit -> what it has pushed in its present call."""
    _releasing: set[str] = attrs.Factory(set["str"])

    def event(self, event: Event) -> None:
        self.seq, _, unit, kind = event[:4]
        fields = event[4:]
        if kind == Kind.ENTER and fields[0] in RELEASING:
            self._releasing.add(unit)
        elif kind == Kind.EXIT:
            self._releasing.discard(unit)
            self._pushing.pop(unit, None)
        elif kind in (Kind.MAP, Kind.UNMAP, Kind.REMAP, Kind.PUSH) and fields[1] != NO_COPY:
            self._change(unit, kind, self.spaces.setdefault(fields[:2], Space()), fields)
        elif kind == Kind.KICK:
            self._compare(fields[0], only_due=True)
        elif kind == Kind.STATUS:
            self._status(*fields)

    def finish(self) -> None:
        for device in sorted({device for device, _ in self.spaces} - self.stopped):
            self._compare(device, only_due=False)
            for key in sorted(key for key in self.spaces if key[0] == device):
                space = self.spaces[key]
                for serial in space.copy.keys() - space.table.keys():
                    start, last, held = space.copy[serial]
                    self._tell(key, serial, held, f"still maps [{start:#x}, {last:#x}], the table does not")

    def _change(self, unit: str, kind: Kind, space: Space, fields: tuple[int, ...]) -> None:
        key = (str(fields[0]), fields[1])
        if kind == Kind.PUSH:
            _, _, maps, errno = fields
            space.copy = dict(space.table) if not errno and maps >= 0 else {}
            space.due = set(space.table)
            space.pushed = self.seq
            self._pushing[unit] = key
            return
        serial, start, last = fields[2:5]
        if kind == Kind.UNMAP:
            space.table.pop(serial, None)
            if unit in self._releasing:
                space.copy.pop(serial, None)
            return
        space.table[serial] = (start, last, fields[5 if kind == Kind.MAP else 6])
        space.changed[serial] = self.seq
        if self._pushing.get(unit) != key:
            space.due.discard(serial)

    def _status(self, device: str, old: int, new: int) -> None:
        if not new:
            self.stopped.add(device)
        elif new & ~old & VIRTIO_CONFIG_S_DRIVER_OK:
            self.stopped.discard(device)
            self._compare(device, only_due=False)

    def _compare(self, device: str, *, only_due: bool) -> None:
        for key in sorted(key for key in self.spaces if key[0] == device):
            space = self.spaces[key]
            for serial, (start, last, addr) in space.table.items():
                if only_due and serial not in space.due:
                    continue
                held = space.copy.get(serial)
                if held is None:
                    self._tell(key, serial, -1, f"has no map of [{start:#x}, {last:#x}], the table says {addr:#x}")
                elif held[2] != addr:
                    text = f"maps [{start:#x}, {last:#x}] to {held[2]:#x}, the table says {addr:#x}"
                    self._tell(key, serial, held[2], text)

    def _tell(self, key: Key, serial: int, held: int, what: str) -> None:
        if (key, serial, held) in self._told:
            return
        self._told.add((key, serial, held))
        space = self.spaces[key]
        steps = tuple(sorted({space.changed.get(serial, self.seq), space.pushed or self.seq, self.seq}))
        where = (("device", key[0]), ("asid", str(key[1])))
        text = f"{key[0]} asid {key[1]}: the device {what}"
        self.findings.append(Finding("iotlb.divergence", text, self.seq, steps, where))
