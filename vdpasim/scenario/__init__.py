"""Scenarios: stories in Python files, with an asserted verdict.

Theory. A scenario is an ``async def`` that gets a fresh :class:`~vdpasim.sim.Simulator` and awaits only what it
offers. The decorator says on which kernels it runs and which violation must be found; without ``expect`` any violation
fails it. A scenario *passes* when what was found is what was expected, so one that expects a bug fails when the bug is
gone. ``with refused(errno.EFAULT, inside=errno.EEXIST):`` says that the kernel must refuse what follows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """The ids of the violations that must be found, exactly these."""
    abi: str
    """The kernel's ABI."""
    demo: bool
    """Whether ``make demo`` shows it."""
    options: dict[str, int | bool]
    """Module options of vdpa_sim."""
    extensions: tuple[str, ...]
    """Device kinds no kernel has."""


def scenario(
    *,
    kernel: str | tuple[str, ...] = "tip",
    expect: str | tuple[str, ...] = (),
    abi: str = "x86_64",
    demo: bool = False,
    options: dict[str, int | bool] | None = None,
    extensions: tuple[str, ...] = (),
) -> Callable[[Body], Scenario]:
    """Mark ``async def story(sim, *, name=default)`` as a scenario; keyword parameters can be set from outside.

    Raises:
        TypeError: what is marked is no ``async def``.
    """
    kernels = (kernel,) if isinstance(kernel, str) else kernel
    expected = frozenset([expect] if isinstance(expect, str) else expect)

    def mark(body: Body) -> Scenario:
        if not inspect.iscoroutinefunction(body):
            raise TypeError(f"{body.__name__} is no async def")
        doc = (body.__doc__ or "").strip()
        return Scenario(body.__name__, doc, body, kernels, expected, abi, demo, dict(options or {}), extensions)

    return mark


@contextmanager
def refused(errno: int, *, inside: int | None = None) -> Iterator[None]:
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
        said = getattr(error, "handler_errno", error.errno)
        if inside not in (None, said):
            raise AssertionError(f"{E.name(said)} inside where {E.name(inside or 0)} was expected") from error
    else:
        raise AssertionError(f"not refused, {E.name(errno)} was expected")


__all__ = ["Scenario", "refused", "scenario"]
