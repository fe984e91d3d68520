"""QEMU's log of ``vhost_vdpa_*`` trace events, read as a trace (``-trace 'vhost_vdpa_*'``, log or simple backend).

Theory. QEMU says what it is about to ask of the kernel: each event that stands for a request becomes a call of the
file, and what the calls do to the device becomes MAP, UNMAP, STATUS, FEATURES, RING and SUSPEND. What a log lacks is
unknown and marked so: each such line has ``unknown``, the list of its fields that are none of the log's, and a call
ends with the rule ``unknown``, for QEMU tells no results (0, or the length of a message, stand in their place). One
event has its result, that of SET_VRING_ENABLE. Events that are no requests are kept whole, as lines of ``qemu``.

What follows from a request is told as if it had been granted; what QEMU does when one fails (it resets a device that
it cannot suspend) is in the log again. Two things are not told because they would not be true: GET_VRING_BASE of a
shadow virtqueue is no request, and an answer of 0 may be the one that never came.

The file has the number of its descriptor, ``/dev/vhost-vdpa-fd12``, where the log tells it, see
``import_qemu_files.py``. OPEN is told of a file that the log has from its beginning, with all that it maps: only then
does a ring that is mapped nowhere mean anything. The device below it has no name, for nothing it does is in the log.
The copy a device has of its map is not in it either, so entries are those of a table without one (``asid`` -1;
``space`` has the address space). How many of a ring's addresses lie in QEMU's memory is counted over what QEMU maps.

Lines of other events and messages of QEMU are counted, and so are ``vhost_vdpa`` lines that cannot be read, none is
dropped in silence.
"""

from __future__ import annotations

import struct
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.core.events import NO_COPY, Event, Kind
from vdpasim.core.ports import U64_MAX
from vdpasim.trace.fields import Buffer
from vdpasim.trace.file import Header, Item, Writer
from vdpasim.trace.import_qemu_files import File, Files
from vdpasim.trace.import_qemu_lines import Line, read
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

LACKING = "results of calls, DMA, interrupts, kicks, owners, what the device was handed, backend features"
"""What no such log has."""
EXAMPLES_MAX = 3
UNKNOWN = "unknown"
CONFIG = -1
"""In place of a queue."""


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
    notes: list[str] = attrs.Factory(list[str])
    """What the log does not tell of its files."""

    def told(self) -> list[str]:
        """In words, a line each."""
        lines = [f"{self.requests} requests, {self.kept} other vhost_vdpa events, {self.others} other lines"]
        if self.unread:
            lines.append(f"{self.unread} vhost_vdpa lines could not be read:")
            lines += [f"  {line}" for line in self.examples]
            if self.unread > len(self.examples):
                lines.append(f"  ... and {self.unread - len(self.examples)} more")
        return lines + self.notes


def convert(lines: Iterable[str], stream: IO[str], program: str = "", source: str = "") -> Count:
    """Write the trace of a log."""
    read_log = read(lines)
    files = Files(read_log.lines, torn=bool(read_log.dropped))
    counted = Count(others=read_log.others, notes=files.notes)
    lacks = "; ".join([LACKING, *files.notes])
    header = Header("unknown", program=program, extra={"imported": "qemu-trace", "unknown": lacks, "log": source})
    writer = Writer(stream, header)
    log = _Log(read_log.lines, files, writer, counted)
    for number, line in enumerate(read_log.lines):
        log.line(number, line)
    writer.finish()
    return counted


@attrs.define
class _State:
    """What the requests have made of a device so far."""

    status: int | None = None
    """None: the log begins later."""
    suspended: bool = False
    entries: dict[int, tuple[int, int, int]] = attrs.Factory(dict[int, "tuple[int, int, int]"])
    """Serial -> (space, start, last)."""
    queues: dict[int, set[int]] = attrs.Factory(dict[int, "set[int]"])
    """Object -> its queues, as far as they were set up."""


class _Log:
    def __init__(self, lines: list[Line], files: Files, writer: Writer, counted: Count) -> None:
        self.files = files
        self.writer = writer
        self.counted = counted
        self.seq = count(1)
        self.serials = count(1)
        self.start = next((line.time for line in lines if line.time is not None), 0)
        self.now = 0
        self.states: dict[str, _State] = {}
        self.file = File("", 0, begun=False)
        self.unit = "qemu"
        self.thread: dict[str, str] = {}

    @property
    def device(self) -> str:
        """What the present line is about."""
        return self.file.name

    @property
    def state(self) -> _State:
        """Of the present line's device."""
        return self.states[self.file.name]

    def line(self, number: int, line: Line) -> None:
        """One event."""
        process = self.files.process[line.pid]
        self.file = self.files.of(number)
        self.unit = f"qemu-{process}" if process else "qemu"
        self.thread = {"thread": line.pid} if line.pid != process else {}
        # threads write for themselves: a line may be older than the one before it
        self.now = max(self.now, line.time - self.start if line.time is not None else 0)
        handler = _HANDLERS.get(line.name)
        if handler is None or _is_none(line, self.states.get(self.device)):
            self.counted.kept += 1
            extra = {"qemu": f"vhost_vdpa_{line.name}", "text": line.text, "unit": self.unit, **self.thread}
            self.writer.item(Item(extra=extra))
            return
        if self.device not in self.states:
            self.states[self.device] = _State(status=0 if self.file.begun else None)
            if self.file.whole:
                self.event(Kind.OPEN, self.device, "", "vhost-vdpa", unknown=["below"])
        try:
            handler(self, line)
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
        self.writer.event(event, {**extra, **self.thread})

    def enter(self, op: str, args: tuple[Any, ...]) -> None:
        """A call begins."""
        self.event(Kind.ENTER, op, f"/dev/{self.device}", args)

    def leave(self, op: str, ret: int, *unknown: str) -> None:
        """It ends, nobody knows how."""
        self.event(Kind.EXIT, op, f"/dev/{self.device}", ret, 0, UNKNOWN, unknown=["ret", "handler_errno", *unknown])

    def ioctl(self, request: Ioctl, data: bytes | None, *unknown: str, did: tuple[Any, ...] = ()) -> None:
        """A request, and what it did: the fields of an event."""
        self.enter("ioctl", (request.request(X86_64), 0 if data is None else Buffer(data, data)))
        if did:
            self.event(*did)
        self.leave("ioctl", 0, *unknown)

    def struct(self, request: Ioctl, struct: Struct, *unknown: str, did: tuple[Any, ...] = (), **fields: int) -> None:
        """A request with a structure."""
        self.ioctl(request, layout(struct, X86_64).pack(**fields), *unknown, did=did)

    def ring(self, queue: int, what: str, value: object) -> tuple[Any, ...]:
        """RING, to be told within its request."""
        return Kind.RING, self.device, queue, what, value

    def message(self, line: Line, type_: int) -> bytes:
        """The bytes of a message."""
        values = line.values
        space, iova, size, uaddr, perm = (values.get(name, 0) for name in ("asid", "iova", "size", "uaddr", "perm"))
        return encode_message(X86_64, Message(line["msg_type"], space, iova, size, uaddr, perm, type_))

    # -- messages

    def dma_map(self, line: Line) -> None:
        """UPDATE."""
        start, last, uaddr, perm = line["iova"], line["iova"] + line["size"] - 1, line["uaddr"], line["perm"]
        data = self.message(line, t.VHOST_IOTLB_UPDATE)
        self.enter("write", (Buffer(data, data),))
        # no kernel makes an entry of nothing, or of a range that wraps
        if start <= last <= U64_MAX:
            serial, space = next(self.serials), line.values.get("asid", 0)
            self.state.entries[serial] = (space, start, last)
            lacks = ["asid", "promise"] if "asid" in line.values else ["asid", "promise", "space"]
            fields = (self.device, NO_COPY, serial, start, last, uaddr, perm, ())
            self.event(Kind.MAP, *fields, space=space, unknown=lacks)
        self.leave("write", len(data))

    def dma_unmap(self, line: Line) -> None:
        """INVALIDATE, and what of the table is in its range."""
        first, last = line["iova"], line["iova"] + line["size"] - 1
        data = self.message(line, t.VHOST_IOTLB_INVALIDATE)
        self.enter("write", (Buffer(data, data),))
        entries = self.state.entries
        space = line.values.get("asid", 0)
        for serial, (where, start, end) in list(entries.items()):
            if where == space and first <= end and start <= last:
                del entries[serial]
                self.event(Kind.UNMAP, self.device, NO_COPY, serial, start, end, space=space, unknown=["asid"])
        self.leave("write", len(data))

    def batch(self, line: Line) -> None:
        """BATCH_BEGIN or BATCH_END."""
        data = self.message(line, line["type"])
        self.enter("write", (Buffer(data, data),))
        self.leave("write", len(data))

    # -- the device

    def add_status(self, line: Line) -> None:
        """SET_STATUS with more bits; QEMU reads the status first."""
        self.set_status((self.state.status or 0) | line["status"], known=self.state.status is not None)

    def reset(self, _: Line) -> None:
        """SET_STATUS 0."""
        self.set_status(0, known=True)

    def set_status(self, new: int, *, known: bool) -> None:
        """The request, and what it changes."""
        state, data = self.state, bytes([new])
        old = state.status or 0
        self.enter("ioctl", (ioctls.VHOST_VDPA_SET_STATUS.request(X86_64), Buffer(data, data)))
        if old != new or state.status is None:
            self.event(Kind.STATUS, self.device, old, new, unknown=["old"] if known else ["old", "new"])
        state.status = new if known else None
        state.suspended = state.suspended and bool(new)
        self.leave("ioctl", 0, *([] if known else ["args"]))

    def suspend(self, _: Line) -> None:
        """SUSPEND."""
        was, self.state.suspended = self.state.suspended, True
        self.ioctl(ioctls.VHOST_VDPA_SUSPEND, None, did=(Kind.SUSPEND, self.device, int(was), 1))

    def set_features(self, line: Line) -> None:
        """SET_FEATURES."""
        mask = line["features"]
        data = mask.to_bytes(8, "little")
        self.ioctl(ioctls.VHOST_SET_FEATURES, data, did=(Kind.FEATURES, self.device, "virtio", mask))

    def set_config(self, line: Line) -> None:
        """SET_CONFIG, without the bytes."""
        head = line["offset"].to_bytes(4, "little") + line["size"].to_bytes(4, "little")
        self.ioctl(ioctls.VHOST_VDPA_SET_CONFIG, head, "args")

    def get_config(self, line: Line) -> None:
        """GET_CONFIG, without the bytes."""
        self.ioctl(ioctls.VHOST_VDPA_GET_CONFIG, bytes(4) + line["config_len"].to_bytes(4, "little"), "args")

    def set_config_call(self, line: Line) -> None:
        """SET_CONFIG_CALL."""
        fd = line.signed("fd")
        did = self.ring(CONFIG, "config", _eventfd(fd))
        self.ioctl(ioctls.VHOST_VDPA_SET_CONFIG_CALL, fd.to_bytes(4, "little", signed=True), did=did)

    def set_group_asid(self, line: Line) -> None:
        """SET_GROUP_ASID."""
        group, space = line["vq_group"], line["asid"]
        self.struct(ioctls.VHOST_VDPA_SET_GROUP_ASID, t.vhost_vring_state, index=group, num=space)

    # -- queues

    def vring_num(self, line: Line) -> None:
        """SET_VRING_NUM."""
        queue, num = self.queue(line), line["num"]
        did = self.ring(queue, "num", num)
        self.struct(ioctls.VHOST_SET_VRING_NUM, t.vhost_vring_state, did=did, index=queue, num=num)

    def vring_base(self, line: Line) -> None:
        """SET_VRING_BASE."""
        queue, num = self.queue(line), line["num"]
        did = self.ring(queue, "base", num)
        self.struct(ioctls.VHOST_SET_VRING_BASE, t.vhost_vring_state, did=did, index=queue, num=num)

    def get_vring_base(self, line: Line) -> None:
        """GET_VRING_BASE; what was asked for in the field of the answer is not in the log."""
        queue, num = self.queue(line), line["num"]
        did = self.ring(queue, "get-base", num) if num else ()
        self.struct(ioctls.VHOST_GET_VRING_BASE, t.vhost_vring_state, "args", did=did, index=queue, num=num)

    def vring_addr(self, line: Line) -> None:
        """SET_VRING_ADDR."""
        names = ("index", "flags", "desc_user_addr", "used_user_addr", "avail_user_addr", "log_guest_addr")
        fields = {name: line[name] for name in names}
        places = (fields["desc_user_addr"], fields["avail_user_addr"], fields["used_user_addr"])
        value = (*places, self.files.inside(self.file.process, places))
        did = self.ring(self.queue(line), "addr", value)
        self.struct(ioctls.VHOST_SET_VRING_ADDR, t.vhost_vring_addr, did=did, **fields)

    def vring_enable(self, line: Line) -> None:
        """SET_VRING_ENABLE, with its result where the log has it.

        Up to 8.1 one line stands for all queues of an object: those that were set up are meant.
        """
        if "index" in line.values:
            self.enable(line["index"], line.values.get("enable", 1), line.signed("r") if "r" in line.values else None)
            return
        known = sorted(self.state.queues.get(line.values.get("dev", 0), ()))
        for queue in known:
            self.enable(queue, 1, None)
        if not known:
            self.struct(ioctls.VHOST_VDPA_SET_VRING_ENABLE, t.vhost_vring_state, "args", index=0, num=1)

    def enable(self, queue: int, num: int, ret: int | None) -> None:
        """One SET_VRING_ENABLE."""
        if ret is not None and not -(1 << 31) <= ret < 1 << 31:
            raise ValueError("no result of a call")
        request = ioctls.VHOST_VDPA_SET_VRING_ENABLE.request(X86_64)
        data = layout(t.vhost_vring_state, X86_64).pack(index=queue, num=num)
        self.enter("ioctl", (request, Buffer(data, data)))
        if ret is None or ret >= 0:
            self.event(*self.ring(queue, "ready", num))
        if ret is None:
            self.leave("ioctl", 0)
        elif ret >= 0:
            self.event(Kind.EXIT, "ioctl", f"/dev/{self.device}", ret, 0, None)
        else:
            self.event(Kind.EXIT, "ioctl", f"/dev/{self.device}", ret, -ret, UNKNOWN)

    def vring_file(self, line: Line, request: Ioctl, what: str) -> None:
        """SET_VRING_KICK or SET_VRING_CALL."""
        queue, fd = self.queue(line), line.signed("fd")
        did = self.ring(queue, what, _eventfd(fd))
        self.struct(request, t.vhost_vring_file, did=did, index=queue, fd=fd)

    def queue(self, line: Line) -> int:
        """The queue a request is about, which is one of its object's."""
        queue = line["index"]
        self.state.queues.setdefault(line.values.get("dev", 0), set()).add(queue)
        return queue


def _is_none(line: Line, state: _State | None) -> bool:
    # the index of a shadow virtqueue is QEMU's own; and bits of the status that are set are not always set again
    if line.name == "get_vring_base":
        return bool(line.values.get("svq"))
    status = state.status if state is not None and line.name == "add_status" else None
    return status is not None and "status" in line.values and not line["status"] & ~status


def _eventfd(fd: int) -> str | None:
    return f"eventfd-fd{fd}" if fd >= 0 else None


def _plain(request: Ioctl) -> Any:
    def handler(log: _Log, _: Line) -> None:
        log.ioctl(request, None)

    return handler


def _number(request: Ioctl, name: str, size: int) -> Any:
    def handler(log: _Log, line: Line) -> None:
        log.ioctl(request, (line[name] & (1 << 8 * size) - 1).to_bytes(size, "little"))

    return handler


def _iova_range(log: _Log, line: Line) -> None:
    first, last = line["first"], line["last"]
    log.struct(ioctls.VHOST_VDPA_GET_IOVA_RANGE, t.vhost_vdpa_iova_range, first=first, last=last)


def _kick(log: _Log, line: Line) -> None:
    log.vring_file(line, ioctls.VHOST_SET_VRING_KICK, "kick")


def _call(log: _Log, line: Line) -> None:
    log.vring_file(line, ioctls.VHOST_SET_VRING_CALL, "call")


_HANDLERS: dict[str, Any] = {
    "add_status": _Log.add_status,
    "dma_batch_end": _Log.batch,
    "dma_map": _Log.dma_map,
    "dma_unmap": _Log.dma_unmap,
    "get_config": _Log.get_config,
    "get_device_id": _number(ioctls.VHOST_VDPA_GET_DEVICE_ID, "device_id", 4),
    "get_features": _number(ioctls.VHOST_GET_FEATURES, "features", 8),
    "get_iova_range": _iova_range,
    "get_vring_base": _Log.get_vring_base,
    "listener_begin_batch": _Log.batch,
    "listener_commit": _Log.batch,
    "map_batch_begin": _Log.batch,
    "reset_device": _Log.reset,
    "set_address_space_id": _Log.set_group_asid,
    "set_config": _Log.set_config,
    "set_config_call": _Log.set_config_call,
    "set_dev_vring_base": _Log.vring_base,
    "set_features": _Log.set_features,
    "set_log_base": _number(ioctls.VHOST_SET_LOG_BASE, "base", 8),
    "set_owner": _plain(ioctls.VHOST_SET_OWNER),
    "set_vring_addr": _Log.vring_addr,
    "set_vring_base": _Log.vring_base,
    "set_vring_call": _call,
    "set_vring_enable_one": _Log.vring_enable,
    "set_vring_kick": _kick,
    "set_vring_num": _Log.vring_num,
    "set_vring_ready": _Log.vring_enable,
    "suspend": _Log.suspend,
}
"""Event -> the request it stands for; whatever is not here is no request."""
