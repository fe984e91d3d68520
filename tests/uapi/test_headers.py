"""The compiler is the judge: layouts, request numbers and constants against kernel headers, through libclang."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.uapi.abi import ABIS
from vdpasim.uapi.catalog import HEADERS, requests, structs
from vdpasim.uapi.layout import layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from vdpasim.uapi.abi import Abi
    from vdpasim.uapi.table import Struct

abis = pytest.mark.parametrize("abi", ABIS.values(), ids=ABIS.keys())

NOT_IN_HEADERS = {"ETH_ALEN": "of linux/if_ether.h"}
MOVED = {"VIRTIO_TRANSPORT_F_END": "grows with every transport feature: 41 in 6.1, 42 since the admin queue"}
LATER = {"virtio_net_hdr_v1_hash": "hash_value_lo"}
"""Structures whose members newer headers spell differently, and a member by which to know those."""


def ours(struct: Struct, abi: Abi) -> dict[str, Any]:
    shape = layout(struct, abi)
    fields = {field.name: [field.offset, field.size, field.type] for field in shape.fields}
    return {"size": shape.size, "align": shape.align, "fields": fields}


def all_constants() -> dict[str, int]:
    names = [(name, value) for module in HEADERS for name, value in vars(module).items()]
    return {name: value for name, value in names if name[0].isupper() and isinstance(value, int)}


class TestStoredAnswers:
    @abis
    def test_every_structure_is_laid_out_as_the_compiler_does(
        self, abi: Abi, stored: Callable[[str], dict[str, Any]]
    ) -> None:
        assert {name: ours(struct, abi) for name, struct in structs().items()} == stored(abi.name)["structs"]

    @abis
    def test_every_request_has_the_number_of_the_headers(
        self, abi: Abi, stored: Callable[[str], dict[str, Any]]
    ) -> None:
        assert {name: one.request(abi) for name, one in requests().items()} == stored(abi.name)["requests"]

    def test_every_constant_has_the_value_of_the_headers(self, stored: Callable[[str], dict[str, Any]]) -> None:
        mine = {name: value for name, value in all_constants().items() if name not in {*NOT_IN_HEADERS, *MOVED}}
        theirs = {name: value for name, value in stored("constants")["constants"].items() if name not in MOVED}
        assert mine == theirs

    def test_exceptions_are_still_needed(self, stored: Callable[[str], dict[str, Any]]) -> None:
        theirs = stored("constants")["constants"]
        assert not [name for name in NOT_IN_HEADERS if name in theirs]
        assert [name for name in MOVED if theirs[name] == all_constants()[name]] == []


@pytest.fixture(scope="module")
def asked(compiler: ModuleType) -> Callable[..., dict[str, Any]]:
    """Asks the compiler now; skips where there is none, unless it is required."""
    reason = compiler.missing()
    if reason is not None and "libclang" in re.split(r"[ ,]+", os.environ.get("VDPASIM_REQUIRE", "")):
        pytest.fail(f"libclang is required, but: {reason}")
    if reason is not None:
        pytest.skip(reason)
    answers: dict[Any, dict[str, Any]] = {}

    def ask(*arguments: Any) -> dict[str, Any]:
        if arguments not in answers:
            answers[arguments] = compiler.ask(*arguments)
        return answers[arguments]

    return ask


class TestInstalledHeaders:
    @abis
    def test_lay_out_structures_as_we_do(self, abi: Abi, asked: Callable[..., dict[str, Any]]) -> None:
        theirs = asked(abi.name)["structs"]
        known_here = {
            name: struct
            for name, struct in structs().items()
            if not (name in LATER and LATER[name] in theirs[name]["fields"])
        }
        assert {name: ours(struct, abi) for name, struct in known_here.items()} == {
            name: theirs[name] for name in known_here
        }

    @abis
    def test_number_requests_as_we_do(self, abi: Abi, asked: Callable[..., dict[str, Any]]) -> None:
        theirs = asked(abi.name)["requests"]
        mine = {name: one.request(abi) for name, one in requests().items()}
        assert mine == {name: theirs.get(name) for name in mine}

    def test_have_our_constants(self, asked: Callable[..., dict[str, Any]]) -> None:
        theirs = asked("x86_64")["constants"]
        mine = {name: value for name, value in all_constants().items() if name not in {*NOT_IN_HEADERS, *MOVED}}
        assert mine == {name: theirs.get(name) for name in mine}

    def test_of_this_machine_agree_with_the_stand_ins_for_foreign_ones(
        self, compiler: ModuleType, asked: Callable[..., dict[str, Any]]
    ) -> None:
        if not (compiler.SYSTEM / "x86_64-linux-gnu" / "asm" / "ioctl.h").exists():
            pytest.skip("no asm/ioctl.h of x86_64 here")
        assert asked("x86_64", compiler.NATIVE) == asked("x86_64")


def test_the_compiler_sees_a_wrong_layout(compiler: ModuleType, asked: Callable[..., dict[str, Any]]) -> None:
    # i386's layout is not x86_64's: the comparison above can fail.
    theirs = asked("i386")["structs"]["vhost_msg"]
    assert theirs == ours(structs()["vhost_msg"], ABIS["i386"])
    assert theirs != ours(structs()["vhost_msg"], ABIS["x86_64"])


def test_without_headers_the_reason_names_them(
    compiler: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiler, "SYSTEM", tmp_path)
    assert compiler.missing().startswith(("kernel headers are not installed: vhost.h, ", "libclang is not usable: "))
