"""Where an event belongs, and what it raced with."""

from __future__ import annotations

from tests.trace.support import every_kind, reading_of, stale
from vdpasim.core.events import Event, Kind
from vdpasim.trace.lanes import Racing, lane_of


def test_events_belong_to_the_queue_or_the_device_they_name() -> None:
    lanes = {event[3]: lane_of(event) for event in every_kind()}
    assert lanes[Kind.DMA] == lanes[Kind.KICK] == lanes[Kind.MISS] == ("d", 0)
    assert lanes[Kind.MAP] == lanes[Kind.STATUS] == lanes[Kind.PUSH] == ("d", -1)
    assert lanes[Kind.ENTER] is lanes[Kind.EXIT] is lanes[Kind.VIOLATION] is None


def behind(*events: Event) -> list[int | None]:
    racing = Racing()
    return [racing.event(event) for event in events]


def dma(seq: int, serial: int, unit: str = "w") -> Event:
    return (seq, 0, unit, Kind.DMA, "disk", 0, 0x1000, 8, 1, serial, "va", ())


class TestRacing:
    def test_a_dma_rests_on_what_made_its_entry(self) -> None:
        made = (1, 0, "a", Kind.MAP, "vhost-vdpa-0", 0, 5, 0, 0xFFF, 0, 3, ())
        moved = (2, 0, "a", Kind.REMAP, "vhost-vdpa-0", 0, 5, 0, 0xFFF, 0, 7)
        assert behind(made, dma(2, 5)) == [None, 1]
        assert behind(made, moved, dma(3, 5)) == [None, 1, 2]

    def test_without_an_entry_it_is_what_another_unit_did_last(self) -> None:
        kick = (1, 0, "a", Kind.KICK, "disk", 0)
        assert behind(kick, dma(2, 0), dma(3, 0)) == [None, 1, 1]

    def test_alone_it_is_what_was_done_last(self) -> None:
        assert behind(dma(1, 0), dma(2, 0), dma(3, 0)) == [None, 1, 2]

    def test_other_devices_do_not_count(self) -> None:
        assert behind((1, 0, "a", Kind.KICK, "other", 0), dma(2, 0)) == [None, None]

    def test_a_call_races_with_nothing(self) -> None:
        assert behind(dma(1, 0), (2, 0, "u", Kind.ENTER, "read", "f", ())) == [None, None]

    def test_the_stale_write_rests_on_the_remap_that_was_not_pushed(self) -> None:
        racing = Racing()
        events = [item.event for item in reading_of(stale()) if item.event]
        before = {event[0]: racing.event(event) for event in events}
        kinds = {event[0]: event[3] for event in events}
        mark = next(item.mark for item in reading_of(stale()) if item.mark and item.mark.id == "dma.stale-va")
        step = before[mark.seq]
        assert step is not None
        assert kinds[step] == Kind.REMAP
