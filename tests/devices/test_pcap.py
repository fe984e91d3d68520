"""Captures as pcap files, read by another program's reader."""

from __future__ import annotations

import io
import shutil
import subprocess
from typing import TYPE_CHECKING

import dpkt
import pytest

from vdpasim.devices import frames
from vdpasim.devices.pcap import Capture

if TYPE_CHECKING:
    from pathlib import Path

FRAME = frames.ethernet(frames.BROADCAST, bytes.fromhex("020000000001"), 0x88B5, b"local experimental")


def test_frames_come_back_with_their_nanoseconds() -> None:
    capture = Capture()
    times = [0, 1, 999_999_999, 1_000_000_000, 5_000_000_007]
    for time in times:
        capture.add(time, FRAME + bytes([time & 0xFF]), outward=True)
    reader = dpkt.pcap.Reader(io.BytesIO(capture.pcap()))
    assert reader.datalink() == dpkt.pcap.DLT_EN10MB
    read = list(reader)
    assert [data for _, data in read] == [FRAME + bytes([time & 0xFF]) for time in times]
    assert [round(float(stamp) * 10**9) for stamp, _ in read] == times


def test_the_magic_is_that_of_nanoseconds_on_every_host() -> None:
    assert Capture().pcap().hex() == "4d3cb2a1" + "02000400" + "00" * 8 + "00000400" + "01000000"


def test_the_oldest_frames_are_let_go_and_counted() -> None:
    capture = Capture(limit=3)
    for i in range(5):
        capture.add(i, bytes([i]) * 14, outward=bool(i & 1))
    assert [(frame.time_ns, frame.outward) for frame in capture.frames] == [(2, False), (3, True), (4, False)]
    assert capture.forgotten == 2


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_it(tmp_path: Path) -> None:
    capture = Capture()
    capture.add(1_000_000_007, FRAME, outward=True)
    path = tmp_path / "one.pcap"
    path.write_bytes(capture.pcap())
    words = ["tshark", "-r", str(path), "-T", "fields", "-e", "frame.time_epoch", "-e", "eth.src"]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert out.split() == ["1.000000007", "02:00:00:00:00:01"]
