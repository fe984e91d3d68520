"""Taps and sockets as vhost-net sees them (mirrors drivers/net/tun.c and the socket layer as far as SET_BACKEND looks).

Theory. vhost-net takes two kinds of backend: a raw packet socket and a tun/tap file that is attached to an interface.
An open but unattached tun file is a socket too; only polling it fails. Anything else is ENOTSOCK. The other end of a
tap is a port, given by whoever made it.

Not modelled: TUNSETIFF as an ioctl (taps are made attached), traffic; frames belong to the ring walk of vhost-net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from vdpasim.core.fs.file import DriverFile
from vdpasim.core.kernel import WaitQueue

if TYPE_CHECKING:
    from vdpasim.core.ports import Tap


@attrs.define(eq=False)
class SocketFile(DriverFile):
    """A file vhost-net may be given: ``backend`` says whether it is one it takes."""

    kind: str
    """``tap``, ``tun-unattached``, ``packet-raw``, ``packet-dgram`` or another socket's kind."""
    ifname: str = ""
    vnet_hdr: bool = False
    far_end: Tap | None = None
    poll_queue: WaitQueue | None = attrs.Factory(lambda: WaitQueue("socket"))

    @property
    def backend(self) -> bool:
        """Whether ``get_raw_socket`` or ``get_tap_socket`` takes it."""
        return self.kind in ("tap", "tun-unattached", "packet-raw")

    @property
    def attached(self) -> bool:
        """False for a tun file without an interface: polling it reports an error."""
        return self.kind != "tun-unattached"
