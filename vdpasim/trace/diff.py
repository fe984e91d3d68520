"""Two traces compared: the first difference, and a unified diff of their lines.

Theory. A line is compared without its number and its time, because one more event shifts both for all that follow;
``exact`` compares them too. What is equal at the beginning is skipped line by line, so files of any size can be
compared as long as their difference begins somewhere; the diff then looks at ``LINES_MAX`` lines of each side, where
difflib's time is bearable, and says when it stopped there. Headers are told apart but do not decide: comparing two
kernels is what this is for.
"""

from __future__ import annotations

import difflib
import re
from collections import deque
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

import attrs

from vdpasim.trace.export_strace import head, lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.trace.file import Header, Reader

CONTEXT = 3
LINES_MAX = 4000
_NUMBERS = re.compile(r"^\[\d+\] (?:-?\d+ )?")


@attrs.frozen
class Difference:
    """What :func:`compare` found."""

    headers: tuple[str, ...]
    """Lines that say how the headers differ."""
    at: int
    """Number of the first line that differs, from 1; 0 if none does."""
    first: tuple[str, str]
    """That line on both sides, as it stands in the trace; empty where a side has ended."""
    diff: tuple[str, ...]
    """Unified diff from there on."""
    cut: bool
    """Whether the diff leaves lines out."""

    @property
    def same(self) -> bool:
        """Whether events and findings are equal."""
        return not self.at


def normal(line: str) -> str:
    """A line without its number and its time."""
    return _NUMBERS.sub("", line)


def compare(ours: Reader, theirs: Reader, *, exact: bool = False) -> Difference:
    """Compare two traces.

    Raises:
        TraceFormatError: one of the files.
    """
    headers = tuple(_headers(ours.header, theirs.header))
    left, right = _body(ours), _body(theirs)
    before: deque[str] = deque(maxlen=CONTEXT)
    same = str if exact else normal
    for number, (one, other) in enumerate(zip_longest(left, right, fillvalue=""), 1):
        if same(one) == same(other):
            before.append(same(one))
            continue
        old, new = (
            [*before, *([same(line)] if line else []), *map(same, islice(rest, LINES_MAX))]
            for line, rest in ((one, left), (other, right))
        )
        cut = next(left, None) is not None or next(right, None) is not None
        _drain(left, right)
        skipped = number - 1 - len(before)
        diff = difflib.unified_diff(old, new, "a", "b", n=CONTEXT, lineterm="")
        return Difference(headers, number, (one, other), tuple(_numbered(line, skipped) for line in diff), cut)
    return Difference(headers, 0, ("", ""), (), cut=False)


def _numbered(line: str, skipped: int) -> str:
    # difflib counts from where it began
    if not line.startswith("@@ "):
        return line
    return re.sub(r"([-+])(\d+)", lambda match: f"{match[1]}{int(match[2]) + skipped}", line)


def _body(reader: Reader) -> Iterator[str]:
    # comments are the header's and the mark of a file cut short
    return (line for line in lines(reader) if not line.startswith("#"))


def _drain(*sides: Iterator[str]) -> None:
    # a damaged line far behind is still an error
    for side in sides:
        deque(side, maxlen=0)


def _headers(ours: Header, theirs: Header) -> Iterator[str]:
    left, right = (dict(line.split(": ", 1) for line in head(header)) for header in (ours, theirs))
    for name in dict.fromkeys([*left, *right]):
        if name != "rerun" and left.get(name) != right.get(name):
            yield f"{name}: {left.get(name, 'none')} | {right.get(name, 'none')}"
