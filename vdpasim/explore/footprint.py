"""What a step touched: the ground on which two orders of steps are called equal.

Theory. Two steps of different threads are *independent* if their order makes no difference to anybody. A footprint is
the set of things a step may have touched, by name; steps with disjoint footprints are independent. It must never be too
small, so what is not known to be small is :data:`ANY`, which meets everything but locks:

=================================  ===================================================================
an actor                           ANY: its code is Python and may look at everything but a lock
a call on a vhost device           the device and the caller's address space; guest memory and eventfds
                                   where the operation may reach them
any other call                     ANY
a call that dropped a file's last  as ``close``
reference
a worker                           its device, guest memory, eventfds
any of these                       and each mutex that was held before or behind the step
taking a free mutex                the mutex alone
decoding a message that is no      the features acked by its device, which only requests change
place in memory
a :func:`local` step               nothing
with a fault plan or a hold, or    :data:`ALL`, which meets even locks: a plan counts, a barrier is
calls inside an actor's step       Python, and such calls take locks
=================================  ===================================================================

Two mutexes never differ for who does not take them, and a story cannot ask one who has it: that is why an actor's step
may change places with the taking of a lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core.fs.file import ClosedFd, OpenFile
from vdpasim.core.kernel import Call, Unit, Worker
from vdpasim.core.uaccess import BytesBuffer
from vdpasim.core.vhost.net import VhostNet
from vdpasim.core.vhost.vdpa import VhostVdpa
from vdpasim.uapi import vhost as uapi

if TYPE_CHECKING:
    from vdpasim.core.kernel import Kernel

Footprint = frozenset[str]
ALL: Footprint = frozenset("!")
ANY: Footprint = frozenset("*")
MEMORY, EVENTFDS = "memory", "eventfds"
LOCK = "lock:"
FEATURES = "features:"
VHOST_IOCTLS = 0xAF
"""The type byte of every vhost request."""


def independent(one: Footprint, other: Footprint) -> bool:
    """Whether the order of two steps of different threads makes no difference."""
    if not one.isdisjoint(other) or "!" in one or "!" in other:
        return False
    return not ("*" in one and _more_than_locks(other)) and not ("*" in other and _more_than_locks(one))


def _more_than_locks(footprint: Footprint) -> bool:
    return any(not name.startswith(LOCK) for name in footprint)


def waits(unit: Unit) -> bool:
    """Whether it can do nothing but wait for a mutex that somebody has."""
    return unit.wants is not None and unit.wants.owner not in (None, unit)


def local(unit: Unit) -> bool:
    """Whether the unit's next step is one that nobody can see: it only leads to the next schedule point."""
    kernel = unit.kernel
    if not isinstance(unit, Call) or kernel.faults is not None or kernel.barrier is not None:
        return False
    if isinstance(unit.file, ClosedFd):
        return True  # the number was looked up when the call began
    ops = unit.file.ops if isinstance(unit.file, OpenFile) else None
    if not isinstance(ops, VhostVdpa | VhostNet) or unit.result is not None:
        return False
    if unit.point is None:
        return unit.sleep is None and unit.woken is None and unit.wants is None and _leads_to_a_lock(unit)
    if isinstance(ops, VhostNet):
        # requests and messages take the mutex of each queue at once
        leading = [ops.mutex.behind, *(vq.mutex.behind for vq in ops.vqs[:-1])]
        return unit.op in ("write", "ioctl") and unit.point in leading
    return unit.op == "ioctl" and unit.point == ops.mutex.behind and int(unit.args[0]) in ops.quiescing


def _leads_to_a_lock(call: Call) -> bool:
    # a message is looked at behind its copy, the argument of a request behind the lock; but for one
    if call.op == "write":
        return True
    if call.op != "ioctl":
        return False
    request = int(call.args[0]) & 0xFFFF_FFFF
    return request >> 8 & 0xFF == VHOST_IOCTLS and request != uapi.VHOST_SET_BACKEND_FEATURES.request(call.kernel.abi)


class Recorder:
    """Writes down the footprint of one step after the other."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.unit: Unit | None = None
        self.thread = ""
        self.locks: Footprint = frozenset()
        self.steps = 0
        self.invisible = self.takes = self.copies = self.releases = False

    def begin(self, unit: Unit, thread: str) -> None:
        """The unit is going to run."""
        self.unit, self.thread = unit, thread
        self.locks = _locks(unit)
        self.steps = self.kernel.steps
        self.invisible = local(unit)
        self.takes = unit.wants is not None
        self.copies = unit.point is not None and unit.point.name.endswith(".write.copy")
        # the last reference to a file was dropped by the call, so its steps are those of release()
        self.releases = isinstance(unit, Call) and unit.result is not None

    def finish(self) -> tuple[str, Footprint] | None:
        """It has run: its thread and what it touched; None before the first step."""
        unit = self.unit
        if unit is None:
            return None
        self.unit = None
        return self.thread, self._footprint(unit)

    def _footprint(self, unit: Unit) -> Footprint:
        kernel = self.kernel
        if kernel.faults is not None or kernel.barrier is not None or kernel.steps > self.steps + 1:
            return ALL
        locks = self.locks | _locks(unit)
        if self.takes:
            return locks - self.locks if unit.wants is None else frozenset([LOCK + unit.wants.name])
        if self.invisible:
            return frozenset()
        if isinstance(unit, Worker):
            return locks | {unit.name.removesuffix(".worker"), MEMORY, EVENTFDS}
        if isinstance(unit, Call) and self.copies and not self.releases and unit.wants is not None:
            return _of_copy(unit)
        return locks | (_of_call(unit, "close" if self.releases else unit.op) if isinstance(unit, Call) else ANY)


def _locks(unit: Unit) -> Footprint:
    return frozenset(LOCK + mutex.name for mutex in unit.held)


def _of_copy(call: Call) -> Footprint:
    # a message's bytes are decoded by what was acked, and nothing else is looked at until the lock
    plain = all(isinstance(arg, BytesBuffer) for arg in call.args)
    return frozenset([FEATURES + call.file.ops.name]) if plain else _of_call(call, call.op)


def _of_call(call: Call, op: str) -> Footprint:
    ops = call.file.ops if isinstance(call.file, OpenFile) else None
    if not isinstance(ops, VhostVdpa | VhostNet) or op not in ("read", "write", "ioctl", "close"):
        return ANY
    touched = {ops.device.name if isinstance(ops, VhostVdpa) else ops.name, f"mm:{call.task.mm.ident}"}
    if op not in ("read", "write"):
        touched.add(FEATURES + ops.name)
    in_memory = any(not isinstance(arg, BytesBuffer | int) for arg in call.args)
    # a device that pins takes frames, and their neighbourhood depends on who came first
    pins = isinstance(ops, VhostVdpa) and not ops.device.use_va
    if op in ("ioctl", "close") or in_memory or pins:
        touched |= {MEMORY, EVENTFDS}
    return frozenset(touched)
