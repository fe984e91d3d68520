"""Every schedule, or every one up to equal ones: depth first, without keeping states, with sleep sets.

Theory. A node of the tree is a run's prefix with a choice behind it; a piece of work is a node with the threads that
need not be tried there (its *sleep set*, Godefroid 1996). Doing it replays the prefix, takes the first thread that is
awake, and goes on so to the end. For every node it passed, at most one new piece shows up: the same node with what was
just taken asleep. On the way a sleeper wakes up when a step touches something that its own next step touches
(``footprint.py``); a node where everybody sleeps is broken off, as its runs differ from others only in the order of
steps whose order nobody can see. So exactly one run of each class is seen to its end, and no outcome is missed.

With a bound on preemptions nobody sleeps: the equal run that a sleeper stands for may need more of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.explore.execute import Pruned
from vdpasim.explore.footprint import ANY, Footprint, independent

if TYPE_CHECKING:
    from vdpasim.explore.strategy import Ran, Settings, Work

Sleepers = dict[str, Footprint]


@attrs.define
class Node:
    """A choice that was passed on the way."""

    prefix: tuple[int, ...]
    """The choices before it."""
    sleepers: Sleepers
    thread: str
    """What was taken."""
    footprint: Footprint = ANY
    """What that touched."""


class DfsPolicy:
    """One run: the prefix, then always the first that is awake."""

    def __init__(self, work: Work, *, preemptions: int | None = None, reduce: bool = True) -> None:
        self.footprints = reduce and preemptions is None
        self.preemptions = preemptions
        self.prefix: list[int] = work["prefix"]
        self.asleep: Sleepers = {thread: frozenset(touched) for thread, touched in work["sleep"]}
        """Who sleeps at the node behind the prefix."""
        self.sleepers: Sleepers = {}
        self.done: list[int] = []
        self.nodes: list[Node] = []
        self.open: Node | None = None
        """A node whose step is under way."""
        self.preempted = 0
        self.last = ""

    def choose(self, threads: list[str], labels: list[str]) -> int:
        at = len(self.done)
        choice = self.prefix[at] if at < len(self.prefix) else self._decide(threads)
        self.preempted += choice != 0 and threads[0] == self.last
        self.last = threads[choice]
        self.done.append(choice)
        return choice

    def _decide(self, threads: list[str]) -> int:
        if len(self.done) == len(self.prefix):
            self.sleepers = self.asleep
        spent = self.preemptions is not None and self.preempted >= self.preemptions
        allowed = threads[:1] if spent and threads[0] == self.last else threads
        awake = [thread for thread in allowed if thread not in self.sleepers]
        if not awake:
            raise Pruned
        if len(awake) > 1:
            self.open = Node(tuple(self.done), self.sleepers, awake[0])
            self.nodes.append(self.open)
        if not self.footprints:
            self.sleepers = {}
        return threads.index(awake[0])

    def forced(self, thread: str) -> None:
        self.last = thread
        if thread in self.sleepers:
            raise Pruned

    def stepped(self, thread: str, footprint: Footprint) -> None:
        if self.open is not None:
            self.open.footprint = footprint
            self.open = None
        if self.sleepers:
            self.sleepers = {who: own for who, own in self.sleepers.items() if independent(own, footprint)}

    def finish(self) -> None:
        """Nothing to check."""

    def children(self) -> list[Work]:
        """The nodes on the way, with what was taken asleep."""
        return [_work(node.prefix, {**node.sleepers, node.thread: node.footprint}) for node in self.nodes]


def _work(prefix: tuple[int, ...], sleepers: Sleepers) -> Work:
    return {"prefix": list(prefix), "sleep": [[thread, sorted(touched)] for thread, touched in sleepers.items()]}


class DfsStrategy:
    """The whole tree, the deepest node first."""

    reduce = True

    def __init__(self, settings: Settings) -> None:
        self.stack: list[Work] = [_work((), {})]
        self.under_way = 0

    @property
    def complete(self) -> bool:
        """Nothing is left to be tried."""
        return not self.stack and not self.under_way

    def take(self, limit: int) -> list[Work]:
        first = max(0, len(self.stack) - limit)
        taken = self.stack[first:][::-1]
        del self.stack[first:]
        self.under_way += len(taken)
        return taken

    def put(self, work: Work, ran: Ran) -> None:
        self.under_way -= 1
        self.stack += ran.children

    @classmethod
    def policy(cls, settings: Settings, work: Work) -> DfsPolicy:
        """The policy of one piece of work."""
        return DfsPolicy(work, preemptions=settings.preemptions, reduce=cls.reduce)


class FullStrategy(DfsStrategy):
    """Without sleep sets: what :class:`DfsStrategy` is held against in tests."""

    reduce = False
