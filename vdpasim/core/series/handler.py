"""Handlers made of named steps, so that a series can take one from another and change a single step.

Theory. What answers a request is a list of steps, each a function of one context; the first that raises ends it. A
patch that moves a call, adds a check or drops one is the same list with that step moved, added or dropped, and says so
by name::

    V3 = V2.derive("v3", "...", messages={VHOST_IOTLB_REMAP: REMAP_V2.moved("push", behind="store")})

A step is named for its function. :func:`mainline` is a step too: what the kernel does without the series.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from vdpasim.core.kernel import InternalError
from vdpasim.core.rules import KernelError

if TYPE_CHECKING:
    from vdpasim.core.kernel import Call
    from vdpasim.core.ports import Caller, Mm
    from vdpasim.core.uaccess import UserBuffer
    from vdpasim.core.vhost.iotlb import Iotlb, IotlbMap
    from vdpasim.core.vhost.vdpa import VhostVdpa
    from vdpasim.core.vhost.vhost_msg import IotlbMsg


class SeriesError(InternalError):
    """A step raised what is no refusal of a kernel; the message names the series, the step and the error."""


NO_MAINLINE = "mainline has nothing for a request or message of the series' own"


@attrs.define
class Request:
    """An ioctl under way."""

    v: VhostVdpa
    call: Call
    arg: UserBuffer
    mainline: Callable[[VhostVdpa, Call, UserBuffer], None] | None
    """What answers it without the series; None for a request of the series' own."""
    kept: dict[str, Any]
    """What the series remembers of this open file, from request to request."""
    old: Mm | None = None
    """NEW_OWNER: the owner so far, once that is known."""
    pinned: int = 0
    """NEW_OWNER: pages that move from one owner's account to the other's."""

    def run_mainline(self) -> None:
        """Let the kernel answer as it does without the series."""
        if self.mainline is None:
            raise ValueError(NO_MAINLINE)
        self.mainline(self.v, self.call, self.arg)


@attrs.define
class IotlbMessage:
    """An IOTLB message under way; the writer is the owner, and the address space exists."""

    v: VhostVdpa
    task: Caller
    asid: int
    msg: IotlbMsg
    mainline: Callable[[VhostVdpa, Caller, int, IotlbMsg], None] | None
    """What answers it without the series; None for a type of the series' own."""
    kept: dict[str, Any]
    """What the series remembers of this open file, from message to message."""
    entries: list[IotlbMap] = attrs.Factory(list["IotlbMap"])
    """REMAP: what gets another address, once that is known."""

    def run_mainline(self) -> None:
        """Let the kernel answer as it does without the series."""
        if self.mainline is None:
            raise ValueError(NO_MAINLINE)
        self.mainline(self.v, self.task, self.asid, self.msg)

    @property
    def table(self) -> Iotlb:
        """The address space's."""
        return self.v.spaces.tables[self.asid]


C = TypeVar("C")
Step = tuple[str, Callable[[C], None]]
"""A name and what is done."""


@attrs.frozen
class Handler(Generic[C]):
    """Steps in their order; each method gives a changed copy."""

    steps: tuple[Step[C], ...]

    def __call__(self, context: C) -> None:
        for name, step in self.steps:
            try:
                step(context)
            except (KernelError, InternalError):
                raise
            except Exception as error:
                raise SeriesError(f"its step {name} failed: {type(error).__name__}: {error}") from error

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(name for name, _ in self.steps)

    def without(self, name: str) -> Handler[C]:
        """One step less.

        Raises:
            ValueError: there is no such step; the message names those there are.
        """
        at = self.at(name)
        return Handler((*self.steps[:at], *self.steps[at + 1 :]))

    def replaced(self, name: str, step: Callable[[C], None]) -> Handler[C]:
        """Another function in the place of a step; the name stays. Raises as :meth:`without`."""
        at = self.at(name)
        return Handler((*self.steps[:at], (name, step), *self.steps[at + 1 :]))

    def added(
        self, step: Callable[[C], None], *, before: str | None = None, behind: str | None = None
    ) -> Handler[C]:
        """One step more, before or behind a named one, at the end if neither is given. Raises as :meth:`without`."""
        return Handler(_put(self, (step.__name__, step), before, behind))

    def moved(self, name: str, *, before: str | None = None, behind: str | None = None) -> Handler[C]:
        """A step at another place, at the end if none is given. Raises as :meth:`without`."""
        step = self.steps[self.at(name)]
        return Handler(_put(self.without(name), step, before, behind))

    def at(self, name: str) -> int:
        """The position of a step. Raises as :meth:`without`."""
        if name not in self.names:
            raise ValueError(f"there is no step {name!r}; there are {', '.join(self.names)}")
        return self.names.index(name)


def handler(*steps: Callable[[C], None]) -> Handler[C]:
    """These steps, named for their functions."""
    return Handler(tuple((step.__name__, step) for step in steps))


def _put(handled: Handler[C], one: Step[C], before: str | None, behind: str | None) -> tuple[Step[C], ...]:
    if before is not None and behind is not None:
        raise ValueError("before or behind, not both")
    at = len(handled.steps)
    if before is not None:
        at = handled.at(before)
    elif behind is not None:
        at = handled.at(behind) + 1
    return (*handled.steps[:at], one, *handled.steps[at:])


def mainline(context: Request | IotlbMessage) -> None:
    """A step: what the kernel does without the series.

    Raises:
        ValueError: it knows no such request or message.
    """
    context.run_mainline()
