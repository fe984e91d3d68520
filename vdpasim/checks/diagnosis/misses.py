"""Patterns of misses, of the devices whose file can be read (LU52, LU53, LU55, LU56).

Theory. A miss is answered by an UPDATE that covers its page. Whether the translation of an answer was looked up before
or behind an INVALIDATE no event says, and neither does how a reader took a message apart: where the story has found out
that it was wrong, the trace has the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.checks.diagnosis.pattern import Match, match

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.checks.diagnosis.facts import Device, Facts


def pending(facts: Facts) -> Iterator[Match]:
    """Misses from before a handover that nobody answers."""
    for device in facts.devices.values():
        for seq, iova in device.misses:
            handed = [at for at in device.handovers if at > seq]
            if not handed or _answered(device, seq, iova) or any(kick > handed[-1] for kick in device.kicks):
                continue
            read = [call for call in device.granted("MISS") if call.message and call.message.iova == iova]
            if not read:
                yield match(52, "the miss was queued before the handover and is unread", seq, handed[-1], score=92)
            elif read[0].seq < handed[0]:
                why = "the old image read the miss, and nobody answers it"
                yield match(53, why, seq, read[0].end, handed[0], score=90)


def _answered(device: Device, seq: int, iova: int) -> bool:
    return any(entry.made > seq and entry.start <= iova <= entry.last for entry in device.entries)


def stale(facts: Facts) -> Iterator[Match]:
    """Answers that were too old."""
    for found in facts.found("miss.stale-answer"):
        for device in facts.devices.values():
            if not device.misses:
                continue
            taken = [call.end for call in device.granted("INVALIDATE") if call.seq > device.misses[0][0]]
            given = [call.end for call in device.granted("UPDATE") if taken and call.seq > taken[0]]
            why = "INVALIDATE came between the miss and its answer, which is from before"
            yield match(55, why, device.misses[0][0], *taken[:1], *given[:1], found, score=93)


def formats(facts: Facts) -> Iterator[Match]:
    """Two formats in one stream."""
    for found in facts.found("vmm.message-misread"):
        for device in facts.devices.values():
            read = {call.message.version: call.end for call in device.granted("MISS") if call.message}
            if len(read) > 1:
                acked = [call.end for call in device.granted("SET_BACKEND_FEATURES")]
                yield match(56, "messages of both formats were queued", *read.values(), *acked, found, score=93)


PATTERNS = (pending, stale, formats)
