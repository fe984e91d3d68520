"""A machine with one device and one process, driven step by step, for tests of the drivers."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.sim import File, Region, Simulator
from vdpasim.uapi import vhost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.devices.profile import DeviceProfile
    from vdpasim.uapi.ioctl import Ioctl

ACCESS_PLATFORM, VERSION_1 = 1 << 33, 1 << 32
KICK = (1).to_bytes(8, "little")


@contextmanager
def refused(errno: int, rule: str | None = None, *, inside: int | None = None) -> Iterator[None]:
    """The body ends in an OSError with this errno, from this rule, with this handler errno."""
    with pytest.raises(OSError) as caught:
        yield
    error: Any = caught.value
    assert error.errno == errno, f"{error} ({error.rule})"
    assert rule is None or error.rule == rule, f"refused by {error.rule}"
    assert inside is None or error.handler_errno == inside


class Machine:
    """One process with an open device."""

    def __init__(
        self, kind: str | DeviceProfile = "vdpasim_net", kernel: str = "6.12", *, owner: bool = True, **options: Any
    ) -> None:
        abi = options.pop("abi", "x86_64")
        self.sim = Simulator(kernel, abi=abi, extensions=("vhost-vdpa+miss",))
        self.order = ">" if self.sim.kernel.abi.byteorder == "big" else "<"
        self.path = "/dev/vhost-net"
        if kind != "vhost-net":
            what = {"mgmtdev": kind} if isinstance(kind, str) else {"profile": kind}
            self.device = self.sim.vdpa.dev_add("dev", **what, **options)
            self.path = self.device.path
        self.process = self.sim.process("vmm")
        self.file: File = self.process.open_nowait(self.path)
        if owner:
            self.call(vhost.VHOST_SET_OWNER)

    def call(self, request: Ioctl, *words: int, code: str = "", file: File | None = None) -> bytes:
        """An ioctl with 32-bit words as argument (or packed by ``code``); the buffer afterwards."""
        data = struct.pack(self.order + (code or "I" * len(words)), *words) if words else None
        out = (file or self.file).ioctl_nowait(request.request(self.sim.kernel.abi), data)
        return out if isinstance(out, bytes) else b""

    def number(self, request: Ioctl, size: int) -> int:
        """A request that stores one integer."""
        out = self.file.ioctl_nowait(request.request(self.sim.kernel.abi), bytes(size))
        return int.from_bytes(out, self.sim.kernel.abi.byteorder)

    def features(self, value: int = ACCESS_PLATFORM | VERSION_1) -> None:
        self.call(vhost.VHOST_SET_FEATURES, value, code="Q")

    def status(self, value: int) -> None:
        self.call(vhost.VHOST_VDPA_SET_STATUS, value, code="B")

    def message(self, kind: int, *, iova: int = 0, size: int = 0, uaddr: int = 0, perm: int = 3, asid: int = 0) -> int:
        """Write a v2 message of this machine's byte order."""
        head = struct.pack(self.order + "IIQQQBB", 2, asid, iova, size, uaddr, perm, kind)
        return self.file.write_nowait(head.ljust(72, b"\0"))

    def update(self, iova: int, size: int, uaddr: int, **how: int) -> int:
        return self.message(2, iova=iova, size=size, uaddr=uaddr, **how)

    def invalidate(self, iova: int, size: int, **how: int) -> int:
        return self.message(3, iova=iova, size=size, **how)

    def memory(self, size: int = 1 << 16, **how: Any) -> Region:
        """Shared memory of the process."""
        return self.process.mmap(size, self.process.memfd("m", size, **how))
