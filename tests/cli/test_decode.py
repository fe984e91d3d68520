"""``vdpasim decode``: names for bytes and numbers."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from vdpasim.cli.decode import LIMIT, command
from vdpasim.uapi.abi import ABIS, I386, S390X, X86_64
from vdpasim.uapi.catalog import requests
from vdpasim.uapi.layout import layout
from vdpasim.uapi.vhost_types import vhost_msg, vhost_msg_v2

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from vdpasim.uapi.ioctl import Ioctl

UPDATE = {"iova": 0x1000, "size": 0x2000, "uaddr": 0x7F0000000000, "perm": 3, "type": 2}
V2 = layout(vhost_msg_v2, X86_64).pack(type=2, iotlb=UPDATE)
I386_V1 = layout(vhost_msg, I386).pack(type=1, iotlb=UPDATE)
PROGRAM = [sys.executable, "-c", "from vdpasim.cli import main; main()"]


def exit_code(result: Result) -> int:
    """As :func:`vdpasim.cli.main` makes it of what a command returns."""
    return result.exit_code or (result.return_value or 0)


def run(*arguments: str, stdin: bytes | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(command, list(arguments), input=stdin, standalone_mode=False)
    if isinstance(result.exception, Exception):
        raise result.exception
    return exit_code(result), result.output


class TestMessages:
    def test_a_message_is_named_member_by_member(self) -> None:
        code, output = run("msg", V2.hex())
        assert code == 0
        assert output.splitlines() == [
            "vhost_msg_v2, 72 bytes, read as x86_64",
            "   0  type         2                   VHOST_IOTLB_MSG_V2",
            "   4  asid         0",
            "   8  iotlb.iova   0x1000",
            "  16  iotlb.size   0x2000",
            "  24  iotlb.uaddr  0x7f0000000000",
            "  32  iotlb.perm   3                   VHOST_ACCESS_RW",
            "  33  iotlb.type   2                   VHOST_IOTLB_UPDATE",
        ]

    def test_an_i386_message_is_recognised(self) -> None:
        code, output = run("msg", I386_V1.hex())
        assert code == 1
        assert "wrong: an i386 vhost_msg of 68 bytes; that of x86_64 has 72" in output
        assert "wrong: read as i386 it is VHOST_IOTLB_UPDATE iova=0x1000 size=0x2000" in output

    def test_and_is_fine_on_i386(self) -> None:
        code, output = run("msg", "--abi", "i386", I386_V1.hex())
        assert code == 0
        assert output.startswith("vhost_msg, 68 bytes, read as i386\n")

    def test_a_big_endian_machine_reads_its_own(self) -> None:
        data = layout(vhost_msg_v2, S390X).pack(type=2, iotlb=UPDATE)
        assert run("msg", "--abi", "s390x", data.hex())[0] == 0
        assert run("msg", data.hex())[0] == 1

    def test_notes_do_not_make_it_wrong(self) -> None:
        code, output = run("msg", V2[:40].hex())
        assert code == 0
        assert output.splitlines()[-1] == "note: 40 of 72 bytes: a kernel reads 40 and answers 72"

    @pytest.mark.parametrize("separator", [" ", ":", ",", "\n", "\\x"])
    def test_hex_may_have_separators(self, separator: str) -> None:
        text = separator.join(f"{byte:02x}" for byte in V2)
        assert run("msg", text.strip() if separator != "\\x" else separator + text)[0] == 0

    def test_hex_may_have_prefixes(self) -> None:
        assert run("msg", " ".join(f"0x{byte:02X}" for byte in V2))[0] == 0

    @pytest.mark.parametrize(
        "data", [V2, V2.hex().encode(), V2.hex(" ").encode() + b"\n"], ids=["binary", "hex", "xxd"]
    )
    def test_standard_input_is_binary_or_hex(self, data: bytes) -> None:
        assert run("msg", "-", stdin=data)[1].startswith("vhost_msg_v2, 72 bytes")

    def test_binary_may_be_ascii(self) -> None:
        data = layout(vhost_msg_v2, X86_64).pack(type=2, iotlb={"iova": 0x1000, "size": 0x1000, "perm": 1, "type": 2})
        assert data.isascii()
        assert run("msg", "-", stdin=data)[0] == 0

    def test_nothing_is_too_little(self) -> None:
        assert run("msg", "-", stdin=b"") == (1, "wrong: 0 bytes are too few for the type word, which has 4\n")

    def test_too_much_is_one_line(self) -> None:
        line = f"wrong: more than {LIMIT} bytes, and a message has 72 at most\n"
        assert run("msg", "-", stdin=bytes(LIMIT + 1)) == (1, line)
        assert run("msg", "-", stdin=b"00" * LIMIT) == (1, line)
        assert run("msg", "00" * (LIMIT + 1)) == (1, line)

    def test_json(self) -> None:
        code, output = run("msg", "--json", I386_V1.hex())
        body = json.loads(output)
        assert code == 1
        assert (body["ok"], body["format"], body["abi"], body["length"]) == (False, "vhost_msg", "x86_64", 68)
        assert len(body["problems"]) == 3
        assert body["members"][0] == {
            "name": "type",
            "offset": 0,
            "size": 4,
            "value": 1,
            "text": "VHOST_IOTLB_MSG",
        }

    def test_json_of_no_message(self) -> None:
        body = json.loads(run("msg", "--json", "00000000")[1])
        assert (body["format"], body["members"], body["ok"]) == (None, [], False)


class TestRequests:
    @pytest.mark.parametrize("one", requests().values(), ids=lambda one: one.name)
    def test_every_request_is_named_on_every_abi(self, one: Ioctl) -> None:
        for abi in ABIS.values():
            code, output = run("ioctl", "--abi", abi.name, hex(one.request(abi)))
            assert code == 0
            assert output.startswith(f"{one.request(abi):#010x} {one.name} _IO")

    def test_a_request_says_what_it_is_for(self) -> None:
        assert run("ioctl", "0x4008af00") == (
            0,
            "0x4008af00 VHOST_SET_FEATURES _IOW(0xaf, 0x00, __u64)\nVirtio features the driver takes\n",
        )

    @pytest.mark.parametrize("text", ["0x8008AF26", "2148052774", "8008af26", "0xffffffff8008af26"])
    def test_a_number_may_be_written_in_many_ways(self, text: str) -> None:
        assert "VHOST_GET_BACKEND_FEATURES" in run("ioctl", text)[1]

    def test_a_name_gives_the_number(self) -> None:
        assert run("ioctl", "--abi", "ppc64", "VHOST_SET_OWNER")[1].startswith("0x2000af01 VHOST_SET_OWNER")

    def test_the_4_19_headers_get_backend_features_is_recognised(self) -> None:
        code, output = run("ioctl", "0x4008AF26")
        assert code == 1
        assert output.splitlines()[:2] == [
            "0x4008af26 is no known request of x86_64: _IOW, type 0xaf, number 0x26, size 8",
            (
                "almost VHOST_GET_BACKEND_FEATURES (0x8008af26): direction _IOW instead of _IOR; "
                "vhost features there are; _IOW in 4.19 headers"
            ),
        ]

    def test_a_request_of_another_abi_is_recognised(self) -> None:
        code, output = run("ioctl", "0x2000af01")
        assert code == 1
        assert "on ppc64 it is VHOST_SET_OWNER" in output.splitlines()

    def test_direction_bits_without_a_meaning(self) -> None:
        assert "no valid direction" in run("ioctl", "--abi", "ppc64", "0x0008af26")[1]

    def test_a_stranger_has_no_relatives(self) -> None:
        code, output = run("ioctl", "0x5401")
        assert (code, len(output.splitlines())) == (1, 1)

    def test_json(self) -> None:
        code, output = run("ioctl", "--json", "0x4008AF26")
        body = json.loads(output)
        assert code == 1
        assert body["name"] is None
        assert (body["direction"], body["type"], body["number"], body["size"]) == ("_IOW", 0xAF, 0x26, 8)
        assert body["near"][0]["request"] == 0x8008AF26
        assert body["elsewhere"] == [{"abi": "ppc64", "name": "VHOST_GET_BACKEND_FEATURES"}]

    def test_json_of_a_known_one(self) -> None:
        body = json.loads(run("ioctl", "--json", "VHOST_NEW_OWNER")[1])
        assert (body["name"], body["spelling"], body["near"]) == ("VHOST_NEW_OWNER", "_IO(0xaf, 0x27)", [])


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["msg", "xyz"], "HEX is not an even number of hexadecimal digits"),
            (["msg", "123"], "HEX is not an even number of hexadecimal digits"),
            (["msg", ""], "HEX is not an even number of hexadecimal digits"),
            (["msg", "--abi", "i368", "00"], "no ABI i368; nearest: i386"),
            (["msg"], "Missing argument"),
            (["ioctl", "foo"], "foo is neither a number nor the name of a request"),
            (["ioctl", "0x100000000"], "0x100000000 does not fit 32 bits"),
            (["ioctl", "--", "-0x100000000"], "does not fit 32 bits"),
        ],
    )
    def test_end_in_2(self, arguments: list[str], complaint: str) -> None:
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 2
        assert complaint in result.output


class TestProcess:
    """As a program among others."""

    def test_megabytes_of_noise_end_in_one_line(self, tmp_path: Path) -> None:
        noise = tmp_path / "noise"
        noise.write_bytes(random.Random(7).randbytes(LIMIT * 8))
        with noise.open("r+b") as source:
            source.truncate(50_000_000)
            done = subprocess.run([*PROGRAM, "decode", "msg", "-"], stdin=source, capture_output=True, check=False)
        assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (1, 1, b"")

    def test_an_endless_writer_is_left_behind(self) -> None:
        line = "yes 0123456789 | " + shlex.join([*PROGRAM, "decode", "msg", "-"])
        done = subprocess.run(["sh", "-c", line], capture_output=True, check=False, timeout=60)
        assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)

    def test_a_closed_reader_is_no_error(self) -> None:
        with subprocess.Popen(
            [*PROGRAM, "abi", *(["vhost_msg"] * 500)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            errors = process.stderr.read()
        assert (process.returncode, errors) == (0, b"")

    def test_a_closed_standard_input_is_a_mistake(self) -> None:
        line = shlex.join([*PROGRAM, "decode", "msg", "-"]) + " <&-"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "standard input is closed" in done.stderr
