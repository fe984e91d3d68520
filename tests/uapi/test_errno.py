"""Error numbers."""

from __future__ import annotations

import errno as host
import os
import platform

import pytest

from vdpasim.uapi import errno as E

MACHINES = {"x86_64", "i686", "aarch64", "armv7l", "riscv64", "s390x"}
GENERIC = platform.system() == "Linux" and platform.machine() in MACHINES
NAMES = [name for name in vars(E) if name.startswith("E") and name.isupper()]


# ENOTSUP is the C library's name for EOPNOTSUPP.
@pytest.mark.skipif(not GENERIC, reason="this machine has numbers of its own")
@pytest.mark.parametrize("name", [name for name in dir(host) if name.startswith("E") and name != "ENOTSUP"])
def test_numbers_are_those_of_linux(name: str) -> None:
    assert getattr(E, name) == getattr(host, name)


@pytest.mark.skipif(not GENERIC or platform.libc_ver()[0] != "glibc", reason="another C library has its own words")
@pytest.mark.parametrize("n", range(1, E.ERESTARTSYS))
def test_texts_are_those_of_the_c_library(n: int) -> None:
    assert E.strerror(n) == os.strerror(n)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_numbers_belong_together(name: str) -> None:
    value = getattr(E, name)
    assert E.number(name) == value
    assert E.number(E.name(value)) == value


@pytest.mark.parametrize(
    ("n", "name"),
    [
        (1, "EPERM"),
        (22, "EINVAL"),
        (11, "EAGAIN"),
        (35, "EDEADLK"),
        (133, "EHWPOISON"),
        (512, "ERESTARTSYS(512)"),
        (515, "ENOIOCTLCMD(515)"),
        (524, "ENOTSUPP(524)"),
        (0, "errno 0"),
        (41, "errno 41"),
        (999, "errno 999"),
        (-22, "errno -22"),
    ],
)
def test_a_number_prints_as_its_name(n: int, name: str) -> None:
    assert E.name(n) == name


def test_enotsupp_is_not_eopnotsupp() -> None:
    assert (E.ENOTSUPP, E.EOPNOTSUPP) == (524, 95)
    assert E.number("ENOTSUPP") == E.number("ENOTSUPP(524)") == 524


def test_no_two_names_but_aliases_share_a_number() -> None:
    names = [name for name in NAMES if name not in {"EWOULDBLOCK", "EDEADLOCK"}]
    assert len({getattr(E, name) for name in names}) == len(names)
    assert (E.EWOULDBLOCK, E.EDEADLOCK) == (E.EAGAIN, E.EDEADLK)


@pytest.mark.parametrize("name", ["ENOTHING", "", "einval", "22"])
def test_an_unknown_name_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        E.number(name)


def test_the_kernels_own_have_words_too() -> None:
    assert E.strerror(E.ENOIOCTLCMD) == "No such ioctl of this driver"
    assert E.strerror(524) == "Unknown error 524"
    assert E.strerror(999) == "Unknown error 999"
