"""Barriers: keep a unit where it stands until the story says go on.

Theory. Every schedule point has a stable name. ``hold = sim.hold("vhost-net-0.read.copied")`` switches points on and
keeps the first unit that reaches this one; ``await hold.reached()`` waits until it is there, ``hold.release()`` makes
it ready again. So a story can open a window of two accesses and do in it what a race would do, without a chooser and
without luck. A unit that is kept is not ready: :meth:`Simulator.settle` does not wait for it.

A hold keeps one unit, once. Its end, as a ``with`` statement's, releases it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from vdpasim.core.kernel import Point, Sleep, Unit, WaitQueue
from vdpasim.sim import hosts
from vdpasim.sim.errors import UsageError
from vdpasim.sim.journal import Recorder, journaled

if TYPE_CHECKING:
    from vdpasim.core.kernel import Kernel


class Holds(list["Hold"]):
    """The barrier of a kernel: the holds that are not released; the last one made is asked first."""

    def __call__(self, unit: Unit, point: Point) -> bool:
        return any(hold.arrive(unit, point) for hold in reversed(self))


class Hold:
    """One barrier."""

    def __init__(self, kernel: Kernel, point: str, number: int = 0) -> None:
        self.kernel = kernel
        self.point = point
        self.key: list[Any] = ["hold", number]
        """What a journal calls it."""
        self.unit: Unit | None = None
        """Who is kept."""
        self.released = False
        self.queue = WaitQueue(f"hold {point}")
        if not isinstance(kernel.barrier, Holds):
            kernel.barrier = Holds()
        kernel.barrier.append(self)
        kernel.points = True

    def arrive(self, unit: Unit, point: Point) -> bool:
        """Whether this one keeps it."""
        if point.name != self.point or self.unit is not None:
            return False
        self.unit = unit
        self.queue.wake_up()
        return True

    async def reached(self) -> str:
        """Wait, as an actor, until a unit is kept; its name."""
        while self.unit is None:
            if self.released:
                raise UsageError(f"the hold at {self.point} was released before anybody came")
            await hosts.suspend(Sleep(self.queue))
        return self.unit.name

    @property
    def recorder(self) -> Recorder | None:
        """Who writes the journal."""
        journal = self.kernel.journal
        return journal if isinstance(journal, Recorder) else None

    @journaled
    def release(self) -> None:
        """Let it go on, or let the next one pass that would have been kept."""
        if self.released:
            return
        self.released = True
        holds = self.kernel.barrier
        if isinstance(holds, Holds):
            holds.remove(self)
            if not holds:
                self.kernel.barrier = None
        self.queue.wake_up()
        if self.unit is not None:
            self.kernel.make_ready(self.unit, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
