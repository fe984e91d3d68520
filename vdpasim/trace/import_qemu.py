"""QEMU's log of ``vhost_vdpa_*`` trace events, read as a trace (``-trace 'vhost_vdpa_*'`` with the log backend).

Theory. QEMU says what it is about to ask of the kernel: each event that stands for a request becomes a call of the
file, and what the calls do to the table becomes MAP and UNMAP. What a log lacks is unknown and marked so: each such
line has ``unknown``, the list of its fields that are none of the log's, and a call ends with the rule ``unknown``, for
QEMU tells no results (0, or the length of a message, stand in their place). Events that are no requests are kept whole,
as lines of ``qemu``.

The file has the number of its descriptor, ``/dev/vhost-vdpa-fd12``, where the log tells it: messages have it, and
``vhost_vdpa_init`` joins the objects of one file. Where it does not, the object's address takes its place. The copy a
device has of its map is not in the log, so entries are those of a table without one (``asid`` -1; ``space`` has the
address space).

Lines of other events and messages of QEMU are counted, and so are ``vhost_vdpa`` lines that cannot be read, none is
dropped in silence.
"""

from __future__ import annotations

import re
import struct
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.core.events import NO_COPY, Event, Kind
from vdpasim.core.ports import U64_MAX
from vdpasim.trace.fields import Buffer
from vdpasim.trace.file import Header, Item, Writer
from vdpasim.uapi import vhost as ioctls
from vdpasim.uapi import vhost_types as t
from vdpasim.uapi.abi import X86_64
from vdpasim.uapi.layout import layout
from vdpasim.uapi.message import Message, encode_message

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from vdpasim.uapi.ioctl import Ioctl
    from vdpasim.uapi.table import Struct

LACKING = "results of calls, DMA, interrupts, kicks, owners, what the device was handed"
"""What no such log has."""
EXAMPLES_MAX = 3
LINE_MAX = 1 << 16
UNKNOWN = "unknown"

_LINE = re.compile(r"(?:(?P<pid>\d+)@(?P<sec>\d+)\.(?P<usec>\d+):)?(?P<name>vhost_vdpa_\w+) ?(?P<rest>.*)")
_PAIR = re.compile(r"([A-Za-z_][A-Za-z_ -]*?)\s*(?::|=| )\s*(0x[0-9a-fA-F]+|\(nil\)|-?\d+)(?=\s|$)")


@attrs.define
class Count:
    """What became of the lines."""

    requests: int = 0
    kept: int = 0
    """Events that are no requests."""
    unread: int = 0
    """``vhost_vdpa`` lines that cannot be read."""
    others: int = 0
    """Lines that are no ``vhost_vdpa`` events."""
    examples: list[str] = attrs.Factory(list[str])
    """The first of the unread."""

    def told(self) -> list[str]:
        """In words, a line each."""
        lines = [f"{self.requests} requests, {self.kept} other vhost_vdpa events, {self.others} other lines"]
        if self.unread:
            lines.append(f"{self.unread} vhost_vdpa lines could not be read:")
            lines += [f"  {line}" for line in self.examples]
            if self.unread > len(self.examples):
                lines.append(f"  ... and {self.unread - len(self.examples)} more")
        return lines


@attrs.frozen
class Line:
    """One event of the log."""

    name: str
    pid: str
    time: int
    """Nanoseconds."""
    values: dict[str, int]
    text: str

    def __getitem__(self, key: str) -> int:
        return self.values[key]


def parse(text: str) -> Line | None:
    """A line of the log, None if it is no ``vhost_vdpa`` event."""
    found = _LINE.search(text[:LINE_MAX])
    if found is None:
        return None
    pairs = [(name.strip().replace(" ", "_").replace("-", "_"), value) for name, value in _PAIR.findall(found["rest"])]
    values = {name: 0 if value == "(nil)" else int(value, 0) for name, value in pairs}
    time = int(found["sec"] or 0) * 10**9 + int((found["usec"] or "").ljust(6, "0")[:6] or 0) * 1000
    return Line(found["name"].removeprefix("vhost_vdpa_"), found["pid"] or "", time, values, found["rest"])


def convert(lines: Iterable[str], stream: IO[str], program: str = "", source: str = "") -> Count:
    """Write the trace of a log."""
    counted = Count()
    parsed: list[Line] = []
    for text in lines:
        line = parse(text)
        if line is not None:
            parsed.append(line)
        elif text.strip():
            counted.others += 1
    header = Header("unknown", program=program, extra={"imported": "qemu-trace", "unknown": LACKING, "log": source})
    writer = Writer(stream, header)
    log = _Log(parsed, writer, counted)
    for line in parsed:
        log.line(line)
    writer.finish()
    return counted


def _pointer(line: Line) -> int:
    return next((line.values[key] for key in ("vdpa", "vdpa_shared", "v", "dev") if key in line.values), 0)


class _Log:
    def __init__(self, lines: list[Line], writer: Writer, counted: Count) -> None:
        self.writer = writer
        self.counted = counted
        self.seq = count(1)
        self.serials = count(1)
        self.start = next((line.time for line in lines if line.time), 0)
        self.last = 0
        self.status: dict[str, int] = {}
        self.entries: dict[str, dict[int, tuple[int, int, int]]] = {}
        """File -> serial -> (space, start, last)."""
        self.unit = "qemu"
        self.now = 0
        joined = [line.values for line in lines if line.name == "init"]
        self.owner = {values["dev"]: values["vdpa"] for values in joined if {"dev", "vdpa"} <= values.keys()}
        self.fds: dict[int, int] = {}
        for line in lines:
            if "fd" in line.values and line.name.startswith(("dma_", "listener_", "map_batch")):
                self.fds.setdefault(_pointer(line), line["fd"])

    def device(self, line: Line) -> str:
        """The name of the device a line is about."""
        pointer = _pointer(line)
        fd = self.fds.get(self.owner.get(pointer, pointer))
        if fd is None and len(set(self.fds.values())) == 1:
            fd = next(iter(self.fds.values()))
        return f"vhost-vdpa-{pointer:#x}" if fd is None else f"vhost-vdpa-fd{fd}"

    def line(self, line: Line) -> None:
        """One event."""
        self.unit = f"qemu-{line.pid}" if line.pid else "qemu"
        self.now = self.last = max(self.last, line.time - self.start if line.time else self.last)
        handler = _HANDLERS.get(line.name)
        if handler is None:
            self.counted.kept += 1
            self.writer.item(Item(extra={"qemu": f"vhost_vdpa_{line.name}", "text": line.text, "unit": self.unit}))
            return
        try:
            handler(self, line, self.device(line))
        except (KeyError, OverflowError, ValueError, struct.error):
            self.counted.unread += 1
            if len(self.counted.examples) < EXAMPLES_MAX:
                self.counted.examples.append(f"vhost_vdpa_{line.name} {line.text}"[:120])
        else:
            self.counted.requests += 1

    # -- events

    def event(self, kind: Kind, *fields: Any, **extra: Any) -> None:
        """One event of the trace."""
        event: Event = (next(self.seq), self.now, self.unit, kind, *fields)
        self.writer.event(event, extra)

    def call(self, device: str, op: str, args: tuple[Any, ...], ret: int, *unknown: str) -> None:
        """A call whose result is unknown."""
        self.enter(device, op, args)
        self.leave(device, op, ret, *unknown)

    def enter(self, device: str, op: str, args: tuple[Any, ...]) -> None:
        """It begins."""
        self.event(Kind.ENTER, op, f"/dev/{device}", args)

    def leave(self, device: str, op: str, ret: int, *unknown: str) -> None:
        """It ends."""
        self.event(Kind.EXIT, op, f"/dev/{device}", ret, 0, UNKNOWN, unknown=["ret", "handler_errno", *unknown])

    def ioctl(self, device: str, request: Ioctl, data: bytes | None, *unknown: str) -> None:
        """A request."""
        argument: Any = 0 if data is None else Buffer(data, data)
        self.call(device, "ioctl", (request.request(X86_64), argument), 0, *unknown)

    def struct(self, device: str, request: Ioctl, struct: Struct, *unknown: str, **fields: int) -> None:
        """A request with a structure."""
        self.ioctl(device, request, layout(struct, X86_64).pack(**fields), *unknown)

    def message(self, device: str, line: Line, type_: int) -> bytes:
        """The bytes of a message."""
        values = line.values
        space, iova, size, uaddr, perm = (values.get(name, 0) for name in ("asid", "iova", "size", "uaddr", "perm"))
        return encode_message(X86_64, Message(line["msg_type"], space, iova, size, uaddr, perm, type_))

    # -- requests

    def dma_map(self, line: Line, device: str) -> None:
        """UPDATE."""
        start, last, uaddr, perm = line["iova"], line["iova"] + line["size"] - 1, line["uaddr"], line["perm"]
        data = self.message(device, line, t.VHOST_IOTLB_UPDATE)
        self.enter(device, "write", (Buffer(data, data),))
        # no kernel makes an entry of nothing, or of a range that wraps
        if start <= last <= U64_MAX:
            serial, space = next(self.serials), line.values.get("asid", 0)
            self.entries.setdefault(device, {})[serial] = (space, start, last)
            lacks = ["asid", "promise"] if "asid" in line.values else ["asid", "promise", "space"]
            fields = (device, NO_COPY, serial, start, last, uaddr, perm, ())
            self.event(Kind.MAP, *fields, space=space, unknown=lacks)
        self.leave(device, "write", len(data))

    def dma_unmap(self, line: Line, device: str) -> None:
        """INVALIDATE, and what of the table is in its range."""
        first, last = line["iova"], line["iova"] + line["size"] - 1
        data = self.message(device, line, t.VHOST_IOTLB_INVALIDATE)
        self.enter(device, "write", (Buffer(data, data),))
        entries = self.entries.get(device, {})
        space = line.values.get("asid", 0)
        for serial, (where, start, end) in list(entries.items()):
            if where == space and first <= end and start <= last:
                del entries[serial]
                self.event(Kind.UNMAP, device, NO_COPY, serial, start, end, space=space, unknown=["asid"])
        self.leave(device, "write", len(data))

    def batch(self, line: Line, device: str) -> None:
        """BATCH_BEGIN or BATCH_END."""
        data = self.message(device, line, line["type"])
        self.call(device, "write", (Buffer(data, data),), len(data))

    def add_status(self, line: Line, device: str) -> None:
        """SET_STATUS with more bits; QEMU reads the status first."""
        old = self.status.get(device, 0)
        self.set_status(device, old, old | line["status"])

    def reset(self, line: Line, device: str) -> None:
        """SET_STATUS 0."""
        self.set_status(device, self.status.get(device, 0), 0)

    def set_status(self, device: str, old: int, new: int) -> None:
        """The request, and what it changes."""
        data = bytes([new])
        self.enter(device, "ioctl", (ioctls.VHOST_VDPA_SET_STATUS.request(X86_64), Buffer(data, data)))
        if old != new:
            self.event(Kind.STATUS, device, old, new, unknown=["old"])
        self.status[device] = new
        self.leave(device, "ioctl", 0)

    def vring_addr(self, line: Line, device: str) -> None:
        """SET_VRING_ADDR."""
        names = ("index", "flags", "desc_user_addr", "used_user_addr", "avail_user_addr", "log_guest_addr")
        self.struct(device, ioctls.VHOST_SET_VRING_ADDR, t.vhost_vring_addr, **{name: line[name] for name in names})

    def set_config(self, line: Line, device: str) -> None:
        """SET_CONFIG, without the bytes."""
        head = line["offset"].to_bytes(4, "little") + line["size"].to_bytes(4, "little")
        self.ioctl(device, ioctls.VHOST_VDPA_SET_CONFIG, head, "args")


def _plain(request: Ioctl) -> Any:
    def handler(log: _Log, line: Line, device: str) -> None:
        log.ioctl(device, request, None)

    return handler


def _number(request: Ioctl, name: str, size: int) -> Any:
    def handler(log: _Log, line: Line, device: str) -> None:
        log.ioctl(device, request, (line[name] & (1 << 8 * size) - 1).to_bytes(size, "little"))

    return handler


def _ring(request: Ioctl, struct: Struct, *names: str) -> Any:
    def handler(log: _Log, line: Line, device: str) -> None:
        log.struct(device, request, struct, **{name: line[name] for name in names})

    return handler


def _ready(log: _Log, line: Line, device: str) -> None:
    lacks = () if "index" in line.values or "idx" in line.values else ("args",)
    index = line.values.get("index", line.values.get("idx", 0))
    log.struct(device, ioctls.VHOST_VDPA_SET_VRING_ENABLE, t.vhost_vring_state, *lacks, index=index, num=1)


def _config(log: _Log, line: Line, device: str) -> None:
    head = bytes(4) + line["config_len"].to_bytes(4, "little")
    log.ioctl(device, ioctls.VHOST_VDPA_GET_CONFIG, head, "args")


_STATE = (t.vhost_vring_state, "index", "num")
_FILE = (t.vhost_vring_file, "index", "fd")
_HANDLERS: dict[str, Any] = {
    "dma_map": _Log.dma_map,
    "dma_unmap": _Log.dma_unmap,
    "listener_begin_batch": _Log.batch,
    "listener_commit": _Log.batch,
    "map_batch_begin": _Log.batch,
    "dma_batch_end": _Log.batch,
    "add_status": _Log.add_status,
    "reset_device": _Log.reset,
    "set_features": _number(ioctls.VHOST_SET_FEATURES, "features", 8),
    "get_features": _number(ioctls.VHOST_GET_FEATURES, "features", 8),
    "get_device_id": _number(ioctls.VHOST_VDPA_GET_DEVICE_ID, "device_id", 4),
    "set_vring_ready": _ready,
    "set_config": _Log.set_config,
    "get_config": _config,
    "suspend": _plain(ioctls.VHOST_VDPA_SUSPEND),
    "set_vring_addr": _Log.vring_addr,
    "set_vring_num": _ring(ioctls.VHOST_SET_VRING_NUM, *_STATE),
    "set_vring_base": _ring(ioctls.VHOST_SET_VRING_BASE, *_STATE),
    "get_vring_base": _ring(ioctls.VHOST_GET_VRING_BASE, *_STATE),
    "set_vring_kick": _ring(ioctls.VHOST_SET_VRING_KICK, *_FILE),
    "set_vring_call": _ring(ioctls.VHOST_SET_VRING_CALL, *_FILE),
    "set_owner": _plain(ioctls.VHOST_SET_OWNER),
    "get_iova_range": _ring(ioctls.VHOST_VDPA_GET_IOVA_RANGE, t.vhost_vdpa_iova_range, "first", "last"),
    "set_config_call": _number(ioctls.VHOST_VDPA_SET_CONFIG_CALL, "fd", 4),
}
"""Event -> the request it stands for; whatever is not here is no request."""

