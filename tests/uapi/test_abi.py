"""Data models."""

from __future__ import annotations

import pickle

import pytest

from vdpasim.uapi.abi import ABIS, ARM, I386, PPC64, RISCV32, S390X, X86_64, Abi


def test_every_abi_is_found_by_its_name() -> None:
    assert [abi.name for abi in ABIS.values()] == list(ABIS)
    assert list(ABIS) == ["x86_64", "i386", "arm", "aarch64", "riscv32", "riscv64", "ppc64", "s390x"]


def test_only_i386_aligns_u64_to_four() -> None:
    assert [name for name, abi in ABIS.items() if abi.u64_align != 8] == ["i386"]
    assert ARM.bits == RISCV32.bits == 32


def test_big_endian_machines_are_ppc64_and_s390x() -> None:
    assert [name for name, abi in ABIS.items() if abi.byteorder == "big"] == ["ppc64", "s390x"]
    assert (X86_64.prefix, S390X.prefix) == ("<", ">")


@pytest.mark.parametrize("abi", ABIS.values(), ids=ABIS.keys())
def test_the_parts_of_a_request_fill_32_bits(abi: Abi) -> None:
    ioc = abi.ioc
    assert ioc.dir_shift + ioc.dir_bits == 32
    assert ioc.size_shift == 16


def test_powerpc_has_three_direction_bits() -> None:
    assert (PPC64.ioc.dir_bits, PPC64.ioc.none, PPC64.ioc.read, PPC64.ioc.write) == (3, 1, 2, 4)
    assert (X86_64.ioc.dir_bits, X86_64.ioc.none, X86_64.ioc.read, X86_64.ioc.write) == (2, 0, 2, 1)


def test_an_abi_survives_the_way_to_another_process() -> None:
    copy = pickle.loads(pickle.dumps(I386))
    assert copy == I386
    assert {I386: "found"}[copy] == "found"


def test_two_models_of_one_name_differ_if_their_rows_do() -> None:
    assert Abi("i386", 32, "little", 8) != I386
