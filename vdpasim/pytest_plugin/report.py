"""What is known of a running test, and what its report says: sections, properties, trace files.

Theory. Fixtures put their *sources* into the item's stash: a machine with its trace and checks, a failed exploration
with the trace of its schedule. The hooks ask them when the test has ended. Sections and properties travel in the report
object, so a test that ran in a worker of xdist is shown as any other.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

import pytest

from vdpasim.pytest_plugin import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vdpasim.pytest_plugin.settings import Settings

EVENTS_SHOWN = 40
"""Lines of the trace in a failure report."""

_PACKAGE = Path(__file__).parent.parent

NAME_MAX = 120
"""Characters of a node id in the name of a trace file."""


class Source(Protocol):
    """Something a test used that has a story to tell."""

    schedule: str
    """What makes it do the same again; empty for what needs nothing but the seed."""

    def judge(self) -> str:
        """The test has gone through: what is wrong all the same; empty if nothing is."""

    def told(self) -> str:
        """What the checks found, unless the failure says it already."""

    def notes_text(self) -> str:
        """Mistakes of the program under test that do not count."""

    def trace_text(self) -> str:
        """The events."""

    def rules_text(self) -> str:
        """The rules that refused, a line each."""


class Known:
    """What is known of a running test."""

    def __init__(self, found: Settings) -> None:
        self.settings = found
        self.sources: list[tuple[Source, Path | None]] = []
        """With the file its trace goes to."""
        self.resting: list[Callable[[], Mapping[str, str]]] = []
        """Who says which rules that no kernel confirms were come to, each with what it rests on."""

    def rests_on(self) -> str:
        """These in words."""
        weak = {rule: what for one in self.resting for rule, what in one().items()}
        if not weak:
            return ""
        from vdpasim.checks.evidence import told  # noqa: PLC0415 - whoever has rules has the simulator

        return told(dict(sorted(weak.items())))


_KNOWN = pytest.StashKey[Known]()


def begin(item: pytest.Item, found: Settings) -> None:
    """A test has settings; they become its properties."""
    item.stash[_KNOWN] = Known(found)
    item.user_properties += [
        ("vdpasim.kernel", found.kernel),
        ("vdpasim.abi", found.abi),
        ("vdpasim.seed", str(found.seed)),
    ]
    if found.series:
        item.user_properties.append(("vdpasim.series", found.series))


def add(item: pytest.Item, source: Source, *, traced: bool = True) -> None:
    """A test uses something; a schedule becomes a property. What never ran has no trace to be written."""
    known = item.stash[_KNOWN]
    known.sources.append((source, _trace_path(item, len(known.sources)) if traced else None))
    if source.schedule:
        item.user_properties.append(("vdpasim.schedule", source.schedule))


def rests_on(item: pytest.Item, asked: Callable[[], Mapping[str, str]]) -> None:
    """A test uses something that knows the rules it came to."""
    item.stash[_KNOWN].resting.append(asked)


def _trace_path(item: pytest.Item, before: int) -> Path | None:
    # the second trace of a test gets a number
    folder = settings.trace_dir(item.config)
    number = f"-{before + 1}" if before else ""
    return folder / f"{file_stem(item.nodeid)}{number}.txt" if folder else None


def judge(item: pytest.Item) -> str:
    """What is wrong with a test that went through."""
    known = item.stash.get(_KNOWN, None)
    return "\n".join(filter(None, (source.judge() for source, _ in known.sources))) if known else ""


def sections(item: pytest.Item) -> list[tuple[str, str]]:
    """What a failure report shows."""
    known = item.stash.get(_KNOWN, None)
    if known is None:
        return []
    shown: list[tuple[str, str]] = []
    for source, path in known.sources:
        lines = source.trace_text().splitlines()[-EVENTS_SHOWN:]
        shown += [
            ("vdpasim findings", source.told()),
            ("vdpasim notes", source.notes_text()),
            (f"vdpasim trace (last {EVENTS_SHOWN} events)", "\n".join(lines)),
            ("vdpasim rules", source.rules_text()),
            ("vdpasim trace file", str(path or "")),
        ]
    schedule = next((source.schedule for source, _ in known.sources if source.schedule), "")
    shown.append(("vdpasim rests on what no kernel confirms", known.rests_on()))
    shown.append(("vdpasim rerun", settings.rerun(item, known.settings, schedule)))
    return [(title, text) for title, text in shown if text]


def shorten(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Leave the frames of this package out of the traceback of a refusal or assertion; ``--full-trace`` shows them."""
    error = excinfo.value
    wanted = isinstance(error, AssertionError) or getattr(error, "rule", None)
    if wanted and _KNOWN in item.stash and not item.config.getoption("fulltrace"):
        kept = _foreign(excinfo.tb)
        if kept is not None:
            excinfo.traceback = type(excinfo.traceback)(kept)


def _foreign(chain: TracebackType | None) -> TracebackType | None:
    # a copy of the chain, since pytest cuts it by following the links of the original
    links: list[TracebackType] = []
    while chain is not None:
        if not Path(chain.tb_frame.f_code.co_filename).is_relative_to(_PACKAGE):
            links.append(chain)
        chain = chain.tb_next
    kept: TracebackType | None = None
    for link in reversed(links):
        kept = TracebackType(kept, link.tb_frame, link.tb_lasti, link.tb_lineno)
    return kept


def conclude(item: pytest.Item) -> None:
    """Keep the traces, if there is a folder for them; what the test rests on becomes a property."""
    known = item.stash[_KNOWN]
    resting = known.rests_on()
    if resting:
        item.user_properties.append(("vdpasim.unconfirmed", resting))
    for source, path in known.sources:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source.trace_text(), encoding="utf-8")


def file_stem(nodeid: str) -> str:
    """A file name for a node id: what can be read of it, and a checksum, since that is not all of it."""
    readable = re.sub(r"[^\w.+-]+", "-", nodeid).strip("-.")[-NAME_MAX:]
    return f"{readable}.{crc32(nodeid.encode()):08x}"
