"""Scenarios: stories in Python files, with an asserted verdict.

Theory. A scenario is an ``async def`` that gets a fresh :class:`~vdpasim.sim.Simulator` and awaits only what it
offers. The decorator says on which kernels it runs and which violation must be found; without ``expect`` any violation
fails it. A scenario *passes* when what was found is what was expected, so one that expects a bug fails when the bug is
gone. Where kernels differ, ``kernel={"7.1": "kernel.oops", "tip": ()}`` says what must be found on each, and a story
tells what only it can see by ``sim.violation``. ``with refused(errno.EFAULT, inside=errno.EEXIST):`` says that the
kernel must refuse what follows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

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
    """The ids of the violations that must be found, exactly these, on a kernel that ``expects`` does not name."""
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
    domain: dict[str, tuple[Any, ...]] = attrs.Factory(dict["str", "tuple[Any, ...]"])
    """The values of its parameters for which the verdict holds, a parameter each."""

    def expected(self, kernel: str) -> frozenset[str]:
        """The ids that must be found on a kernel."""
        return self.expects.get(kernel, self.expect)


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
        more = ((tags,) if isinstance(tags, str) else tags, {key: tuple(some) for key, some in (domain or {}).items()})
        return Scenario(body.__name__, doc, body, kernels, _ids(expect), *fixed, *more)

    return mark


def _ids(ids: str | tuple[str, ...]) -> frozenset[str]:
    return frozenset([ids] if isinstance(ids, str) else ids)


@contextmanager
def refused(errno: int, *, inside: int | None = None) -> Generator[None]:
    """A block that the simulated kernel must refuse.

    Args:
        errno: what the caller gets.
        inside: what the handler of an IOTLB message said; by default it is not looked at.

    Raises:
        AssertionError: nothing was refused, or with another errno.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno:
            raise AssertionError(f"{E.name(error.errno or 0)} where {E.name(errno)} was expected") from error
        said: int = getattr(error, "handler_errno", errno)
        if inside not in (None, said):
            raise AssertionError(f"{E.name(said)} inside where {E.name(inside or 0)} was expected") from error
    else:
        raise AssertionError(f"not refused, {E.name(errno)} was expected")


__all__ = ["Scenario", "refused", "scenario"]
