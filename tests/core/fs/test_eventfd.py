"""Eventfd contexts: the counter, who is told of it, and its two upper ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.core.fs.eventfd import EventFdCtx
from vdpasim.core.ports import U64_MAX
from vdpasim.core.rules import KernelError
from vdpasim.uapi import errno as E


def refused(errno: int) -> pytest.RaisesExc[KernelError]:
    return pytest.RaisesExc(KernelError, check=lambda error: error.errno == errno)


class TestCounter:
    def test_adds_what_is_written_and_one_for_a_signal(self) -> None:
        ctx = EventFdCtx(5)
        ctx.write(3)
        ctx.signal()
        assert ctx.count == 9

    def test_reading_takes_everything(self) -> None:
        ctx = EventFdCtx(9)
        assert ctx.read() == 9
        assert ctx.count == 0

    def test_reading_nothing_is_eagain(self) -> None:
        with refused(E.EAGAIN):
            EventFdCtx().read()

    def test_a_write_of_zero_leaves_nothing_to_read(self) -> None:
        ctx = EventFdCtx()
        ctx.write(0)
        with refused(E.EAGAIN):
            ctx.read()


class TestUpperEnd:
    def test_a_process_fills_it_to_one_below_the_largest_number(self) -> None:
        ctx = EventFdCtx()
        ctx.write(U64_MAX - 1)
        assert ctx.count == U64_MAX - 1

    def test_a_write_that_would_pass_that_is_eagain_and_adds_nothing(self) -> None:
        ctx = EventFdCtx(1)
        with refused(E.EAGAIN):
            ctx.write(U64_MAX - 1)
        assert ctx.count == 1

    def test_the_largest_number_is_einval_however_empty_the_counter(self) -> None:
        with refused(E.EINVAL):
            EventFdCtx().write(U64_MAX)

    def test_a_signal_is_not_refused_and_stops_at_the_largest_number(self) -> None:
        ctx = EventFdCtx()
        ctx.write(U64_MAX - 1)
        ctx.signal()
        ctx.signal()
        assert ctx.count == U64_MAX

    def test_even_a_write_of_zero_waits_for_a_reader_then(self) -> None:
        ctx = EventFdCtx(U64_MAX)
        with refused(E.EAGAIN):
            ctx.write(0)
        assert ctx.read() == U64_MAX


class TestWatchers:
    def test_are_told_of_signals_and_of_writes_even_of_zero(self) -> None:
        ctx = EventFdCtx()
        seen: list[int] = []
        ctx.watch(lambda: seen.append(ctx.count))
        ctx.signal()
        ctx.write(0)
        ctx.write(4)
        assert seen == [1, 1, 5]

    def test_are_not_told_of_reads_nor_of_refused_writes(self) -> None:
        ctx = EventFdCtx(1)
        seen: list[str] = []
        ctx.watch(lambda: seen.append("told"))
        ctx.read()
        with refused(E.EINVAL):
            ctx.write(U64_MAX)
        assert seen == []

    def test_are_told_in_the_order_they_came(self) -> None:
        ctx = EventFdCtx()
        seen: list[str] = []
        for name in "cab":
            ctx.watch(lambda name=name: seen.append(name))
        ctx.signal()
        assert seen == ["c", "a", "b"]

    def test_are_told_also_when_the_counter_is_full(self) -> None:
        ctx = EventFdCtx(U64_MAX)
        seen: list[int] = []
        ctx.watch(lambda: seen.append(ctx.count))
        ctx.signal()
        assert seen == [U64_MAX]

    def test_may_leave_while_being_told(self) -> None:
        ctx = EventFdCtx()
        seen: list[str] = []

        def once() -> None:
            seen.append("once")
            ctx.unwatch(once)

        ctx.watch(once)
        ctx.watch(lambda: seen.append("always"))
        ctx.signal()
        ctx.signal()
        assert seen == ["once", "always", "always"]

    def test_watching_twice_takes_leaving_twice(self) -> None:
        ctx = EventFdCtx()
        seen: list[int] = []

        def told() -> None:
            seen.append(ctx.count)

        ctx.watch(told)
        ctx.watch(told)
        ctx.unwatch(told)
        ctx.signal()
        assert seen == [1]


def test_references_are_counted_from_the_makers_one() -> None:
    ctx = EventFdCtx(name="kick")
    ctx.get()
    ctx.put()
    assert (ctx.refs, ctx.name) == (1, "kick")


STEPS = st.lists(
    st.one_of(
        st.just("signal"),
        st.just("read"),
        st.integers(0, 3),
        st.integers(U64_MAX - 3, U64_MAX),
    ),
    max_size=20,
)


@given(STEPS)
def test_counts_like_a_number_without_bounds_whose_bounds_are_looked_at_before(steps: list[str | int]) -> None:
    ctx = EventFdCtx()
    told: list[None] = []
    ctx.watch(lambda: told.append(None))
    count = notices = 0
    for step in steps:
        if step == "signal":
            ctx.signal()
            count, notices = min(count + 1, 2**64 - 1), notices + 1
        elif step == "read":
            try:
                assert ctx.read() == count > 0
            except KernelError as error:
                assert (error.errno, count) == (E.EAGAIN, 0)
            count = 0
        elif isinstance(step, int):
            wanted = E.EINVAL if step == 2**64 - 1 else E.EAGAIN if count + step > 2**64 - 2 else 0
            try:
                ctx.write(step)
                assert wanted == 0
                count, notices = count + step, notices + 1
            except KernelError as error:
                assert error.errno == wanted
    assert (ctx.count, len(told)) == (count, notices)
