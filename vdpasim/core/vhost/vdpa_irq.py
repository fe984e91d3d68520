"""The callbacks vhost-vdpa gives a device (mirrors vhost_vdpa_virtqueue_cb() and vhost_vdpa_config_cb() of vdpa.c).

Theory. A device interrupts from a thread of its own. The callback reads which eventfd is installed, and signals it;
SET_VRING_CALL, SET_CONFIG_CALL and close take no lock that it takes. Before F7 (queues) and F6 (config) one of them can
come between the two and put the eventfd: if that was the last reference, freed memory is signalled. This is reported
and not done. If somebody else still has the eventfd, it gets the interrupt and the new one does not.

With the fix, or without schedule points, the two are one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.core.kernel import Point, Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.ports import EventFd
    from vdpasim.core.vhost.vhost import VhostDev


@attrs.frozen(eq=False)
class Interrupt:
    """What a device calls: :attr:`signal`, or from a thread that can be interrupted :meth:`in_steps`."""

    signal: Callable[[], None]
    """Read the eventfd and signal it, in one step."""
    dev: VhostDev
    fix: str
    """The switch that closes the window."""
    installed: Callable[[], EventFd | None]

    def in_steps(self) -> Steps:
        """As :attr:`signal`, with a schedule point in the window if there is one."""
        kernel = self.dev.kernel
        eventfd = self.installed()
        if kernel.points and eventfd is not None and not kernel.on(self.fix):
            yield Point(self.dev.name + ".interrupt")
            if eventfd.freed:
                kernel.violation("kernel.oops", f"{self.dev.name}: an eventfd that was freed would be signalled")
                return
            if eventfd is not self.installed():
                eventfd.signal()
                return
        self.signal()
