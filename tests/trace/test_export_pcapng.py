"""A trace as pcapng, judged by dpkt, and by tshark where it is installed."""

from __future__ import annotations

import io
import shutil
import subprocess
from typing import TYPE_CHECKING

import dpkt
import pytest
from hypothesis import given

from tests.trace.support import TAP, every_kind, hostile, reading_of, recorded, stale, trace_text
from vdpasim.core.events import Kind
from vdpasim.trace.export_pcapng import LINKTYPE_USER0, SECTION, Count, block, export, options, padded
from vdpasim.trace.fields import Buffer, Place
from vdpasim.uapi.abi import X86_64
from vdpasim.uapi.message import describe

if TYPE_CHECKING:
    from pathlib import Path


def exported(text: str) -> tuple[bytes, Count]:
    out = io.BytesIO()
    count = export(reading_of(text), out)
    return out.getvalue(), count


def packets(data: bytes) -> list[tuple[float, bytes]]:
    return [(float(time), packet) for time, packet in dpkt.pcapng.Reader(io.BytesIO(data))]


def test_every_message_of_a_vhost_file_is_a_packet() -> None:
    data, count = exported(stale())
    found = packets(data)
    assert (count, len(found)) == (Count(messages=4), 4)
    assert dpkt.pcapng.Reader(io.BytesIO(data)).datalink() == LINKTYPE_USER0
    assert [describe(packet, X86_64).format for _, packet in found] == ["vhost_msg_v2"] * 4
    assert b"/dev/vhost-vdpa-0" in data
    assert b"v2 REMAP iova=0x109000" in data, "the comment of a packet is its line"


def test_frames_of_a_tap_are_ethernet() -> None:
    data, count = exported(recorded(TAP, "7.1", "vhost_net_misses"))
    assert (count.messages, count.frames) == (7, 1)
    assert len(packets(data)) == 8
    assert b"packet-raw:tap0" in data


def test_only_what_was_read_is_in_a_packet() -> None:
    buffer = Buffer(b"abcd", bytes(4))
    file = "/dev/vhost-net"
    events = [
        (1, 0, "u", Kind.ENTER, "read", file, (buffer,)),
        (2, 5_000_000_001, "u", Kind.EXIT, "read", file, 2, 0, None),
        (3, 6, "u", Kind.ENTER, "read", file, (buffer,)),
        (4, 6, "u", Kind.EXIT, "read", file, -1, 11, None),
    ]
    data, _ = exported(trace_text(events))
    ((time, packet),) = packets(data)
    assert round(time * 10**9) == 5_000_000_001
    assert packet == b"ab"


def test_bytes_that_no_event_holds_are_counted() -> None:
    events = [
        (1, 0, "u", Kind.ENTER, "write", "/dev/vhost-net", (Place(0x1000, 72),)),
        (2, 0, "u", Kind.EXIT, "write", "/dev/vhost-net", 72, 0, None),
    ]
    assert exported(trace_text(events))[1] == Count(unknown=1)


def test_a_trace_without_messages_is_a_file_without_packets() -> None:
    data, count = exported(trace_text([]))
    assert count == Count()
    assert data == block(SECTION, data[8:-4]), "one block, and no interface"


def test_options_are_padded_and_bounded() -> None:
    assert (padded(b""), padded(b"abc"), padded(b"abcd")) == (b"", b"abc\0", b"abcd")
    assert options((1, "abc")) == bytes.fromhex("01000300") + b"abc\0" + bytes(4)
    assert len(options((1, "x" * 70_000))) == 4 + 65_536 + 4


@given(hostile)
def test_names_are_names_of_interfaces_and_comments(name: str) -> None:
    data, count = exported(trace_text(every_kind(name)))
    assert count.messages == count.frames == 1
    assert len(packets(data)) == 2


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
class TestTshark:
    def fields(self, path: Path, *names: str) -> list[list[str]]:
        words = ["tshark", "-r", str(path), "-T", "fields", *(word for name in names for word in ("-e", name))]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        assert "malformed" not in (done.stdout + done.stderr).lower()
        return [line.split("\t") for line in done.stdout.splitlines()]

    def test_reads_messages_and_frames(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pcapng"
        path.write_bytes(exported(recorded(TAP, "7.1", "vhost_net_misses"))[0])
        rows = self.fields(path, "frame.interface_name", "frame.encap_type", "frame.comment", "frame.len")
        assert {row[0] for row in rows} == {"/dev/vhost-net", "packet-raw:tap0"}
        assert [row[1] for row in rows if row[0] == "packet-raw:tap0"] == ["1"]
        assert all(" = " in row[2] for row in rows)
        assert all(int(row[3]) > 0 for row in rows)

    def test_reads_directions(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pcapng"
        path.write_bytes(exported(trace_text(every_kind()))[0])
        assert self.fields(path, "frame.packet_flags_direction") == [["0x00000002"], ["0x00000001"]]

    def test_reads_a_file_without_packets(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pcapng"
        path.write_bytes(exported(trace_text([]))[0])
        assert self.fields(path, "frame.number") == []

    def test_reads_hostile_names(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pcapng"
        path.write_bytes(exported(trace_text(every_kind("</script>\u202e\x1b[31m\n'")))[0])
        assert len(self.fields(path, "frame.number")) == 2
