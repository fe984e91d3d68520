"""A trace as pcapng: every message of a vhost file as a packet, and every frame on a tap.

Theory. A packet is what one read() or write() of a ``/dev/vhost-*`` file moved, whole, with link type USER0 (147):
there is no dissector for vhost messages, so the packet's comment says what it is, as the text trace does. What goes
through the other end of a tap (``packet-raw:NAME``) is an Ethernet frame with link type 1, which Wireshark takes apart.
Each file is an interface of its own, named for it. A write is outbound, a read inbound; the time is virtual, from 1970
on.
Events of a vDPA device hold no frames, only where they went; a run of vhost-net with a tap has them.

Not modelled: buffers at an address of a process, whose bytes no event holds; they are counted.
"""

from __future__ import annotations

from struct import Struct
from typing import IO, TYPE_CHECKING

import attrs

from vdpasim.core.events import Kind, OpenCalls
from vdpasim.trace.export_strace import head
from vdpasim.trace.fields import Buffer
from vdpasim.trace.text import TextTrace, inert

if TYPE_CHECKING:
    from vdpasim.core.events import Event
    from vdpasim.trace.file import Reader

LINKTYPE_USER0 = 147
LINKTYPE_ETHERNET = 1
SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
MAGIC = 0x1A2B3C4D
OPT_COMMENT, SHB_USERAPPL, IF_NAME, IF_TSRESOL, EPB_FLAGS = 1, 4, 2, 9, 2
INBOUND, OUTBOUND = 1, 2
NANOSECONDS = 9
OPTION_MAX = 0xFFFF
_TAP = "packet-raw:"

_OPTION = Struct("<HH")
_EDGE = Struct("<I")
_SECTION = Struct("<IHHq")
_INTERFACE = Struct("<HHI")
_PACKET = Struct("<IIIII")


@attrs.define
class Count:
    """What was written."""

    messages: int = 0
    frames: int = 0
    unknown: int = 0
    """Messages whose bytes no event holds."""


def export(reader: Reader, stream: IO[bytes]) -> Count:
    """Write the packets of a trace.

    Raises:
        TraceFormatError: the file.
    """
    about = "\n".join(head(reader.header))
    body = _SECTION.pack(MAGIC, 1, 0, -1) + options((OPT_COMMENT, about), (SHB_USERAPPL, "vdpasim"))
    stream.write(block(SECTION, body))
    writer = _Packets(stream, TextTrace(reader.header.layout))
    for item in reader:
        if item.event is not None:
            writer.event(item.event)
    return writer.count


def block(kind: int, body: bytes) -> bytes:
    """One block: its length stands at both ends."""
    size = _EDGE.pack(len(body) + 12)
    return _EDGE.pack(kind) + size + body + size


def options(*given: tuple[int, str | bytes]) -> bytes:
    """A list of options with its end."""
    out = b""
    for code, value in given:
        data = value.encode("utf-8", "replace")[:OPTION_MAX] if isinstance(value, str) else value
        out += _OPTION.pack(code, len(data)) + padded(data)
    return out + _OPTION.pack(0, 0)


def padded(data: bytes) -> bytes:
    """Filled up to a multiple of four bytes."""
    return data + b"\0" * (-len(data) % 4)


@attrs.define
class _Packets:
    stream: IO[bytes]
    text: TextTrace
    count: Count = attrs.Factory(Count)
    calls: OpenCalls = attrs.Factory(OpenCalls)
    interfaces: dict[str, int] = attrs.Factory(dict[str, int])

    def event(self, event: Event) -> None:
        line, kind = self.text.line(event), event[3]
        if kind == Kind.ENTER:
            self.calls.enter(event, event[6])
        elif kind == Kind.EXIT:
            args: tuple[object, ...] = self.calls.exit(event) or ()
            if event[4] in ("read", "write") and args and event[5].startswith(("/dev/vhost-", _TAP)):
                self._call(event, args[0], line or "")

    def _call(self, event: Event, buffer: object, line: str) -> None:
        op, file, ret = event[4:7]
        if op == "read" and ret <= 0:
            return  # nothing was there
        if not isinstance(buffer, Buffer):
            self.count.unknown += 1
            return
        data = buffer.data[:ret] if op == "read" else buffer.data
        tap = file.startswith(_TAP)
        self.count.frames += tap
        self.count.messages += not tap
        self._packet(event[1], self._interface(file, tap), data, line, OUTBOUND if op == "write" else INBOUND)

    def _interface(self, file: str, tap: bool) -> int:
        if file not in self.interfaces:
            self.interfaces[file] = len(self.interfaces)
            body = _INTERFACE.pack(LINKTYPE_ETHERNET if tap else LINKTYPE_USER0, 0, 0)
            body += options((IF_NAME, inert(file)), (IF_TSRESOL, bytes([NANOSECONDS])))
            self.stream.write(block(INTERFACE, body))
        return self.interfaces[file]

    def _packet(self, time: int, interface: int, data: bytes, comment: str, direction: int) -> None:
        time &= (1 << 64) - 1
        body = _PACKET.pack(interface, time >> 32, time & 0xFFFF_FFFF, len(data), len(data)) + padded(data)
        body += options((OPT_COMMENT, comment), (EPB_FLAGS, _EDGE.pack(direction)))
        self.stream.write(block(PACKET, body))
