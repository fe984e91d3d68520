"""The kernel object: one ready queue of resumable calls and workers, and the few ways to wait.

Theory. System call handlers and kernel threads are generators. A ``yield`` means "another may run": at a named schedule
point, on a wait queue, or until a time. Between two yields a handler runs alone, so what it calls (IOTLB, decode, pin,
ring access) is atomic. ``step(i)`` runs the i-th ready unit to its next yield; ``run()`` steps the first until none is
ready. Whoever holds the kernel decides the order, which is why one scheduler serves scenarios, trio and a live process.

A generator yields one of

=================  =======================================================================
:class:`Point`     a named place where a switch may happen; only while ``kernel.points``
:class:`Sleep`     wait on a queue, until a deadline, or both; may be interruptible
=================  =======================================================================

and is resumed with a :class:`Woken`. A finished :class:`Call` is its own outcome: ``ret`` as the kernel returns it
(negative errno on failure), ``rule`` which check refused, ``handler_errno`` what the handler said before the write path
turned it into EFAULT. Nothing here knows a clock: time is whatever ``advance`` was told last.

Not modelled: processors (steps are atomic and sequentially consistent), priorities, real signals beyond "interrupted".
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import attrs

from vdpasim.core.events import Event, Kind
from vdpasim.core.rules import KernelError
from vdpasim.uapi import errno as E
from vdpasim.uapi.abi import X86_64, Abi

if TYPE_CHECKING:
    from vdpasim.core.ports import Caller, FaultPort, JournalPort
    from vdpasim.core.switches import Switches


class InternalError(Exception):
    """A handler raised something that is not a kernel refusal: a bug of this package, please report it."""


class Woken(enum.Enum):
    """Why a sleeper runs again."""

    EVENT = "event"
    TIMEOUT = "timeout"
    SIGNAL = "signal"


class Point(NamedTuple):
    """A schedule point. Names are stable: stored schedules refer to them."""

    name: str


class Sleep(NamedTuple):
    """Leave the processor until the queue is woken, the deadline passes or, if allowed, a signal arrives."""

    queue: WaitQueue | None
    interruptible: bool = False
    deadline: int | None = None


Request = Point | Sleep
Steps = Generator[Request, Woken | None, Any]
"""What a handler is: yields requests, is sent why it runs again, returns its result."""


class Resumable(Protocol):
    """What a unit steps: a generator, or a coroutine (whose ``send`` is the same)."""

    def send(self, value: Woken | None, /) -> Any:
        """Run to the next yield."""

    def close(self) -> None:
        """Abandon."""


@attrs.define(eq=False)
class WaitQueue:
    """Sleepers in arrival order (``wait_queue_head_t``)."""

    name: str
    sleepers: list[Unit] = attrs.Factory(list["Unit"])

    def wake_up(self) -> None:
        """Make every sleeper ready, first come first."""
        sleepers, self.sleepers = self.sleepers, []
        for unit in sleepers:
            unit.kernel.make_ready(unit, Woken.EVENT)


@attrs.define(eq=False)
class Mutex:
    """A sleeping lock, granted in arrival order, waited for without signals (``struct mutex``)."""

    kernel: Kernel
    name: str
    owner: Unit | None = None
    queue: WaitQueue = attrs.field(init=False)
    before: Point = attrs.field(init=False)
    behind: Point = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.queue = WaitQueue(self.name)
        self.before, self.behind = Point(self.name + ".lock"), Point(self.name + ".locked")

    def lock(self) -> Steps:
        """Take the lock; a step of the caller's generator. Others may run before it is taken, and while it is held."""
        kernel = self.kernel
        unit = kernel.current
        if kernel.points:
            if unit is not None:
                unit.wants = self
            yield self.before
        while self.owner is not None and self.owner is not unit:
            yield Sleep(self.queue)
        if self.owner is unit and unit is not None:
            raise InternalError(f"{unit.name} takes {self.name} twice")
        self.owner = unit
        if unit is not None:
            unit.held.append(self)
            unit.wants = None
        if kernel.points:
            yield self.behind

    def unlock(self) -> None:
        """Give the lock back and wake who waits."""
        if self.owner is not None:
            self.owner.held.remove(self)
        self.owner = None
        if self.queue.sleepers:
            self.queue.wake_up()


@attrs.define(eq=False)
class Unit:
    """Something the scheduler can run: a call, a worker, an actor of a scenario."""

    kernel: Kernel
    name: str
    gen: Resumable | None = None
    woken: Woken | None = None
    sleep: Sleep | None = None
    held: list[Mutex] = attrs.Factory(list["Mutex"])
    signal_pending: bool = False
    parent: Unit | None = None
    """Whose step made it, None outside of the loop; a schedule knows a unit by its parents."""
    actors: int = 0
    """Actors it has made so far."""
    point: Point | None = None
    """Where it stands, None unless that is a schedule point."""
    wants: Mutex | None = None
    """The mutex it stands before or waits for; only while points are on."""

    def finish(self, value: Any) -> None:
        """The generator returned."""

    def refuse(self, error: KernelError) -> None:
        """The generator ended in a kernel refusal."""
        raise InternalError(f"{self.name}: {error.rule} escaped from a kernel thread") from error

    def abandon(self) -> None:
        """The generator ended in a bug of ours."""


@attrs.define(eq=False)
class Call(Unit):
    """One system call in progress, and its outcome."""

    task: Caller = attrs.field(kw_only=True)
    file: Any = attrs.field(kw_only=True)
    op: str = attrs.field(kw_only=True)
    args: tuple[Any, ...] = attrs.field(kw_only=True)
    ret: int = 0
    out: Any = None
    """What the call hands back beside the number: bytes read, the opened file."""
    rule: str | None = None
    handler_errno: int = 0
    done: bool = False
    result: int | None = None
    """Result of the handler, kept while the last reference to the file is being released."""
    finished: WaitQueue = attrs.field(init=False)
    on_done: Callable[[Call], None] | None = None

    def __attrs_post_init__(self) -> None:
        self.finished = WaitQueue("call")

    def finish(self, value: Any) -> None:
        self._leave(int(value or 0))

    def refuse(self, error: KernelError) -> None:
        if self.result is None:
            self.rule = error.rule
            self.handler_errno = error.handler_errno
        self._leave(-error.errno)

    def abandon(self) -> None:
        if self.result is None:
            self._leave(-E.EIO)
        else:
            self.complete(-E.EIO)

    def _leave(self, ret: int) -> None:
        # the call's own reference to the file is dropped before it returns to user space; it may be the last
        if self.result is None:
            self.result = ret
            release = self.file.put(self)
            if release is not None:
                self.gen = release
                self.kernel.make_ready(self, None)
                return
        self.complete(self.result)

    def complete(self, ret: int) -> None:
        """Store the result and tell who waits."""
        self.ret = ret
        self.done = True
        kernel = self.kernel
        if kernel.sink:
            kernel.emit(Kind.EXIT, self.op, str(self.file), ret, self.handler_errno, self.rule)
        self.finished.wake_up()
        if self.on_done is not None:
            self.on_done(self)


@attrs.define(eq=False)
class Work:
    """A piece of work a worker runs; queued at most once (``struct vhost_work``, ``struct kthread_work``)."""

    fn: Callable[[], Steps]
    queued: bool = False


@attrs.define(eq=False)
class Worker(Unit):
    """A kernel thread that runs queued works in order and sleeps when there are none."""

    works: deque[Work] = attrs.Factory(deque["Work"])
    running: bool = False
    stopped: bool = False

    def queue(self, work: Work) -> None:
        """Queue the work unless it is queued already."""
        if work.queued or self.stopped:
            return
        work.queued = True
        self.works.append(work)
        if not self.running:
            self._start()

    def _start(self) -> None:
        self.running = True
        self.gen = self._main()
        self.kernel.make_ready(self, None)

    def stop(self) -> None:
        """Take no more work and drop what is queued (``kthread_stop`` after the last flush)."""
        self.stopped = True
        for work in self.works:
            work.queued = False
        self.works.clear()

    def _main(self) -> Steps:
        while self.works:
            work = self.works.popleft()
            work.queued = False
            yield from work.fn()
            if self.works:
                yield Point(self.name + ".next")

    def finish(self, value: Any) -> None:
        self.running = False

    def abandon(self) -> None:
        # the work that failed is lost, those behind it are not
        self.running = False
        if self.works:
            self._start()


@attrs.frozen
class KernelStatistics:
    """Counts of one kernel object."""

    calls: int
    """System calls submitted; messages written in one step are not among them."""
    steps: int
    """Units run to their next yield."""
    events: int
    """Events handed to the sink."""
    ready: int
    """Units that could run now."""
    sleeping: int
    """Deadlines somebody waits for."""


Sink = Callable[[Event], None]
Chooser = Callable[[list[Unit]], int]
Barrier = Callable[[Unit, Point], bool]


@attrs.define(eq=False)
class Kernel:
    """The simulated kernel. See the module docstring; one instance is one machine."""

    switches: Switches
    abi: Abi = X86_64
    ready: list[Unit] = attrs.Factory(list["Unit"])
    now: int = 0
    """Virtual time in nanoseconds."""
    sink: Sink | None = None
    chooser: Chooser | None = None
    barrier: Barrier | None = None
    """Whether a unit that has reached a point is kept there; who says so makes it ready again."""
    points: bool = False
    lazy_workers: bool = False
    """A synchronous caller goes on when its call is done; workers it woke run before its next call. Off: at once."""
    live: bool = False
    """A real process is attached: a bug of ours ends the call with EIO instead of raising."""
    seq: int = 0
    steps: int = 0
    calls: int = 0
    naps: int = 0
    """Sleeps with a deadline so far: breaks ties between equal deadlines."""
    current: Unit | None = None
    running: bool = False
    timers: list[tuple[int, int, Unit, Sleep]] = attrs.Factory(list["tuple[int, int, Unit, Sleep]"])
    names: dict[str, int] = attrs.Factory(dict["str", "int"])
    serials: Iterator[int] = attrs.Factory(lambda: count(1))
    """Serial numbers of the entries of every vhost-vdpa table, so that events name an entry by one number."""
    violations: list[tuple[str, str]] = attrs.Factory(list["tuple[str, str]"])
    """(id, text) of every :meth:`violation`, also without a sink."""
    faults: FaultPort | None = None
    """Decides what goes wrong, see ``core/faults.py``; drivers ask it only while it is set."""
    journal: JournalPort | None = None
    """Is told of everything that goes in, before it has an effect."""

    # -- what goes in

    def submit(self, task: Caller, file: Any, op: str, args: tuple[Any, ...]) -> Call:
        """Queue one system call of a task on an open file (or device, for ``open``); it runs at the next step.

        ``op`` and ``args`` are those of :class:`vdpasim.core.fs.file.OpenFile`.
        """
        call = Call(self, task.name, task=task, file=file, op=op, args=args)
        if self.journal is not None:
            self.journal.submitted(call)
        if self.sink:
            self.emit(Kind.ENTER, op, str(file), args, unit=task.name)
        file.get()
        self.calls += 1
        call.gen = file.syscall(call)
        call.parent = self.current
        self.ready.append(call)
        return call

    def advance(self, time: int) -> None:
        """Move virtual time forward; sleepers whose deadline has come become ready."""
        if self.journal is not None:
            self.journal.advanced(time)
        self.now = max(self.now, time)
        timers = self.timers
        while timers and timers[0][0] <= self.now:
            _, _, unit, sleep = heapq.heappop(timers)
            if unit.sleep is sleep:
                self._leave_queue(unit)
                self.make_ready(unit, Woken.TIMEOUT)

    def interrupt(self, call: Unit) -> None:
        """A signal for the task: ends an interruptible sleep, is remembered otherwise."""
        if self.journal is not None:
            self.journal.interrupted(call)
        sleep = call.sleep
        if sleep is not None and sleep.interruptible:
            self._leave_queue(call)
            self.make_ready(call, Woken.SIGNAL)
        else:
            call.signal_pending = True

    @property
    def next_deadline(self) -> int | None:
        """The earliest time somebody sleeps until, None if nobody does."""
        timers = self.timers
        while timers and timers[0][2].sleep is not timers[0][3]:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def statistics(self) -> KernelStatistics:
        """Counts so far."""
        return KernelStatistics(self.calls, self.steps, self.seq, len(self.ready), len(self.timers))

    # -- running

    def make_ready(self, unit: Unit, why: Woken | None) -> None:
        """Put a unit at the tail of the ready queue."""
        unit.sleep = None
        unit.woken = why
        self.ready.append(unit)

    def step(self, index: int = 0) -> None:
        """Run the index-th ready unit to its next yield; also from inside another unit's step."""
        if self.journal is not None:
            self.journal.stepped(index)
        unit = self.ready.pop(index)
        self.steps += 1
        outer, self.current = self.current, unit
        try:
            assert unit.gen is not None
            request = unit.gen.send(unit.woken)
        except StopIteration as stop:
            unit.finish(stop.value)
        except KernelError as error:
            unit.refuse(error)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is a bug of ours, see _crash
            self._crash(unit, error)
        else:
            self._park(unit, request)
        finally:
            self.current = outer

    def run(self, limit: int | None = None) -> bool:
        """Step until nothing is ready, or ``limit`` steps; whether nothing is ready.

        A call from inside a step only returns: what a port calls back is queued for the run that is under way.
        """
        if self.running:
            return False
        self.running = True
        try:
            ready = self.ready
            while ready:
                if limit is not None:
                    if limit == 0:
                        return False
                    limit -= 1
                self.step(self.chooser(ready) if self.chooser else 0)
        finally:
            self.running = False
        return True

    def emit(self, kind: Kind, *fields: Any, unit: str | None = None) -> None:
        """Hand one event to the sink; call only when ``sink`` is set."""
        self.seq += 1
        name = unit or (self.current.name if self.current else "-")
        if self.sink:
            self.sink((self.seq, self.now, name, kind, *fields))

    def violation(self, ident: str, text: str) -> None:
        """Report memory-unsafe behaviour the real kernel would have shown; it is never performed."""
        self.violations.append((ident, text))
        if self.sink:
            self.emit(Kind.VIOLATION, ident, text)

    def name(self, stem: str) -> str:
        """The next name ``stem-0``, ``stem-1`` … of this kernel."""
        number = self.names.get(stem, 0)
        self.names[stem] = number + 1
        return f"{stem}-{number}"

    @property
    def observed(self) -> bool:
        """Whether somebody wants to see, or to come between, the single accesses of a device."""
        return self.points or self.sink is not None or self.faults is not None

    def on(self, switch: str) -> bool:
        """Whether a behaviour switch is on."""
        return switch in self.switches

    # -- inside

    def _park(self, unit: Unit, request: object) -> None:
        if type(request) is Point:
            unit.point = request
            if self.barrier is None or not self.barrier(unit, request):
                self.make_ready(unit, None)
            return
        unit.point = None
        if type(request) is not Sleep:
            self._crash(unit, TypeError(f"{unit.name} awaited {request!r}, which is not vdpasim's"))
            return
        if request.interruptible and unit.signal_pending:
            unit.signal_pending = False
            self.make_ready(unit, Woken.SIGNAL)
            return
        unit.sleep = request
        if request.queue is not None:
            request.queue.sleepers.append(unit)
        if request.deadline is not None:
            self.naps += 1
            heapq.heappush(self.timers, (request.deadline, self.naps, unit, request))

    def _leave_queue(self, unit: Unit) -> None:
        if unit.sleep is not None and unit.sleep.queue is not None and unit in unit.sleep.queue.sleepers:
            unit.sleep.queue.sleepers.remove(unit)

    def _crash(self, unit: Unit, error: Exception) -> None:
        for mutex in list(unit.held):
            mutex.unlock()
        unit.abandon()
        if isinstance(error, InternalError):
            raise error
        if not self.live:
            raise InternalError(f"{unit.name} failed inside the simulated kernel: {error!r}") from error
        if self.sink:
            self.emit(Kind.FAULT, unit.name, repr(error), E.EIO)
