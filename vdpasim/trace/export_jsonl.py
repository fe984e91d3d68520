"""A trace as JSON lines for other programs: the file itself, checked, each line with its text beside the fields.

Theory. Every line that the text trace has is added as ``text`` to the event that made it (a call's stands at its EXIT),
so that ``jq`` can filter by field and print what people read. The result is a trace file again.
"""

from __future__ import annotations

from typing import IO

from vdpasim.core.events import Kind
from vdpasim.trace.file import Reader, Writer
from vdpasim.trace.text import TextTrace


def export(reader: Reader, stream: IO[str]) -> None:
    """Write the trace; the end mark only if the source had one."""
    writer = Writer(stream, reader.header)
    text = TextTrace(reader.header.layout)
    for item in reader:
        line = text.line(item.event) if item.event is not None else None
        # a finding and a VIOLATION have a member of that name already
        if line is not None and item.event is not None and item.event[3] != Kind.VIOLATION:
            item.extra["text"] = line
        writer.item(item)
    if reader.complete:
        writer.finish()
