"""The families of errors that users meet, and how a refusal of the simulated kernel becomes an OSError.

Theory. When the simulated kernel says no, the caller gets a plain :class:`OSError` with the kernel's errno, so code
written for the real device runs unchanged; ``rule`` and ``handler_errno`` are attributes and a note. A subclass would
lose Python's mapping of errnos to exception types, so there is none. The other families are the caller's misuse of
this package (:class:`UsageError`) and a bug of this package (``InternalError``); a bug found by the simulation is no
error but a finding of a check.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from vdpasim.core.rules import RULES, KernelError
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Generator

    from vdpasim.core.kernel import Call


class VdpasimError(Exception):
    """Base of the errors that are about this package, not about the simulated kernel."""


class UsageError(VdpasimError):
    """The package was used in a way it is not made for; the message says how."""


class WouldBlock(VdpasimError):
    """A ``_nowait`` call would have to wait; it was interrupted and nothing was consumed."""


class Deadlock(VdpasimError):
    """Nothing can run and no timer is set; the message lists who waits for what."""


class Livelock(VdpasimError):
    """The step limit was reached: work feeds itself; the message lists who is still ready."""


def os_error(errno: int, rule: str | None = None, handler_errno: int = 0) -> OSError:
    """The OSError of a refusal, with the rule attached."""
    error = OSError(errno, E.strerror(errno))
    error.rule = rule  # type: ignore[attr-defined]
    error.handler_errno = handler_errno or errno  # type: ignore[attr-defined]
    known = RULES.get(rule or "")
    if known is not None:
        error.add_note(f"{known.id}: {known.where}: {known.when}")
    if handler_errno and handler_errno != errno:
        error.add_note(f"the handler said {E.name(handler_errno)}")
    return error


def call_error(call: Call) -> OSError:
    """The OSError of a finished call that failed."""
    return os_error(-call.ret, call.rule, call.handler_errno)


def kernel_error(error: KernelError) -> OSError:
    """The OSError of a refusal that did not come through a call (management, memory of a process, the short write)."""
    return os_error(error.errno, error.rule, error.handler_errno)


@contextmanager
def os_errors() -> Generator[None]:
    """Around what no call of the kernel does: its refusals become OSErrors."""
    try:
        yield
    except KernelError as error:
        raise kernel_error(error) from None
