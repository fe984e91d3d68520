"""The journal: everything that goes into a simulated machine, as JSON lines that :mod:`.replay` plays again.

Theory. The border is the kernel object and what processes and the administrator do beside it. Kernel, drivers, devices
and memory are functions of what crosses it: of which ready unit runs next (``step``), the system calls (``call``), the
time (``time``), signals (``signal``), and of the immediate operations of :class:`~vdpasim.sim.process.Process`,
:class:`~vdpasim.sim.file.File`, :class:`~vdpasim.sim.vdpa.Vdpa` and the simulator (``op``: processes made and forked,
mappings, memfds and eventfds, every store of a process to its memory, descriptors, devices added, faults, holds). What
crosses the border again inside one of these, or inside a unit of the kernel, follows from it and is not written. So
guest memory needs no copies of what devices read there: whatever a device finds was stored by a recorded operation, or
by a device.

Nothing else can come in. Handlers and workers reach the outside through ports only; ports over memory, descriptors and
limits are simulated, and change by operations (limits and lifted faults are attributes that stories set, so they are
looked at before each step). The core imports no clock, no randomness, no I/O. A story's own coroutines, its choices
from the seed and its checks are outside: they only decide what comes in next.

Every line is written before it has an effect, so that a recording that was killed is good up to the cut. Events are
kept as one checksum each (``check``), which a replay compares. What a line cannot hold (a file with operations made in
Python, a device class without a file) is written as ``lost``; a disk's backing is taken in whole, a model of one's own
is named by path and digest: a journal holds no code.

Not modelled: memory and descriptors of an attached program; stores through an object (``File.memory``) instead of a
process; what a story does inside of a device (``Device.device``); a buffer that changes while its call waits. A replay
finds these out by the events that do not come.
"""

from __future__ import annotations

import json
from functools import wraps
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, cast
from zlib import crc32

from vdpasim import __version__
from vdpasim.core.events import Event, Kind
from vdpasim.core.fs.file import ClosedFd, NodeOpen, OpenFile
from vdpasim.core.kernel import Call, Unit, Worker
from vdpasim.core.mm import process as core
from vdpasim.core.mm.mm import AddressSpace
from vdpasim.core.uaccess import BytesBuffer, MmBuffer
from vdpasim.devices.profile import DeviceProfile, dumps, load
from vdpasim.devices.profile_keys import DeviceProfileError
from vdpasim.sim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.sim.simulator import Simulator

FORMAT = "vdpasim-journal"
VERSION = 1
DISK_MAX = 16 << 20
"""Bytes of a disk's backing that a journal takes in."""

P = ParamSpec("P")
R = TypeVar("R")


class Lost(Exception):
    """A value that no line can hold."""


class Recorded(Protocol):
    """What has operations that a journal knows."""

    @property
    def recorder(self) -> Recorder | None:
        """Who writes them down, if anybody does."""

    @property
    def key(self) -> list[Any]:
        """What the object is called in a journal."""


S = TypeVar("S", bound=Recorded)


def journaled(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """An operation: written down before it happens, unless it is part of another one or of a step of the kernel."""

    @wraps(method)
    def operation(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        recorder = self.recorder
        if recorder is None or recorder.inside:
            return method(self, *args, **kwargs)
        recorder.operation(self.key, method.__name__, args, kwargs)
        recorder.depth += 1
        try:
            return method(self, *args, **kwargs)
        finally:
            recorder.depth -= 1

    return operation


class Checksums:
    """One checksum an event, over everything it says and the bytes its call hands back."""

    def __init__(self, sim: Simulator) -> None:
        self.kernel = sim.kernel

    def of(self, event: Event) -> str:
        """Eight hexadecimal digits."""
        fields: tuple[Any, ...] = event[4:]
        if event[3] == Kind.ENTER:
            fields = (*event[4:6], *(plain(arg) for arg in event[6]))
        elif event[3] == Kind.EXIT and isinstance(self.kernel.current, Call):
            fields = (*fields, *(plain(arg) for arg in self.kernel.current.args))
        # run tuples are compared by what they hold, whatever class has them
        shown = [_runs(part) if isinstance(part, tuple) else part for part in fields]
        return f"{crc32(repr((event[0], event[1], event[2], int(event[3]), shown)).encode()):08x}"


def plain(arg: Any) -> Any:
    """An argument of a call without the identity of objects."""
    if isinstance(arg, BytesBuffer):
        return [pack(bytes(arg.data)), len(arg.data)]
    if isinstance(arg, MmBuffer):
        return [arg.addr, arg.length]
    return arg if arg is None or isinstance(arg, int | str) else str(getattr(arg, "ident", arg))


def _runs(part: Any) -> list[Any]:
    return [(*run,) if isinstance(run, tuple) else run for run in part]


def pack(data: bytes) -> str:
    """Hexadecimal, without the zeros at the end."""
    return data.rstrip(b"\0").hex()


class Recorder:
    """Writes the journal of one machine; ``with`` it, or :meth:`finish` says that nothing is missing.

    Raises:
        UsageError: something has happened on the machine already.
    """

    def __init__(self, sim: Simulator, stream: IO[str], scenario: str = "") -> None:
        if sim.kernel.journal is not None or sim.processes or sim.vdpa.bus.devices or sim.kernel.calls:
            raise UsageError("a journal begins with a fresh machine, before any process or device is made")
        self.sim = sim
        self.kernel = sim.kernel
        self.stream = stream
        self.depth = 0
        """How deep inside of operations this is."""
        self.checks: list[str] = []
        self.events = 0
        self.ended = False
        self._calls: dict[Call, int] = {}
        self._files: dict[OpenFile, int] = {}
        self._state: dict[str, Any] = {"points": False, "running": False, "limits": [], "lifted": []}
        self._checksums = Checksums(sim)
        self._line(
            {
                "format": FORMAT, "version": VERSION, "program": f"vdpasim {__version__}", "scenario": scenario,
                "kernel": sim.kernel.switches.spec, "abi": sim.kernel.abi.name, "seed": sim.seed,
                "options": dict(sim.vdpa.options), "extensions": list(sim.extensions),
                "faults": [str(one.fault) for one in sim.faults.injected],
            }
        )  # fmt: skip
        sim.kernel.journal = self
        sim.listen(self.event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self.finish()

    @property
    def inside(self) -> bool:
        """Whether what comes now follows from what is written already."""
        return self.depth > 0 or isinstance(self.kernel.current, Call | Worker)

    def event(self, event: Event) -> None:
        """Something happened."""
        self.checks.append(self._checksums.of(event))
        self.events += 1

    def finish(self) -> None:
        """The last line; what comes later is not recorded."""
        if not self.ended:
            self._before()
            self._line(["end", self.events])
            self.ended = True

    # -- what goes in

    def operation(self, key: list[Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """An operation of the API is about to happen."""
        self._before()
        unit = self.kernel.current
        by = unit.name if unit is not None else None
        try:
            given = [self.encode(arg) for arg in args]
            named = {word: self.encode(self._embedded(name, word, value)) for word, value in kwargs.items()}
        except Lost as lost:
            self._line(["lost", f"{name}: {lost}"])
            return
        self._line(["op", key, name, given, named, by])

    def submitted(self, call: Call) -> None:
        self._calls[call] = len(self._calls)
        if self.inside:
            return
        self._before()
        try:
            self._line(["call", self._task(call.task), self._file(call.file), call.op, self._args(call)])
        except Lost as lost:
            self._line(["lost", f"{call.op}: {lost}"])

    def stepped(self, index: int) -> None:
        ready = self.kernel.ready
        if self.inside or not _own(ready[index]):
            return
        self._before()
        self._line(["step", sum(map(_own, ready[:index]))])

    def advanced(self, time: int) -> None:
        if not self.inside and time > self.kernel.now:
            self._before()
            self._line(["time", time])

    def interrupted(self, unit: Unit) -> None:
        if not self.inside and isinstance(unit, Call):
            self._before()
            self._line(["signal", self._calls[unit]])

    def opened(self, file: OpenFile) -> None:
        self._files[file] = len(self._files)

    # -- pieces

    def _before(self) -> None:
        # what came out since the last line, and what stories set without telling anybody
        if self.checks:
            self._line(["check", "".join(self.checks)])
            self.checks.clear()
        limits = [[one.limits.memlock, sum(1 << cap for cap in one.limits.caps)] for one in self.sim.processes]
        state: dict[str, Any] = {
            "points": self.kernel.points,
            "running": self.kernel.running,
            "limits": limits,
            "lifted": [number for number, one in enumerate(self.sim.faults.injected) if one.lifted],
        }
        changed = {name: value for name, value in state.items() if value != self._state[name]}
        if changed:
            self._line(["state", changed])
            self._state = state

    def _line(self, value: Any) -> None:
        if not self.ended:
            self.stream.write(json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n")

    def _task(self, task: Any) -> int:
        for number, process in enumerate(self.sim.processes):
            if process.task is task:
                return number
        raise Lost(f"a task nobody knows, {task}")

    def _file(self, file: Any) -> Any:
        if isinstance(file, OpenFile) and file in self._files:
            return self._files[file]
        if isinstance(file, NodeOpen):
            return file.path
        if isinstance(file, ClosedFd):
            return {"closed": file.number}
        if isinstance(file, core.Task):
            return None
        raise Lost(f"a file nobody knows, {file}")

    def _args(self, call: Call) -> list[Any]:
        return [self.encode(arg) for arg in call.args]

    def _embedded(self, name: str, word: str, value: Any) -> Any:
        # what lies outside of the simulation and has to come along
        if name != "dev_add" or value is None:
            return value
        if word == "backing" and isinstance(value, str | Path):
            try:
                data = Path(value).read_bytes()
            except OSError as error:
                raise Lost(f"{value}: {error.strerror}") from None
            if len(data) > DISK_MAX:
                raise Lost(f"{value} is larger than {DISK_MAX} bytes")
            return _Disk(data)
        if word == "profile" and isinstance(value, str | Path):
            try:
                return load(value)
            except DeviceProfileError as error:
                raise Lost(str(error)) from None
        if word == "model" and isinstance(value, str | Path):
            return _Model(str(value), digest(str(value)))
        return value

    def encode(self, value: Any) -> Any:
        """A value as JSON.

        Raises:
            Lost: it has none.
        """
        if value is None or isinstance(value, bool | int | str):
            return value
        match value:
            case BytesBuffer():
                kind = "mutable" if isinstance(value.data, bytearray) else "buffer"
                return {kind: pack(bytes(value.data)), "length": len(value.data)}
            case MmBuffer():
                return {"mm": self._mm(value.mm), "addr": value.addr, "length": value.length}
            case AddressSpace():
                return {"new-mm": True}
            case bytes() | bytearray():
                return {"bytes": pack(bytes(value)), "length": len(value)}
            case OpenFile():
                return {"file": self._file(value)}
            case Call():
                return {"call": self._calls[value]}
            case tuple() | list():
                return {"list": [self.encode(one) for one in cast("list[Any]", value)]}
            case _ if hasattr(value, "key") and hasattr(value, "recorder"):
                return {"object": value.key}
            case _:
                return self._odd(value)

    @staticmethod
    def _odd(value: Any) -> Any:
        match value:
            case _Disk():
                return {"disk": pack(value.data), "length": len(value.data)}
            case _Model():
                return {"model": value.path, "digest": value.digest}
            case DeviceProfile():
                return {"profile": dumps(value)}
            case _ if type(value).__name__ == "Fault":
                return str(value)  # its notation
            case _:
                raise Lost(f"a {type(value).__name__} is nothing a journal can hold")

    def _mm(self, mm: Any) -> int:
        for number, process in enumerate(self.sim.processes):
            if process.mm is mm:
                return number
        raise Lost("a buffer in an address space nobody has any more")


def _own(unit: Unit) -> bool:
    # a unit of the kernel, not of a story
    return isinstance(unit, Call | Worker)


class _Disk:
    def __init__(self, data: bytes) -> None:
        self.data = data


class _Model:
    def __init__(self, path: str, digest: str) -> None:
        self.path = path
        self.digest = digest


def digest(spec: str) -> str:
    """Of the file of a model; empty for a module's name."""
    path = Path(spec if spec.endswith(".py") else spec.rpartition(":")[0] or spec)
    return blake2b(path.read_bytes(), digest_size=8).hexdigest() if path.is_file() else ""
