"""Three ways to wait for a call: in an actor, in a trio task, not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import trio
import trio.testing

from vdpasim.core.kernel import Sleep, Steps, Unit, WaitQueue, Work, Worker
from vdpasim.sim import Deadlock, File, InternalError, Livelock, Simulator, UsageError, WouldBlock, hosts
from vdpasim.uapi import errno as E
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.transport import run_sync

SECOND = 1_000_000_000


def word(value: int) -> bytes:
    return value.to_bytes(8, "little")


def blocking_eventfd(sim: Simulator, name: str = "vmm") -> File:
    return sim.process(name).eventfd(flags=0)


class TestActors:
    def test_a_result_comes_back(self) -> None:
        async def main(sim: Simulator) -> int:
            return 42

        assert Simulator().run(main) == 42

    def test_an_error_comes_back_as_it_was_raised(self) -> None:
        async def main(sim: Simulator) -> None:
            raise ZeroDivisionError("mine")

        with pytest.raises(ZeroDivisionError, match="mine"):
            Simulator().run(main)

    def test_a_failed_assertion_is_not_lost(self) -> None:
        async def main(sim: Simulator) -> None:
            assert sim.kernel.now == 1, "time"

        with pytest.raises(AssertionError, match="time"):
            Simulator().run(main)

    def test_an_error_of_another_actor_comes_back_too(self) -> None:
        async def other() -> None:
            raise ZeroDivisionError("theirs")

        async def main(sim: Simulator) -> None:
            sim.spawn(other)

        with pytest.raises(ZeroDivisionError, match="theirs"):
            Simulator().run(main)

    def test_join_gives_the_result_or_raises_the_error(self) -> None:
        async def value() -> int:
            return 7

        async def main(sim: Simulator) -> int:
            return int(await sim.spawn(value).join())

        assert Simulator().run(main) == 7

    def test_a_joined_error_is_the_same_object(self) -> None:
        error = ValueError("kept")

        async def bad() -> None:
            raise error

        async def main(sim: Simulator) -> bool:
            try:
                await sim.spawn(bad).join()
            except ValueError as caught:
                return caught is error
            return False

        sim = Simulator()
        with pytest.raises(ValueError, match="kept"):
            sim.run(main)  # it is still an error of the run

    def test_who_waits_for_a_failed_actor_is_no_deadlock(self) -> None:
        async def writer() -> None:
            raise ZeroDivisionError("before the write")

        async def main(sim: Simulator) -> None:
            sim.spawn(writer)
            await blocking_eventfd(sim).read(8)

        with pytest.raises(ZeroDivisionError, match="before the write") as caught:
            Simulator().run(main)
        assert "read(eventfd-0)" in caught.value.__notes__[-1]

    def test_a_blocking_read_is_woken_by_another_actor(self) -> None:
        async def writer(file: File) -> None:
            await file.write(word(3))

        async def main(sim: Simulator) -> bytes:
            file = blocking_eventfd(sim)
            sim.spawn(writer, file)
            return bytes(await file.read(8))

        assert Simulator().run(main) == word(3)

    def test_actors_take_turns_in_arrival_order(self) -> None:
        order: list[str] = []

        async def actor(sim: Simulator, name: str) -> None:
            for i in range(2):
                order.append(f"{name}{i}")
                await sim.process(name).eventfd(1).read(8)

        async def main(sim: Simulator) -> None:
            for name in "ab":
                sim.spawn(actor, sim, name)

        Simulator().run(main)
        assert order == ["a0", "b0", "a1", "b1"]

    def test_sleeping_takes_virtual_time_only(self) -> None:
        async def main(sim: Simulator) -> int:
            await sim.sleep(3600 * SECOND)
            return sim.kernel.now

        assert Simulator().run(main) == 3600 * SECOND

    def test_settle_waits_for_calls_and_devices_not_for_actors(self) -> None:
        async def main(sim: Simulator) -> int:
            worker, done = Worker(sim.kernel, "w"), list[int]()

            def fn() -> Steps:
                for i in range(3):
                    done.append(i)
                    yield hosts.SETTLE

            worker.queue(Work(fn))
            await sim.settle()
            return len(done)

        assert Simulator().run(main) == 3

    def test_the_same_program_has_the_same_events_every_time(self) -> None:
        async def actor(file: File) -> None:
            await file.write(word(1))
            await file.poll(POLLIN, 5)

        async def main(sim: Simulator) -> None:
            file = blocking_eventfd(sim)
            for _ in range(3):
                sim.spawn(actor, file)
            await file.read(8)

        runs = []
        for _ in range(2):
            sim, events = Simulator(), list[Any]()
            sim.listen(lambda event, kept=events: kept.append(repr(event)))  # type: ignore[misc]
            sim.run(main)
            runs.append(events)
        assert runs[0] == runs[1]
        assert len(runs[0]) > 10


class TestForeignAwaits:
    """What is not vdpasim's cannot be waited for in the kernel's loop; the error says which actor tried."""

    def test_trio_outside_trio(self) -> None:
        async def stray() -> None:
            await trio.sleep(1)

        async def main(sim: Simulator) -> None:
            sim.spawn(stray, name="migration")

        with pytest.raises(UsageError, match="actor migration awaited what is not vdpasim's"):
            Simulator().run(main)

    async def test_trio_inside_trio(self) -> None:
        async def stray() -> None:
            await trio.sleep(1)

        async def main(sim: Simulator) -> None:
            sim.spawn(stray, name="migration")

        with pytest.raises(UsageError, match="actor migration awaited"):
            Simulator().run(main)
        await trio.lowlevel.checkpoint()

    def test_asyncio(self) -> None:
        async def main(sim: Simulator) -> None:
            await asyncio.sleep(1)

        with pytest.raises(UsageError, match=r"actor main awaited .*no running event loop"):
            Simulator().run(main)

    def test_a_bare_yield(self) -> None:
        async def main(sim: Simulator) -> None:
            await asyncio.sleep(0)

        with pytest.raises(UsageError, match="actor main awaited None"):
            Simulator().run(main)

    def test_the_actor_s_own_clean_up_runs(self) -> None:
        cleaned: list[str] = []

        async def main(sim: Simulator) -> None:
            try:
                await asyncio.sleep(0)
            finally:
                cleaned.append("up")

        with pytest.raises(UsageError):
            Simulator().run(main)
        assert cleaned == ["up"]

    def test_an_actor_that_swallows_the_error_and_goes_on_is_stopped(self) -> None:
        async def main(sim: Simulator) -> None:
            for _ in range(2):
                try:
                    await asyncio.sleep(0)
                except UsageError:
                    continue

        with pytest.raises(UsageError, match="main went on after awaiting"):
            Simulator().run(main)

    def test_a_runtime_error_of_its_own_is_left_alone(self) -> None:
        async def main(sim: Simulator) -> None:
            raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match=r"^mine$"):
            Simulator().run(main)


class TestNowaitInAnActor:
    def test_the_call_is_made_in_the_actor_s_own_step(self) -> None:
        async def main(sim: Simulator) -> tuple[bytes, int]:
            file = sim.process("vmm").eventfd(2)
            steps = sim.kernel.steps
            file.write_nowait(word(3))
            data = file.read_nowait(8)
            assert sim.kernel.current is not None
            assert sim.kernel.current.name == "main"
            file.close_nowait()
            return data, sim.kernel.steps - steps

        assert Simulator().run(main) == (word(5), 4)  # the close has a second step, the release

    def test_what_would_wait_is_wouldblock_and_the_actor_goes_on(self) -> None:
        async def main(sim: Simulator) -> bytes:
            file = blocking_eventfd(sim)
            with pytest.raises(WouldBlock, match=r"vmm: read\(eventfd-0\) waits for eventfd"):
                file.read_nowait(8)
            await file.write(word(1))
            return bytes(await file.read(8))

        assert Simulator().run(main) == word(1)

    def test_other_units_do_not_run_meanwhile(self) -> None:
        async def main(sim: Simulator) -> list[str]:
            order: list[str] = []

            async def other() -> None:
                order.append("other")

            sim.spawn(other)
            sim.process("vmm").eventfd(1).read_nowait(8)
            order.append("main")
            return order

        assert Simulator().run(main)[0] == "main"


class TestDeadlock:
    def test_it_says_who_waits_for_what(self) -> None:
        async def reader(file: File) -> None:
            await file.read(8)

        async def main(sim: Simulator) -> None:
            sim.spawn(reader, blocking_eventfd(sim, "one"), name="first")
            sim.spawn(reader, blocking_eventfd(sim, "two"), name="second")

        with pytest.raises(Deadlock) as caught:
            Simulator().run(main)
        assert str(caught.value) == (
            "actor first, one: read(eventfd-0) waits for eventfd; actor second, two: read(eventfd-1) waits for eventfd"
        )

    def test_a_join_that_cannot_end_is_one(self) -> None:
        async def main(sim: Simulator) -> None:
            me = sim.spawn(other, sim, name="other")
            await me.join()

        async def other(sim: Simulator) -> None:
            await blocking_eventfd(sim).read(8)

        with pytest.raises(Deadlock, match="main: actor waits for actor; actor other, vmm: read"):
            Simulator().run(main)

    def test_a_deadline_is_none(self) -> None:
        async def main(sim: Simulator) -> int:
            return await blocking_eventfd(sim).poll(POLLIN, 10)

        assert Simulator().run(main) == 0


class TestLivelock:
    def test_work_that_feeds_itself_is_named(self) -> None:
        sim = Simulator()
        worker = Worker(sim.kernel, "device.worker")

        def fn() -> Steps:
            worker.queue(work)
            yield from ()

        work = Work(fn)
        worker.queue(work)
        with pytest.raises(Livelock, match=r"after 50 steps still ready: device\.worker"):
            hosts.run_idle(sim.kernel, 50)

    def test_inside_a_step_nothing_is_run(self) -> None:
        sim = Simulator()
        Worker(sim.kernel, "w").queue(Work(lambda: iter(())))  # type: ignore[arg-type, return-value]
        sim.kernel.running = True
        hosts.run_idle(sim.kernel, 0)
        assert len(sim.kernel.ready) == 1


class TestNowait:
    def test_a_wait_that_no_signal_ends_is_said_to_go_on(self) -> None:
        sim = Simulator()
        process, queue = sim.process("vmm"), WaitQueue("forever")

        class Stuck:
            def __str__(self) -> str:
                return "stuck"

            def get(self) -> None: ...

            def put(self, call: object) -> None: ...

            def syscall(self, call: object) -> Steps:
                yield Sleep(queue)

        with pytest.raises(UsageError, match=r"vmm: read\(stuck\) waits for forever, which no signal ends"):
            hosts.call_nowait(sim.kernel, lambda: sim.kernel.submit(process.task, Stuck(), "read", ()))

    def test_a_unit_that_is_no_call_is_described_too(self) -> None:
        sim = Simulator()
        assert hosts.describe(Unit(sim.kernel, "x")) == "x: actor waits for nothing"


class TestPlainCode:
    def test_awaiting_is_refused_with_the_way_out(self) -> None:
        file = Simulator().process("vmm").eventfd(1)
        with pytest.raises(UsageError, match="plain code uses the _nowait form"):
            run_sync(file.read(8))
        with pytest.raises(UsageError, match="plain code uses the _nowait form"):
            asyncio.run(file.read(8))
        assert file.read_nowait(8) == word(1)


class TestTrio:
    async def test_a_call_that_need_not_wait_does_not_park(self) -> None:
        sim = Simulator()
        file = sim.process("vmm").eventfd(4)
        assert await file.read(8) == word(4)

    async def test_every_call_is_a_checkpoint(self) -> None:
        file = Simulator().process("vmm").eventfd(1)
        with trio.testing.assert_checkpoints():
            await file.read(8)
        with trio.testing.assert_checkpoints():
            await file.aclose()

    async def test_the_checkpoint_comes_before_the_effect(self) -> None:
        file = Simulator().process("vmm").eventfd(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await file.read(8)
        assert scope.cancelled_caught
        assert file.read_nowait(8) == word(1)

    async def test_a_blocking_read_is_woken_by_a_write_of_another_task(self) -> None:
        file = blocking_eventfd(Simulator())
        got: list[bytes] = []

        async def read() -> None:
            got.append(await file.read(8))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert got == []
            await file.write(word(9))
        assert got == [word(9)]

    async def test_a_write_from_plain_code_wakes_it_too(self) -> None:
        file = blocking_eventfd(Simulator())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.read, 8)
            await trio.testing.wait_all_tasks_blocked()
            file.write_nowait(word(1))
        assert file.poll_nowait(POLLIN) == 0

    async def test_cancelling_a_blocked_read_consumes_nothing(self) -> None:
        file = blocking_eventfd(Simulator())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.read, 8)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        file.write_nowait(word(2))
        assert file.read_nowait(8) == word(2)
        assert file.open_file.refs == 1

    async def test_a_wait_for_a_mutex_cannot_be_cancelled(self) -> None:
        sim = Simulator()
        sim.vdpa.dev_add("foo", mgmtdev="vdpasim_blk")
        process = sim.process("vmm")
        file = await process.open("/dev/vhost-vdpa-0")
        mutex = file.open_file.ops.mutex
        assert mutex is not None
        holder = Unit(sim.kernel, "holder")
        mutex.owner = holder
        holder.held.append(mutex)
        outcome: list[object] = []

        async def call() -> None:
            outcome.append(await file.ioctl(0xAF01))
            outcome.append("not cancelled here")
            await trio.lowlevel.checkpoint()
            outcome.append("never")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
            assert outcome == []
            mutex.unlock()
            sim.run_idle()
        assert outcome == [0, "not cancelled here"]

    async def test_a_cancelled_close_closes(self) -> None:
        sim = Simulator()
        sim.vdpa.dev_add("foo", mgmtdev="vdpasim_blk")
        process = sim.process("vmm")
        file = await process.open("/dev/vhost-vdpa-0")
        with trio.CancelScope() as scope:
            scope.cancel()
            await file.aclose()
        assert scope.cancelled_caught
        await (await process.open("/dev/vhost-vdpa-0")).aclose()

    async def test_async_with_closes_once(self) -> None:
        process = Simulator().process("vmm")
        async with process.eventfd() as file:
            await file.write(word(1))
        assert process.task.files.slots == {}
        async with process.eventfd() as file:
            await file.aclose()

    async def test_many_processes_and_files_at_once(self) -> None:
        sim, got = Simulator(), list[int]()
        files = [blocking_eventfd(sim, f"vmm{i}") for i in range(20)]

        async def read(file: File) -> None:
            got.append(int.from_bytes(await file.read(8), "little"))

        async with trio.open_nursery() as nursery:
            for file in files:
                nursery.start_soon(read, file)
            await trio.testing.wait_all_tasks_blocked()
            for i, file in enumerate(files):
                nursery.start_soon(file.write, word(i + 1))
        assert sorted(got) == list(range(1, 21))

    async def test_a_refusal_in_a_nursery_keeps_its_note_and_rule(self) -> None:
        sim = Simulator()
        process = sim.process("vmm")
        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.open, "/dev/vhost-vdpa-7")
        (error,) = caught.value.exceptions
        assert isinstance(error, FileNotFoundError)
        assert error.errno == E.ENOENT
        assert error.rule == "vfs.no-device"  # type: ignore[attr-defined]
        assert error.__notes__[0].startswith("vfs.no-device: ")

    async def test_a_bug_of_ours_reaches_the_task_that_called(self) -> None:
        sim = Simulator()
        file = sim.process("vmm").eventfd()

        def broken(*args: object) -> None:
            raise ZeroDivisionError

        file.open_file.ops.read = broken  # type: ignore[method-assign, assignment]
        with pytest.raises(InternalError):
            await file.read(8)


class TestTrioAndTime:
    async def test_a_poll_ends_at_its_timeout_on_trio_s_clock(self, autojump_clock: trio.testing.MockClock) -> None:
        file = blocking_eventfd(Simulator())
        assert await file.poll(POLLIN, 5 * SECOND) == 0
        assert trio.current_time() == 5

    async def test_an_event_before_the_timeout_ends_it_early(self, autojump_clock: trio.testing.MockClock) -> None:
        file = blocking_eventfd(Simulator())

        async def write() -> None:
            await trio.sleep(2)
            await file.write(word(1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            assert await file.poll(POLLIN, 5 * SECOND) == POLLIN
            assert trio.current_time() == 2

    async def test_each_poll_waits_its_own_time_however_late_it_began(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        sim, ends = Simulator(), dict[str, float]()

        async def poll(name: str, start: float, timeout: int) -> None:
            await trio.sleep(start)
            assert await blocking_eventfd(sim, name).poll(POLLIN, timeout * SECOND) == 0
            ends[name] = trio.current_time()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll, "a", 0, 10)
            nursery.start_soon(poll, "b", 5, 10)
            nursery.start_soon(poll, "c", 6, 1)
            nursery.start_soon(poll, "d", 100, 10)
        assert ends == {"a": 10, "b": 15, "c": 7, "d": 110}

    async def test_a_poll_without_timeout_survives_another_s_timeout(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        sim = Simulator()
        file, other = blocking_eventfd(sim, "a"), blocking_eventfd(sim, "b")

        async def write() -> None:
            await trio.sleep(3)
            await file.write(word(1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.poll, POLLIN, SECOND)
            nursery.start_soon(write)
            assert await file.poll(POLLIN) == POLLIN
        assert trio.current_time() == 3

    async def test_cancelling_a_poll_with_timeout_is_a_cancellation(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        file = blocking_eventfd(Simulator())
        with trio.move_on_after(1) as scope:
            await file.poll(POLLIN, 5 * SECOND)
        assert scope.cancelled_caught
        assert trio.current_time() == 1
        assert file.open_file.refs == 1

    async def test_a_program_without_timeouts_stays_at_time_0(self, autojump_clock: trio.testing.MockClock) -> None:
        sim = Simulator()
        file = blocking_eventfd(sim)

        async def write() -> None:
            await trio.sleep(60)
            await file.write(word(1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await file.read(8)
        assert sim.kernel.now == 0
