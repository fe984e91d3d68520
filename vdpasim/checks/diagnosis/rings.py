"""Patterns of rings, events and features after a handover, and of the descriptor itself (LU39, LU41 to LU51, LU59).

Theory. What a device is not told again it keeps: eventfds, and after a reset nothing. Which eventfd a signal went to
no event says; that an eventfd was closed, that a write to one kicked nobody, and that a ring was not looked at again
do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.checks.diagnosis.facts import CLOSED
from vdpasim.checks.diagnosis.pattern import Match, match
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.checks.diagnosis.facts import Call, Device, Facts


def resets(facts: Facts) -> Iterator[Match]:
    """A reset on the way: the map it dropped, and the index nobody saved."""
    for device in facts.devices.values():
        for reset in [seq for seq, old, new in device.status if old and not new]:
            started = [seq for seq in device.runs if seq > reset]
            if not started or not device.handed_over(0, started[0]):
                continue
            cleaned = [push[0] for push in device.pushes if push[1] < 0 and abs(push[0] - reset) < 4]
            given = [push for push in device.pushes if reset + 3 < push[0] and push[1] >= 0]
            if cleaned and not given and device.at(started[0]):
                why = "the reset dropped the device's map, and nothing gave it back"
                yield match(39, why, reset, cleaned[0], started[0], score=95)
            yield from _base(device, reset, started[0], replayed=bool(facts.found("ring.replay", after=reset)))


def _base(device: Device, reset: int, started: int, *, replayed: bool) -> Iterator[Match]:
    # a driver that begins anew begins at 0, whatever was saved
    for call in device.granted("SET_VRING_BASE"):
        if not reset < call.seq < started:
            continue
        first = max([seq for seq in device.runs if seq < reset], default=0)
        asked = [one for one in device.granted("GET_VRING_BASE") if first < one.seq < reset]
        asked = [one for one in asked if one.word(0) == call.word(0)]
        # without a handover on the way it may be the guest that begins anew
        ours = replayed or device.handed_over(first, started)
        if not ours or not any(first < seq < reset for seq in device.kicks):
            continue
        if not asked:
            yield match(41, "nobody asked for the index before the reset", reset, call.end, score=92)
        elif int.from_bytes(asked[-1].data[4:8], "little") != call.word(4) and (call.word(4) or replayed):
            yield match(41, "the index is not the one that was saved", asked[-1].end, call.end, score=80)


def ring_requests(facts: Facts) -> Iterator[Match]:
    """Addresses and indices of a device that runs, and addresses of the wrong kind."""
    for device in facts.devices.values():
        for call in device.named("SET_VRING_ADDR", "SET_VRING_BASE"):
            if "vdpa" in device.name and device.running(call.seq):
                said = "refused" if call.refused else "taken"
                yield match(42, f"{call.name} while the device runs, {said}", call.end, score=92)
            if call.name == "SET_VRING_ADDR" and "vdpa" in device.name and call.ok:
                yield from _by_user_address(device, call)


def _by_user_address(device: Device, call: Call) -> Iterator[Match]:
    ring = call.word(8, 8)
    started = [seq for seq in device.runs if seq > call.seq]
    entries = device.at(started[0] if started else call.seq)
    if any(entry.start <= ring <= entry.last for entry in entries):
        return
    for entry in entries:
        if entry.addr <= ring <= entry.addr + entry.last - entry.start:
            why = f"the ring is given by its user address {ring:#x}, which no entry maps"
            yield match(43, why, call.end, *entry.remaps[-1:] or (entry.made,), score=93)
            return
    # entries of a device that pins go on naming places of the old image; what is mapped now the kernel knows
    for seq in [seq for seq in device.user_rings if call.seq < seq < call.end]:
        yield match(43, f"the ring is given by its user address {ring:#x}, which no entry maps", seq, score=93)


EVENTFDS = (
    (44, "SET_VRING_CALL", ("irq.lost",)),
    (46, "SET_CONFIG_CALL", ("irq.config-lost", "guest.interrupt-lost")),
)
"""Number, the request that names an eventfd, the findings that its interrupt was lost."""
WHAT = ("call", "config")
"""What the two are called in events."""


def interrupts(facts: Facts) -> Iterator[Match]:
    """Eventfds that the new image let go without telling the device."""
    closed = [call for call in facts.others if call.op == "close" and call.file.startswith("eventfd") and call.ok]
    for device in facts.devices.values():
        for call in closed:
            before = [seq for seq in device.handovers if seq < call.seq]
            if not before or not any(seq > call.seq for seq in device.runs):
                continue
            for number, request, findings in EVENTFDS:
                told = any(one.seq > call.seq for one in device.granted(request))
                lost = [one for finding in findings for one in facts.found(finding, after=call.seq)]
                if lost or (number == 44 and not told and _signalled(facts, call)):
                    why = f"{call.file} was closed" + ("" if told else f" and {request} names no other")
                    yield match(number, why, before[-1], call.end, *lost[:1], score=93 if lost else 60)


def deaf(facts: Facts) -> Iterator[Match]:
    """Interrupts to an eventfd that was given before a handover and went with the old image."""
    for signal in facts.signals:
        seq: int = signal[0]
        device, queue, what = facts.devices.get(signal[4]), signal[5], signal[6]
        given = [one for one in device.eventfds if one[0] < seq and one[1:3] == (queue, what)] if device else []
        gone = facts.gone.get(given[-1][3], seq) if given else seq
        if device and gone < seq and device.handed_over(given[-1][0], seq):
            number, request, finding = EVENTFDS[1 if what == "config" else 0]
            lost = facts.found(*finding)
            why = f"an interrupt goes to {given[-1][3]}, which nobody has any more, and {request} names no other"
            yield match(number, why, given[-1][0], gone, seq, *lost[:1], score=93 if lost else 70)


def unheard(facts: Facts) -> Iterator[Match]:
    """Interrupts that a device could not raise, for a reset has taken the eventfd and nobody gave it again."""
    for device in facts.devices.values():
        for seq, queue in device.unheard:
            number, request, findings = EVENTFDS[queue < 0]
            given, name = device.given(queue, WHAT[queue < 0], seq)
            reset = [at for at, _, new in device.status if given < at < seq and not new]
            if not name or not reset:
                continue
            of = "" if queue < 0 else f" of queue {queue}"
            why = f"an interrupt{of} was due, and {request} was not repeated after the reset"
            # the program that had given it may have forgotten it as well; the successor was never told
            score = 93 if device.handed_over(given, seq) else 80
            yield match(number, why, given, reset[-1], seq, *facts.found(*findings)[:1], score=score)


def misdirected(facts: Facts) -> Iterator[Match]:
    """Interrupts to an eventfd at which the new image waits no more; it waits at another, which was not given."""
    waits = [one for one in facts.others if one.op in ("poll", "read") and one.file.startswith("eventfd")]
    for device in facts.devices.values():
        named = {(what, name) for _, _, what, name in device.eventfds}
        for seq in device.handovers[-1:]:
            before = {one.file for one in waits if one.seq < seq}
            after = [one for one in waits if one.seq > seq]
            for signal in [one for one in facts.signals if one[0] > seq and one[4] == device.name]:
                what: str = signal[6]
                at, name = device.given(signal[5], what, signal[0])
                vain = [one for one in after if one.file not in before and one.ret <= 0 and one.end > signal[0]]
                vain = [one for one in vain if not {(what, one.file), ("kick", one.file)} & named]
                left = name in before and not any(one.file == name for one in after)
                if vain and left and at < seq:
                    number, request, _ = EVENTFDS[what == "config"]
                    why = f"an interrupt goes to {name}, the new image waits at {vain[0].file}: no {request}"
                    yield match(number, why, at, seq, signal[0], vain[0].end, score=80)


def _signalled(facts: Facts, close: Call) -> bool:
    # somebody read this eventfd, and the device signals again
    read = any(one.op == "read" and one.file == close.file for one in facts.others)
    return read and any(event[0] > close.seq and event[6] == "call" for event in facts.signals)


def kicks(facts: Facts) -> Iterator[Match]:
    """Kicks that reach nobody."""
    for device in facts.devices.values():
        if not device.handovers and not device.suspends:
            continue
        runs = device.runs
        last = runs[-1] if runs else 0
        looked = [dma[0] for dma in facts.dmas if dma[0] > last and facts.of(dma) in device.entries]
        for call in _silent(facts):
            if call.seq < last or not device.handed_over(0, last):
                continue
            if not looked or _replaced(facts, device, call):
                yield match(45, f"a write to {call.file} kicks nobody", last, call.end, score=88 if looked else 90)
        halted = [seq for seq in device.kicks if device.suspended(seq)]
        again = any(seq > last for seq in device.kicks)
        if halted and halted[-1] < last and not again and not looked and device.handovers:
            why = "kicked while it was suspended, and not again: nobody looks at the ring"
            yield match(45, why, halted[-1], last, score=90)


def _silent(facts: Facts) -> list[Call]:
    # writes to eventfds that kicked no device at all, and that no thread of the program reads
    read = {call.file for call in facts.others if call.op in ("read", "poll")}
    writes = [one for one in facts.others if one.op == "write" and one.file.startswith("eventfd")]
    kicked = [seq for device in facts.devices.values() for seq in device.kicks]
    return [one for one in writes if one.file not in read and not any(one.seq < seq < one.end for seq in kicked)]


def _replaced(facts: Facts, device: Device, call: Call) -> bool:
    # the device was never told of this eventfd, and one that it was told of is not written to any more
    told = {name for one in facts.devices.values() for _, _, _, name in one.eventfds}
    handed = max(seq for seq in device.handovers if seq < call.seq)
    used = {one.file for one in facts.others if one.op == "write" and one.seq > handed}
    left = any(what == "kick" and name and name not in used for _, _, what, name in device.eventfds)
    return call.file not in told and left


def suspends(facts: Facts) -> Iterator[Match]:
    """SUSPEND and RESUME where they are refused, or change nothing, or are never undone."""
    for device in facts.devices.values():
        for call in device.named("SUSPEND", "RESUME"):
            if call.refused == E.EOPNOTSUPP:
                yield match(49, f"the device has no {call.name}", call.end, score=80)
            elif not call.ok or _paired(device, call):
                continue
            elif call.name == "RESUME" and not device.suspended(call.seq):
                yield match(49, "RESUME without SUSPEND", call.end, score=75)
            elif call.name == "SUSPEND" and not _started(facts, device, call.seq):
                yield match(49, "SUSPEND before DRIVER_OK", call.end, score=75)
        yield from _given_up(facts, device)


def _given_up(facts: Facts, device: Device) -> Iterator[Match]:
    halted, state = device.suspends[-1] if device.suspends else (0, False)
    # who asks for the device and is refused does not have it
    became = [one.end for one in facts.others if one.op == "exec" and one.ok and one.end in device.handovers]
    taken = [one.end for one in device.takeovers]
    kicked = [seq for seq in device.kicks if seq > halted]
    if not state or not kicked or any(seq > halted for seq in became + taken):
        return
    refused = [call.end for call in device.named("NEW_OWNER", "RESUME") if call.refused and call.seq > halted]
    why = "suspended, not handed over, and never resumed: the guest's kicks are in vain"
    # a refusal that made somebody give up is what is to be mended first
    asked = any(call.refused and call.seq > halted for call in device.named("NEW_OWNER"))
    yield match(59, why, halted, *refused, kicked[0], score=84 if asked else 92)


def _started(facts: Facts, device: Device, seq: int) -> bool:
    # as far as is known: the log of a program may begin when the device runs
    before = [new for at, _, new in device.status if at < seq]
    return bool(before[-1] & 4) if before else device.name not in facts.opened


def _paired(device: Device, call: Call) -> bool:
    # a machine that is paused before its driver has begun: SUSPEND and RESUME, both without effect, and nothing between
    other = "RESUME" if call.name == "SUSPEND" else "SUSPEND"
    asked = device.granted("SUSPEND", "RESUME")
    at = asked.index(call)
    beside = asked[at + 1 : at + 2] if call.name == "SUSPEND" else asked[max(0, at - 1) : at]
    if not beside or beside[0].name != other:
        return False
    first, last = sorted((call.end, beside[0].end))
    return not any(first < seq < last for seq, _, _ in device.status) and not device.handed_over(first, last)


def features(facts: Facts) -> Iterator[Match]:
    """Other features than before."""
    for device in facts.devices.values():
        acked: Call | None = None
        for call in device.named("SET_FEATURES"):
            had = acked.word(0, 8) if acked else 0
            if call.refused == E.EBUSY and (device.handed_over(0, call.seq) or call.word(0, 8) & ~had):
                yield match(51, "SET_FEATURES while FEATURES_OK stands", call.end, score=92)
            if not call.ok:
                continue
            other = acked is not None and acked.word(0, 8) != call.word(0, 8)
            if acked and other and device.handed_over(acked.seq, call.seq):
                added, gone = call.word(0, 8) & ~acked.word(0, 8), acked.word(0, 8) & ~call.word(0, 8)
                why = f"other features than before: {added:#x} more, {gone:#x} less"
                yield match(51, why, acked.end, call.end, score=90)
            acked = call


def closed(facts: Facts) -> Iterator[Match]:
    """The new image goes on with a number that the exec has closed."""
    images = [one for one in facts.others if one.op == "exec" and one.ok]
    for call in facts.others:
        if call.refused != E.EBADF or not call.file.startswith(CLOSED) or not call.known:
            continue
        mine = [one for one in images if one.unit == call.unit and one.end < call.seq]
        for device in facts.devices.values() if mine else ():
            used = [one for one in device.calls if one.unit == call.unit and one.ok and one.seq < call.seq]
            if used and used[-1].seq < mine[-1].seq and used[-1].op != "close":
                gone = [seq for seq in device.released if mine[-1].seq < seq <= mine[-1].end]
                why = f"the exec has closed {call.file}, and the new image goes on with it"
                yield match(47, why, used[-1].end, *gone, mine[-1].end, call.end, score=93 if gone else 88)


def descriptors(facts: Facts) -> Iterator[Match]:
    """The path is opened again."""
    for device in facts.devices.values():
        held: Call | None = None
        for call in device.calls:
            if call.op == "close":
                held = None
            if call.op != "open":
                continue
            execs = [one.end for one in facts.others if one.op == "exec" and one.end < call.seq]
            if call.refused == E.EBUSY and held:
                yield match(48, "opened again while the old descriptor is there", held.end, call.end, score=92)
            elif call.ok and held and any(seq > held.end for seq in execs) and _set_up(device, execs[-1]):
                why = "the descriptor went with the exec, and the path opens a device that has forgotten everything"
                yield match(47, why, held.end, execs[-1], call.end, score=93)
            held = call if call.ok else held


def _set_up(device: Device, seq: int) -> bool:
    # who has reset it before gives nothing away
    before = [new for at, _, new in device.status if at < seq]
    return not before or before[-1] != 0


PATTERNS = (
    resets, ring_requests, interrupts, deaf, unheard, misdirected, kicks, suspends, features, closed, descriptors
)  # fmt: skip
