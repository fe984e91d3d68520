"""The trace file: what is written comes back, and what is no trace is refused in one line."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trace.support import HEADER, PING, every_kind, hostile, reading_of, recorded, stale, trace_text
from vdpasim.core.events import Kind
from vdpasim.trace import file
from vdpasim.trace.export_strace import lines
from vdpasim.trace.file import Header, Mark, TraceFormatError, Writer, load, reading
from vdpasim.trace.text import TextTrace

if TYPE_CHECKING:
    from pathlib import Path

HEAD = '{"format":"vdpasim-trace","version":1,"kernel":"7.1"}\n'
KICK = '{"seq":1,"time":0,"unit":"u","kind":"KICK","device":"d","queue":0}\n'
MARKS = [Mark("dma.wrong-object", "it went elsewhere", 9, (3, 9)), Mark("deadlock", "all wait", 22)]


def rewritten(text: str) -> str:
    """A trace that was read and written again."""
    reader, out = reading_of(text), io.StringIO()
    writer = Writer(out, reader.header)
    for item in reader:
        writer.item(item)
    if reader.complete:
        writer.finish()
    return out.getvalue()


@attrs.define
class Held:
    """A buffer as a call holds it."""

    data: bytearray


class TestRoundTrip:
    def test_every_kind_comes_back(self) -> None:
        reader = reading_of(trace_text(every_kind(), MARKS))
        items = list(reader)
        assert reader.header == HEADER
        assert [item.event for item in items if item.event] == every_kind()
        assert {item.event[3] for item in items if item.event} == set(Kind)
        assert [item.mark for item in items if item.mark] == MARKS
        assert reader.complete

    @given(hostile)
    def test_whatever_a_name_holds(self, name: str) -> None:
        header = attrs.evolve(HEADER, scenario=name, options={name: name})
        text = trace_text(every_kind(name), [Mark(name, name, 1)], header)
        assert text.isascii()
        assert text.count("\n") == len(every_kind()) + 3
        assert rewritten(text) == text
        assert [item.event for item in reading_of(text) if item.event] == every_kind(name)

    def test_a_recorded_run_is_the_same_bytes_again(self) -> None:
        assert rewritten(stale()) == stale()
        assert [json.loads(line)["finding"] for line in stale().splitlines() if '"finding"' in line] == [
            "iotlb.divergence",
            "dma.stale-va",
            "dma.stale-va",
        ]

    def test_a_recorded_run_has_the_lines_of_the_live_one(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text(stale(), encoding="ascii")
        trace = load(tmp_path / "a.jsonl")
        text = TextTrace(trace.header.layout)
        for event in trace.events:
            text.event(event)
        shown = [line for line in lines(reading_of(stale())) if not line.startswith("#") and "!!!" not in line]
        assert text.text().splitlines() == shown
        assert trace.complete
        assert len(trace.marks) == 3

    def test_what_a_call_left_in_its_buffer_is_kept(self) -> None:
        given = Held(bytearray(8))
        stream = io.StringIO()
        writer = Writer(stream, HEADER)
        writer.event((1, 0, "u", Kind.ENTER, "read", "f", (given,)))
        given.data[0] = 5
        writer.event((2, 0, "u", Kind.EXIT, "read", "f", 8, 0, None))
        writer.finish()
        (enter, _) = (item.event for item in reading_of(stream.getvalue()))
        assert enter is not None
        assert enter[6][0].data == b"\x05" + bytes(7)
        assert enter[6][0].before == bytes(8)
        assert rewritten(stream.getvalue()) == stream.getvalue()

    def test_lines_and_fields_of_later_versions_are_kept(self) -> None:
        body = KICK.replace("}", ',"why":"new"}') + '{"kind":"NEWER","a":[1]}\n{"b":2}\n'
        text = HEAD.replace("}", ',"colour":"red"}') + body + '{"finding":"x","text":"y","seq":1,"how":3}\n'
        again = rewritten(text)
        for kept in ('"colour":"red"', '"why":"new"', '{"kind":"NEWER","a":[1]}', '{"b":2}', '"how":3'):
            assert kept in again

    def test_the_header_says_how_to_run_it_again(self) -> None:
        header = reading_of(recorded(PING, "7.1", "cable_pulled")).header
        assert (header.kernel, header.abi, header.seed) == ("7.1", "x86_64", 0)
        assert header.options == {"extensions": ["net_peer"]}
        assert header.rerun.endswith("ping.py::cable_pulled --kernel 7.1 --seed 0")
        assert header.layout.name == "x86_64"


def complaint(text: str) -> str:
    """What is said of a damaged file: one line that names the file's."""
    with pytest.raises(TraceFormatError) as caught:
        list(reading_of(text))
    said = str(caught.value)
    assert said.startswith("t:")
    assert len(said) < 200
    return said


class TestDamage:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "t:1: not a trace"),
            ("{}\n", "t:1: not a trace"),
            ("[]\n", "t:1: no JSON object"),
            ("KTAP version 1\n", "t:1: no JSON"),
            ("\x00\x01\n", "t:1: no JSON"),
            ("[" * 100_000, "t:1: no JSON"),
            (HEAD.replace("1,", "2,"), "t:1: version 2; this program reads up to 1"),
            (HEAD.replace('1,"', '"1","'), "t:1: the header has no version"),
            (HEAD.replace("kernel", "colonel"), "t:1: the header has no kernel"),
            (HEAD.replace('"7.1"', "7.1"), "t:1: kernel of the header is no text"),
            (HEAD.replace("}", ',"abi":"vax"}'), "t:1: unknown ABI 'vax'; known are"),
            (HEAD.replace("}", ',"options":[]}'), "t:1: options of the header is no object"),
            (HEAD[:-2], "t:1: no JSON"),
            (HEAD + "{\n", "t:2: no JSON"),
            (HEAD + '{"end":true,"events":0,"findings":0}\n{', "t:3: no JSON"),
            (HEAD + '{"kind":5}\n', "t:2: kind is no text"),
            (HEAD + '{"kind":"KICK"}\n', "t:2: seq is no number"),
            (HEAD + '{"kind":"KICK","seq":1,"time":0,"unit":"u"}\n', "t:2: KICK without device"),
            (HEAD + KICK + KICK, "t:3: event 1 behind event 1"),
            (HEAD + '{"finding":"x","text":"y","seq":1,"steps":[1.5]}\n', "t:2: steps is no number"),
            (HEAD + '{"finding":"x","text":"y","seq":1,"steps":[-1]}\n', "t:2: steps is no number of an event"),
            (HEAD + '{"finding":"x","text":"y","seq":9007199254740992}\n', "t:2: seq is no number of an event"),
            (HEAD + KICK.replace('"seq":1', '"seq":9007199254740992'), "t:2: seq is no number of an event"),
            (HEAD + '{"finding":"x","text":"y","seq":1,"steps":1}\n', "t:2: steps is no list"),
            (HEAD + '{"end":true,"events":1,"findings":0}\n', "t:2: 1 events were written, 0 are there"),
            (HEAD + '{"end":true,"events":"x","findings":0}\n', "t:2: no number of events were written, 0 are there"),
            (HEAD + '{"end":true,"events":0,"findings":0}\n{}\n', "t:3: a line behind the last one"),
        ],
    )
    def test_is_named_with_its_line(self, text: str, said: str) -> None:
        assert complaint(text).startswith(said)

    def test_a_file_that_is_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"\x7fELF\xff\xfe")
        with pytest.raises(TraceFormatError, match="a:1: not text"), reading(tmp_path / "a"):
            pass

    def test_a_line_without_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(file, "LINE_MAX", 1000)
        assert complaint(HEAD + "x" * 2000) == "t:2: the line is longer than 1000 characters"

    def test_a_file_without_its_last_line_is_incomplete(self) -> None:
        reader = reading_of(trace_text(every_kind(), end=False))
        assert len(list(reader)) == len(every_kind())
        assert not reader.complete

    @given(st.data())
    def test_of_any_cut_the_whole_lines_are_read(self, data: st.DataObject) -> None:
        text = trace_text(every_kind(), MARKS)
        cut = text[: data.draw(st.integers(0, len(text) - 2))]
        if "\n" not in text[: len(cut) + 1]:
            assert complaint(cut)
            return
        reader = reading_of(cut)
        # a line that lacks nothing but its end is whole
        assert len(list(reader)) == text[: len(cut) + 1].count("\n") - 1
        assert not reader.complete

    def test_an_event_of_a_call_nobody_saw_begin(self) -> None:
        text = trace_text([(1, 0, "u", Kind.EXIT, "read", "f", 0, 0, None)])
        text = text.replace('"rule":null', '"rule":null,"after":{"0":{"data":"01","length":1}}')
        assert len(list(reading_of(text))) == 1
        assert rewritten(text) == text, "what the call left is kept"


def test_a_header_alone_is_a_trace() -> None:
    reader = reading_of(HEAD)
    assert list(reader) == []
    assert reader.header == Header("7.1")
