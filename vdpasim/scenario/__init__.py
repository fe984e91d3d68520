"""Scenarios: stories in Python files, with an asserted verdict.

Theory. A scenario is an ``async def`` that gets a fresh :class:`~vdpasim.sim.Simulator` and awaits only what it offers.
The decorator says on which kernels it runs and which violation must be found; without ``expect`` any violation fails
it. A scenario *passes* when what was found is what was expected, so one that expects a bug fails when the bug is gone.
Where kernels differ, ``kernel={"7.1": "kernel.oops", "tip": ()}`` says what must be found on each; of a kernel that is
not named :mod:`.expectation` says which of them stands for it. For which values of its parameters the verdict holds,
``domain`` says: a range, words and yes or no are all there are, a tuple of numbers is a sample. A story tells what only
it can see by ``sim.violation``. ``with refused(errno.EFAULT, inside=errno.EEXIST):`` says that the kernel must refuse
what follows, ``with perhaps_refused(errno.EBUSY) as answer:`` that it may, so that a story can go on by what the kernel
does and need not know which one it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.scenario.expectation import stands_for
from vdpasim.sim.faults import parse
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Generator

Body = Callable[..., Coroutine[Any, Any, Any]]


@attrs.frozen
class Scenario:
    """One story."""

    name: str
    doc: str
    body: Body
    kernels: tuple[str, ...]
    """Profile strings it runs on, each a run of its own."""
    expect: frozenset[str]
    """The ids of the violations that must be found, exactly these, on a kernel for which no other stands."""
    abi: str
    """The kernel's ABI."""
    demo: bool
    """Whether ``make demo`` shows it."""
    options: dict[str, int | bool]
    """Module options of vdpa_sim."""
    extensions: tuple[str, ...]
    """Device kinds no kernel has."""
    expects: dict[str, frozenset[str]] = attrs.Factory(dict["str", "frozenset[str]"])
    """The same for one kernel."""
    faults: tuple[str, ...] = ()
    """What goes wrong, in the notation of ``vdpasim faults``."""
    tags: tuple[str, ...] = ()
    """What it belongs to: a number of the live-update catalogue (``LU12``), an objection (``objection:same-pages``)."""
    domain: dict[str, Sequence[Any]] = attrs.Factory(dict["str", "Sequence[Any]"])
    """The values of its parameters for which the verdict holds, a parameter each; see :mod:`.settings`."""

    def expected(self, kernel: str) -> frozenset[str]:
        """The ids that must be found on a kernel: its own, those of a kernel that stands for it, else :attr:`expect`.

        One that has the same series and options stands for it; ``live-update-fixed`` for a series of a user's own; a
        kernel without any series for the same one with a series of which the story says nothing.
        """
        name = stands_for(kernel, self.expects) if self.expects else None
        return self.expect if name is None else self.expects[name]


def scenario(
    *,
    kernel: str | tuple[str, ...] | Mapping[str, str | tuple[str, ...]] = "tip",
    expect: str | tuple[str, ...] = (),
    abi: str = "x86_64",
    demo: bool = False,
    options: dict[str, int | bool] | None = None,
    extensions: tuple[str, ...] = (),
    faults: str | tuple[str, ...] = (),
    tags: str | tuple[str, ...] = (),
    domain: Mapping[str, Iterable[Any]] | None = None,
) -> Callable[[Body], Scenario]:
    """Mark ``async def story(sim, *, name=default)`` as a scenario; keyword parameters can be set from outside.

    Raises:
        TypeError: what is marked is no ``async def``, or the domain is of a parameter it does not have.
        UsageError: a fault that is none.
    """
    kernels = (kernel,) if isinstance(kernel, str) else tuple(kernel)
    expects = {name: _ids(ids) for name, ids in kernel.items()} if isinstance(kernel, Mapping) else {}
    planned = tuple(str(parse(one)) for one in ([faults] if isinstance(faults, str) else faults))

    def mark(body: Body) -> Scenario:
        if not inspect.iscoroutinefunction(body):
            raise TypeError(f"{body.__name__} is no async def")
        unknown = set(domain or {}) - set(inspect.signature(body).parameters)
        if unknown:
            raise TypeError(f"{body.__name__} has no parameter {', '.join(sorted(unknown))}")
        doc = (body.__doc__ or "").strip()
        fixed = (abi, demo, dict(options or {}), extensions, expects, planned)
        more = ((tags,) if isinstance(tags, str) else tags, _domain(domain or {}))
        return Scenario(body.__name__, doc, body, kernels, _ids(expect), *fixed, *more)

    return mark


def _domain(given: Mapping[str, Iterable[Any]]) -> dict[str, Sequence[Any]]:
    # a range says more than its values: that they are all
    return {name: values if isinstance(values, range) else tuple(values) for name, values in given.items()}


def _ids(ids: str | tuple[str, ...]) -> frozenset[str]:
    return frozenset([ids] if isinstance(ids, str) else ids)


@attrs.define
class Answer:
    """What the kernel said to a block that it might refuse."""

    error: OSError | None = None

    @property
    def refused(self) -> bool:
        """Whether it refused."""
        return self.error is not None

    @property
    def rule(self) -> str:
        """The rule it refused by; empty if it did not."""
        return getattr(self.error, "rule", None) or ""


@contextmanager
def perhaps_refused(errno: int, *, inside: int | None = None) -> Generator[Answer]:
    """A block that the simulated kernel may refuse; what it said is known behind it.

    Args:
        errno: what the caller gets, if it does.
        inside: what the handler of an IOTLB message said then; by default it is not looked at.

    Raises:
        AssertionError: it was refused with another errno.
    """
    answer = Answer()
    try:
        yield answer
    except OSError as error:
        if error.errno != errno:
            raise AssertionError(f"{E.name(error.errno or 0)} where {E.name(errno)} was expected") from error
        said: int = getattr(error, "handler_errno", errno)
        if inside not in (None, said):
            raise AssertionError(f"{E.name(said)} inside where {E.name(inside or 0)} was expected") from error
        answer.error = error


@contextmanager
def refused(errno: int, *, inside: int | None = None, rule: str = "") -> Generator[None]:
    """A block that the simulated kernel must refuse.

    Args:
        errno: what the caller gets.
        inside: what the handler of an IOTLB message said; by default it is not looked at.
        rule: the rule it refuses by, where one errno has many reasons; by default it is not looked at.

    Raises:
        AssertionError: nothing was refused, or with another errno, or by another rule.
    """
    with perhaps_refused(errno, inside=inside) as answer:
        yield
    if not answer.refused:
        raise AssertionError(f"not refused, {E.name(errno)} was expected")
    if rule not in ("", answer.rule):
        raise AssertionError(f"refused by {answer.rule or 'no rule'} where {rule} was expected") from answer.error


__all__ = ["Answer", "Scenario", "perhaps_refused", "refused", "scenario"]
