"""Reading golden cases: one JSON object a line, checked strictly, with the symbols of its byte strings.

Theory. A step is an operation with inputs and the outputs a real kernel gave. Which key is which is one table here; a
key or operation that is not in it is an error with file and line, for a key that is silently ignored is a check that
is silently not made. Byte strings are hex with holes for what differs from process to process: ``<$mem0+0x10>`` is the
8-byte little-endian address 0x10 into buffer mem0, ``<fd:kick0>`` the 4-byte number of that descriptor.

A case *needs the data path* when it gives the device something to do: a write to an eventfd, an eventfd that is
readable from the start, or a successful VHOST_NET_SET_BACKEND, which starts the ring worker by itself.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Literal, cast

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

Value = str | int | bool | list[str] | None
"""What a key of a step may hold."""

Type = Literal["int", "str", "hex", "addr", "names", "hexes", "bool", "addr-or-null"]

PROCS = ("child", "child_stay")
"""Who may do a step instead of the process under test."""

CASE_KEYS = frozenset({"case", "topic", "dev", "kernel", "steps", "end"})

_TYPES: dict[str, Type] = {
    "addr": "addr", "arg": "addr-or-null", "at": "addr", "blocked": "bool", "byte": "int", "cap": "int",
    "cloexec": "names", "cmd": "int", "data": "hex", "dev": "str", "dgram": "int", "domain": "int", "events": "int",
    "fd": "str", "flags": "str", "from": "str", "hard": "int", "hugetlb": "bool", "iff_flags": "int", "ifname": "str",
    "in": "hex", "init": "int", "kb": "int", "kind": "str", "len": "int", "ms": "int", "name": "str", "new_len": "int",
    "off": "int", "out": "hex", "outlen": "int", "parent": "str", "parent_closes": "names", "parts": "hexes",
    "path": "str", "ptr": "addr", "revents": "int", "seen": "int", "size": "int", "soft": "int", "timeout_ms": "int",
    "to": "addr", "type": "int", "value": "int",
}  # fmt: skip

# Operation -> inputs that must be there, inputs that may be there, outputs besides ret and errno. Keys whose type is
# not the usual one carry it after a colon.
_OPS: dict[str, tuple[str, str, str]] = {
    "open": ("fd flags", "dev path", ""),
    "close": ("fd", "", ""),
    "ioctl": ("fd name", "in arg cmd outlen", "out"),
    "write": ("fd len", "data ptr", ""),
    "writev": ("fd parts", "", ""),
    "read": ("fd size", "ptr", "out blocked"),
    "poll": ("fd events timeout_ms", "", "revents"),
    "eventfd": ("fd init", "", ""),
    "eventfd_write": ("fd value", "", ""),
    "eventfd_read": ("fd timeout_ms", "", "value"),
    "buf": ("name kind len", "at", ""),
    "poke": ("addr data", "", ""),
    "fill": ("addr len byte", "", ""),
    "peek": ("addr len", "", "out"),
    "wait_u16": ("addr value timeout_ms", "", "seen"),
    "sleep": ("ms", "", ""),
    "rlimit_memlock": ("soft hard", "", ""),
    "dropcap": ("cap", "", ""),
    "vmpin": ("", "", "kb"),
    "tap": ("fd ifname iff_flags", "", ""),
    "tun_unattached": ("fd", "", ""),
    "packet_socket": ("fd ifname", "dgram", ""),
    "socket": ("fd domain type", "", ""),
    "mmap": ("fd len prot:int flags:int off", "", ""),
    "munmap": ("addr len", "", ""),
    "mprotect": ("addr len prot:int", "", ""),
    "mremap": ("addr len new_len to", "", ""),
    "map": ("addr len prot:str kind", "fd off", ""),
    "memfd": ("fd len", "hugetlb", ""),
    "ftruncate": ("fd len", "", ""),
    "punch_hole": ("fd off len", "", ""),
    "pread": ("fd off len", "", "out"),
    "pwrite": ("fd off data", "", ""),
    "dup": ("fd from", "", ""),
    "exec": ("", "cloexec", ""),
    "handover": ("parent", "parent_closes", ""),
    "mm_holder": ("", "", ""),
    "mm_holder_kill": ("", "", ""),
    "stay_kill": ("", "", ""),
    "recreate_device": ("", "", ""),
}


class TraceFormatError(ValueError):
    """A line that is not a case of the format; the message begins with file:line."""


@attrs.frozen
class Step:
    """One operation with its inputs and what the recorded kernel answered."""

    op: str
    proc: str
    """Who does it: "" is the process under test, else one of :data:`PROCS`."""
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    """``ret``, ``errno`` (0 or a name) and what else the operation returned."""

    def number(self, key: str, default: int = 0) -> int:
        """A numeric input; numbers may be written as strings in any base."""
        value = self.inputs.get(key, default)
        return int(value, 0) if isinstance(value, str) else int(cast("int", value))

    def text(self, key: str, default: str = "") -> str:
        """A string input."""
        return cast("str", self.inputs.get(key, default))

    def names(self, key: str) -> list[str]:
        """A list input, empty when it is not there."""
        return cast("list[str]", self.inputs.get(key, []))


@attrs.frozen
class Case:
    """One recorded case."""

    name: str
    topic: str
    dev: str
    """Device kind under test: vhost-vdpa-net, vhost-vdpa-blk, vhost-vdpa-net-mac or vhost-net."""
    kernel: str
    """Release and options of the recording kernel, ``6.12.117 use_va=1``."""
    steps: tuple[Step, ...]
    end: str
    """Empty, or how the case ended early: timeout, signal, kernel_crash."""
    place: str
    """file:line."""


@attrs.frozen
class Unreadable:
    """A line that is no case, counted by the caller."""

    place: str
    error: str


def read_cases(path: Path) -> Iterator[Case | Unreadable]:
    """The cases of a file in order; a line that cannot be read is yielded as :class:`Unreadable`."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                place = f"{path}:{number}"
                try:
                    yield parse_case(line, place)
                except TraceFormatError as error:
                    yield Unreadable(place, str(error))


def parse_case(line: bytes | str, place: str) -> Case:
    """One case from its line.

    Raises:
        TraceFormatError: no JSON object, an unknown key or operation, a missing key or one of the wrong type.
    """
    try:
        data = json.loads(line)
    except ValueError as error:
        raise TraceFormatError(f"{place}: no JSON: {error}") from None
    if not isinstance(data, dict):
        raise TraceFormatError(f"{place}: a case is a JSON object")
    case = cast("dict[str, object]", data)
    _check_keys(place, case, {"case", "topic", "dev", "kernel", "steps"}, CASE_KEYS)
    steps = case["steps"]
    if not isinstance(steps, list):
        raise TraceFormatError(f"{place}: steps is a list")
    texts = {key: case.get(key, "") for key in CASE_KEYS - {"steps"}}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise TraceFormatError(f"{place}: {key} is a string")
    parsed = tuple(_parse_step(f"{place}: step {n}", step) for n, step in enumerate(cast("list[object]", steps), 1))
    words = cast("dict[str, str]", texts)
    return Case(words["case"], words["topic"], words["dev"], words["kernel"], parsed, words["end"], place)


def case_object(case: Case, outputs: Sequence[Mapping[str, Value]] | None = None) -> dict[str, object]:
    """The JSON object of a case, with other ``outputs`` of its first steps if given (the rest is left out)."""
    given = outputs if outputs is not None else [step.outputs for step in case.steps]
    steps: list[dict[str, Value]] = []
    for step, results in zip(case.steps, given, strict=False):
        who: dict[str, Value] = {"proc": step.proc} if step.proc else {}
        steps.append({"op": step.op, **step.inputs, **who, **results})
    end = {"end": case.end} if case.end else {}
    return {"case": case.name, "topic": case.topic, "dev": case.dev, "steps": steps, **end, "kernel": case.kernel}


def _parse_step(place: str, data: object) -> Step:
    if not isinstance(data, dict):
        raise TraceFormatError(f"{place}: a step is a JSON object")
    step = cast("dict[str, Value]", data)
    op = step.get("op")
    if not isinstance(op, str) or op not in _OPS:
        raise TraceFormatError(f"{place}: unknown op {op!r}")
    required, optional, outputs = _OPS[op]
    inputs, results = _typed(f"{required} {optional}"), _typed(outputs)
    known: dict[str, Type] = {**inputs, **results}
    _check_keys(f"{place} ({op})", step, set(_typed(required)), {*known, "op", "ret", "errno", "proc"})
    for key, value in step.items():
        if key in known and not _fits(known[key], value):
            raise TraceFormatError(f"{place} ({op}): {key} is {value!r}, wanted {known[key]}")
    proc = step.get("proc", "")
    if proc not in ("", *PROCS) or not isinstance(step.get("ret"), int) or not isinstance(step.get("errno"), str | int):
        raise TraceFormatError(f"{place} ({op}): proc, ret or errno is missing or of the wrong type")
    given = {key: value for key, value in step.items() if key in inputs}
    returned = {key: value for key, value in step.items() if key in results or key in ("ret", "errno")}
    return Step(op, str(proc), given, returned)


def _typed(words: str) -> dict[str, Type]:
    # "fd prot:int" -> {"fd": "str", "prot": "int"}
    pairs = (word.partition(":") for word in words.split())
    return {key: cast("Type", kind) if kind else _TYPES[key] for key, _, kind in pairs}


def _check_keys(place: str, data: Mapping[str, object], required: set[str], known: set[str] | frozenset[str]) -> None:
    if unknown := sorted(set(data) - known):
        raise TraceFormatError(f"{place}: unknown key {unknown[0]!r}")
    if missing := sorted(required - set(data)):
        raise TraceFormatError(f"{place}: no {missing[0]!r}")


_HEX = re.compile(r"(?:[0-9a-fA-F]{2}|<\$\w+(?:\+(?:0x[0-9a-fA-F]+|\d+))?>|<fd:\w+>)*")
_ADDRESS = re.compile(r"null|0x[0-9a-fA-F]+|\d+|\$\w+(?:\+(?:0x[0-9a-fA-F]+|\d+))?")
_NUMBER = re.compile(r"-?(?:0x[0-9a-fA-F]+|\d+)")


def _is_int(value: Value) -> bool:
    if isinstance(value, str):
        return _NUMBER.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _is_address(value: Value) -> bool:
    if isinstance(value, str):
        return _ADDRESS.fullmatch(value) is not None
    return _is_int(value)


def _fits(kind: Type, value: Value) -> bool:
    match kind:
        case "int":
            return _is_int(value)
        case "bool":
            return isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case "hex":
            return isinstance(value, str) and _HEX.fullmatch(value) is not None
        case "addr":
            return _is_address(value)
        case "addr-or-null":
            return value is None or _is_address(value)
        case "names":
            return isinstance(value, list) and all(isinstance(name, str) for name in value)
        case "hexes":
            return isinstance(value, list) and all(_fits("hex", part) for part in value)


@attrs.define
class Symbols:
    """What the symbols of one running case stand for."""

    addresses: dict[str, int] = attrs.Factory(dict[str, int])
    """Buffer name -> first address. It stays a number after the buffer has gone."""
    descriptors: dict[str, int] = attrs.Factory(dict[str, int])
    """Descriptor name -> number."""

    def address(self, text: Value) -> int:
        """``$mem0+0x1000``, ``0x...``, a decimal number, or null, which is 0."""
        if text is None or text == "null":
            return 0
        if isinstance(text, int):
            return text
        if not isinstance(text, str):
            raise TraceFormatError(f"{text!r} is no address")
        if not text.startswith("$"):
            return int(text, 0)
        name, _, offset = text[1:].partition("+")
        return self._buffer(name) + int(offset or "0", 0)

    def assemble(self, text: str) -> bytes:
        """The bytes of a hex string with its symbols filled in, little-endian as the recordings are."""
        parts: list[bytes] = []
        for piece in re.split(r"(<[^>]*>)", text):
            if piece.startswith("<$"):
                parts.append((self.address(piece[1:-1]) % (1 << 64)).to_bytes(8, "little"))
            elif piece.startswith("<fd:"):
                parts.append(self._descriptor(piece[4:-1]).to_bytes(4, "little", signed=True))
            else:
                parts.append(bytes.fromhex(piece))
        return b"".join(parts)

    def _buffer(self, name: str) -> int:
        if name not in self.addresses:
            raise TraceFormatError(f"the case uses buffer {name!r} before it made it")
        return self.addresses[name]

    def _descriptor(self, name: str) -> int:
        if name not in self.descriptors:
            raise TraceFormatError(f"the case uses descriptor {name!r} before it made it")
        return self.descriptors[name]


def needs_data_path(case: Case) -> bool:
    """Whether the outcome depends on the device working through its rings."""
    return any(_starts_work(step) for step in case.steps)


def _starts_work(step: Step) -> bool:
    if step.op == "ioctl":
        return step.text("name") == "VHOST_NET_SET_BACKEND" and step.outputs["ret"] == 0
    return step.op == "eventfd_write" or (step.op == "eventfd" and step.number("init") > 0)


@attrs.frozen
class Setting:
    """The kernel and device options a case was recorded on."""

    profile: str
    """Profile string, ``6.12+live-update-v1``."""
    use_va: bool
    batch_mapping: bool = True


_SERIES = {
    "lu-v1": "+live-update-v1",
    "lu-v2": "+live-update-v2+lu-advertise",
    "lu-v2pure": "+live-update-v2",
}


def setting_of(kernel: str, profile: str | None = None) -> Setting:
    """The setting that a ``kernel`` field names; ``profile`` replaces its release, its device options stay.

    Plain ``6.12.117`` is PA mode: that set was recorded with use_va=0 and says so nowhere else.

    Raises:
        TraceFormatError: a word that means nothing.
    """
    words = kernel.split()
    release = re.match(r"\d+\.\d+", words[0]) if words else None
    if release is None and profile is None:
        raise TraceFormatError(f"kernel {kernel!r} names no release; choose a profile")
    name, options = release[0] if release else "", {"use_va": False, "batch_mapping": True}
    for word in words[1:]:
        option, _, value = word.partition("=")
        if option in options and value in ("0", "1"):
            options[option] = value == "1"
        elif word in _SERIES:
            name += _SERIES[word]
        else:
            raise TraceFormatError(f"kernel {kernel!r}: {word!r} is neither a device option nor a patch series")
    return Setting(profile or name, **options)
