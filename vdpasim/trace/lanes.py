"""Where an event belongs on a picture: the unit that acted, and the device or queue it happened to.

Theory. Every event has a unit. Events that name a queue belong to that queue as well, those that name only a device to
the device. A finding names the event that showed it; what raced with it is, unless its oracle said so, the last event
that made the state it rests on: the MAP or REMAP of the entry a DMA used, else the last thing another unit did to the
same device, else the last thing that was done to it at all. A vDPA device has two names, its own in a DMA and that of
its node in a MAP; serials are of the whole kernel and join them.
"""

from __future__ import annotations

from vdpasim.core.events import LAYOUT, Event, Kind

Lane = tuple[str, int]
"""(device, queue); the queue is -1 for the device itself."""

NOBODY = "-"
"""The unit of what no unit did."""
MACHINE = "the machine"
"""What the lane of such events is called: the machine as a whole came to rest."""

_DEVICE = {kind: 4 + names.index("device") for kind, names in LAYOUT.items() if "device" in names}
_QUEUE = {kind: 4 + names.index("queue") for kind, names in LAYOUT.items() if "queue" in names}
_SERIAL = {kind: 4 + names.index("serial") for kind, names in LAYOUT.items() if "serial" in names}
_MAKES = frozenset({Kind.MAP, Kind.REMAP})
_ACTS = frozenset(
    {Kind.MAP, Kind.UNMAP, Kind.REMAP, Kind.PUSH, Kind.OWNER, Kind.STATUS, Kind.KICK, Kind.DMA, Kind.FAULT}
    | {Kind.SUSPEND, Kind.RING, Kind.CLEAR, Kind.REMOVE}
)


def lane_of(event: Event) -> Lane | None:
    """The device or queue an event happened to, None if it names none."""
    at = _DEVICE.get(event[3])
    if at is None:
        return None
    queue = _QUEUE.get(event[3])
    return event[at], -1 if queue is None else event[queue]


class Racing:
    """Follows a run and says of each event what it races with."""

    def __init__(self) -> None:
        self._made: dict[int, int] = {}
        self._done: dict[str, dict[str, int]] = {}

    def event(self, event: Event) -> int | None:
        """Take the next event; the sequence number of the one it rests on, None if there is none."""
        before = self._behind(event)
        kind = event[3]
        if kind in _MAKES:
            self._made[event[_SERIAL[kind]]] = event[0]
        if kind in _ACTS:
            self._done.setdefault(event[_DEVICE[kind]], {})[event[2]] = event[0]
        return before

    def _behind(self, event: Event) -> int | None:
        kind = event[3]
        at = _DEVICE.get(kind)
        if at is None:
            return None
        if kind == Kind.DMA and event[9] in self._made:
            return self._made[event[9]]
        done = self._done.get(event[at], {})
        others = [seq for unit, seq in done.items() if unit != event[2]]
        return max(others or done.values(), default=None)
