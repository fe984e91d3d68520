"""What passed a device, as a pcap file with nanoseconds; bytes only, nothing here opens a file.

Theory. A :class:`Capture` keeps the last ``limit`` frames with the virtual time each passed at, and counts the older
ones it let go. ``pcap()`` lays them out as libpcap does: magic a1b23c4d for nanoseconds, little-endian on every host,
link type 1 for Ethernet. Virtual time 0 is the beginning of 1970.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import NamedTuple

MAGIC = 0xA1B23C4D
SNAPLEN = 0x40000
LINKTYPE_ETHERNET = 1
FILE_HEADER = Struct("<IHHiIII")
RECORD = Struct("<IIII")
LIMIT = 4096
"""Frames that are kept."""


class Frame(NamedTuple):
    """One frame that passed."""

    time_ns: int
    outward: bool
    """Sent by the guest."""
    data: bytes


class Capture:
    """The last frames of one device."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.frames: deque[Frame] = deque(maxlen=limit)
        self.forgotten = 0
        """Frames that are no longer kept."""

    def add(self, time_ns: int, data: bytes, *, outward: bool) -> None:
        """Keep a frame."""
        if len(self.frames) == self.frames.maxlen:
            self.forgotten += 1
        self.frames.append(Frame(time_ns, outward, data))

    def pcap(self) -> bytes:
        """The whole file."""
        parts = [FILE_HEADER.pack(MAGIC, 2, 4, 0, 0, SNAPLEN, LINKTYPE_ETHERNET)]
        for frame in self.frames:
            seconds, rest = divmod(frame.time_ns, 10**9)
            size = len(frame.data)
            parts += (RECORD.pack(seconds & 0xFFFF_FFFF, rest, size, size), frame.data)
        return b"".join(parts)
