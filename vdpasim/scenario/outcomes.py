"""What runs came to, for the tables: the dialect of a kernel, what was found, and what was refused.

Theory. A *dialect* is what a kernel speaks of live update: the series that are switched on, or mainline. Switches that
are neither the series' nor the profile's make a dialect of their own, ``v1-pending-kick``: a device that forgets kicks
says nothing of v1. ``live-update-`` and ``lu-`` are left out of the names.

A *refusal* is a call that returned an error by a rule, as the run's trace has it. What a story says of itself is not
looked at. A kernel that died refused nothing, and EAGAIN says not yet.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from vdpasim.core import series
from vdpasim.core.profiles import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vdpasim.scenario.runner import Verdict

MAINLINE = "mainline"
ADVERTISE = "lu-advertise"
EXPLORED = "explore"
"""The tag of a story that shows in other orders of events only, which ``vdpasim explore`` finds."""

_REFUSED = re.compile(r" = -1 (\w+(?: \(\w+ inside\))?)  # (\S+)$", re.MULTILINE)


class Refusal(NamedTuple):
    """A call that was refused."""

    errno: str
    """As the trace has it: ``EFAULT (EINVAL inside)`` for a message."""
    rule: str

    @property
    def row(self) -> dict[str, str]:
        """For JSON: what the caller saw, what the handler of a message said where that is another, and the rule."""
        seen = self.errno.partition(" ")[0]
        return {"errno": seen, "rule": self.rule, **({"inside": self.said} if self.said != seen else {})}

    @property
    def said(self) -> str:
        """The errno without what became of it on its way to the caller."""
        return self.errno.partition("(")[2].partition(" ")[0] or self.errno

    def __str__(self) -> str:
        return f"{self.errno} {self.rule}"


class Outcome(NamedTuple):
    """What a run came to."""

    ids: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    passed: bool

    @property
    def shows(self) -> bool:
        """Whether there is anything to be told."""
        return bool(self.ids or self.refusals)


class Shown(NamedTuple):
    """An outcome, with the dialects in which a story came to it."""

    dialects: tuple[str, ...]
    outcome: Outcome


class Dialect(NamedTuple):
    """What a kernel speaks of live update."""

    series: str
    """Without ``live-update-``; mainline if there is none."""
    marks: str
    """Switches of its own, ``-pending-kick``; empty for most."""

    def __str__(self) -> str:
        return self.series + self.marks


@cache
def spoken(kernel: str) -> Dialect:
    """The dialect of a profile string."""
    switches = parse(kernel)
    names = [one.name for one in series.active(switches)]
    bare = parse("+".join([re.split("[+-]", kernel, maxsplit=1)[0], *names]))
    more = switches.names - bare.names - ({ADVERTISE} if names else set())
    fewer = bare.names - switches.names - {ADVERTISE}
    marks = [f"+{_short(name)}" for name in sorted(more)] + [f"-{_short(name)}" for name in sorted(fewer)]
    if names and ADVERTISE not in switches and not series.offered(switches):
        marks.append(f"-{_short(ADVERTISE)}")  # a series that no device offers is asked for in vain
    return Dialect("+".join(map(_short, names)) or MAINLINE, "".join(marks))


def dialect(kernel: str) -> str:
    """The same in a word: ``v1`` of ``6.12+live-update-v1``."""
    return str(spoken(kernel))


def _short(name: str) -> str:
    return name.removeprefix("live-update-").removeprefix("lu-")


def outcome(verdict: Verdict) -> Outcome:
    """The ids and the refusals of a run, the latter in their order and each once."""
    ids = tuple(sorted({finding.id for finding in verdict.found}))
    return Outcome(ids, tuple(dict.fromkeys(refusals(verdict))), verdict.passed)


def refusals(verdict: Verdict) -> tuple[Refusal, ...]:
    """The calls that were refused in a run, each of them, in their order."""
    if any(finding.id == "kernel.oops" for finding in verdict.found):
        return ()
    found = [Refusal(*match.groups()) for match in _REFUSED.finditer(verdict.trace)]
    return tuple(one for one in found if one.errno != "EAGAIN")


def stories(verdicts: Iterable[Verdict]) -> list[list[Verdict]]:
    """The runs of each story."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.ident, []).append(verdict)
    return list(found.values())


def outcomes(story: Iterable[Verdict]) -> list[Shown]:
    """The runs of a story, those together that came to the same."""
    groups: dict[Outcome, list[str]] = {}
    for verdict in story:
        groups.setdefault(outcome(verdict), []).append(dialect(verdict.kernel))
    return [Shown(tuple(dict.fromkeys(spoken)), one) for one, spoken in groups.items()]


def waits(verdict: Verdict, one: Outcome) -> bool:
    """Whether a run shows nothing because it takes another order of events."""
    return EXPLORED in verdict.tags and not one.ids
