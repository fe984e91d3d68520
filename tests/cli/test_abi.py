"""``vdpasim abi``: layouts side by side."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from vdpasim.cli.abi import command
from vdpasim.uapi.abi import ABIS
from vdpasim.uapi.catalog import requests, structs

if TYPE_CHECKING:
    from click.testing import Result


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def rows(text: str) -> dict[str, list[str]]:
    """First cell -> the other cells of a table; cells are two blanks apart."""
    lines = [re.split(r" {2,}", line.strip()) for line in text.splitlines()[1:]]
    return {cells[0]: cells[1:] for cells in lines}


class TestOneStructure:
    def test_is_shown_for_every_abi(self) -> None:
        result = run("vhost_msg")
        assert result.exit_code == 0
        assert result.output.splitlines()[0].startswith("struct vhost_msg (linux/vhost_types.h): ")
        assert result.output.splitlines()[1].split() == list(ABIS)

    def test_marks_what_differs_from_the_first(self) -> None:
        table = rows(run("vhost_msg").output)
        assert table["size"] == ["72", "68*", "72", "72", "72", "72", "72", "72"]
        assert table["iotlb.iova"][:3] == ["__u64", "8+8", "4+8*"]
        assert table["type"][:3] == ["__s32", "0+4", "0+4"]

    def test_has_a_row_for_a_hole_that_some_have(self) -> None:
        assert rows(run("vhost_msg").output)["-- hole --"][:2] == ["4+4", ".*"]

    def test_has_a_row_for_padding(self) -> None:
        assert rows(run("vhost_iotlb_msg").output)["-- padding --"][:2] == ["26+6", "26+2*"]

    def test_has_no_marks_when_nothing_differs(self) -> None:
        assert "*" not in run("vhost_vring_state").output

    def test_is_shown_for_the_abis_asked_for(self) -> None:
        table = rows(run("vhost_msg", "--abi", "i386,x86_64").output)
        assert table["size"] == ["68", "72*"]
        assert table["-- hole --"] == [".", "4+4*"]

    def test_says_since_when_it_exists(self) -> None:
        assert "(linux/vhost_types.h, since 4.19)" in run("vhost_msg_v2").output

    def test_says_whose_byte_order_it_has(self) -> None:
        assert rows(run("vring_desc").output)["byte order"] == ["little"] * 8
        assert rows(run("vhost_msg").output)["byte order"][-2:] == ["big", "big"]

    @pytest.mark.parametrize("name", structs())
    def test_shows_every_member(self, name: str) -> None:
        table = rows(run(name, "--abi", "x86_64").output)
        struct = structs()[name]
        assert all(field.name in table for field in struct.fields if field.name)


def test_several_structures_are_a_line_apart() -> None:
    parts = run("vhost_msg", "vhost_msg_v2").output.split("\n\n")
    assert [part.split()[1] for part in parts] == ["vhost_msg", "vhost_msg_v2"]


class TestList:
    def test_has_every_structure_and_its_size(self) -> None:
        lines = run().output.splitlines()
        assert [line.split()[0] for line in lines[: len(structs())]] == list(structs())
        assert lines[0].split()[:2] == ["vhost_vring_state", "8"]
        assert lines[-1] == f"Sizes are those of x86_64. ABIs: {', '.join(ABIS)}"

    def test_as_json(self) -> None:
        body = json.loads(run("--json").output)
        assert [row["name"] for row in body["structs"]] == list(structs())
        assert body["abis"] == list(ABIS)


class TestDiff:
    def test_lists_every_structure_that_differs(self) -> None:
        result = run("--diff", "x86_64", "i386")
        assert result.exit_code == 0
        assert [line.split(":")[0] for line in result.output.splitlines() if line.startswith("struct")] == [
            "struct vhost_iotlb_msg",
            "struct vhost_msg",
        ]
        assert "size 72 against 68" in result.output
        assert "hole 4+4 on x86_64 only" in result.output
        assert "x86_64 against i386: 2 structs and 0 requests differ" in result.output

    def test_names_those_that_differ_in_alignment_only(self) -> None:
        last = run("--diff", "x86_64", "i386").output.splitlines()[-1]
        assert last.startswith("in alignment only: vhost_vring_addr, vhost_msg_v2, ")
        assert "vhost_vring_state" not in last

    def test_of_equal_abis_is_empty(self) -> None:
        assert (
            run("--diff", "riscv64", "aarch64").output == "riscv64 against aarch64: 0 structs and 0 requests differ\n"
        )

    def test_lists_request_numbers_of_another_layout(self) -> None:
        lines = run("--diff", "s390x", "ppc64").output.splitlines()
        assert "VHOST_SET_OWNER: 0x0000af01 against 0x2000af01" in lines
        assert lines[-1].startswith("s390x against ppc64: 0 structs")

    def test_byte_order_is_a_difference_where_the_machine_s_is_used(self) -> None:
        found = json.loads(run("--diff", "aarch64", "s390x", "--json").output)["structs"]
        assert found["vhost_msg_v2"] == ["byte order little against big"]
        assert "vring_desc" not in found

    def test_can_be_restricted(self) -> None:
        output = run("vhost_msg", "vring_desc", "--diff", "x86_64", "i386").output
        assert "vhost_iotlb_msg" not in output
        assert output.splitlines()[-1] == "in alignment only: vring_desc"

    def test_as_json(self) -> None:
        body: dict[str, Any] = json.loads(run("--diff", "x86_64", "ppc64", "--json").output)
        assert body["abis"] == ["x86_64", "ppc64"]
        names = [name for name, _, _ in body["requests"]]
        x86, ppc = ABIS["x86_64"], ABIS["ppc64"]
        differing = {name for name, one in requests().items() if one.request(x86) != one.request(ppc)}
        assert set(names) == differing
        assert "VHOST_GET_VRING_BASE" not in names, "read and write together are the same bits"


def test_json_has_the_layouts() -> None:
    body = json.loads(run("vhost_msg", "--abi", "x86_64,i386", "--json").output)
    (struct,) = body["structs"]
    assert struct["layouts"]["x86_64"]["size"] == 72
    assert struct["layouts"]["x86_64"]["holes"] == [{"offset": 4, "size": 4}]
    assert struct["layouts"]["i386"]["fields"][1] == {
        "name": "iotlb",
        "offset": 4,
        "size": 28,
        "align": 4,
        "type": "struct vhost_iotlb_msg",
    }


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["vhost_mgs"], "no struct vhost_mgs; nearest: vhost_msg, "),
            (["vhost_msg", "--abi", "x86-64"], "no ABI x86-64; nearest: x86_64"),
            (["--diff", "x86_64", "i368"], "no ABI i368; nearest: i386"),
            (["--abi", ""], "no ABI ; nearest: x86_64"),
            (["--diff", "x86_64"], "requires 2 arguments"),
        ],
    )
    def test_end_in_2_with_the_nearest_names(self, arguments: list[str], complaint: str) -> None:
        result = run(*arguments)
        assert result.exit_code == 2
        assert complaint in result.output
