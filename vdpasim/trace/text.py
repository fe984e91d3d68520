"""The text trace: one line an event, system calls in the shape strace gives them.

Theory. ``[seq] time unit: what``. A call is one line when it returns, with its request named, its buffer as the call
left it and the refusing rule behind a ``#``; a message to or from a vhost file is shown as the kernel's ABI reads it.
Calls that have not returned stand at the end, ``= ?``, as strace has them. Everything printed comes from the event, so
equal runs give equal bytes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from vdpasim.core.events import LAYOUT, Event, Kind, OpenCalls
from vdpasim.uapi import errno as E
from vdpasim.uapi.abi import X86_64, Abi
from vdpasim.uapi.catalog import by_request
from vdpasim.uapi.message import TYPE_NAMES, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class TextTrace:
    """Turns events into lines; ``lines`` holds the last ``limit`` of them, ``dropped`` counts those before."""

    def __init__(self, abi: Abi = X86_64, limit: int = 100_000) -> None:
        self.abi = abi
        self.lines: deque[str] = deque(maxlen=limit)
        self.dropped = 0
        self._open = OpenCalls()

    def event(self, event: Event) -> None:
        """Take one event."""
        line = self.line(event)
        if line is None:
            return
        self.dropped += len(self.lines) == self.lines.maxlen
        self.lines.append(line)

    def text(self) -> str:
        """The trace so far, with a first line that counts what the limit cut off."""
        head = [f"... {self.dropped} earlier events were not kept"] if self.dropped else []
        return "".join(line + "\n" for line in [*head, *self.lines, *self.unfinished()])

    def unfinished(self) -> list[str]:
        """The calls that have not returned, in the order they were made within equal ones."""
        return [inert(f"{where}: {self._call(*call)} = ?") for where, call in self._open.rest()]

    def line(self, event: Event) -> str | None:
        """The line of one event; None for a call that begins, which is a line when it returns."""
        line = self._line(event)
        return None if line is None else inert(line)

    def _line(self, event: Event) -> str | None:
        seq, time, unit, kind = event[:4]
        fields = event[4:]
        where = f"[{seq}] {time} {unit}"
        if kind == Kind.ENTER:
            self._open.enter(event, (where, fields))
            return None
        if kind != Kind.EXIT:
            return f"{where}: {_event_text(kind, fields)}"
        op, file, ret, handler_errno, rule = fields
        entered = self._open.exit(event)
        args = entered[1][2] if entered else ()  # none if it was made before anybody listened
        return f"{where}: {self._call(op, file, args)} = {_result(ret, handler_errno, rule)}"

    def _call(self, op: str, file: str, args: tuple[Any, ...]) -> str:
        return f"{op}({', '.join([file, *self._args(op, file, args)])})"

    def _args(self, op: str, file: str, args: tuple[Any, ...]) -> Iterable[str]:
        if op == "ioctl" and args and isinstance(args[0], int):
            known = by_request(args[0] & 0xFFFF_FFFF, self.abi)
            yield known.name if known else f"{args[0]:#x}"
            args = args[1:]
        for arg in args:
            message = self._message(arg) if op in ("read", "write") and file.startswith("/dev/vhost-") else ""
            # an object goes by its name: where it lies in memory differs from run to run
            yield message or (f"{arg:#x}" if isinstance(arg, int) else str(getattr(arg, "ident", arg)))

    def _message(self, buffer: Any) -> str:
        # a message in words, nothing for what is none
        data = bytes(getattr(buffer, "data", b""))
        message = describe(data, self.abi)
        kind = message.value("iotlb.type")
        if not message.format or kind is None:
            return ""
        name = TYPE_NAMES.get(kind, f"type {kind}").removeprefix("VHOST_IOTLB_")
        fields = [(name, message.value(member)) for name, member in _FIELDS]
        shown = "".join(f" {name}={value:#x}" for name, value in fields if value)
        return f"{_FORMATS[message.format]} {name}{shown} ({len(data)} bytes)"


def inert(text: str) -> str:
    """The text with every character that would not print (controls, directions, line breaks) as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


_FORMATS = {"vhost_msg": "v1", "vhost_msg_v2": "v2"}
_FIELDS = [("asid", "asid"), *((name, f"iotlb.{name}") for name in ("iova", "size", "uaddr", "perm"))]
"""What is shown of a message unless it is 0: name, member."""
_HEX = frozenset({"iova", "start", "last", "addr", "mask"})
_HEX_IN = {Kind.REMAP: frozenset({"old", "new"}), Kind.STATUS: frozenset({"old", "new"})}
"""Fields printed in hexadecimal: everywhere, and of some kinds."""


def _result(ret: int, handler_errno: int, rule: str | None) -> str:
    shown = str(ret) if ret >= 0 else f"-1 {E.name(-ret)}"
    if ret < 0 and handler_errno not in (0, -ret):
        shown += f" ({E.name(handler_errno)} inside)"
    return shown + (f"  # {rule}" if rule else "")


def _event_text(kind: Kind, fields: tuple[Any, ...]) -> str:
    if kind == Kind.FAULT:
        device, what, _ = fields  # the errno stands in the words already
        return f"*** fault {what} at {device}"
    pairs = zip(LAYOUT[kind], fields, strict=True)
    hexadecimal = _HEX | _HEX_IN.get(kind, frozenset())
    return " ".join([kind.name.lower(), *(f"{name}={_value(value, name in hexadecimal)}" for name, value in pairs)])


def _value(value: Any, hexadecimal: bool) -> str:
    if isinstance(value, tuple):
        return "[" + ",".join(map(_part, cast("Sequence[Any]", value))) + "]"
    if hexadecimal and isinstance(value, int):
        return f"{value:#x}"
    return str(value)


def _part(part: Any) -> str:
    # of a list: a run of an object, or an address
    if isinstance(part, tuple):
        name, offset, length = cast("tuple[str, int, int]", part)
        return f"{name}+{offset:#x}:{length}"
    return f"{part:#x}"
