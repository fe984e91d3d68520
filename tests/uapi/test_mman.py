"""Flags of mmap."""

from __future__ import annotations

import mmap
import platform

import pytest

from vdpasim.uapi import mman

GENERIC = platform.system() == "Linux" and platform.machine() in {"x86_64", "i686", "aarch64", "riscv64", "s390x"}
NAMES = [name for name in vars(mman) if name.startswith(("MAP_", "PROT_"))]


@pytest.mark.skipif(not GENERIC, reason="this machine has numbers of its own")
@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(mmap, name)])
def test_flags_are_those_of_this_kernel(name: str) -> None:
    assert getattr(mman, name) == getattr(mmap, name)


def test_flags_python_does_not_know() -> None:
    assert (mman.PROT_NONE, mman.MAP_FIXED) == (0, 0x10)
