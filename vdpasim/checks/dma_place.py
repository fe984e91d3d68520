"""``dma.wrong-object`` and ``dma.fault``: a DMA that did not land on the memory its map entry promised.

Theory. MAP records, once, which runs of which objects an entry promised; DMA names the entry's serial and the runs the
bytes went to. The promise is about objects, not addresses: after a correct REMAP the place is still the promised one.
Passthrough has no entry and no promise (serial 0).
"""

from __future__ import annotations

import attrs

from vdpasim.checks import Finding
from vdpasim.core.events import Event, Kind

Runs = tuple[tuple[str, int, int], ...]
"""(object, offset, length) in order."""


@attrs.define
class DmaPlace:
    """Joins DMAs with the promises of their entries."""

    findings: list[Finding] = attrs.Factory(list["Finding"])
    promises: dict[int, tuple[int, Runs]] = attrs.Factory(dict["int", "tuple[int, Runs]"])
    """serial -> (first I/O address, promised runs)."""

    def event(self, event: Event) -> None:
        kind, fields = event[3], event[4:]
        if kind == Kind.MAP:
            _, _, serial, start, _, _, _, promise = fields
            self.promises[serial] = (start, promise)
        elif kind == Kind.DMA:
            device, queue, iova, length, _, serial, _, place = fields
            if serial in self.promises:
                start, promise = self.promises[serial]
                self._compare(
                    event[0], f"{device} queue {queue}", iova, length, cut(promise, iova - start, length), place
                )

    def finish(self) -> None:
        """Nothing shows only at the end."""

    def _compare(self, seq: int, who: str, iova: int, length: int, promised: Runs, place: Runs) -> None:
        there = cut(place, 0, length)
        if sum(run[2] for run in there) < length:
            self.findings.append(Finding("dma.fault", f"{who}: no memory behind {length} bytes at iova {iova:#x}", seq))
        elif promised and there != promised:
            text = f"{who}: {length} bytes at iova {iova:#x} landed on {show(there)}, promised was {show(promised)}"
            self.findings.append(Finding("dma.wrong-object", text, seq))


def cut(runs: Runs, offset: int, length: int) -> Runs:
    """The part of the runs that starts ``offset`` bytes in, adjacent runs of one object joined."""
    out: list[tuple[str, int, int]] = []
    for name, at, size in runs:
        skipped = min(offset, size)
        part = min(size - skipped, length)
        offset -= skipped
        length -= max(part, 0)
        if part <= 0:
            continue
        if out and out[-1][0] == name and out[-1][1] + out[-1][2] == at + skipped:
            out[-1] = (name, out[-1][1], out[-1][2] + part)
        else:
            out.append((name, at + skipped, part))
    return tuple(out)


def show(runs: Runs) -> str:
    """The runs for a reader."""
    return ", ".join(f"{name}+{at:#x} ({size})" for name, at, size in runs) or "nothing"
