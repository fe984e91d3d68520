"""Patterns of messages: what REMAP and the others were told, and when the device heard of it (LU03, 06-23, 26, 27, 54).

Theory. A refused REMAP is told by the entries of its time: what lies under the range, what lay there before, and which
UPDATE made it. One that was granted is told by what the device did with it. The handler's errno differs from series to
series, so it decides only where the range does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.checks.diagnosis.facts import END
from vdpasim.checks.diagnosis.pattern import Match, match
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.checks.diagnosis.facts import Call, Device, Entry, Facts
    from vdpasim.checks.dma_place import Runs

U64 = 1 << 64
MESSAGES = ("REMAP", "UPDATE", "INVALIDATE", "BATCH_BEGIN", "BATCH_END")


def refused(facts: Facts) -> Iterator[Match]:
    """REMAPs that the kernel refused."""
    for device in facts.devices.values():
        for call in device.named("REMAP"):
            if call.refused and call.refused != E.EPERM and call.message is not None:
                yield from _refused(facts, device, call)


def _refused(facts: Facts, device: Device, call: Call) -> Iterator[Match]:
    message = call.message
    assert message is not None
    if (opened := device.batch(call.seq)) and opened.message and opened.message.asid != message.asid:
        yield match(15, f"a batch is open for space {opened.message.asid}", opened.end, call.end, score=95)
    elif message.perm or not message.size:
        yield match(10, "REMAP names a permission, or no size", call.end, score=92)
    elif message.iova + message.size > U64:
        yield match(11, "the range of REMAP wraps around", call.end, score=92)
    elif (miss := _pending(device, call)) is not None:
        yield match(54, "a miss waits for this page, and REMAP answers none", miss, call.end, score=94)
    else:
        yield from _by_range(facts, device, call)


def _pending(device: Device, call: Call) -> int | None:
    # a miss in the range of a message that no UPDATE has covered
    for seq, iova in device.misses:
        asked = call.message is not None and call.message.iova <= iova <= call.last
        if seq < call.seq and asked and not any(entry.start <= iova <= entry.last for entry in device.at(call.seq)):
            return seq
    return None


def _by_range(facts: Facts, device: Device, call: Call) -> Iterator[Match]:
    asid = call.message.asid if call.message else 0
    here = [entry for entry in device.at(call.seq) if entry.asid == asid]
    under = [entry for entry in here if entry.overlaps(call)]
    made = [entry.made for entry in under]
    vanished = [entry.gone for entry in under if entry.gone < call.end]
    if vanished:
        yield match(23, "the entry was taken away while REMAP was under way", *vanished, call.end, score=92)
    elif not under:
        yield from _nothing(device, call, here)
    elif call.refused == E.EOPNOTSUPP or facts.pinned(device):
        if device.offers_remap:
            yield match(18, "REMAP of a device that pins and asks for it", *made, call.end, score=85)
        if len(under) > 1:
            yield match(16, f"one UPDATE made {len(under)} entries of it", *made, call.end, score=93)
    elif len(under) > 1:
        one = {entry.by for entry in under}
        if len(one) == 1 and None not in one:
            yield match(16, f"one UPDATE made {len(under)} entries of it", *made, call.end, score=93)
        else:
            yield match(8, f"REMAP spans {len(under)} entries", *made, call.end, score=92)
    elif under[0].exactly(call):
        yield from _exact(facts, device, under[0], call)
    else:
        yield match(7, "REMAP names a part of an entry", *made, call.end, score=92)


def _exact(facts: Facts, device: Device, entry: Entry, call: Call) -> Iterator[Match]:
    if not any(taken.end < call.seq for taken in device.takeovers):
        return  # no series: REMAP is refused whatever it says
    if any(call.seq < seq < call.end and errno for seq, _, errno in device.pushes):
        return  # the device refused its map
    if call.rule in ("vdpa.remap.pinned", "vdpa.remap.unsupported", "vdpa.remap.no-update"):
        return  # it needs no REMAP, or goes by what was an UPDATE
    if not call.rule.endswith("other-object"):
        why = "an entry was remapped exactly, and refused: a device that takes single entries"
        yield match(19, why, entry.made, call.end, score=85)
        return
    # a kernel that looks refuses other memory
    others = [one for one in device.at(call.seq) if one.asid != entry.asid and one.exactly(call)]
    if others:
        yield match(26, "the same range is in another space, too", entry.made, others[0].made, call.end, score=89)
    if moved := facts.promise(entry, call.seq)[1]:
        why = "guest memory moved to another file, and REMAP with it was refused"
        yield match(24, why, entry.made, *moved, call.end, score=90)
    why = "an entry was remapped exactly, and refused: it is other memory"
    known = _guests(device, call)
    yield match(6, why, entry.made, call.end, score=86 if known else 80)
    yield match(27, why + ", perhaps the program's own", entry.made, call.end, score=80 if known else 86)


def _guests(device: Device, call: Call) -> bool:
    # whether the address is one that the new owner gave for another range, or for this one at last
    assert call.message is not None
    first, last = call.message.uaddr, call.message.uaddr + call.message.size - 1
    taken = max(one.end for one in device.takeovers if one.end < call.seq)
    told = [one.message for one in device.granted("REMAP", "UPDATE") if one.seq > taken and one.message]
    return any(one.uaddr <= last and first < one.uaddr + one.size for one in told)


def _nothing(device: Device, call: Call, here: list[Entry]) -> Iterator[Match]:
    asid = call.message.asid if call.message else 0
    gone = [e for e in device.entries if e.asid == asid and e.gone < call.seq and e.overlaps(call)]
    if gone:
        taken = gone[-1].gone
        if any(one.end < taken for one in [one for one in device.takeovers if one.end < call.seq][-1:]):
            yield match(23, "the entry was taken away between the list and its REMAP", taken, call.end, score=92)
        else:
            yield match(27, "the old image had taken the entry away", taken, call.end, score=92)
    elif asid and not here:
        yield match(26, f"space {asid} has no entries", call.end, score=92)
    elif (hole := _skipped(device, call)) is not None:
        yield match(17, "an UPDATE went over it and mapped nothing here", hole.end, call.end, score=93)
    else:
        yield match(9, "nothing was ever mapped there", call.end, score=90)


def _skipped(device: Device, call: Call) -> Call | None:
    for update in device.granted("UPDATE"):
        covers = update.message and call.message and update.message.iova <= call.message.iova <= update.last
        if update.end < call.seq and covers:
            return update
    return None


def holes(facts: Facts) -> Iterator[Match]:
    """UPDATEs that mapped less than they were asked to."""
    for device in facts.devices.values():
        for call in device.granted("UPDATE"):
            mapped = [entry for entry in device.entries if entry.by is call]
            size = sum(entry.last - entry.start + 1 for entry in mapped)
            if call.message and size < call.message.size < U64:
                yield match(17, f"an UPDATE of {call.message.size:#x} bytes mapped {size:#x}", call.end, score=80)


def updates(facts: Facts) -> Iterator[Match]:
    """UPDATEs in the place of REMAPs."""
    for device in facts.devices.values():
        for taken in device.takeovers:
            for call in device.named("UPDATE"):
                if call.seq < taken.end:
                    continue
                if call.refused == E.EEXIST:
                    yield match(21, "UPDATE over what is mapped, after NEW_OWNER", taken.end, call.end, score=88)
                elif old := _exchanged(device, taken, call):
                    yield _anew(facts, device, taken, old, call)


def _exchanged(device: Device, taken: Call, call: Call) -> Entry | None:
    # another object in its place is no entry given anew, but the program's own memory made anew
    made = {run[0] for entry in device.entries if entry.by is call for run in entry.promise}
    for entry in device.entries:
        there = entry.made < taken.end < entry.gone < call.seq and not entry.remapped(taken.end)
        # what goes and comes when the update is over is the guest's memory that is unplugged and plugged
        over = any(taken.end < seq < entry.gone for seq in device.runs)
        if there and not over and entry.overlaps(call) and call.ok:
            same = not made or not entry.promise or made & {run[0] for run in entry.promise}
            return entry if same else None
    return None


def _anew(facts: Facts, device: Device, taken: Call, old: Entry, call: Call) -> Match:
    # it works; what it costs is a window in which the guest has no memory, and pages pinned again
    kicked = [seq for seq in device.kicks if old.gone < seq < call.end and not device.suspended(seq)]
    stalled = facts.found("queue.stalled") if kicked else []
    pages = sum(pages for seq, pages in device.pins if old.gone < seq < call.end and pages > 0)
    if kicked:
        why = "the guest kicked while an entry was taken away, to be given anew"
        return match(22, why, taken.end, old.gone, kicked[0], call.end, *stalled[:1], score=94 if stalled else 85)
    why = "after NEW_OWNER an entry was taken away and given anew"
    if pages:
        return match(22, f"{why}: {pages} pages were pinned again", taken.end, old.gone, call.end, score=90)
    return match(22, why, taken.end, old.gone, call.end, score=60)


def batches(facts: Facts) -> Iterator[Match]:
    """Batches in other spaces, batches left open, pushes that failed or never came."""
    for device in facts.devices.values():
        for call in device.named(*MESSAGES):
            opened = device.batch(call.seq)
            if not call.refused or call.name == "REMAP" or not (opened and opened.message and call.message):
                continue
            if opened.message.asid != call.message.asid:
                yield match(15, f"a batch is open for space {opened.message.asid}", opened.end, call.end, score=95)
        yield from _unheard(facts, device)


def _unheard(facts: Facts, device: Device) -> Iterator[Match]:
    remaps = [call for call in device.granted("REMAP") if device.handed_over(0, call.seq)]
    if not remaps:
        return
    last = remaps[-1]
    pushed = [push for push in device.pushes if push[0] > remaps[0].seq]
    diverged = facts.found("iotlb.divergence", after=last.seq)
    opened = device.batch(last.seq)
    if pushed and pushed[-1][2] and not any(push[0] > pushed[-1][0] for push in device.pushes):
        why = "the device refused the map at BATCH_END, and write() told nobody"
        yield match(13, why, last.end, pushed[-1][0], *diverged[:1], score=94)
    elif opened and not any(push[0] > last.seq for push in pushed):
        ended = not device.batch(END - 1)
        if not ended and device.handed_over(opened.end, last.seq):
            why = "a batch from before the handover is open: nothing is pushed"
            yield match(14, why, opened.end, remaps[0].end, *diverged[:1], score=94)
        elif not ended and (held := diverged or _guarded(device, last.seq)):
            why = "the new image began a batch and never ended it: nothing is pushed"
            refused = any(call.refused and call.seq > opened.seq for call in device.named(*MESSAGES))
            yield match(14, why, opened.end, last.end, *held[:1], score=78 if refused else 93)
        elif diverged:
            why = "REMAPs in a batch, and the device was told nothing: it takes single entries"
            yield match(19, why, opened.end, last.end, *diverged[:1], score=88)
    elif not opened and diverged:
        why = "REMAP outside of a batch: the device keeps the old address of the last one"
        yield match(12, why, last.end, diverged[0], score=94)


def _guarded(device: Device, after: int) -> list[int]:
    # a kernel that looks does not let a device run whose batch is open
    return [call.end for call in device.named("RESUME", "SET_STATUS") if call.refused == E.EBUSY and call.seq > after]


def oops(facts: Facts) -> Iterator[Match]:
    """A null operation was called."""
    for seq in facts.found("kernel.oops"):
        for device in facts.devices.values():
            for call in device.named("REMAP"):
                if not call.seq <= seq <= call.end:
                    continue
                if call.rule == "vdpa.remap.null-features":
                    yield match(20, "REMAP asked a driver that has no get_backend_features", seq, call.end, score=95)
                else:
                    yield match(19, "REMAP called an operation that the device lacks", seq, call.end, score=95)


def places(facts: Facts) -> Iterator[Match]:
    """REMAPs that were granted and wrong: DMA went by the entry, to other memory than was promised."""
    for dma in facts.dmas:
        entry = facts.of(dma)
        if entry is None:
            continue
        device, told = facts.devices[entry.device], [seq for seq in entry.remaps if seq < dma[0]]
        promise, moved = facts.promise(entry, dma[0])
        elsewhere = _elsewhere(promise, dma[6] - entry.start, dma[11])
        if elsewhere and moved and dma[10] == "file":
            why = "guest memory moved to another file, and the device goes by the one of the UPDATE"
            yield match(24, why, entry.made, *moved, *told, dma[0], score=95)
        elif not told:
            continue
        elif dma[10] == "pa" or _was_physical(facts, entry, told[-1]):
            yield match(18, "REMAP put a user address in the place of a physical one", told[-1], dma[0], score=93)
        elif elsewhere and not facts.found("iotlb.divergence"):
            yield _wrong(device, entry, told, dma[0], {run[0] for run in dma[11]})


def _was_physical(facts: Facts, entry: Entry, before: int) -> bool:
    return any(dma[10] == "pa" and dma[9] == entry.serial and dma[0] < before for dma in facts.dmas)


def _elsewhere(promise: Runs, at: int, place: Runs) -> bool:
    # whether the first byte of a DMA is not the one that is promised there
    for name, offset, length in promise:
        if at < length:
            return bool(place) and tuple(place[0][:2]) != (name, offset + at)
        at -= length
    return False


def _wrong(device: Device, entry: Entry, told: list[int], seq: int, objects: set[str]) -> Match:
    twins = [e for e in device.at(seq) if e.asid != entry.asid and (e.start, e.last) == (entry.start, entry.last)]
    if len(told) > 1 and any(not twin.remaps for twin in twins):
        why = f"space {entry.asid} was told twice, the other one never"
        return match(26, why, *told, seq, score=94)
    if not objects & {run[0] for one in device.entries for run in one.promise}:
        return match(27, "REMAP gave an entry memory that was never the guest's", told[-1], seq, score=92)
    return match(6, "REMAP gave an entry other memory of the guest than it had", told[-1], seq, score=92)


PATTERNS = (refused, holes, updates, batches, oops, places)
