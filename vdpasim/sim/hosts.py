"""Three ways to wait for a call: an actor in the kernel's own loop, a trio task, or not at all.

Theory. The kernel's ready queue is the only scheduler. A source submits a call, runs the kernel to idle in its own
stack, and parks only if its call is not done. An *actor* is an ``async def`` whose coroutine is a unit in that queue,
so a scenario's order is the kernel's and nobody else's; it may await only what this package gives it. A *trio task*
parks on trio; cancellation is a signal for the call: an interruptible wait is left with nothing consumed, a mutex is
waited for. The checkpoint comes before the effect, so a cancelled call has not happened.

Virtual time under trio follows trio's clock: a parked call whose kernel sleeps until a deadline lets trio sleep that
long.
"""

from __future__ import annotations

from types import coroutine
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import attrs

from vdpasim.core.kernel import Call, Kernel, Point, Request, Sleep, Unit, WaitQueue, Woken
from vdpasim.sim.errors import Deadlock, Livelock, UsageError, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    import trio

    from vdpasim.core.rules import KernelError

SETTLE = Point("settle")

STEP_LIMIT = 1_000_000
"""Steps of one run before it is called a livelock."""


@coroutine
def suspend(request: Request) -> Generator[Request, Woken | None, Woken | None]:
    """Hand a request to the kernel's loop; only actors may await it."""
    return (yield request)


@attrs.define(eq=False)
class Actor(Unit):
    """An ``async def`` of a scenario, as a unit of the ready queue."""

    finished: WaitQueue = attrs.Factory(lambda: WaitQueue("actor"))
    done: bool = False
    result: Any = None
    error: BaseException | None = None
    call: Call | None = None
    """The call it waits for."""
    daemon: bool = False
    """It does not keep a run going."""
    number: int = 0
    """Number of the actor among those of its parent, from 0."""

    def finish(self, value: Any) -> None:
        self.result = value
        self._end(self.error)

    def refuse(self, error: KernelError) -> None:
        self._end(error)

    def abandon(self) -> None:
        self._end(UsageError(f"actor {self.name} did not end by itself"))

    def _end(self, error: BaseException | None) -> None:
        self.error = error
        self.done = True
        self.finished.wake_up()

    async def join(self) -> Any:
        """Wait until the actor has ended; its result, or its error raised."""
        while not self.done:
            await suspend(Sleep(self.finished))
        if self.error is not None:
            raise self.error
        return self.result


@attrs.define(eq=False)
class _Script:
    # the coroutine of an actor; an error in it is the scenario's, not the kernel's: keep it, do not let the step crash
    actor: Actor
    main: Coroutine[Any, Any, Any]

    def send(self, value: Woken | None, /) -> Any:
        actor = self.actor
        try:
            request = self.main.send(value)
            if not isinstance(request, Point | Sleep):
                self.main.throw(UsageError(f"actor {actor.name} awaited {request!r}, which is not vdpasim's"))
                self.main.close()
                raise UsageError(f"actor {actor.name} went on after awaiting what is not vdpasim's")
        except StopIteration:
            raise
        except RuntimeError as error:
            actor.error = _foreign(actor, error)
        except Exception as error:  # noqa: BLE001 - kept for who joins the actor
            actor.error = error
        else:
            return request
        raise StopIteration(None)

    def close(self) -> None:
        self.main.close()


def _foreign(actor: Actor, error: RuntimeError) -> Exception:
    # trio and asyncio say only that they do not run here
    if not any(words in str(error) for words in ("async context", "running event loop")):
        return error
    refusal = UsageError(f"actor {actor.name} awaited what is not vdpasim's: {error}")
    refusal.__cause__ = error
    return refusal


def spawn(kernel: Kernel, main: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...], name: str) -> Actor:
    """Make an actor ready; it runs at the next step."""
    actor = Actor(kernel, name)
    actor.gen = _Script(actor, main(*args))
    parent = actor.parent = kernel.current
    if parent is not None:
        actor.number = parent.actors
        parent.actors += 1
    kernel.make_ready(actor, None)
    return actor


def current_actor(kernel: Kernel) -> Actor | None:
    """The actor whose step this is, None outside the kernel's loop."""
    return kernel.current if isinstance(kernel.current, Actor) else None


def run_idle(kernel: Kernel, limit: int = STEP_LIMIT) -> None:
    """Run until nothing is ready.

    Raises:
        Livelock: the limit was reached.
    """
    if not kernel.running and not kernel.run(limit):
        names = sorted({unit.name for unit in kernel.ready})
        raise Livelock(f"after {limit} steps still ready: {', '.join(names)}")


def run_until(kernel: Kernel, done: Callable[[], bool], waiting: Callable[[], list[Unit]]) -> None:
    """Run, advancing virtual time when nothing is ready, until ``done``.

    Raises:
        Deadlock: nothing is ready and nobody sleeps until a time.
        Livelock: the step limit was reached.
    """
    while True:
        run_idle(kernel)
        if done():
            return
        deadline = kernel.next_deadline
        if deadline is None:
            raise Deadlock("; ".join(describe(unit) for unit in waiting()) or "nothing is left that could run")
        kernel.advance(deadline)


def describe(unit: Unit) -> str:
    """Who waits for what, in one clause."""
    if isinstance(unit, Actor) and unit.call is not None:
        return f"actor {unit.name}, {describe(unit.call)}"
    queue = unit.sleep.queue if unit.sleep else None
    what = f"{unit.op}({unit.file})" if isinstance(unit, Call) else "actor"
    return f"{unit.name}: {what} waits for {queue.name if queue else 'nothing'}"


async def wait(kernel: Kernel, submit: Callable[[], Call], *, must: bool = False) -> Call:
    """Submit a call and wait for it, as the actor or trio task that runs.

    A call that ``must`` happen (a close) is made by a cancelled trio task all the same, which is cancelled afterwards.
    """
    actor = current_actor(kernel)
    if actor is None:
        return await _wait_trio(kernel, submit, must=must)
    actor.call = call = submit()
    while not call.done:
        await suspend(Sleep(call.finished))
    actor.call = None
    return call


async def _wait_trio(kernel: Kernel, submit: Callable[[], Call], *, must: bool) -> Call:
    import trio  # noqa: PLC0415 - scenarios run without trio, and it is slow to import

    if not trio.lowlevel.in_trio_task():
        raise UsageError("awaited outside of an actor and of trio: plain code uses the _nowait form")
    if not must:
        await trio.lowlevel.checkpoint()
    _follow_clock(kernel, trio.current_time())
    call = submit()
    run_idle(kernel)
    while True:
        _follow_clock(kernel, trio.current_time())
        if call.done:
            break
        deadline = kernel.next_deadline
        with trio.move_on_after(float("inf") if deadline is None else (deadline - kernel.now) / 1e9) as scope:
            await _park(kernel, call, scope, must=must)
        if scope.cancelled_caught and deadline is not None:
            kernel.advance(deadline)
            run_idle(kernel)
    if must:
        await trio.lowlevel.checkpoint()
    return call


_time_zero: WeakKeyDictionary[Kernel, float] = WeakKeyDictionary()
"""Where on trio's clock the kernel's time began, while anybody sleeps until a time."""


def _follow_clock(kernel: Kernel, seconds: float) -> None:
    # virtual time runs with trio's only while somebody waits for it, so a program without timeouts sees time 0
    if kernel.next_deadline is None or kernel not in _time_zero:
        _time_zero[kernel] = seconds - kernel.now / 1e9
    else:
        kernel.advance(round((seconds - _time_zero[kernel]) * 1e9))
        run_idle(kernel)


async def _park(kernel: Kernel, call: Call, timer: trio.CancelScope, *, must: bool) -> None:
    import trio  # noqa: PLC0415 - scenarios run without trio, and it is slow to import

    task = trio.lowlevel.current_task()

    def done(_: Call) -> None:
        call.on_done = None
        trio.lowlevel.reschedule(task)

    def abort(_: object) -> trio.lowlevel.Abort:
        # our own timer's cancellation must not interrupt the call; a real one is a signal
        call.on_done = None
        if timer.cancel_called:
            return trio.lowlevel.Abort.SUCCEEDED
        sleep = call.sleep
        if must or sleep is None or not sleep.interruptible:
            call.on_done = done
            return trio.lowlevel.Abort.FAILED
        kernel.interrupt(call)
        run_idle(kernel)
        return trio.lowlevel.Abort.SUCCEEDED

    call.on_done = done
    await trio.lowlevel.wait_task_rescheduled(abort)


def call_nowait(kernel: Kernel, submit: Callable[[], Call]) -> Call:
    """Submit a call and run the kernel; the call must end without waiting.

    Raises:
        WouldBlock: it would have to wait; it was interrupted.
    """
    if kernel.lazy_workers:
        run_idle(kernel)
    call = submit()
    _run_for(kernel, call)
    if call.done:
        return call
    waiting = describe(call)
    kernel.interrupt(call)
    _run_for(kernel, call)
    if not call.done:
        raise UsageError(f"{describe(call)}, which no signal ends; the call goes on in the background")
    raise WouldBlock(waiting)


def _run_for(kernel: Kernel, call: Call) -> None:
    # from inside an actor's step the loop cannot be run, but the call itself can go on until it has to wait
    if not kernel.lazy_workers:
        run_idle(kernel)
    while (kernel.running or kernel.lazy_workers) and not call.done and call in kernel.ready:
        kernel.step(kernel.ready.index(call))
