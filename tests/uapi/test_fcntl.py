"""Flags of open and poll."""

from __future__ import annotations

import os
import platform
import select

import pytest

from vdpasim.uapi import fcntl

GENERIC = platform.system() == "Linux" and platform.machine() in {"x86_64", "i686", "riscv64", "s390x"}
here = pytest.mark.skipif(not GENERIC, reason="this machine has numbers of its own")


def names(*prefixes: str) -> list[str]:
    return [name for name in vars(fcntl) if name.startswith(prefixes)]


@here
@pytest.mark.parametrize("name", names("O_"))
def test_flags_are_those_of_this_kernel(name: str) -> None:
    assert getattr(fcntl, name) == getattr(os, name)


@here
@pytest.mark.parametrize("name", names("POLL"))
def test_poll_events_are_those_of_this_kernel(name: str) -> None:
    assert getattr(fcntl, name) == getattr(select, name)
