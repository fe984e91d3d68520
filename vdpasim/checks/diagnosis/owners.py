"""Patterns of ownership and accounting: who asked for the device, and whose pages they were (LU03, LU29 to LU38, LU60).

Theory. The owner is an address space. A process is the owner if it has that address space; after exec it has another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.checks.diagnosis.pattern import Match, match
from vdpasim.uapi import errno as E
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_NEW_OWNER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.checks.diagnosis.facts import Call, Device, Facts

MESSAGES = ("REMAP", "BATCH_BEGIN", "INVALIDATE", "UPDATE", "BATCH_END")


def new_owner(facts: Facts) -> Iterator[Match]:
    """NEW_OWNERs that were refused."""
    for device in facts.devices.values():
        for call in device.named("NEW_OWNER"):
            owner = device.owner(call.seq)
            mine = bool(owner) and facts.space(call.unit, call.seq) == owner
            if mine and call.refused in (E.EBUSY, E.ENOMEM):
                yield match(29, "the owner itself asked for the device", call.end, score=93)
            elif call.refused == E.ENOMEM:
                yield from _limit(facts, device, call)
            elif call.refused and not owner:
                yield from _nobodys(facts, device, call)


def _limit(facts: Facts, device: Device, call: Call) -> Iterator[Match]:
    other = [one for one in facts.devices.values() if one is not device and one.at(call.seq)]
    mine = [one for one in other if one.owner(call.seq) == facts.space(call.unit, call.seq)]
    if mine:
        made = [entry.made for one in mine for entry in one.at(call.seq)]
        yield match(32, "what the new owner pins for another device counts as well", *made[:1], call.end, score=98)
    yield match(31, "the limit of the new owner is smaller than what is pinned", call.end, score=92)


def _nobodys(facts: Facts, device: Device, call: Call) -> Iterator[Match]:
    for other in facts.devices.values():
        if other is not device and other.owner(call.seq) and any(one.unit == call.unit for one in other.calls):
            why = f"the saved device is {other.name}, this one was never owned"
            yield match(60, why, other.owners[-1][0], call.end, score=95)
    yield match(30, "NEW_OWNER of a device that never had an owner", call.end, score=92)


def strangers(facts: Facts) -> Iterator[Match]:
    """Messages of who is not the owner."""
    for device in facts.devices.values():
        for call in device.named(*MESSAGES):
            if call.refused == E.EPERM:
                yield _stranger(facts, device, call)


def _stranger(facts: Facts, device: Device, call: Call) -> Match:
    left = [one.end for one in facts.others if one.op == "exit" and one.end < call.seq]
    gone = [one.unit for one in facts.others if one.op == "exit" and one.end < call.seq]
    before = [one for one in device.takeovers if one.end < call.seq]
    if before and before[-1].unit in gone:
        why = "the new owner has gone, and its pages are nobody's"
        return match(36, why, before[-1].end, *left, call.end, score=93)
    mine = [one for one in device.granted("SET_OWNER", "NEW_OWNER") if one.unit == call.unit and one.end < call.seq]
    if mine and before and before[-1].unit != call.unit:
        return match(35, f"{before[-1].unit} has taken the device over", before[-1].end, call.end, score=91)
    handed = [seq for seq in device.handovers if seq < call.seq]
    if call.name in ("INVALIDATE", "UPDATE"):
        return match(33, "memory of the former owner, without NEW_OWNER", *handed[-1:], call.end, score=85)
    return match(3, f"{call.name} before NEW_OWNER", *handed[-1:], call.end, score=88)


def thieves(facts: Facts) -> Iterator[Match]:
    """A running device that another process takes, while its owner is there."""
    for device in facts.devices.values():
        for taken in device.takeovers:
            users = _users(facts, device, taken)
            if users and device.running(taken.seq):
                hurt = facts.found("dma.fault", "dma.wrong-object", "dma.stale-va", after=taken.end)
                names = ", ".join(sorted(users))
                # who is heard of no more has handed it over, and only forgot to suspend it
                goes_on = any(one.unit in users and one.seq > taken.end for one in device.calls + _on_eventfds(facts))
                score = (97 if hurt else 96) if goes_on else 60
                yield match(35, f"{taken.unit} took it over as it ran for {names}", taken.end, *hurt[:1], score=score)


def _users(facts: Facts, device: Device, taken: Call) -> set[str]:
    # the other processes that use the device then, in the images they have then
    images = {one.unit: one.end for one in facts.others if one.op in ("exec", "exit") and one.end < taken.seq}
    return {one.unit for one in device.calls if images.get(one.unit, 0) < one.seq < taken.seq} - {taken.unit}


def _on_eventfds(facts: Facts) -> list[Call]:
    return [one for one in facts.others if one.file.startswith("eventfd")]


def old_requests(facts: Facts) -> Iterator[Match]:
    """SET_OWNER and RESET_OWNER where they are of no use."""
    for device in facts.devices.values():
        for call in device.named("SET_OWNER", "RESET_OWNER"):
            if call.name == "RESET_OWNER" and call.refused and "vdpa" in device.name:
                yield match(38, "vhost-vdpa has no RESET_OWNER", call.end, score=94)
            elif call.name == "SET_OWNER" and call.refused == E.EBUSY:
                owned = [seq for seq, mm in device.owners if mm and seq < call.seq]
                yield match(37, "SET_OWNER of a device that has an owner", *owned[-1:], call.end, score=92)


def counts(facts: Facts) -> Iterator[Match]:
    """What the kernel itself did wrong."""
    for seq in facts.found("uaf.old-mm"):
        taken = [call.end for device in facts.devices.values() for call in device.takeovers]
        yield match(34, "pages were counted on an address space that was freed", seq, *taken[-1:], score=96)
    for seq in facts.found("acct.negative"):
        yield match(33, "pages were taken off an address space that had none", seq, score=94)
    for seq in facts.found("acct.pinned-by-absentee"):
        # the owner that has gone may be an old image whose successor was refused, and that is what is wrong then
        taken = [one.end for device in facts.devices.values() for one in device.takeovers if one.end < seq]
        yield match(36, "pages stay pinned for an owner that has gone", *taken[-1:], seq, score=92 if taken else 70)


def left_out(facts: Facts) -> Iterator[Match]:
    """Kicks that are declined because the owner's address space went with the old image, and nobody asked for it."""
    for device in facts.devices.values():
        for seq, why in device.idles:
            handed = [at for at in device.handovers if at < seq]
            tried = any(call.seq > handed[-1] for call in device.named("NEW_OWNER")) if handed else True
            if why == "dead-mm" and not tried and device.offers(VHOST_BACKEND_F_NEW_OWNER):
                kicked = [at for at in device.kicks if handed[-1] < at < seq]
                yield match(33, "no NEW_OWNER, and kicks are declined", handed[-1], *kicked[-1:], seq, score=72)


PATTERNS = (new_owner, strangers, thieves, old_requests, counts, left_out)
