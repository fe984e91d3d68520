"""The page: data, style and script in one HTML file that fetches nothing.

Theory. ``page.html`` is the frame, ``report.css`` and the scripts go into it, and the data as JSON into a script
element that is not run. There, ``<``, ``>`` and ``&`` are escapes, so no name of a process can end the element;
the script puts names into the page as text only. Should both fail, the content security policy lets the browser run
the one script whose hash it names and load nothing at all. Without scripts the page shows the text trace.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, Any

from vdpasim.report.model import build
from vdpasim.trace.text import inert

if TYPE_CHECKING:
    from vdpasim.trace.file import Reader

EVENTS_MAX = 50_000
"""Events on a page unless told otherwise: what a browser still handles without a pause."""

SCRIPTS = ("data.js", "draw.js", "page.js")
"""In the order in which they need each other."""

_SLOT = re.compile(r"@@([A-Z]+)@@")
_DANGEROUS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def page(reader: Reader, limit: int = EVENTS_MAX) -> str:
    """The whole page of a trace.

    Raises:
        TraceFormatError: a line of the trace.
    """
    model = build(reader, reader.header, limit)
    style, script = _asset("report.css"), _script()
    slots = {
        "TITLE": html.escape(inert(f"{reader.header.scenario or 'trace'} on {reader.header.kernel}")),
        "STYLEHASH": _hash(style),
        "SCRIPTHASH": _hash(script),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": embedded(model.data(complete=reader.complete)),
        "TEXT": html.escape("\n".join(model.lines())),
    }
    # one pass: what is put in is not looked at again
    return _SLOT.sub(lambda match: slots[match[1]], _asset("page.html"))


def embedded(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&]", lambda match: _DANGEROUS[match[0]], text)


def _script() -> str:
    # one block of one script: the files share their names with each other and with nothing else
    return '"use strict";\n{\n' + "".join(_asset(name) for name in SCRIPTS) + "}\n"


def _asset(name: str) -> str:
    return resources.files("vdpasim.report").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()
