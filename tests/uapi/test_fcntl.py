"""Flags of open, poll, lseek and eventfd."""

from __future__ import annotations

import os
import platform
import select

import pytest

from vdpasim.uapi import fcntl, mman

GENERIC = platform.system() == "Linux" and platform.machine() in {"x86_64", "i686", "riscv64", "s390x"}
here = pytest.mark.skipif(not GENERIC, reason="this machine has numbers of its own")


def names(*prefixes: str) -> list[str]:
    return [name for name in vars(fcntl) if name.startswith(prefixes)]


@here
@pytest.mark.parametrize("name", names("O_", "SEEK_", "EFD_"))
def test_flags_are_those_of_this_kernel(name: str) -> None:
    assert getattr(fcntl, name) == getattr(os, name)


@here
@pytest.mark.parametrize("name", names("POLL"))
def test_poll_events_are_those_of_this_kernel(name: str) -> None:
    assert getattr(fcntl, name) == getattr(select, name)


@here
@pytest.mark.parametrize("name", names("F_", "FD_"))
def test_fcntl_commands_are_those_of_this_kernel(name: str) -> None:
    import fcntl as host

    assert getattr(fcntl, name) == getattr(host, name)


@pytest.mark.parametrize("name", names("MAP_", "PROT_"))
def test_flags_of_mmap_are_those_of_mman(name: str) -> None:
    assert getattr(fcntl, name) == getattr(mman, name)


def test_the_capability_is_number_14() -> None:
    assert fcntl.CAP_IPC_LOCK == 14
