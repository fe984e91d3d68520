"""User buffers: what a system call was given, and copies that come up short the way the kernel's do.

Theory. A caller's buffer is (mm, address, length) or plain bytes that are in no process. Both answer ``peek`` (bytes
from an offset, fewer at a fault or at their end) and ``poke``. ``copy_from_user`` and ``copy_to_user`` turn a short
copy into EFAULT, which is what an ioctl does; read() and write() of the IOTLB use the short forms, because there a bad
pointer looks exactly like a buffer that is too small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vdpasim.core.ports import U64_MAX
from vdpasim.core.rules import fail
from vdpasim.uapi.layout import layout

if TYPE_CHECKING:
    from vdpasim.core.kernel import Kernel
    from vdpasim.core.ports import Mm
    from vdpasim.uapi.abi import Abi
    from vdpasim.uapi.table import Struct


def access_ok(abi: Abi, addr: int, length: int) -> bool:
    """Whether ``[addr, addr+length-1]`` is in the user part of the address space."""
    return addr + length <= abi.task_size


class UserBuffer(Protocol):
    """A caller's memory."""

    @property
    def length(self) -> int:
        """Bytes offered; for an ioctl argument, which has no length, 2^64-1."""

    @property
    def in_user_range(self) -> bool:
        """Whether the VFS lets it through to the driver."""

    def peek(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; short at a fault or at the end."""

    def poke(self, offset: int, data: bytes) -> int:
        """Store at ``offset``; the number of bytes stored."""


class MmBuffer:
    """A buffer at an address of a process."""

    __slots__ = ("addr", "length", "mm")

    def __init__(self, mm: Mm, addr: int, length: int = U64_MAX) -> None:
        self.mm = mm
        self.addr = addr
        self.length = length

    @property
    def in_user_range(self) -> bool:
        return self.addr + (0 if self.length == U64_MAX else self.length) <= self.mm.task_size

    def peek(self, offset: int, size: int) -> bytes:
        return self.mm.read(self.addr + offset, min(size, max(0, self.length - offset)))

    def poke(self, offset: int, data: bytes) -> int:
        return self.mm.write(self.addr + offset, data[: max(0, self.length - offset)])

    def __repr__(self) -> str:
        return f"{self.addr:#x}" if self.length == U64_MAX else f"{self.addr:#x}:{self.length}"


class BytesBuffer:
    """Plain bytes that are in no process; writable if built over a bytearray."""

    __slots__ = ("data", "length")

    in_user_range = True

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data
        self.length = len(data)

    def peek(self, offset: int, size: int) -> bytes:
        return bytes(self.data[offset : offset + size])

    def poke(self, offset: int, data: bytes) -> int:
        if not isinstance(self.data, bytearray):
            return 0
        size = max(0, min(len(data), len(self.data) - offset))
        self.data[offset : offset + size] = data[:size]
        return size

    def __repr__(self) -> str:
        return self.data.hex() if len(self.data) <= 80 else f"{self.data[:32].hex()}…({len(self.data)})"


def copy_from_user(buffer: UserBuffer, size: int, offset: int = 0) -> bytes:
    """Exactly ``size`` bytes.

    Raises:
        KernelError: EFAULT on a short copy.
    """
    data = buffer.peek(offset, size)
    if len(data) < size:
        raise fail("uaccess.from-user")
    return data


def copy_to_user(buffer: UserBuffer, data: bytes, offset: int = 0) -> None:
    """Store all of ``data``.

    Raises:
        KernelError: EFAULT on a short copy.
    """
    if buffer.poke(offset, data) < len(data):
        raise fail("uaccess.to-user")


def get_struct(kernel: Kernel, buffer: UserBuffer, struct: Struct, offset: int = 0) -> Any:
    """One structure in the kernel's ABI, as a named tuple.

    Raises:
        KernelError: EFAULT on a short copy.
    """
    shape = layout(struct, kernel.abi)
    return shape.unpack(copy_from_user(buffer, shape.size, offset))


def put_struct(kernel: Kernel, buffer: UserBuffer, struct: Struct, **fields: int) -> None:
    """Store one structure in the kernel's ABI, holes zero.

    Raises:
        KernelError: EFAULT on a short copy.
    """
    copy_to_user(buffer, layout(struct, kernel.abi).pack(**fields))


def get_int(kernel: Kernel, buffer: UserBuffer, size: int, *, signed: bool = False) -> int:
    """An integer of ``size`` bytes in the kernel's byte order.

    Raises:
        KernelError: EFAULT on a short copy.
    """
    return int.from_bytes(copy_from_user(buffer, size), kernel.abi.byteorder, signed=signed)


def put_int(kernel: Kernel, buffer: UserBuffer, size: int, value: int) -> None:
    """Store an integer of ``size`` bytes in the kernel's byte order.

    Raises:
        KernelError: EFAULT on a short copy.
    """
    copy_to_user(buffer, (value & (1 << 8 * size) - 1).to_bytes(size, kernel.abi.byteorder))
