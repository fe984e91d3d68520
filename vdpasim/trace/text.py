"""The text trace: one line an event, system calls in the shape strace gives them.

Theory. ``[seq] time unit: what``. A call is one line when it returns, with its request named and the refusing rule
behind a ``#``; the two lines of a call that had to wait are told apart by ``...``. Everything printed comes from the
event, so equal runs give equal bytes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from vdpasim.core.events import LAYOUT, Event, Kind
from vdpasim.uapi import errno as E
from vdpasim.uapi.abi import X86_64, Abi
from vdpasim.uapi.ioctl import by_request

if TYPE_CHECKING:
    from collections.abc import Iterable


class TextTrace:
    """Turns events into lines; ``lines`` holds the last ``limit`` of them, ``dropped`` counts those before."""

    def __init__(self, abi: Abi = X86_64, limit: int = 100_000) -> None:
        self.abi = abi
        self.lines: deque[str] = deque(maxlen=limit)
        self.dropped = 0
        self._open: dict[str, tuple[Any, ...]] = {}

    def event(self, event: Event) -> None:
        """Take one event."""
        line = self._line(event)
        if line is None:
            return
        self.dropped += len(self.lines) == self.lines.maxlen
        self.lines.append(line)

    def text(self) -> str:
        """The trace so far, with a first line that counts what the limit cut off."""
        head = [f"... {self.dropped} earlier events were not kept"] if self.dropped else []
        return "".join(line + "\n" for line in [*head, *self.lines])

    def _line(self, event: Event) -> str | None:
        seq, time, unit, kind = event[:4]
        fields = event[4:]
        if kind == Kind.ENTER:
            self._open[unit] = fields
            return None
        if kind == Kind.EXIT:
            entered = self._open.pop(unit, (fields[0], fields[1], ()))
            what = self._call(entered, fields)
        else:
            what = _event_text(kind, fields)
        return f"[{seq}] {time} {unit}: {what}"

    def _call(self, entered: tuple[Any, ...], left: tuple[Any, ...]) -> str:
        op, file, args = entered
        _, _, ret, handler_errno, rule = left
        result = str(ret) if ret >= 0 else f"-1 {E.name(-ret)}"
        if ret < 0 and handler_errno not in (0, -ret):
            result += f" ({E.name(handler_errno)} inside)"
        shown = ", ".join([file, *self._args(op, args)])
        return f"{op}({shown}) = {result}" + (f"  # {rule}" if rule else "")

    def _args(self, op: str, args: tuple[Any, ...]) -> Iterable[str]:
        if op == "ioctl":
            known = by_request(args[0] & 0xFFFF_FFFF, self.abi)
            yield known.name if known else f"{args[0]:#x}"
            args = args[1:]
        for arg in args:
            # an object goes by its name: where it lies in memory differs from run to run
            yield f"{arg:#x}" if isinstance(arg, int) else str(getattr(arg, "ident", arg))


_HEX = frozenset({"iova", "start", "last", "addr", "old", "new"})


def _event_text(kind: Kind, fields: tuple[Any, ...]) -> str:
    pairs = zip(LAYOUT[kind], fields, strict=True)
    return kind.name.lower() + " " + " ".join(f"{name}={_value(name, value)}" for name, value in pairs)


def _value(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        runs = cast("tuple[tuple[str, int, int], ...]", value)
        return "[" + ",".join(f"{run[0]}+{run[1]:#x}:{run[2]}" for run in runs) + "]"
    if name in _HEX and isinstance(value, int):
        return f"{value:#x}"
    return str(value)
