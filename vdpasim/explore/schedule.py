"""A schedule: the choices of one run as a short string, and the fingerprint that tells whether it still fits.

Theory. Where more than one unit can run there is a choice: a number into the ready units, the one that ran last first.
So 0 means "go on", a list of zeros is the run without preemption, and zeros at the end are not written. A schedule is
printed as::

    s1-12a3b-1.k3x7...
     |    |  | one letter for every step with a choice (or every 2nd, 3rd ... of a long run), folded from what was ready
     |    |  | and what was chosen there; before the dot how many steps a letter stands for
     |    12 times 0, then 1; 3 times 0, then 2 (a is 1, b is 2 ... y is 25, z adds 25)
     version

When code changes, an old string meets other units at other points. The letters find that at the first step that is
different, or a few behind it, and :class:`ReplayDivergence` says what was expected there and what is ready: never
silently another run. Behind ``-x`` stand the actors that are not run at all, which is how a shrunk schedule says that
they do not matter.
"""

from __future__ import annotations

import re
from zlib import crc32

import attrs

from vdpasim.sim.errors import UsageError, VdpasimError

VERSION = "s1"
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
LETTERS_MAX = 80
"""A longer run gets a letter for several steps."""

_FORM = re.compile(r"s1-([0-9a-z]*)-([1-9][0-9]*)\.([a-z2-7]*)(?:-x([0-9.,]+))?")
_RUN = re.compile(r"([0-9]*)(z*)([a-y])")


class ReplayDivergence(VdpasimError):
    """A stored schedule does not fit the run any more; the message names the first step that is different."""


@attrs.frozen
class Schedule:
    """The choices of one run."""

    choices: tuple[int, ...] = ()
    """Without the zeros at the end."""
    stride: int = 1
    """How many steps a letter stands for."""
    letters: str = ""
    without: frozenset[str] = frozenset()
    """Actors that do nothing, by their path (``0.1`` is the second actor the first one started)."""

    @classmethod
    def of(cls, choices: list[int], prints: list[int], without: frozenset[str] = frozenset()) -> Schedule:
        """The schedule of a run that made these choices and saw these fingerprints."""
        stride = max(1, -(-len(prints) // LETTERS_MAX))
        return cls(trimmed(choices), stride, fold(prints, stride), without)

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read a string.

        Raises:
            UsageError: it is none, or of another version.
        """
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"{text!r} is no schedule; one begins with {VERSION}- and is printed by vdpasim explore")
        runs, stride, letters, without = match.groups()
        if _RUN.sub("", runs):
            raise UsageError(f"{text!r} is no schedule: {runs!r} ends with a number")
        choices: list[int] = []
        for zeros, tens, last in _RUN.findall(runs):
            choices += [0] * int(zeros or 0) + [25 * len(tens) + ALPHABET.index(last) + 1]
        return cls(tuple(choices), int(stride), letters, frozenset(without.split(",") if without else ()))

    def __str__(self) -> str:
        tail = "-x" + ",".join(sorted(self.without)) if self.without else ""
        return f"{VERSION}-{_runs(self.choices)}-{self.stride}.{self.letters}{tail}"

    @property
    def switches(self) -> int:
        """How often something else than the unit that ran last was chosen."""
        return sum(choice != 0 for choice in self.choices)


def trimmed(choices: list[int] | tuple[int, ...]) -> tuple[int, ...]:
    """Without the zeros at the end."""
    last = len(choices)
    while last and not choices[last - 1]:
        last -= 1
    return tuple(choices[:last])


def _runs(choices: tuple[int, ...]) -> str:
    text, zeros = "", 0
    for choice in choices:
        if not choice:
            zeros += 1
            continue
        tens, last = divmod(choice - 1, 25)
        text += f"{zeros or ''}{'z' * tens}{ALPHABET[last]}"
        zeros = 0
    return text


def fingerprint(labels: list[str], choice: int) -> int:
    """What was ready and what was chosen, as a number."""
    return crc32(f"{choice}|{'|'.join(labels)}".encode())


def fold(prints: list[int], stride: int) -> str:
    """One letter for every ``stride`` fingerprints, the last of which may be fewer."""
    return "".join(letter(prints[at : at + stride]) for at in range(0, len(prints), stride))


def letter(prints: list[int]) -> str:
    """The letter of some fingerprints."""
    folded = 0
    for one in prints:
        folded = crc32(one.to_bytes(4, "little"), folded)
    return ALPHABET[folded & 31]


@attrs.define
class Follower:
    """Plays a schedule step by step and watches whether it fits."""

    schedule: Schedule
    prints: list[int] = attrs.Factory(list[int])

    def choose(self, labels: list[str]) -> int:
        """The next choice.

        Raises:
            ReplayDivergence: what is ready is not what was.
        """
        at = len(self.prints)
        choices = self.schedule.choices
        choice = choices[at] if at < len(choices) else 0
        self.prints.append(fingerprint(labels, choice))
        if choice >= len(labels):
            raise self._diverged(at, f"number {choice + 1} of at least as many ready units", labels)
        self._compare(labels)
        return choice

    def _compare(self, labels: list[str]) -> None:
        schedule, count = self.schedule, len(self.prints)
        if count % schedule.stride:
            return
        at = count // schedule.stride - 1
        if at >= len(schedule.letters):
            raise self._diverged(count - 1, "no choice any more", labels)
        if letter(self.prints[-schedule.stride :]) != schedule.letters[at]:
            raise self._diverged(count - schedule.stride, f"fingerprint {schedule.letters[at]!r}", labels)

    def finish(self) -> None:
        """The run is over.

        Raises:
            ReplayDivergence: it was to be longer, or its last steps are others.
        """
        schedule = self.schedule
        if fold(self.prints, schedule.stride) != schedule.letters:
            said = (
                f"fingerprint {schedule.letters[-1:]!r} after {len(schedule.letters) * schedule.stride} steps at most"
            )
            raise self._diverged(len(self.prints), said, ["nothing, the run is over"])

    def _diverged(self, at: int, expected: str, labels: list[str]) -> ReplayDivergence:
        first = f"step {at + 1} with a choice"
        if self.schedule.stride > 1:
            first = f"step {at + 1} to {at + self.schedule.stride} with a choice"
        return ReplayDivergence(f"{first} is another one: expected {expected}, ready are {'; '.join(labels)}")
