"""The kernel object: one ready queue, and the few ways to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.core import profiles
from vdpasim.core.events import Event, Kind
from vdpasim.core.kernel import Call, InternalError, Kernel, Mutex, Point, Sleep, Unit, WaitQueue, Woken, Work, Worker
from vdpasim.core.rules import KernelError, fail
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.kernel import Steps
    from vdpasim.core.ports import Caller


def kernel_of(profile: str = "tip", **options: Any) -> Kernel:
    return Kernel(profiles.parse(profile), **options)


@attrs.define
class SomeTask:
    """A caller with nothing but a name."""

    name: str


@attrs.define(eq=False)
class Script:
    """A file whose every system call runs one generator; its release is recorded."""

    steps: Callable[[Call], Steps]
    refs: int = 1
    released: list[str] = attrs.Factory(list)
    on_release: Callable[[Call], Steps] | None = None

    def __str__(self) -> str:
        return "script"

    def get(self) -> None:
        self.refs += 1

    def put(self, call: Call) -> Steps | None:
        self.refs -= 1
        if self.refs:
            return None
        return (self.on_release or self._release)(call)

    def _release(self, call: Call) -> Steps:
        self.released.append(call.name)
        yield from ()
        return 0

    def syscall(self, call: Call) -> Steps:
        return self.steps(call)


def submit(kernel: Kernel, steps: Callable[[Call], Steps], name: str = "task", *, file: Script | None = None) -> Call:
    return kernel.submit(cast("Caller", SomeTask(name)), file or Script(steps), "read", ())


def returning(value: int) -> Callable[[Call], Steps]:
    def steps(call: Call) -> Steps:
        yield from ()
        return value

    return steps


def unit(kernel: Kernel, name: str, steps: Steps) -> Unit:
    made = Unit(kernel, name, steps)
    kernel.make_ready(made, None)
    return made


class Log(list[str]):
    """What happened, in order."""

    def pausing(self, name: str, times: int) -> Steps:
        for i in range(times):
            self.append(f"{name}{i}")
            yield Point(name)


class TestCall:
    def test_nothing_happens_at_submit(self) -> None:
        kernel, log = kernel_of(), Log()

        def steps(call: Call) -> Steps:
            log.append("ran")
            yield from ()
            return 5

        call = submit(kernel, steps)
        assert (call.done, log) == (False, [])
        assert kernel.run()
        assert (call.done, call.ret, log) == (True, 5, ["ran"])

    def test_a_refusal_is_a_negative_errno_with_its_rule(self) -> None:
        kernel = kernel_of()

        def steps(call: Call) -> Steps:
            yield from ()
            raise fail("vfs.no-mmap")

        call = submit(kernel, steps)
        kernel.run()
        assert (call.ret, call.rule, call.handler_errno) == (-E.ENODEV, "vfs.no-mmap", E.ENODEV)

    def test_the_handler_s_own_errno_survives_what_the_caller_sees(self) -> None:
        kernel = kernel_of()

        def steps(call: Call) -> Steps:
            yield from ()
            raise KernelError(E.EFAULT, "vhost.msg.handler", E.EEXIST)

        call = submit(kernel, steps)
        kernel.run()
        assert (call.ret, call.handler_errno) == (-E.EFAULT, E.EEXIST)

    def test_who_waits_is_told_once(self) -> None:
        kernel, told = kernel_of(), list[Call]()
        call = submit(kernel, returning(1))
        call.on_done = told.append
        kernel.run()
        assert told == [call]

    def test_the_call_holds_its_file_until_it_returns(self) -> None:
        kernel, queue = kernel_of(), WaitQueue("q")

        def steps(call: Call) -> Steps:
            yield Sleep(queue)
            return 7

        file = Script(steps)
        call = submit(kernel, steps, file=file)
        kernel.run()
        file.put(call)  # the descriptor goes while the call sleeps
        assert file.released == []
        queue.wake_up()
        kernel.run()
        assert (call.ret, file.released) == (7, ["task"])

    def test_a_release_that_fails_does_not_change_the_result(self) -> None:
        kernel = kernel_of()

        def refuse(call: Call) -> Steps:
            yield from ()
            raise fail("vfs.no-read")

        file = Script(returning(3), refs=0, on_release=refuse)
        call = submit(kernel, file.steps, file=file)
        kernel.run()
        assert (call.ret, call.rule) == (3, None)


class TestCrash:
    """A handler that raises is a bug of this package."""

    @staticmethod
    def broken(mutex: Mutex) -> Callable[[Call], Steps]:
        def steps(call: Call) -> Steps:
            yield from mutex.lock()
            raise ZeroDivisionError("oops")

        return steps

    def test_it_is_an_internal_error_that_names_the_caller(self) -> None:
        kernel = kernel_of()
        submit(kernel, self.broken(Mutex(kernel, "m")), "vmm")
        with pytest.raises(InternalError, match=r"vmm failed .*ZeroDivisionError\('oops'\)"):
            kernel.run()

    def test_under_a_live_process_the_call_ends_with_eio_and_the_fault_is_told(self) -> None:
        kernel, events = kernel_of(live=True), list[Event]()
        kernel.sink = events.append
        call = submit(kernel, self.broken(Mutex(kernel, "m")), "vmm")
        assert kernel.run()
        assert call.ret == -E.EIO
        assert [event[4:] for event in events if event[3] == Kind.FAULT] == [
            ("vmm", "ZeroDivisionError('oops')", E.EIO)
        ]

    def test_its_mutexes_are_released(self) -> None:
        kernel = kernel_of(live=True)
        mutex = Mutex(kernel, "m")
        submit(kernel, self.broken(mutex))

        def later(call: Call) -> Steps:
            yield from mutex.lock()
            mutex.unlock()
            return 1

        after = submit(kernel, later)
        kernel.run()
        assert (after.ret, mutex.owner) == (1, None)

    def test_its_file_is_released(self) -> None:
        kernel = kernel_of(live=True)
        file = Script(self.broken(Mutex(kernel, "m")), refs=0)
        call = submit(kernel, file.steps, file=file)
        kernel.run()
        assert (call.ret, file.released) == (-E.EIO, ["task"])

    def test_a_release_that_crashes_ends_the_call_with_eio(self) -> None:
        kernel = kernel_of(live=True)
        file = Script(returning(0), refs=0, on_release=self.broken(Mutex(kernel, "m")))
        call = submit(kernel, file.steps, file=file)
        kernel.run()
        assert (call.done, call.ret) == (True, -E.EIO)

    def test_taking_a_mutex_twice_is_one_even_when_live(self) -> None:
        kernel = kernel_of(live=True)
        mutex = Mutex(kernel, "m")

        def steps(call: Call) -> Steps:
            yield from mutex.lock()
            yield from mutex.lock()

        call = submit(kernel, steps, "vmm")
        with pytest.raises(InternalError, match="vmm takes m twice"):
            kernel.run()
        assert (call.ret, mutex.owner) == (-E.EIO, None)

    def test_a_kernel_thread_may_not_end_in_a_refusal(self) -> None:
        kernel = kernel_of()

        def steps() -> Steps:
            yield Point("p")
            raise fail("vfs.no-read")

        unit(kernel, "worker", steps())
        with pytest.raises(InternalError, match=r"worker: vfs\.no-read escaped"):
            kernel.run()

    def test_a_yield_that_is_no_request_is_one(self) -> None:
        kernel = kernel_of()

        def steps() -> Steps:
            yield cast("Point", 42)

        unit(kernel, "odd", steps())
        with pytest.raises(InternalError, match=r"odd awaited 42"):
            kernel.run()


class TestRun:
    def test_units_take_turns_in_arrival_order(self) -> None:
        kernel, log = kernel_of(), Log()
        for name in "abc":
            unit(kernel, name, log.pausing(name, 2))
        kernel.run()
        assert log == ["a0", "b0", "c0", "a1", "b1", "c1"]

    def test_step_runs_the_unit_it_is_told_to(self) -> None:
        kernel, log = kernel_of(), Log()
        for name in "abc":
            unit(kernel, name, log.pausing(name, 1))
        kernel.step(2)
        kernel.step(1)
        assert log == ["c0", "b0"]
        assert [one.name for one in kernel.ready] == ["a", "c", "b"]

    def test_a_chooser_decides_which_is_next(self) -> None:
        kernel, log = kernel_of(chooser=lambda ready: len(ready) - 1), Log()
        for name in "ab":
            unit(kernel, name, log.pausing(name, 2))
        kernel.run()
        assert log == ["b0", "b1", "a0", "a1"]

    @given(st.lists(st.integers(0, 100), max_size=30))
    def test_every_choice_runs_every_unit_to_its_end(self, choices: list[int]) -> None:
        left = list(choices)
        kernel, log = kernel_of(chooser=lambda ready: (left.pop() if left else 0) % len(ready)), Log()
        for name in "abc":
            unit(kernel, name, log.pausing(name, 3))
        assert kernel.run()
        assert sorted(log) == [f"{name}{i}" for name in "abc" for i in range(3)]
        assert [one for one in log if one[0] == "a"] == ["a0", "a1", "a2"]

    @pytest.mark.parametrize(("limit", "idle"), [(0, False), (3, False), (4, True), (None, True)])
    def test_the_limit_counts_steps_and_the_answer_says_whether_work_is_left(
        self, limit: int | None, idle: bool
    ) -> None:
        kernel, log = kernel_of(), Log()
        unit(kernel, "a", log.pausing("a", 3))
        assert kernel.run(limit) is idle
        assert kernel.steps == (4 if idle else limit)

    def test_an_idle_kernel_is_idle_at_limit_0(self) -> None:
        assert kernel_of().run(0)

    def test_a_run_inside_a_step_only_returns(self) -> None:
        kernel, log = kernel_of(), Log()

        def nested() -> Steps:
            unit(kernel, "b", log.pausing("b", 1))
            assert not kernel.run()
            log.append("after")
            yield from ()

        unit(kernel, "a", nested())
        assert kernel.run()
        assert log == ["after", "b0"]

    def test_a_step_inside_a_step_leaves_the_outer_unit_current(self) -> None:
        kernel, log = kernel_of(), Log()

        def nested() -> Steps:
            inner = unit(kernel, "b", log.pausing("b", 1))
            kernel.step(kernel.ready.index(inner))
            assert kernel.current is outer
            yield from ()

        outer = unit(kernel, "a", nested())
        kernel.run()
        assert (log, kernel.current) == (["b0"], None)

    def test_a_kernel_that_raised_runs_again(self) -> None:
        kernel = kernel_of()

        def steps(call: Call) -> Steps:
            yield from ()
            raise ZeroDivisionError

        submit(kernel, steps)
        with pytest.raises(InternalError):
            kernel.run()
        call = submit(kernel, returning(2))
        assert kernel.run()
        assert call.ret == 2


class TestSleep:
    @staticmethod
    def sleeper(log: list[Any], request: Sleep) -> Callable[[Call], Steps]:
        def steps(call: Call) -> Steps:
            log.append((yield request))
            return 0

        return steps

    def test_a_queue_wakes_its_sleepers_first_come_first(self) -> None:
        kernel, queue, order = kernel_of(), WaitQueue("q"), []

        def steps(call: Call) -> Steps:
            why = yield Sleep(queue)
            order.append((call.name, why))
            return 0

        for name in "abc":
            submit(kernel, steps, name)
        kernel.run()
        assert order == []
        queue.wake_up()
        kernel.run()
        assert order == [("a", Woken.EVENT), ("b", Woken.EVENT), ("c", Woken.EVENT)]
        assert queue.sleepers == []

    def test_a_deadline_that_came_is_a_timeout_and_leaves_the_queue(self) -> None:
        kernel, queue, log = kernel_of(), WaitQueue("q"), list[Any]()
        submit(kernel, self.sleeper(log, Sleep(queue, deadline=50)))
        kernel.run()
        kernel.advance(49)
        kernel.run()
        assert (log, kernel.next_deadline) == ([], 50)
        kernel.advance(50)
        kernel.run()
        assert (log, queue.sleepers, kernel.next_deadline) == ([Woken.TIMEOUT], [], None)

    def test_who_was_woken_in_time_has_no_deadline_any_more(self) -> None:
        kernel, queue, log = kernel_of(), WaitQueue("q"), list[Any]()
        submit(kernel, self.sleeper(log, Sleep(queue, deadline=50)))
        kernel.run()
        queue.wake_up()
        assert kernel.next_deadline is None
        kernel.advance(100)
        kernel.run()
        assert log == [Woken.EVENT]

    def test_equal_deadlines_are_served_in_the_order_of_going_to_sleep(self) -> None:
        kernel, order = kernel_of(), []

        def steps(call: Call) -> Steps:
            yield Sleep(None, deadline=10)
            order.append(call.name)
            return 0

        for name in ("late", "b", "a"):
            submit(kernel, steps, name)
        kernel.run()
        kernel.advance(10)
        kernel.run()
        assert order == ["late", "b", "a"]

    def test_time_never_goes_back(self) -> None:
        kernel = kernel_of()
        kernel.advance(10)
        kernel.advance(3)
        assert kernel.now == 10

    @given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.integers(0, 20))
    def test_exactly_the_deadlines_that_came_are_served_in_time_order(self, deadlines: list[int], now: int) -> None:
        kernel, order = kernel_of(), list[int]()

        def steps(deadline: int) -> Steps:
            yield Sleep(None, deadline=deadline)
            order.append(deadline)

        for deadline in deadlines:
            unit(kernel, "s", steps(deadline))
        kernel.run()
        kernel.advance(now)
        kernel.run()
        assert order == sorted(deadline for deadline in deadlines if deadline <= now)
        later = [deadline for deadline in deadlines if deadline > now]
        assert kernel.next_deadline == (min(later) if later else None)


class TestInterrupt:
    def test_a_signal_ends_an_interruptible_sleep(self) -> None:
        kernel, queue, log = kernel_of(), WaitQueue("q"), list[Any]()
        call = submit(kernel, TestSleep.sleeper(log, Sleep(queue, interruptible=True)))
        kernel.run()
        kernel.interrupt(call)
        kernel.run()
        assert (log, queue.sleepers) == ([Woken.SIGNAL], [])

    def test_it_does_not_end_another_sleep_but_the_next_interruptible_one(self) -> None:
        kernel, queue, log = kernel_of(), WaitQueue("q"), list[Any]()

        def steps(call: Call) -> Steps:
            log.append((yield Sleep(queue)))
            log.append((yield Sleep(queue, interruptible=True)))
            log.append((yield Sleep(queue, interruptible=True)))
            return 0

        call = submit(kernel, steps)
        kernel.run()
        kernel.interrupt(call)
        kernel.run()
        assert log == []
        queue.wake_up()
        kernel.run()
        assert log == [Woken.EVENT, Woken.SIGNAL]
        queue.wake_up()
        kernel.run()
        assert log == [Woken.EVENT, Woken.SIGNAL, Woken.EVENT]


class TestMutex:
    @staticmethod
    def holder(mutex: Mutex, log: list[str], queue: WaitQueue | None = None) -> Callable[[Call], Steps]:
        def steps(call: Call) -> Steps:
            yield from mutex.lock()
            log.append(f"{call.name} in")
            yield Sleep(queue) if queue else Point("inside")
            log.append(f"{call.name} out")
            mutex.unlock()
            return 0

        return steps

    def test_one_holds_it_and_the_others_get_it_in_arrival_order(self) -> None:
        kernel, log = kernel_of(), list[str]()
        mutex = Mutex(kernel, "m")
        for name in "abc":
            submit(kernel, self.holder(mutex, log), name)
        kernel.run()
        assert log == ["a in", "a out", "b in", "b out", "c in", "c out"]

    def test_waiting_for_it_takes_no_signal(self) -> None:
        kernel, log, queue = kernel_of(), list[str](), WaitQueue("q")
        mutex = Mutex(kernel, "m")
        submit(kernel, self.holder(mutex, log, queue), "a")
        second = submit(kernel, self.holder(mutex, log), "b")
        kernel.run()
        kernel.interrupt(second)
        kernel.run()
        assert log == ["a in"]
        queue.wake_up()
        kernel.run()
        assert log == ["a in", "a out", "b in", "b out"]

    def test_it_is_known_to_its_owner(self) -> None:
        kernel, log, queue = kernel_of(), list[str](), WaitQueue("q")
        mutex = Mutex(kernel, "m")
        call = submit(kernel, self.holder(mutex, log, queue), "a")
        kernel.run()
        assert (mutex.owner, call.held) == (call, [mutex])
        queue.wake_up()
        kernel.run()
        assert (mutex.owner, call.held) == (None, [])

    def test_taking_it_is_a_schedule_point_only_when_asked(self) -> None:
        for points, steps in ((False, 2), (True, 4)):
            kernel = kernel_of(points=points)
            submit(kernel, self.holder(Mutex(kernel, "m"), []))
            kernel.run()
            assert kernel.steps == steps

    @given(st.lists(st.integers(0, 9), max_size=60), st.booleans())
    def test_two_are_never_inside_whatever_the_schedule(self, choices: list[int], points: bool) -> None:
        left = list(choices)
        kernel = kernel_of(points=points, chooser=lambda ready: (left.pop() if left else 0) % len(ready))
        mutex, log = Mutex(kernel, "m"), list[str]()
        for name in "abcd":
            submit(kernel, self.holder(mutex, log), name)
        kernel.run()
        assert len(log) == 8
        assert all(log[i].split()[0] == log[i + 1].split()[0] for i in range(0, 8, 2))


class TestWorker:
    @staticmethod
    def counting(log: list[str], name: str, then: Callable[[], None] | None = None) -> Work:
        def fn() -> Steps:
            log.append(name)
            if then:
                then()
            yield from ()

        return Work(fn)

    def test_a_work_that_is_queued_already_is_not_queued_again(self) -> None:
        kernel, log = kernel_of(), list[str]()
        worker, work = Worker(kernel, "w"), self.counting(log, "x")
        worker.queue(work)
        worker.queue(work)
        kernel.run()
        assert log == ["x"]
        worker.queue(work)
        kernel.run()
        assert log == ["x", "x"]

    def test_a_work_may_queue_itself_and_others_get_their_turn(self) -> None:
        kernel, log = kernel_of(), list[str]()
        worker = Worker(kernel, "w")
        left = iter(range(2))
        work = self.counting(log, "x", lambda: worker.queue(work) if next(left, None) is not None else None)
        worker.queue(work)
        worker.queue(self.counting(log, "y"))
        kernel.run()
        assert log == ["x", "y", "x", "x"]

    def test_works_run_in_order_one_step_each(self) -> None:
        kernel, log = kernel_of(), list[str]()
        worker = Worker(kernel, "w")
        for name in "abc":
            worker.queue(self.counting(log, name))
        kernel.step()
        assert log == ["a"]
        kernel.run()
        assert log == ["a", "b", "c"]

    def test_it_sleeps_when_there_is_nothing(self) -> None:
        kernel = kernel_of()
        worker = Worker(kernel, "w")
        worker.queue(self.counting([], "x"))
        kernel.run()
        assert (worker.running, kernel.ready) == (False, [])

    def test_stopped_it_drops_what_is_queued_and_takes_nothing(self) -> None:
        kernel, log = kernel_of(), list[str]()
        worker, work = Worker(kernel, "w"), self.counting(log, "x")
        worker.queue(work)
        worker.stop()
        assert not work.queued
        worker.queue(work)
        kernel.run()
        assert log == []

    def test_a_work_that_crashes_does_not_take_the_worker_along(self) -> None:
        kernel, log = kernel_of(live=True), list[str]()
        worker = Worker(kernel, "w")

        def explode() -> None:
            raise ZeroDivisionError

        worker.queue(self.counting(log, "bad", explode))
        worker.queue(self.counting(log, "good"))
        kernel.run()
        assert log == ["bad", "good"]
        worker.queue(self.counting(log, "later"))
        kernel.run()
        assert log == ["bad", "good", "later"]


class TestObservation:
    def test_without_a_sink_nothing_is_counted(self) -> None:
        kernel = kernel_of()
        submit(kernel, returning(0))
        kernel.run()
        assert kernel.seq == 0

    def test_a_call_is_an_enter_and_an_exit_with_rising_numbers(self) -> None:
        kernel, events = kernel_of(), list[Event]()
        kernel.sink = events.append
        kernel.advance(7)
        submit(kernel, returning(4), "vmm")
        kernel.run()
        assert events == [
            (1, 7, "vmm", Kind.ENTER, "read", "script", ()),
            (2, 7, "vmm", Kind.EXIT, "read", "script", 4, 0, None),
        ]

    def test_a_violation_is_kept_also_without_a_sink(self) -> None:
        kernel, events = kernel_of(), list[Event]()
        kernel.violation("kernel.oops", "one")
        kernel.sink = events.append
        kernel.violation("kernel.oops", "two")
        assert kernel.violations == [("kernel.oops", "one"), ("kernel.oops", "two")]
        assert events == [(1, 0, "-", Kind.VIOLATION, "kernel.oops", "two")]

    def test_names_are_numbered_per_stem(self) -> None:
        kernel = kernel_of()
        assert [kernel.name(stem) for stem in ("a", "b", "a")] == ["a-0", "b-0", "a-1"]

    def test_a_switch_is_asked_by_name(self) -> None:
        assert [kernel_of("6.12-F4").on(name) for name in ("F3", "F4")] == [True, False]

    def test_statistics_count_calls_steps_events_and_who_waits(self) -> None:
        kernel = kernel_of()
        kernel.sink = list[Event]().append
        submit(kernel, TestSleep.sleeper([], Sleep(None, deadline=5)))
        submit(kernel, returning(0))
        kernel.run()
        submit(kernel, returning(0))
        found = kernel.statistics()
        assert (found.calls, found.steps, found.events, found.ready, found.sleeping) == (3, 2, 4, 1, 1)
