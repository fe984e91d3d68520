"""What the page draws: lanes in their groups, promise beside place, findings with the steps that raced."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given

from tests.trace.support import (
    HEADER,
    events_of,
    every_kind,
    hostile,
    marks_of,
    reading_of,
    seqs,
    stale,
    trace_text,
    without_steps,
)
from vdpasim.core.events import Event, Kind
from vdpasim.report.model import Model, build
from vdpasim.trace.file import Mark


def model(text: str, limit: int = 1000) -> Model:
    reader = reading_of(text)
    return build(reader, reader.header, limit)


def data(text: str, limit: int = 1000) -> dict[str, Any]:
    return model(text, limit).data(complete=True)


def row(found: dict[str, Any], seq: int) -> dict[str, Any]:
    (only,) = (one for one in found["rows"] if one["q"] == seq)
    return dict(only)


class TestLanes:
    def test_processes_come_first_then_workers_then_devices_with_their_queues(self) -> None:
        lanes = [(lane["group"], lane["name"]) for lane in data(stale())["lanes"]]
        assert lanes == [
            ("processes", "vmm"),
            ("workers", "disk.worker"),
            ("workers", "the machine"),
            ("devices and queues", "vhost-vdpa-0"),
            ("devices and queues", "vhost-vdpa-0 queue 0"),
            ("devices and queues", "disk queue 0"),
        ]

    def test_a_row_knows_who_did_it_and_to_what(self) -> None:
        found = data(stale())
        kinds = {(one["k"], found["lanes"][one["u"]]["name"], one["l"]) for one in found["rows"]}
        assert ("DMA", "disk.worker", 5) in kinds
        assert ("KICK", "vmm", 4) in kinds
        assert ("STILL", "the machine", -1) in kinds
        assert ("ENTER", "vmm", -1) in kinds

    def test_a_queue_named_like_another_lane_has_one_of_its_own(self) -> None:
        events: list[Event] = [(1, 0, "d queue 0", Kind.KICK, "d", 0), (2, 0, "u", Kind.KICK, "d queue 0", 0)]
        names = [(lane["group"], lane["name"]) for lane in data(trace_text(events))["lanes"]]
        assert names[0] == ("processes", "d queue 0")
        assert ("devices and queues", "d queue 0") in names


class TestRows:
    def test_a_dma_has_its_promise_beside_its_place(self) -> None:
        found = data(stale())
        wrong = [one for one in found["rows"] if one.get("d", {}).get("bad")]
        assert [one["q"] for one in wrong] == [mark.seq for mark in marks_of(stale()) if mark.id == "dma.stale-va"]
        assert wrong[0]["d"] == {
            "promise": ["vmm/ram+0x9000 (512 bytes)"],
            "place": ["vmm/heap+0x9000 (512 bytes)"],
            "bad": "the bytes went elsewhere than the map entry promised",
        }
        good = [one for one in found["rows"] if one["k"] == "DMA" and not one["d"]["bad"]]
        assert good
        assert all(one["d"]["promise"] == one["d"]["place"] for one in good)

    def test_a_promise_moves_with_the_memory(self) -> None:
        dma = "w", Kind.DMA, "d", 0, 0x1010, 16, 1, 7, "file"
        events: list[Event] = [
            (1, 0, "u", Kind.MAP, "d", 0, 7, 0x1000, 0x1FFF, 0x5000, 3, (("ram", 0, 4096),)),
            (2, 0, "u", Kind.MOVED, "ram", "huge"),
            (3, 0, *dma, (("huge", 16, 16),)),
            (4, 0, *dma, (("ram", 16, 16),)),
        ]
        told = [row(data(trace_text(events)), seq)["d"] for seq in (3, 4)]
        assert [one["promise"] for one in told] == [["huge+0x10 (16 bytes)"]] * 2
        assert [bool(one["bad"]) for one in told] == [False, True]

    def test_bytes_without_memory_are_counted(self) -> None:
        event = (1, 0, "w", Kind.DMA, "d", 0, 0x1000, 20, 1, 0, "va", (("ram", 0, 12),))
        told = row(data(trace_text([event])), 1)["d"]
        assert told["bad"] == "8 of 20 bytes have no memory behind them"
        assert told["none"].startswith("passthrough")

    def test_a_call_and_its_return_know_each_other(self) -> None:
        found = data(trace_text(every_kind()))
        enter, leave = row(found, 1), row(found, 8)
        assert (enter["e"], leave["e"]) == (8, 1)
        assert leave["x"].endswith(" = 72")
        assert enter["x"] == leave["x"].removesuffix(" = 72")
        assert row(found, 20)["bad"] == 1
        assert "has not returned" in row(found, 21)["x"]

    def test_numbers_are_text_that_javascript_cannot_round(self) -> None:
        event = (1, 2**62 + 1, "u", Kind.MISS, "d", 0, 2**64 - 1, 1)
        found = row(data(trace_text([event])), 1)
        assert found["t"] == str(2**62 + 1)
        assert ["iova", "0xffffffffffffffff (18446744073709551615)"] in found["f"]

    def test_the_last_ones_are_kept_and_promises_followed_from_the_beginning(self) -> None:
        count, last = len(events_of(stale())), marks_of(stale())[-1].seq
        found = data(stale(), limit=11)
        assert len(found["rows"]) == 11
        assert found["left"] == count - 11
        assert [one["d"]["promise"] for one in found["rows"] if one["q"] == last] == [["vmm/ram+0xf000 (1 bytes)"]]
        assert [finding["here"] for finding in found["findings"]] == [False, True, True]
        assert len(model(stale(), 11).lines()) == 11 + 3


class TestFindings:
    def test_a_dma_raced_with_what_made_its_map_entry(self) -> None:
        found = data(without_steps(stale()))
        steps = {finding["seq"]: finding["steps"] for finding in found["findings"]}
        remap, dma = seqs(stale(), Kind.REMAP)[-1], marks_of(stale())[1].seq
        assert steps[dma] == [remap, dma]

    def test_a_divergence_raced_between_the_last_push_and_the_last_change(self) -> None:
        found = data(without_steps(stale()))
        first = found["findings"][0]
        assert first["id"] == "iotlb.divergence"
        assert [row(found, seq)["k"] for seq in first["steps"]] == ["PUSH", "REMAP", "KICK"]

    def test_steps_an_oracle_named_stay_as_they_are(self) -> None:
        found = data(trace_text(every_kind(), [Mark("a.b", "c", 9, (3, 5))]))
        assert found["findings"][0]["steps"] == [3, 5]

    def test_a_finding_whose_event_is_not_there_has_no_steps(self) -> None:
        found = data(trace_text(every_kind(), [Mark("deadlock", "all wait", 99)]))
        assert found["findings"] == [{"id": "deadlock", "text": "all wait", "seq": 99, "steps": [], "here": False}]


def test_the_header_and_the_kinds_are_told() -> None:
    found = data(trace_text(every_kind()))
    assert dict(found["head"])["kernel"] == HEADER.kernel
    assert found["kinds"]["ENTER"] == 4
    assert next(iter(found["kinds"])) == "ENTER"


@given(hostile)
def test_everything_prints(name: str) -> None:
    found = json.dumps(data(trace_text(every_kind(name), [Mark(name, name, 9)])), ensure_ascii=False)
    assert found.isprintable()
    assert all(line.isprintable() for line in model(trace_text(every_kind(name), [Mark(name, name, 9)])).lines())
