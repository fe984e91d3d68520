"""Replaying a journal: the machine again, from what went into it alone, and whether the same comes out.

Theory. A line is played by what wrote it: a call is submitted, a unit stepped, an operation made by the same method of
the same object. There are no actors, so the ready queue holds the kernel's own units only, which is how the journal
counts them; a stand-in with the story's name is the current unit of an operation. What an operation was refused with it
is refused with again, so an OSError ends nothing. After each line the checksums of the events must be those that were
recorded; the first one that is not ends the replay.

A journal is data from anywhere: operations are looked up in :data:`OPERATIONS`, and whatever does not fit the machine
is a :class:`JournalError` that names the line.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from operator import index
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

import attrs

from vdpasim import __version__
from vdpasim.core.fs.file import ClosedFd, NodeOpen, OpenFile
from vdpasim.core.kernel import Call, InternalError, Unit
from vdpasim.core.mm.rlimit import CAP_LAST_CAP
from vdpasim.core.profiles import ProfileError
from vdpasim.core.rules import KernelError
from vdpasim.core.uaccess import BytesBuffer, MmBuffer
from vdpasim.devices.profile import loads
from vdpasim.sim.barriers import Hold
from vdpasim.sim.errors import UsageError, VdpasimError
from vdpasim.sim.file import File
from vdpasim.sim.journal import FORMAT, VERSION, Checksums, digest
from vdpasim.sim.simulator import Simulator
from vdpasim.sim.vdpa import Device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vdpasim.core.events import Event
    from vdpasim.sim.process import Process

LINE_MAX = 64 << 20
BUFFER_MAX = 64 << 20

OPERATIONS: dict[str, frozenset[str]] = {
    "sim": frozenset({"process", "inject", "hold", "memory_moved", "violation"}),
    "vdpa": frozenset({"dev_add", "dev_del"}),
    "device": frozenset({"link", "arrived", "change_config", "config_changed"}),
    "process": frozenset(
        {
            "installed", "eventfd", "memfd", "socket", "tap", "receive", "set_cloexec",
            "mmap", "munmap", "mprotect", "mremap", "write", "fork", "clone_vm",
        }
    ),
    "fd": frozenset({"removed", "map_page"}),
    "hold": frozenset({"release"}),
}
"""What a journal may ask for, by the kind of object."""


class JournalError(ValueError):
    """A file is no journal, or is damaged, or does not fit this version."""


class UnknownSeriesError(JournalError):
    """A journal that can be played when the series it names is registered."""


@attrs.define
class Outcome:
    """How far a replay came, and what was different."""

    events: int = 0
    """Events that came out and were the same."""
    complete: bool = False
    """The recording's last line was there."""
    lines: int = 0
    """Lines that were played."""
    different: str = ""
    """What was different, empty if nothing was."""
    event: Event | None = None
    """The first different event, as it came out now; None if it was recorded and did not come."""
    seq: int = 0
    """Its number."""
    lost: list[str] = attrs.Factory(list[str])
    """What the recording could not hold."""
    program: str = ""
    """What recorded it."""

    @property
    def other_version(self) -> bool:
        """It was recorded by another version of this package."""
        return self.program != f"vdpasim {__version__}"


class _Different(Exception):
    pass


class Replay:
    """One journal; :meth:`run` plays it.

    Raises:
        JournalError: it is none, or is of a later version.
        UnknownSeriesError: it was recorded under a series that is not registered.
    """

    def __init__(self, stream: IO[str], name: str = "journal") -> None:
        self._stream = stream
        self._name = name
        self._number = 0
        self.outcome = Outcome()
        self.header = self._header()
        self.scenario = str(self.header.get("scenario", ""))
        self.sim: Simulator = self._machine()
        self.kernel = self.sim.kernel
        self._checksums = Checksums(self.sim)
        self._events: list[tuple[str, Event]] = []
        self._calls: list[Call] = []
        self._files: list[OpenFile] = []
        self._holds: list[Hold] = []
        self._devices: dict[str, Device] = {}
        self._running = False
        self.kernel.journal = self
        self.sim.listen(self._event)

    def run(self) -> Outcome:
        """Play it to its end, or to the first difference.

        Raises:
            JournalError: a line that is none, or that does not fit the machine.
        """
        try:
            for row in self._rows():
                self._play(row)
                self.outcome.lines += 1
            if self.outcome.complete and self._events:
                self._differ("was not recorded", self._events[0][1])
        except _Different:
            pass
        self.sim.abandon()
        return self.outcome

    # -- what the kernel tells: calls and files are known by their numbers

    def submitted(self, call: Call) -> None:
        self._calls.append(call)

    def opened(self, file: OpenFile) -> None:
        self._files.append(file)

    def stepped(self, index: int) -> None:
        """Nothing to write down."""

    def advanced(self, time: int) -> None:
        """Nothing to write down."""

    def interrupted(self, unit: Unit) -> None:
        """Nothing to write down."""

    def _event(self, event: Event) -> None:
        self._events.append((self._checksums.of(event), event))

    # -- lines

    def _fail(self, reason: str) -> NoReturn:
        raise JournalError(self._told(reason))

    def _told(self, reason: str) -> str:
        shown = reason if reason.isprintable() else ascii(reason)[1:-1]
        return f"{self._name}:{self._number}: {shown}"

    def _row(self) -> Any:
        # None at the end, which a line cut in two is as well
        self._number += 1
        try:
            line = self._stream.readline(LINE_MAX)
        except UnicodeDecodeError:
            self._fail("not text")
        if len(line) == LINE_MAX:
            self._fail(f"the line is longer than {LINE_MAX} characters")
        try:
            return json.loads(line) if line.endswith("\n") else None
        except (ValueError, RecursionError):
            self._fail("no JSON")

    def _rows(self) -> Iterator[list[Any]]:
        while (row := self._row()) is not None:
            if self.outcome.complete:
                self._fail("a line behind the last one")
            if not isinstance(row, list) or not row or not isinstance(row[0], str):
                self._fail("a line is a list that begins with a word")
            yield row

    def _header(self) -> dict[str, Any]:
        row = self._row()
        header = cast("dict[str, Any]", row) if isinstance(row, dict) else {}
        if header.get("format") != FORMAT:
            self._fail(f"not a journal: the first line of one says format {FORMAT}")
        version = header.get("version")
        if type(version) is not int or version < 1:
            self._fail("the header has no version")
        if version > VERSION:
            self._fail(f"version {version}; this program reads up to {VERSION}")
        self.outcome.program = str(header.get("program", "an unknown program"))
        return header

    def _machine(self) -> Simulator:
        header = self.header
        try:
            return Simulator(
                header["kernel"],
                abi=header["abi"],
                seed=header["seed"],
                options=header["options"],
                extensions=tuple(header["extensions"]),
                faults=header["faults"],
            )
        except KeyError as error:
            self._fail(f"the header has no {error.args[0]}")
        except ProfileError as error:
            if not error.switch:
                self._fail(f"the header makes no machine: {error}")
            lacking = f"recorded under {error.switch}, which is no series or switch here"
            raise UnknownSeriesError(self._told(lacking)) from None
        except (UsageError, TypeError, ValueError, AttributeError) as error:
            self._fail(f"the header makes no machine: {error}")

    # -- playing

    def _play(self, row: list[Any]) -> None:
        kernel = self.kernel
        if row[0] != "check" and row[0] != "end":
            self._all_checked()
        outer, kernel.running = kernel.running, self._running
        try:
            with suppress(OSError, VdpasimError, KernelError):
                self._one(row)
        except InternalError as error:
            self._fail(f"the simulated kernel failed, as it did when recorded or for the line is wrong: {error}")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration, AssertionError) as error:
            if isinstance(error, JournalError):
                raise
            self._fail(f"{row[0][:20]} does not fit the machine: {type(error).__name__}: {error}")
        finally:
            kernel.running = outer

    def _one(self, row: list[Any]) -> None:
        handlers: dict[str, Callable[..., None]] = {
            "step": self._step,
            "call": self._call,
            "op": self._operation,
            "time": self.kernel.advance,
            "signal": self._signal,
            "state": self._state,
            "check": self._check,
            "lost": self._lost,
            "end": self._end,
        }
        word, *rest = row
        if word not in handlers:
            self._fail(f"{word[:20]} is no line of a journal")
        handlers[word](*rest)

    def _step(self, index: int) -> None:
        if not 0 <= index < len(self.kernel.ready):
            self._fail(f"step {index}: {len(self.kernel.ready)} units are ready")
        self.kernel.step(index)

    def _signal(self, number: int) -> None:
        self.kernel.interrupt(self._calls[number])

    def _lost(self, what: str) -> None:
        self.outcome.lost.append(str(what))

    def _end(self, events: int) -> None:
        self.outcome.complete = True

    def _call(self, task: int, file: Any, op: str, args: Any) -> None:
        process = self.sim.processes[task]
        caller = process.task
        target: object
        if file is None:
            target = caller
            if op not in ("exec", "exit"):
                self._fail(f"a task has no {op}")
        elif isinstance(file, str):
            target = NodeOpen(self.kernel, self.sim.nodes, file)
        elif isinstance(file, dict):
            target = ClosedFd(index(cast("dict[str, int]", file)["closed"]))
        else:
            number: int = file
            target = self._files[number]
        self.kernel.submit(caller, target, op, tuple(self._decode(arg, process) for arg in args))

    def _operation(self, key: Any, name: str, args: Any, kwargs: dict[str, Any], by: str | None) -> None:
        if name not in OPERATIONS.get(key[0], ()):
            self._fail(f"{str(key)[:40]} has no operation {str(name)[:20]}")
        target = self._object(key)
        given = [self._decode(arg) for arg in args]
        named = {word: self._decode(value) for word, value in kwargs.items()}
        if any(isinstance(named.get(word), str) for word in ("backing", "profile")):
            self._fail("a journal names no files of this machine: it has what was in them")
        method: Callable[..., Any] = getattr(target, name)
        self.kernel.current = Unit(self.kernel, by) if by is not None else None
        try:
            result = method(*given, **named)
        finally:
            self.kernel.current = None
        if isinstance(result, Hold):
            self._holds.append(result)
        elif isinstance(result, Device):
            self._devices[result.name] = result

    def _state(self, changed: dict[str, Any]) -> None:
        self.kernel.points = changed.get("points", self.kernel.points)
        self._running = changed.get("running", self._running)
        for process, (memlock, caps) in zip(self.sim.processes, changed.get("limits", ()), strict=False):
            process.limits.memlock = memlock
            process.limits.caps = {cap for cap in range(CAP_LAST_CAP + 1) if caps >> cap & 1}
        for number in changed.get("lifted", ()):
            self.sim.faults.injected[number].lifted = True

    # -- comparing

    def _check(self, sums: str) -> None:
        if not re.fullmatch("([0-9a-f]{8})+", sums):
            self._fail("checksums are eight hexadecimal digits each")
        for recorded in (sums[at : at + 8] for at in range(0, len(sums), 8)):
            if not self._events:
                self.outcome.seq = self.outcome.events + 1
                self.outcome.different = "was recorded and does not come"
                raise _Different
            came, event = self._events.pop(0)
            if came != recorded:
                self._differ("is another one than was recorded", event)
            self.outcome.events += 1
        self._all_checked()

    def _all_checked(self) -> None:
        if self._events:
            self._differ("was not recorded", self._events[0][1])

    def _differ(self, how: str, event: Event) -> NoReturn:
        self.outcome.different, self.outcome.event, self.outcome.seq = how, event, event[0]
        raise _Different

    # -- values

    def _object(self, key: Any) -> Any:
        kind: str = key[0]
        if kind == "device":
            return self._devices[key[1]]
        if kind in ("process", "fd", "hold"):
            number: int = key[1]
            if kind == "hold":
                return self._holds[number]
            process = self.sim.processes[number]
            return process if kind == "process" else File(process, key[2])
        return {"sim": self.sim, "vdpa": self.sim.vdpa}[kind]

    def _decode(self, value: Any, caller: Process | None = None) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        match value:
            case {"buffer": str(digits), "length": int(length)}:
                return BytesBuffer(self._bytes(digits, length))
            case {"mutable": str(digits), "length": int(length)}:
                return BytesBuffer(bytearray(self._bytes(digits, length)))
            case {"bytes": str(digits), "length": int(length)}:
                return self._bytes(digits, length)
            case {"mm": int(number), "addr": int(addr), "length": int(length)}:
                return MmBuffer(self.sim.processes[number].mm, addr, length)
            case {"new-mm": True} if caller is not None:
                return self.sim.new_mm(caller.name)
            case _:
                return self._other(value)

    def _other(self, value: Any) -> Any:
        kind = next(iter(value))
        inside: Any = value[kind]
        if kind == "list":
            return [self._decode(item) for item in inside]
        if kind == "object":
            return self._object(inside)
        if kind in ("call", "file"):
            known: list[Any] = self._calls if kind == "call" else self._files
            return known[inside]
        if kind == "disk":
            return _Bytes(self._bytes(inside, value["length"]))
        if kind == "profile":
            return loads(inside)
        if kind == "model" and digest(inside) == value["digest"]:
            return inside
        if kind == "model":
            self._fail(f"the device model {inside} is not there, or not the one that was recorded")
        raise KeyError(kind)

    def _bytes(self, digits: str, length: int) -> bytes:
        if length > BUFFER_MAX or not re.fullmatch("([0-9a-f]{2})*", digits) or len(digits) > 2 * length:
            self._fail("a buffer is hexadecimal digits and a length")
        return bytes.fromhex(digits).ljust(length, b"\0")


class _Bytes:
    # the backing of a disk as it was when it was recorded
    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        if offset > len(self._data):
            self._data.extend(bytes(offset - len(self._data)))
        self._data[offset : offset + len(data)] = data
