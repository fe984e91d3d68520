"""What the oracles share: events by kind, who is called what, what is gone, and telling each thing once.

Theory. A subclass has a method ``on_<kind>(seq, *fields)`` for each kind of event it reads, and nothing for the others,
so that an event costs an oracle that does not read it one look-up. The device below a file has a name of its own;
``file`` gives the name everything is kept by. ``forget`` is called when a vhost file was released: what it stood for is
over, and the next open of the same node is another story.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vdpasim.checks import Finding
from vdpasim.core.events import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Oracle:
    """One machine that reads events; see :class:`vdpasim.checks.Check`."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.now = 0
        self.unit = ""
        self.families: dict[str, str] = {}
        """File -> vhost-net, vhost-vdpa or vhost-vdpa+miss."""
        self.gone: dict[tuple[str, str], int] = {}
        """(what, name) -> when it went."""
        self._files: dict[str, str] = {}
        self._told: set[tuple[str, Hashable]] = set()
        self._handlers: dict[int, Callable[..., None]] = {}
        for kind in Kind:
            handler = getattr(self, "on_" + kind.name.lower(), None)
            if handler is not None:
                self._handlers[kind] = handler

    def event(self, event: Event) -> None:
        """Look at the next event."""
        handler = self._handlers.get(event[3])
        self.now = event[1]
        if handler is not None:
            self.unit = event[2]
            handler(event[0], *event[4:])

    def finish(self) -> None:
        """The run is over; most have said what they have to say."""

    def on_open(self, seq: int, device: str, below: str, family: str) -> None:
        """A vhost file was opened."""
        self._files[below] = device
        self.families[device] = family

    def on_gone(self, seq: int, what: str, name: str) -> None:
        """Something went for good."""
        self.gone[what, name] = seq
        if what == "file":
            self.forget(name)

    def forget(self, device: str) -> None:
        """The file was released."""

    def file(self, name: str) -> str:
        """The file's name, of it or of the device below it."""
        return self._files.get(name, name)

    def watched(self, device: str) -> bool:
        """Whether the trace has what the device below a file does; the log of a program has not."""
        return any(below and file == device for below, file in self._files.items())

    def tell(
        self, ident: str, text: str, *steps: int | None, once: Hashable = None, where: dict[str, Any] | None = None
    ) -> None:
        """A finding; ``once``: not again for the same. The last step is the event that showed it."""
        if once is not None:
            if (ident, once) in self._told:
                return
            self._told.add((ident, once))
        known = tuple(dict.fromkeys(sorted(step for step in steps if step)))
        words = tuple((name, str(value)) for name, value in (where or {}).items())
        self.findings.append(Finding(ident, text, known[-1] if known else 0, known, words))


def drop(table: dict[tuple[str, int], Any], device: str) -> None:
    """Take everything of a device out of a table by (device, queue)."""
    for key in [key for key in table if key[0] == device]:
        del table[key]
