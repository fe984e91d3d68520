"""Where a fault plan meets the drivers: fail, wait, or get lost (no kernel file; cf. ``fault-inject.h``).

Theory. Drivers know nothing of plans. Where an operation begins they ask one of four questions, and only while
``kernel.faults`` is set, so that a kernel without a plan pays one test:

=================  =============================================  ================================
:func:`befall`     requests, messages, open: they may sleep       fails, is late, or is swallowed
:func:`swallow`    set_map, dma_map, dma_unmap, MISS: atomic      fails, or is swallowed
:func:`deflect`    kick, call, config: nobody waits for them      comes later, or never
:func:`cut_short`  DMA                                            moves no byte
=================  =============================================  ================================

All go through :func:`strike`, the one place that asks the plan and tells the trace: a ``FAULT`` event stands where a
fault struck, in the notation of plans (``kick:drop``). A fault that fails an operation does so before anything of it
was done. A call that a fault delays sleeps interruptibly, so that a signal ends it with nothing done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.events import Kind
from vdpasim.core.kernel import Kernel, Sleep, Steps, Unit, Woken
from vdpasim.core.rules import KernelError, fail, hit
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.ports import Strike

RULE = "fault.injected"


def strike(kernel: Kernel, op: str, device: str) -> Strike | None:
    """What befalls this occurrence of an operation; reported here."""
    if kernel.faults is None:
        return None
    struck = kernel.faults.strike(op, device)
    if struck is not None:
        hit(RULE)
        if kernel.sink:
            kernel.emit(Kind.FAULT, device, f"{op}:{action(struck)}", struck.errno)
    return struck


def action(struck: Strike) -> str:
    """What a strike does, as plans spell it: ``EIO``, ``delay=5000ns``, ``drop``, several joined by ``+``."""
    words = [f"delay={struck.delay_ns}ns"] if struck.delay_ns else []
    if struck.errno:
        words.append(E.name(struck.errno).partition("(")[0])
    elif struck.drop:
        words.append("drop")
    return "+".join(words)


def befall(kernel: Kernel, op: str, device: str) -> Steps:
    """Before an operation of a call, which may have to wait: whether it is swallowed.

    Raises:
        KernelError: the plan makes it fail; EINTR, a signal ended the wait.
    """
    struck = strike(kernel, op, device)
    if struck is None:
        return False
    if struck.delay_ns:
        why = yield Sleep(None, interruptible=True, deadline=kernel.now + struck.delay_ns)
        if why is Woken.SIGNAL:
            raise fail("vfs.signal")
    return _outcome(struck)


def swallow(kernel: Kernel, op: str, device: str) -> bool:
    """Before an operation that cannot wait: whether it is swallowed.

    Raises:
        KernelError: the plan makes it fail.
    """
    struck = strike(kernel, op, device)
    return struck is not None and _outcome(struck)


def _outcome(struck: Strike) -> bool:
    if struck.errno:
        raise KernelError(struck.errno, RULE)
    return struck.drop


def deflect(kernel: Kernel, op: str, device: str, deliver: Callable[[], None]) -> bool:
    """Before a notification: whether it does not go its way now. If it is only late, ``deliver`` is called then."""
    struck = strike(kernel, op, device)
    if struck is None:
        return False
    if struck.delay_ns and not struck.drop:
        timer = Unit(kernel, f"{device}.{op}", _later(kernel.now + struck.delay_ns, deliver))
        kernel.make_ready(timer, None)
    return struck.drop or struck.delay_ns > 0


def _later(deadline: int, deliver: Callable[[], None]) -> Steps:
    yield Sleep(None, deadline=deadline)
    deliver()


def cut_short(kernel: Kernel, op: str, device: str) -> bool:
    """Before an access of a device to memory: whether it moves nothing."""
    return strike(kernel, op, device) is not None
