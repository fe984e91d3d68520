"""Resource limits and capabilities of a task (mirrors do_prlimit() of kernel/sys.c and kernel/capability.c).

Theory. RLIMIT_MEMLOCK has a soft limit, which drivers look at, and a hard one, above which only CAP_SYS_RESOURCE
raises it. Whether a driver consults CAP_IPC_LOCK is the driver's affair; vhost-vdpa does not.

Not modelled: the other limits, user namespaces, the difference between effective, permitted and bounding sets.
"""

from __future__ import annotations

from vdpasim.core.rules import fail

MEMLOCK_DEFAULT = 8 << 20
"""The kernel's default for RLIMIT_MEMLOCK, in bytes."""
CAP_SYS_RESOURCE = 24
CAP_LAST_CAP = 40


class Rlimits:
    """Limits of one task, the simulated :class:`~vdpasim.core.ports.Limits`; ``memlock`` is the soft limit in bytes."""

    def __init__(
        self, memlock: int = MEMLOCK_DEFAULT, *, memlock_max: int | None = None, caps: frozenset[int] | None = None
    ) -> None:
        self.memlock = memlock
        self.memlock_max = memlock if memlock_max is None else memlock_max
        self.caps = set(range(CAP_LAST_CAP + 1)) if caps is None else set(caps)

    def copy(self) -> Rlimits:
        """What a child inherits."""
        return Rlimits(self.memlock, memlock_max=self.memlock_max, caps=frozenset(self.caps))

    def capable(self, cap: int) -> bool:
        return cap in self.caps

    def drop_cap(self, cap: int) -> None:
        """Lose a capability for good.

        Raises:
            KernelError: EINVAL there is no such capability.
        """
        if not 0 <= cap <= CAP_LAST_CAP:
            raise fail("rlimit.cap-unknown")
        self.caps.discard(cap)

    def set_memlock(self, soft: int, hard: int) -> None:
        """setrlimit(RLIMIT_MEMLOCK), bytes.

        Raises:
            KernelError: EINVAL soft above hard, EPERM raising the hard limit without CAP_SYS_RESOURCE.
        """
        if soft > hard:
            raise fail("rlimit.soft-above-hard")
        if hard > self.memlock_max and not self.capable(CAP_SYS_RESOURCE):
            raise fail("rlimit.raise-hard")
        self.memlock, self.memlock_max = soft, hard
