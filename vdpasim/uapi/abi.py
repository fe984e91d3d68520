"""Data models: how an architecture lays out integers and ioctl numbers (mirrors asm/types.h and asm/ioctl.h).

Theory. Where vhost and virtio are concerned, architectures differ in four things: the size of a pointer and of
``long``, the byte order, the alignment of a 64-bit integer inside a structure (4 on i386, 8 everywhere else, 32-bit
arm and riscv included), and the bit layout of ioctl numbers (powerpc, mips and alpha have 13 size bits and three
direction bits). An :class:`Abi` is a row of these; nothing else in the package asks what an architecture is called.

Not modelled: m68k, which aligns everything to 2; x32, which lays out as x86_64 does; mips and alpha, whose ioctl
numbers are those of powerpc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ByteOrder = Literal["little", "big"]


@dataclass(frozen=True, slots=True)
class Ioc:
    """The bit layout of an ioctl number: number, type, size and direction from bit 0 up."""

    size_bits: int
    dir_bits: int
    none: int
    write: int
    """User to kernel."""
    read: int
    """Kernel to user."""

    nr_bits = 8
    type_bits = 8

    @property
    def size_shift(self) -> int:
        """Lowest bit of the size."""
        return self.nr_bits + self.type_bits

    @property
    def dir_shift(self) -> int:
        """Lowest bit of the direction."""
        return self.size_shift + self.size_bits


IOC_GENERIC = Ioc(size_bits=14, dir_bits=2, none=0, write=1, read=2)
"""``asm-generic/ioctl.h``."""

IOC_POWERPC = Ioc(size_bits=13, dir_bits=3, none=1, write=4, read=2)
"""``arch/powerpc/include/uapi/asm/ioctl.h``."""


@dataclass(frozen=True, slots=True)
class Abi:
    """One architecture's data model. Equal names mean equal models."""

    name: str
    bits: int
    """Size of ``long`` and of a pointer."""
    byteorder: ByteOrder
    u64_align: int
    """Alignment of a 64-bit integer that is a member of a structure, in bytes."""
    ioc: Ioc = IOC_GENERIC

    def __hash__(self) -> int:
        # Layouts are cached per ABI: hash one string, not the whole row.
        return hash(self.name)

    @property
    def task_size(self) -> int:
        """First address that is not a user address: that of x86 with this word size, others differ a little."""
        return 0x7FFF_FFFF_F000 if self.bits == 64 else 0xC000_0000

    @property
    def prefix(self) -> str:
        """What the :mod:`struct` module calls the byte order, without alignment of its own."""
        return "<" if self.byteorder == "little" else ">"


X86_64 = Abi("x86_64", 64, "little", 8)
I386 = Abi("i386", 32, "little", 4)
ARM = Abi("arm", 32, "little", 8)
AARCH64 = Abi("aarch64", 64, "little", 8)
RISCV32 = Abi("riscv32", 32, "little", 8)
RISCV64 = Abi("riscv64", 64, "little", 8)
PPC64 = Abi("ppc64", 64, "big", 8, IOC_POWERPC)
S390X = Abi("s390x", 64, "big", 8)

ABIS: dict[str, Abi] = {abi.name: abi for abi in (X86_64, I386, ARM, AARCH64, RISCV32, RISCV64, PPC64, S390X)}
"""Every ABI by name."""
