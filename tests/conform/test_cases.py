"""Reading cases: what is accepted, what is refused and how, symbols, selection, settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.conform.cases import (
    Case,
    Setting,
    Symbols,
    TraceFormatError,
    Unreadable,
    case_object,
    needs_data_path,
    parse_case,
    read_cases,
    setting_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Step = Callable[..., dict[str, Any]]
    Make = Callable[..., Case]

OWNER = {"op": "ioctl", "fd": "dev", "name": "VHOST_SET_OWNER", "arg": None, "ret": 0, "errno": 0}


def line(*steps: Any, **keys: Any) -> str:
    return json.dumps({"case": "c", "topic": "t", "dev": "vhost-net", "kernel": "6.1.192", "steps": steps, **keys})


class TestReading:
    def test_inputs_and_outputs_are_told_apart(self, case: Make, step: Step) -> None:
        read = case(step("read", 72, fd="dev", size=72, out="00" * 72, proc="child")).steps[0]
        assert read.op == "read"
        assert read.proc == "child"
        assert read.inputs == {"fd": "dev", "size": 72}
        assert read.outputs == {"out": "00" * 72, "ret": 72, "errno": 0}

    def test_numbers_may_be_written_as_strings(self, case: Make, step: Step) -> None:
        steps = case(step("dropcap", cap="14"), step("ioctl", fd="dev", name="RAW", cmd="0x0000af27", arg=None)).steps
        assert (steps[0].number("cap"), steps[1].number("cmd")) == (14, 0xAF27)

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("{", "no JSON"),
            ("[]", "a case is a JSON object"),
            (line(flavour="new"), "unknown key 'flavour'"),
            ('{"case": "c"}', "no 'dev'"),
            (line(7), "step 1: a step is a JSON object"),
            (line(OWNER, {"op": "teleport", "ret": 0, "errno": 0}), "step 2: unknown op 'teleport'"),
            (line({**OWNER, "speed": 3}), "(ioctl): unknown key 'speed'"),
            (line({"op": "close", "ret": 0, "errno": 0}), "(close): no 'fd'"),
            (line({**OWNER, "fd": 3}), "fd is 3, wanted str"),
            (line({**OWNER, "in": "0g"}), "in is '0g', wanted hex"),
            (line({**OWNER, "arg": "mem0"}), "arg is 'mem0', wanted addr-or-null"),
            (line({**OWNER, "proc": "uncle"}), "proc, ret or errno"),
            (line({key: value for key, value in OWNER.items() if key != "ret"}), "proc, ret or errno"),
            (line(OWNER, case=3), "case is a string"),
        ],
    )
    def test_what_is_not_the_format_is_refused_with_its_place(self, text: str, complaint: str) -> None:
        with pytest.raises(TraceFormatError) as caught:
            parse_case(text, "net.jsonl:7")
        assert str(caught.value).startswith("net.jsonl:7: ")
        assert complaint in str(caught.value)

    def test_a_bad_line_does_not_hide_the_others(self, tmp_path: Path) -> None:
        path = tmp_path / "t.jsonl"
        path.write_text(f"{line(OWNER)}\n\n{{\n{line(case='d')}\n")
        first, bad, last = read_cases(path)
        assert isinstance(first, Case)
        assert first.place == f"{path}:1"
        assert isinstance(bad, Unreadable)
        assert bad.place == f"{path}:3"
        assert isinstance(last, Case)
        assert last.name == "d"

    def test_bytes_that_are_no_text_are_unreadable(self, tmp_path: Path) -> None:
        path = tmp_path / "t.jsonl"
        path.write_bytes(b"\xff\xfe\x00\n")
        assert [type(case) for case in read_cases(path)] == [Unreadable]

    @given(st.binary(max_size=200))
    def test_any_bytes_are_a_case_or_a_format_error(self, data: bytes) -> None:
        try:
            parsed = parse_case(data, "x:1")
        except TraceFormatError as error:
            assert str(error).startswith("x:1")
        else:
            assert isinstance(parsed, Case)

    def test_writing_a_case_gives_what_was_read(self, golden: Path) -> None:
        path = golden / "6.12-va" / "va_owner.jsonl"
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        cases = [case_object(case) for case in read_cases(path) if isinstance(case, Case)]
        assert cases == lines

    def test_writing_a_case_with_other_outputs_keeps_its_inputs(self, case: Make, step: Step) -> None:
        written = case_object(case(step("poll", 1, fd="dev", events=5, timeout_ms=0, revents=5)), [{"ret": 0}])
        assert written["steps"] == [{"op": "poll", "fd": "dev", "events": 5, "timeout_ms": 0, "ret": 0}]

    def test_every_public_trace_can_be_read(self, golden: Path) -> None:
        cases = [case for path in golden.rglob("*.jsonl") for case in read_cases(path)]
        assert [case for case in cases if isinstance(case, Unreadable)] == []
        assert len(cases) == 772 + 772 + 508 + 201 + 202 + 10


class TestSymbols:
    @pytest.mark.parametrize(
        ("text", "address"),
        [("null", 0), (None, 0), (77, 77), ("0x10", 16), ("12", 12), ("$mem0", 0x5000), ("$mem0+0x10", 0x5010)],
    )
    def test_addresses(self, text: str | int | None, address: int) -> None:
        assert Symbols({"mem0": 0x5000}).address(text) == address

    def test_bytes_are_filled_in_little_endian(self) -> None:
        symbols = Symbols({"mem0": 0x1122334400000000}, {"kick0": 9})
        assert symbols.assemble("aa<$mem0+0x1>bb<fd:kick0>") == bytes.fromhex("aa0100000044332211bb09000000")

    def test_an_address_past_the_top_wraps(self) -> None:
        assert Symbols({"mem0": 1}).assemble("<$mem0+0xffffffffffffffff>") == bytes(8)

    @pytest.mark.parametrize("text", ["<$nobody+0x0>", "<fd:nobody>"])
    def test_an_unknown_name_is_an_error_of_the_case(self, text: str) -> None:
        with pytest.raises(TraceFormatError):
            Symbols().assemble(text)

    @given(st.binary())
    def test_plain_hex_is_just_hex(self, data: bytes) -> None:
        assert Symbols().assemble(data.hex()) == data


class TestDataPath:
    def test_a_kick_needs_it(self, case: Make, step: Step) -> None:
        assert needs_data_path(case(step("eventfd_write", 8, fd="kick0", value=1)))

    def test_a_kick_that_is_there_from_the_start_needs_it(self, case: Make, step: Step) -> None:
        assert needs_data_path(case(step("eventfd", fd="kick0", init=1)))
        assert not needs_data_path(case(step("eventfd", fd="kick0", init=0)))

    def test_a_backend_needs_it_when_it_is_taken(self, case: Make, step: Step) -> None:
        keys = {"fd": "dev", "name": "VHOST_NET_SET_BACKEND", "in": "0000000000000000"}
        assert needs_data_path(case(step("ioctl", **keys)))
        assert not needs_data_path(case(step("ioctl", -1, "EFAULT", **keys)))

    @pytest.mark.parametrize(("collection", "count"), [("6.1", 602), ("6.12", 602), ("6.12-va", 187)])
    def test_how_many_public_cases_need_none(self, golden: Path, collection: str, count: int) -> None:
        cases = [case for path in (golden / collection).glob("*.jsonl") for case in read_cases(path)]
        assert sum(isinstance(case, Case) and not needs_data_path(case) for case in cases) == count


class TestSetting:
    @pytest.mark.parametrize(
        ("kernel", "setting"),
        [
            ("6.1.192", Setting("6.1", use_va=False)),
            ("6.12.117", Setting("6.12", use_va=False)),
            ("6.12.117 use_va=1", Setting("6.12", use_va=True)),
            ("6.12.117 lu-v1 use_va=0", Setting("6.12+live-update-v1", use_va=False)),
            ("6.12.117 lu-v2 use_va=1", Setting("6.12+live-update-v2+lu-advertise", use_va=True)),
            ("6.12.117 lu-v2pure use_va=1", Setting("6.12+live-update-v2", use_va=True)),
            ("6.12.117 use_va=1 batch_mapping=0", Setting("6.12", use_va=True, batch_mapping=False)),
        ],
    )
    def test_comes_from_the_kernel_field(self, kernel: str, setting: Setting) -> None:
        assert setting_of(kernel) == setting

    def test_a_profile_replaces_the_release_and_keeps_the_device_options(self) -> None:
        assert setting_of("6.12.117 use_va=1", "7.1") == Setting("7.1", use_va=True)

    def test_a_kernel_of_ones_own_needs_a_profile_only_if_it_names_no_release(self) -> None:
        assert setting_of("6.8.0-45-generic").profile == "6.8"
        assert setting_of("mainline", "tip").profile == "tip"

    @pytest.mark.parametrize("kernel", ["", "mainline", "6.12.117 turbo=1", "6.12.117 use_va=2", "6.12 lu-v9"])
    def test_a_word_that_means_nothing_is_refused(self, kernel: str) -> None:
        with pytest.raises(TraceFormatError):
            setting_of(kernel)
