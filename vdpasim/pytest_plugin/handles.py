"""What the fixtures ``vhost_vdpa`` and ``vhost_net`` give: the client handles, opened, with a synchronous face.

Theory. The handle itself is the one of ``vdpasim.vmm``, awaited by trio tests and by actors. Plain code uses ``.sync``,
the same handle over the ``_nowait`` calls of the file, which never suspend: ``vhost_vdpa.sync.get_features()``. There a
call that would have to wait raises WouldBlock.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from vdpasim.sim import UsageError
from vdpasim.vmm.handles import VhostNet, VhostVdpa
from vdpasim.vmm.transport import NowaitTransport, run_sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.pytest_plugin.machine import Machine
    from vdpasim.sim import File, Process
    from vdpasim.sim.vdpa import Device
    from vdpasim.vmm.handles import Vhost

DEVICE = "vdpasim0"
"""Name of the device that ``vhost_vdpa`` opens."""


class Synchronous:
    """A handle's methods as plain functions: each returns what awaiting it would give."""

    def __init__(self, handle: Vhost) -> None:
        self._handle = handle

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._handle, name)

        @wraps(method)
        def call(*args: Any, **keywords: Any) -> Any:
            return run_sync(method(*args, **keywords))

        return call


class OpenVdpa(VhostVdpa):
    """An opened /dev/vhost-vdpa-N."""

    def __init__(self, file: File, device: Device) -> None:
        super().__init__(file, abi=file.process.sim.kernel.abi)
        self.process: Process = file.process
        """The process that opened it."""
        self.device = device
        """The device, as ``sim.vdpa.dev_add()`` gives it."""
        self.sync = Synchronous(VhostVdpa(NowaitTransport(file), abi=self.abi))
        """The same methods for plain code."""


class OpenNet(VhostNet):
    """An opened /dev/vhost-net."""

    def __init__(self, file: File) -> None:
        super().__init__(file, abi=file.process.sim.kernel.abi)
        self.process: Process = file.process
        """The process that opened it."""
        self.sync = Synchronous(VhostNet(NowaitTransport(file), abi=self.abi))
        """The same methods for plain code."""


def open_vdpa(machine: Machine) -> OpenVdpa:
    """Add the device of the settings and open it.

    Raises:
        ValueError: there is no such device.
    """
    vdpa, wanted = machine.sim.vdpa, machine.settings.device
    keywords: dict[str, Any] = {"mgmtdev": wanted} if isinstance(wanted, str) else dict(wanted)
    try:
        device = vdpa.dev_add(keywords.pop("name", DEVICE), **keywords)
    except (OSError, TypeError, UsageError) as error:
        known = ", ".join(vdpa.mgmtdev_show())
        raise ValueError(f"device={wanted!r}: {error}; management devices are {known}") from None
    return OpenVdpa(machine.vmm.open_nowait(device.path), device)


def open_net(machine: Machine) -> OpenNet:
    """Open the node."""
    return OpenNet(machine.vmm.open_nowait("/dev/vhost-net"))
