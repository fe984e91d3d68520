"""Taps and sockets as vhost-net sees them (mirrors drivers/net/tun.c and the socket layer as far as SET_BACKEND looks).

Theory. vhost-net takes two kinds of backend: a raw packet socket and a tun/tap file that is attached to an interface.
An open but unattached tun file is a socket too; only polling it fails. Anything else is ENOTSOCK. The other end of a
tap is a port, given by whoever made it.

A frame written to a packet socket that is bound to a tap's interface goes into the tap, where vhost-net's RX finds it.

Not modelled: TUNSETIFF as an ioctl (taps are made attached), read and write of a tap by a process.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.fs.file import DriverFile
from vdpasim.core.kernel import Sleep, WaitQueue, Woken
from vdpasim.core.rules import fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.kernel import Call, Steps
    from vdpasim.core.ports import Tap
    from vdpasim.core.uaccess import UserBuffer

VNET_HDR = 10
"""Bytes of header a tap with IFF_VNET_HDR expects before each frame."""
INBOX_MAX = 500
"""A tap's queue length (``txqueuelen``)."""


@attrs.define(eq=False)
class SocketFile(DriverFile):
    """A file vhost-net may be given: ``backend`` says whether it is one it takes."""

    kind: str
    """``tap``, ``tun-unattached``, ``packet-raw``, ``packet-dgram`` or another socket's kind."""
    ifname: str = ""
    vnet_hdr: bool = False
    far_end: Tap | None = None
    queue: WaitQueue = attrs.Factory(lambda: WaitQueue("socket"))
    """Where readers of a packet socket sleep."""
    peer: SocketFile | None = None
    """Of a packet socket: the tap whose interface it is bound to."""
    inbox: deque[bytes] = attrs.Factory(deque["bytes"])
    """Frames the reader of a tap has not taken yet; the oldest gives way at :data:`INBOX_MAX`."""
    waiting: dict[object, Callable[[], None]] = attrs.Factory(dict["object", "Callable[[], None]"])
    """Who polls for a frame, and what to call when one comes."""
    listeners: list[SocketFile] = attrs.Factory(list["SocketFile"])
    """Of a tap: the packet sockets bound to its interface."""
    sent: int = 0
    received: int = 0
    dropped: int = 0

    def transmit(self, data: bytes) -> None:
        """A frame out of the guest, behind the tap's header if it has one."""
        self.sent += 1
        frame = data[VNET_HDR:] if self.vnet_hdr else data
        for listener in self.listeners:
            listener.deliver(frame)
        if self.far_end is not None:
            self.far_end.transmit(frame)

    def deliver(self, frame: bytes) -> None:
        """A frame from the far end, for the guest."""
        if len(self.inbox) >= INBOX_MAX:
            self.inbox.popleft()
            self.dropped += 1
        self.inbox.append(frame)
        self.received += 1
        self.queue.wake_up()
        for callback in list(self.waiting.values()):
            callback()

    def peek_frame(self) -> bytes | None:
        """The oldest frame that waits."""
        return self.inbox[0] if self.inbox else None

    def take_frame(self) -> None:
        """Remove it."""
        self.inbox.popleft()

    def __attrs_post_init__(self) -> None:
        if self.peer is not None:
            self.peer.listeners.append(self)

    def read(self, call: Call, buffer: UserBuffer, nonblock: bool) -> Steps:
        """A packet socket gets the next frame that came in on its interface, cut to the buffer."""
        if self.peer is None:
            raise fail("vfs.no-read")
        while not self.inbox:
            if nonblock:
                raise fail("net.socket.empty")
            if (yield Sleep(self.queue, interruptible=True)) is Woken.SIGNAL:
                raise fail("vfs.signal")
        return buffer.poke(0, self.inbox.popleft()[: buffer.length])

    def write(self, call: Call, buffer: UserBuffer) -> Steps:
        """A packet socket sends a frame out of its interface, which for a tap is into the tap."""
        yield from ()
        if self.peer is None:
            raise fail("vfs.no-write")
        frame = buffer.peek(0, buffer.length)
        self.peer.deliver(frame)
        return len(frame)

    @property
    def backend(self) -> bool:
        """Whether ``get_raw_socket`` or ``get_tap_socket`` takes it."""
        return self.kind in ("tap", "tun-unattached", "packet-raw")

    @property
    def attached(self) -> bool:
        """False for a tun file without an interface: polling it reports an error."""
        return self.kind != "tun-unattached"
