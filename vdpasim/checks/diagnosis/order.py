"""Patterns of order: what ran before it was told, and what was never told (LU01, 02, 04, 05, 25, 28, 40, 50, 64).

Theory. Entries that were there at NEW_OWNER name places of the image that is gone until each is remapped. The run that
follows, and what of them was remapped before, after or never, tell these stories apart. A device that pins, or does not
offer REMAP, needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.checks.diagnosis.facts import END, REMAP
from vdpasim.checks.diagnosis.pattern import Match, match
from vdpasim.uapi import errno as E
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_IOTLB_ASID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.checks.diagnosis.facts import Call, Device, Entry, Facts

ASID = 1 << VHOST_BACKEND_F_IOTLB_ASID


def forgotten(facts: Facts) -> Iterator[Match]:
    """Runs behind the last NEW_OWNER with entries that were not remapped by then."""
    for device in facts.devices.values():
        for number, taken in enumerate(device.takeovers):
            later = [one.end for one in device.takeovers[number + 1 :]]
            until = later[0] if later else END
            runs = sorted([seq for seq in device.runs if taken.end < seq < until] + _tried(device, taken, until))
            addressed = not facts.pinned(device) and not facts.by_file(device)
            if runs and addressed and device.offers_remap:
                yield from _stale(facts, device, taken, runs[0], until)


def _tried(device: Device, taken: Call, until: int) -> list[int]:
    # a kernel that guards RESUME says EBUSY
    tried = device.named("RESUME", "SET_STATUS")
    return [call.end for call in tried if call.refused == E.EBUSY and taken.end < call.end < until]


def _stale(facts: Facts, device: Device, taken: Call, run: int, until: int) -> Iterator[Match]:
    there = [entry for entry in device.at(run) if entry.made < taken.end]
    late = [entry for entry in there if not entry.remapped(taken.end, run) and entry.remapped(run, until)]
    never = [entry for entry in there if not entry.remapped(taken.end, until)]
    if late and not never:
        first = min(seq for entry in late for seq in entry.remaps if seq > run)
        guarded = any(call.end == run for call in device.named("RESUME", "SET_STATUS") if not call.ok)
        number = 64 if guarded and len(late) < len(there) else 1
        yield match(number, "it was to run before the last REMAP", taken.end, run, first, score=93)
        return
    used = [dma[0] for dma in facts.dmas if facts.of(dma) in never and run < dma[0] < until]
    hurt = facts.found("dma.fault", "dma.wrong-object", "dma.stale-va", after=run)
    guarded = not any(taken.end < seq < until for seq in device.runs)
    if never and (used or hurt or guarded):
        yield from _never(device, taken, run, never, there, [*used[:1], *hurt[:1]])


def held_back(facts: Facts) -> Iterator[Match]:
    """Runs in the midst of the batch that has the REMAPs: the device hears of them when it is ended."""
    for device in facts.devices.values():
        for taken in device.takeovers[-1:]:
            for run in [seq for seq in device.runs if seq > taken.end]:
                opened = device.batch(run)
                told = [call for call in device.granted("REMAP") if opened and opened.end < call.end < run]
                ended = [call.end for call in device.granted("BATCH_END") if call.end > run]
                hurt = facts.found("dma.fault", "dma.wrong-object", "dma.stale-va", "iotlb.divergence", after=run)
                if opened and told and ended and hurt and opened.end > taken.end:
                    why = "it was to run before the batch with the REMAPs was ended"
                    yield match(1, why, opened.end, told[-1].end, run, hurt[0], ended[0], score=93)


def _never(
    device: Device, taken: Call, run: int, never: list[Entry], there: list[Entry], hurt: list[int]
) -> Iterator[Match]:
    acked = [call for call in device.granted("SET_BACKEND_FEATURES") if call.seq > taken.end]
    why = f"{len(never)} of {len(there)} entries were never remapped"
    if acked and not acked[-1].word(0, 8) & ASID and any(entry.asid for entry in never):
        masked = acked[-1].end
        yield match(50, "IOTLB_ASID was not acked: every message reached space 0", taken.end, masked, *hurt, score=97)
    earlier = [one for one in device.takeovers if one.end < taken.end]
    if any(not entry.remapped(0, taken.end) and entry.made < one.end for one in earlier for entry in never):
        why = "an entry was forgotten in one update after the other"
        yield match(64, why, *(one.end for one in earlier), taken.end, *hurt, score=96)
    failed = [call for call in device.named("UPDATE") if call.refused and call.seq > taken.end and call.seq < run]
    if failed and len(never) < len(there):
        yield match(28, "a batch was ended behind an UPDATE that failed", failed[0].end, run, *hurt, score=95)
    tried = _tried_in_vain(device, taken, run, never)
    why += " (what was tried was refused)" if tried else ""
    if len(never) < len(there):
        yield match(25, why, taken.end, run, *hurt, score=78 if tried else 91)
        return
    if acked and not acked[-1].word(0, 8) & REMAP:
        yield match(40, "REMAP was masked out, and is needed all the same", acked[-1].end, run, *hurt, score=95)
    why = "NEW_OWNER, and no REMAP that was granted" if tried else "NEW_OWNER, and no REMAP at all"
    yield match(4, why, taken.end, run, *hurt, score=78 if tried else 91)


def _tried_in_vain(device: Device, taken: Call, run: int, never: list[Entry]) -> bool:
    # every entry that was not remapped was in a request that was refused, be it with a range of nobody's, or the batch
    # was; then the refusal is the cause. The first try may have been before NEW_OWNER
    since = max([seq for seq in device.handovers if seq < taken.end], default=0)
    if any(since <= call.seq < run and call.refused for call in device.named("BATCH_BEGIN")):
        return True
    tried = [call for call in device.named("REMAP", "UPDATE") if since <= call.seq < run and call.refused]
    astray = sum(not any(entry.overlaps(call) for entry in device.at(call.seq)) for call in tried)
    missed = sum(not any(entry.overlaps(call) for call in tried) for entry in never)
    return bool(tried) and missed <= astray


def unsuspended(facts: Facts) -> Iterator[Match]:
    """Handed over while it ran."""
    for device in facts.devices.values():
        for seq in device.handovers:
            if device.running(seq) and device.kicks and device.at(seq):
                until = min([at for at in device.released if at > seq], default=END)
                touched = [dma[0] for dma in facts.dmas if seq < dma[0] < until and facts.of(dma) in device.entries]
                if until < END and not touched:
                    continue  # it was given back, and nothing came of it
                behind = [one for one in touched if not any(seq < taken.end < one for taken in device.takeovers)]
                # to RESUME it is to believe that it was suspended
                resumed = [call.end for call in device.granted("RESUME") if seq < call.seq and device.running(call.seq)]
                why = "it changed hands without SUSPEND"
                score = 90 if behind else 78 if resumed else 50
                yield match(2, why, device.kicks[-1], seq, *behind[:1], *resumed[:1], score=score)


def while_suspended(facts: Facts) -> Iterator[Match]:
    """A worker that runs between SUSPEND and what follows."""
    for device in facts.devices.values():
        for dma in facts.dmas:
            if facts.of(dma) in device.entries and device.suspended(dma[0]):
                halted = max(seq for seq, state in device.suspends if state and seq < dma[0])
                kicked = [seq for seq in device.kicks if seq < dma[0]]
                yield match(5, "the device moved bytes while it was suspended", halted, *kicked[-1:], dma[0], score=92)


def crossed(facts: Facts) -> Iterator[Match]:
    """A kick that had queued the worker when SUSPEND came: the worker declined, and nobody kicked again."""
    for device in facts.devices.values():
        for seq, why in device.idles:
            if why != "not-running" or not device.suspended(seq):
                continue
            halted = max(at for at, state in device.suspends if state and at < seq)
            before = [at for at in device.kicks if at < seq]
            lost = facts.found("queue.stalled")
            if before and before[-1] < halted and lost and not any(at > seq for at in device.kicks):
                why = "the kick was there before SUSPEND, the worker came behind it, and nobody kicked again"
                yield match(5, why, before[-1], halted, seq, lost[0], score=93)


PATTERNS = (forgotten, held_back, unsuspended, while_suspended, crossed)
