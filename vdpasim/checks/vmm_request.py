"""``vmm.wrong-request``: a request number that is a known one but for its direction or its size.

Theory. The number of an ioctl has the direction and the size of its argument in it, so a header that says _IOW for
_IOR, or a structure of the wrong length, makes a number that no kernel knows. What it is answered with says nothing of
the sort: ENOTTY, EPERM, EFAULT or ENOBUFS, by what its first bytes happen to be. A known request that this kernel does
not have is no mistake: programs probe. Nor is one of another ABI that packs numbers the same way: a 32-bit program on a
64-bit kernel is no typing error, whatever becomes of it.
"""

from __future__ import annotations

from typing import Any

from vdpasim.checks.oracle import Oracle
from vdpasim.uapi import abi as abis
from vdpasim.uapi.abi import X86_64, Abi
from vdpasim.uapi.catalog import by_request, near

VHOST = 0xAF
ABIS = tuple(value for value in vars(abis).values() if isinstance(value, Abi))


class VmmRequest(Oracle):
    """Told by the number alone, on a kernel of an ABI."""

    def __init__(self, abi: Abi = X86_64) -> None:
        super().__init__()
        self.abi = abi
        self.abis = [one for one in ABIS if one.ioc == abi.ioc]
        self.called: dict[tuple[str, str], int] = {}

    def on_enter(self, seq: int, op: str, file: str, args: tuple[Any, ...]) -> None:
        """A call begins."""
        if op == "ioctl" and args and isinstance(args[0], int) and file.startswith("/dev/vhost-"):
            self.called[self.unit, file] = args[0] & 0xFFFF_FFFF

    def on_exit(self, seq: int, op: str, file: str, ret: int, handler_errno: int, rule: str | None) -> None:
        """It has its line in the trace now."""
        request = self.called.pop((self.unit, file), None) if op == "ioctl" else None
        if request is None or request >> 8 & 0xFF != VHOST or any(by_request(request, abi) for abi in self.abis):
            return
        for meant in near(request, self.abi)[:1]:
            text = f"{file}: {request:#x} is no request; {meant.ioctl.name} is another: {meant.difference}"
            where = {"file": file, "request": hex(request)}
            self.tell("vmm.wrong-request", text, seq, once=(file, request), where=where)
