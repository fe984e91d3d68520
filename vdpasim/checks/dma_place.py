"""``dma.wrong-object``, ``dma.fault``, ``dma.stale-va``, ``dma.bogus-pa``: a DMA that missed what was promised.

Theory. MAP records, once, which runs of which objects an entry promised; DMA names the entry's serial and the runs the
bytes went to. The promise is about objects, not addresses: after a correct REMAP the place is still the promised one.
Which of the four ids a miss gets says why it missed:

* *stale-va*: the device goes by a user address that was given while somebody else owned the device, or whose address
  space is gone. What counts is the address the device was handed: that of the last PUSH, not the table's.
* *bogus-pa*: a number that is no address of pinned memory is taken for a physical one: a user address that a REMAP
  stored in an entry of pinned pages, or an I/O address, after a reset that lost the map. The last has no entry.
* *fault*: nothing is there; *wrong-object*: something else is.

A device that goes by files has no address to be wrong about: it touches what the file of the UPDATE is, and misses the
promise only once guest memory has MOVED to another object, to which the promises move with it.

Passthrough to user addresses has no entry and no promise (serial 0).
"""

from __future__ import annotations

import attrs

from vdpasim.checks.oracle import Oracle

Runs = tuple[tuple[str, int, int], ...]
"""(object, offset, length) in order."""


@attrs.define
class Entry:
    """One entry of a table, and the user addresses it had."""

    device: str
    asid: int
    start: int
    promise: Runs
    versions: list[tuple[int, str | None]]
    """(when it was told, who owned the device then)."""
    moved: int | None = None
    """When the promise went to another object."""


class DmaPlace(Oracle):
    """Joins DMAs with the promises of their entries."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[int, Entry] = {}
        self.owners: dict[str, tuple[int, str | None]] = {}
        """Device -> (since when, address space)."""
        self.pushed: dict[tuple[str, int], int] = {}
        """(device, asid) -> when the device was handed the table last."""

    def on_owner(self, seq: int, device: str, old: str | None, new: str | None) -> None:
        """Addresses told from here on are the new owner's."""
        self.owners[device] = seq, new

    def on_map(
        self, seq: int, device: str, asid: int, serial: int, start: int, last: int, addr: int, perm: int, promise: Runs
    ) -> None:
        """An entry promises something."""
        self.entries[serial] = Entry(device, asid, start, promise, [(seq, self._owner(device)[1])])

    def on_remap(
        self, seq: int, device: str, asid: int, serial: int, start: int, last: int, old: int, new: int
    ) -> None:
        """It promises the same by another address."""
        if serial in self.entries:
            self.entries[serial].versions.append((seq, self._owner(device)[1]))

    def on_moved(self, seq: int, old: str, new: str) -> None:
        """What was promised is somewhere else."""
        for entry in self.entries.values():
            if any(name == old for name, _, _ in entry.promise):
                entry.promise = taken_along(entry.promise, old, new)
                entry.moved = seq

    def on_push(self, seq: int, device: str, asid: int, maps: int, errno: int) -> None:
        """The device was handed what the table says now."""
        if maps >= 0 and not errno:
            self.pushed[device, asid] = seq

    def on_dma(
        self,
        seq: int,
        device: str,
        queue: int,
        iova: int,
        length: int,
        access: int,
        serial: int,
        target: str,
        place: Runs,
    ) -> None:
        """Compare."""
        entry = self.entries.get(serial)
        if target == "passthrough-pa":
            text = f"{device} queue {queue}: {length} bytes at iova {iova:#x} went to that physical address, unmapped"
            nowhere = {"device": device, "queue": queue, "iova": hex(iova), "touched": show(place)}
            self.tell("dma.bogus-pa", text, seq, once=device, where=nowhere)
        elif entry is not None:
            promised, there = cut(entry.promise, iova - entry.start, length), cut(place, 0, length)
            missing = sum(run[2] for run in there) < length
            if missing or (promised and there != promised):
                where: dict[str, object] = {"device": device, "queue": queue, "asid": entry.asid, "iova": hex(iova)}
                where |= {"promised": show(promised), "touched": show(there)}
                self._misplaced(seq, entry, target, where, length, missing=missing)

    def _misplaced(
        self, seq: int, entry: Entry, target: str, where: dict[str, object], length: int, *, missing: bool
    ) -> None:
        who = f"{where['device']} queue {where['queue']}: "
        what = f"{length} bytes at iova {where['iova']}"
        landed = f"{what} landed on {where['touched']}, promised was {where['promised']}"
        version, owner = self._version(entry)
        since, now = self._owner(entry.device)
        steps = (entry.versions[0][0], version, since, seq)
        if target == "pa" and len(entry.versions) > 1:
            text = f"{what} went to a physical address that is none: a REMAP put a user address in its place"
            self.tell("dma.bogus-pa", who + text, *steps, where=where)
        elif owner is not None and target == "va" and (owner != now or ("mm", owner) in self.gone):
            told = f"no memory behind {what}" if missing else landed
            text = f"{told}; the address is one of {owner}, the device is {now}'s"
            self.tell("dma.stale-va", who + text, *steps, self.gone.get(("mm", owner)), where=where)
        elif missing:
            self.tell("dma.fault", f"{who}no memory behind {what}", entry.versions[0][0], version, seq, where=where)
        else:
            if target == "file" and entry.moved is not None:
                landed += "; the device goes by the file of the UPDATE, and the memory has moved since"
            self.tell("dma.wrong-object", who + landed, entry.versions[0][0], version, entry.moved, seq, where=where)

    def _owner(self, device: str) -> tuple[int, str | None]:
        return self.owners.get(device, (0, None))

    def _version(self, entry: Entry) -> tuple[int, str | None]:
        # as the device was handed it: the last one told before the last push, the first if there was none
        pushed = self.pushed.get((entry.device, entry.asid))
        known = [version for version in entry.versions if pushed is None or version[0] < pushed]
        return known[-1] if known else entry.versions[0]


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


def taken_along(runs: Runs, old: str, new: str) -> Runs:
    """The runs once memory moved from one object to another."""
    return tuple((new if name == old else name, at, size) for name, at, size in runs)


def show(runs: Runs) -> str:
    """The runs for a reader."""
    return ", ".join(f"{name}+{at:#x} ({size})" for name, at, size in runs) or "nothing"
