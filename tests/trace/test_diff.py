"""Two traces compared: the first difference is named, and numbers do not count unless asked for."""

from __future__ import annotations

import attrs
import pytest

from tests.trace.support import HEADER, STALE, every_kind, reading_of, recorded, stale, trace_text
from vdpasim.core.events import Event, Kind
from vdpasim.trace import diff
from vdpasim.trace.diff import compare, normal
from vdpasim.trace.file import Mark, TraceFormatError


def kicks(*queues: int, first: int = 1) -> list[Event]:
    return [(seq, seq * 10, "vmm", Kind.KICK, "d", queue) for seq, queue in enumerate(queues, first)]


def test_a_trace_is_the_same_as_itself() -> None:
    found = compare(reading_of(stale()), reading_of(stale()), exact=True)
    assert (found.same, found.headers, found.diff, found.cut) == (True, (), (), False)


def test_the_first_different_event_is_named() -> None:
    left, right = trace_text(kicks(0, 1, 2, 3)), trace_text(kicks(0, 1, 7, 3))
    found = compare(reading_of(left), reading_of(right))
    assert (found.same, found.at) == (False, 3)
    assert found.first == ("[3] 30 vmm: kick device=d queue=2", "[3] 30 vmm: kick device=d queue=7")
    assert "-vmm: kick device=d queue=2" in found.diff
    assert "+vmm: kick device=d queue=7" in found.diff


def test_one_event_more_shifts_nothing() -> None:
    found = compare(reading_of(trace_text(kicks(0, 1, 2))), reading_of(trace_text(kicks(0, 9, 1, 2))))
    changes = [line for line in found.diff if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert changes == ["+vmm: kick device=d queue=9"]


def test_numbers_and_times_count_when_asked_for() -> None:
    left, right = trace_text(kicks(0)), trace_text(kicks(0, first=5))
    assert compare(reading_of(left), reading_of(right)).same
    assert compare(reading_of(left), reading_of(right), exact=True).at == 1


def test_an_end_that_comes_early_is_a_difference() -> None:
    found = compare(reading_of(trace_text(kicks(0, 1))), reading_of(trace_text(kicks(0))))
    assert (found.at, found.first) == (2, ("[2] 20 vmm: kick device=d queue=1", ""))


def test_findings_are_compared_too() -> None:
    left = trace_text(kicks(0), [Mark("dma.fault", "no memory", 1)])
    assert compare(reading_of(left), reading_of(trace_text(kicks(0)))).at == 2


def test_headers_are_told_and_do_not_decide() -> None:
    other = attrs.evolve(HEADER, kernel="6.12", rerun="something else", options={"faults": ["kick"]})
    found = compare(reading_of(trace_text(kicks(0))), reading_of(trace_text(kicks(0), header=other)))
    assert found.same
    assert found.headers == ("kernel: 7.1 | 6.12", 'faults: none | ["kick"]')


def test_lines_of_the_diff_count_from_the_beginning_of_the_trace() -> None:
    left, right = trace_text(kicks(*range(50))), trace_text(kicks(*range(40), 99, *range(41, 50)))
    found = compare(reading_of(left), reading_of(right))
    assert found.at == 41
    assert found.diff[2].startswith("@@ -38,")


def test_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "LINES_MAX", 3)
    found = compare(reading_of(trace_text(kicks(*range(9)))), reading_of(trace_text(kicks(9, *range(9)))))
    assert found.cut


def test_damage_far_behind_the_difference_is_still_an_error() -> None:
    damaged = trace_text(kicks(5, *range(9)), end=False) + "{\n"
    with pytest.raises(TraceFormatError, match="no JSON"):
        compare(reading_of(trace_text(kicks(0))), reading_of(damaged))


def test_two_kernels_that_do_the_same() -> None:
    other = recorded(STALE, "6.12+live-update-v2+lu-advertise")
    found = compare(reading_of(stale()), reading_of(other))
    assert found.headers == ("kernel: 6.12+live-update-v1 | 6.12+live-update-v2+lu-advertise",)
    assert found.same


def test_a_line_without_its_number_and_time() -> None:
    assert normal("[12] 3400 vmm: close(f) = 0") == "vmm: close(f) = 0"
    assert normal("[12] !!! dma.fault: x") == "!!! dma.fault: x"
    assert len({normal(line) for line in map(str, every_kind())}) == len(every_kind())
