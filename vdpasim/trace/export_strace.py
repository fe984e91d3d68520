"""A trace as text: the header as comments, the lines of the text trace, the findings.

Theory. ``TextTrace`` makes the lines, one at a time, so that a file of any size passes through. Findings stand behind
the events, because oracles may speak only when everything is still; each begins with ``!!!`` and the number of the
event that showed it.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING

from vdpasim.trace.text import TextTrace, inert

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.trace.file import Header, Mark, Reader


def head(header: Header) -> list[str]:
    """The header for a reader, a line a fact."""
    facts = [("scenario", header.scenario), ("kernel", header.kernel), ("abi", header.abi), ("seed", str(header.seed))]
    facts += [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in header.options.items()]
    facts += [("rerun", header.rerun), ("program", header.program)]
    return [inert(f"{name}: {value}") for name, value in facts if value not in ("", "{}", "[]", "null")]


def told(mark: Mark) -> str:
    """One finding."""
    steps = f" (steps {', '.join(map(str, mark.steps))})" if mark.steps else ""
    return inert(f"[{mark.seq}] !!! {mark.id}: {mark.text}{steps}")


def lines(reader: Reader) -> Iterator[str]:
    """The whole trace, line by line.

    Raises:
        TraceFormatError: the file.
    """
    yield from (f"# {line}" for line in head(reader.header))
    text = TextTrace(reader.header.layout)
    findings: list[str] = []
    for item in reader:
        if item.event is not None and (line := text.line(item.event)) is not None:
            yield line
        if item.mark is not None:
            findings.append(told(item.mark))
    yield from text.unfinished()
    yield from findings
    if not reader.complete:
        yield "# cut short: the trace has no last line"


def export(reader: Reader, stream: IO[str]) -> None:
    """Write the trace as text."""
    stream.writelines(line + "\n" for line in lines(reader))
