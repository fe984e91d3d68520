"""The interpreter: every operation becomes one call of the floor, and its result the recorded outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from vdpasim.conform.cases import _OPS, Case, Symbols, TraceFormatError
from vdpasim.conform.floor import Answer, Floor, Interrupted
from vdpasim.conform.interpreter import _OPERATIONS, FIRST_SLOT, SLOT, Interpreter, StepResult

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[..., dict[str, Any]]
    Make = Callable[..., Case]

EBADF = 9


class Recorder:
    """A floor that notes the calls and returns what it is told to (or raises it)."""

    def __init__(self, **results: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.results = {"number": 5, "argument": 0x7000, "ioctl": 0, "write_from": 0, "writev": 0, **results}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **keys: Any) -> Any:
            self.calls.append((name, *args, *keys.values()))
            result = self.results.get(name)
            if isinstance(result, Exception):
                raise result
            return result

        return call

    def child(self, act: Callable[[], Answer], *, stay: bool) -> Answer:
        self.calls.append(("child", stay))
        return act()


def run(case: Case, floor: Recorder, symbols: Symbols | None = None) -> list[StepResult]:
    return list(Interpreter(case, cast("Floor", floor), symbols).run())


def outputs(case: Case, floor: Recorder, symbols: Symbols | None = None) -> dict[str, Any]:
    return run(case, floor, symbols)[0].answer.outputs


def test_every_operation_of_the_format_can_be_performed() -> None:
    assert set(_OPERATIONS) == set(_OPS)


class TestOperations:
    @pytest.mark.parametrize(
        ("op", "keys", "call"),
        [
            ("open", {"fd": "dev", "dev": "vhost-net", "flags": "rw"}, ("open", "dev", "vhost-net", "", "rw")),
            ("close", {"fd": "dev"}, ("close", "dev")),
            ("dup", {"fd": "b", "from_": "a"}, ("dup", "b", "a")),
            ("write", {"fd": "dev", "ptr": "0x10", "len": 72}, ("write_from", "dev", 16, 72)),
            (
                "writev",
                {"fd": "dev", "parts": ["01", "<$m+0x0>"]},
                ("writev", "dev", [b"\1", bytes([0, 1]) + bytes(6)]),
            ),
            ("eventfd", {"fd": "e", "init": 2}, ("eventfd", "e", 2)),
            ("poke", {"addr": "$m+0x1", "data": "0a0b"}, ("poke", 0x101, b"\n\v")),
            ("fill", {"addr": "$m", "len": 3, "byte": 238}, ("poke", 0x100, b"\xee\xee\xee")),
            ("sleep", {"ms": 60}, ("sleep", 60)),
            ("rlimit_memlock", {"soft": 1, "hard": 2}, ("rlimit_memlock", 1, 2)),
            ("dropcap", {"cap": "14"}, ("dropcap", 14)),
            ("tap", {"fd": "t", "ifname": "tap0", "iff_flags": 16384}, ("tap", "t", "tap0", 16384)),
            ("tun_unattached", {"fd": "x"}, ("tun_unattached", "x")),
            ("packet_socket", {"fd": "x", "ifname": "tap0", "dgram": 1}, ("packet_socket", "x", "tap0", 1)),
            ("socket", {"fd": "s", "domain": 1, "type": 2}, ("socket", "s", 1, 2)),
            ("mmap", {"fd": "dev", "len": 9, "prot": 2, "flags": 1, "off": 4096}, ("mmap", "dev", 9, 2, 1, 4096)),
            ("munmap", {"addr": "$m", "len": 8}, ("munmap", 0x100, 8)),
            ("mprotect", {"addr": "$m", "len": 8, "prot": 1}, ("mprotect", 0x100, 8, 1)),
            ("mremap", {"addr": "$m", "len": 8, "new_len": 9, "to": "$m+0x8"}, ("mremap", 0x100, 8, 9, 0x108)),
            ("memfd", {"fd": "m", "len": 8, "hugetlb": True}, ("memfd", "m", 8, True)),
            ("ftruncate", {"fd": "m", "len": 0}, ("ftruncate", "m", 0)),
            ("punch_hole", {"fd": "m", "off": 1, "len": 2}, ("punch_hole", "m", 1, 2)),
            ("handover", {"parent": "wait", "parent_closes": ["dev"]}, ("handover", "wait", ["dev"])),
            ("mm_holder", {}, ("mm_holder",)),
            ("mm_holder_kill", {}, ("mm_holder_kill",)),
            ("stay_kill", {}, ("stay_kill",)),
            ("recreate_device", {}, ("recreate_device",)),
        ],
    )
    def test_become_a_call(self, case: Make, step: Step, op: str, keys: dict[str, Any], call: tuple[Any, ...]) -> None:
        floor = Recorder()
        assert outputs(case(step(op, **keys)), floor, Symbols({"m": 0x100})) == {"ret": 0, "errno": 0}
        assert floor.calls[0] == call

    @pytest.mark.parametrize(("prot", "bits"), [("rw", 3), ("r", 1), ("w", 2), ("rx", 5), ("-", 0)])
    def test_map_takes_letters(self, case: Make, step: Step, prot: str, bits: int) -> None:
        floor = Recorder()
        run(case(step("map", addr="0x1000", len=4096, prot=prot, kind="shared", fd="m", off=4096)), floor)
        assert floor.calls == [("map", 0x1000, 4096, bits, "shared", "m", 4096)]

    @pytest.mark.parametrize(("length", "data"), [(2, b"\1\2"), (5, b"\1\2\3\0\0"), (0, b"")])
    def test_write_cuts_or_extends_to_the_length(self, case: Make, step: Step, length: int, data: bytes) -> None:
        floor = Recorder(write=length)
        assert outputs(case(step("write", fd="dev", data="010203", len=length)), floor)["ret"] == length
        assert floor.calls == [("write", "dev", data)]

    @pytest.mark.parametrize(
        ("op", "keys", "result", "expected"),
        [
            ("read", {"fd": "dev", "size": 72}, b"\1\2", {"ret": 2, "out": "0102"}),
            ("read", {"fd": "dev", "size": 0}, b"", {"ret": 0}),
            ("poll", {"fd": "dev", "events": 5, "timeout_ms": 0}, 5, {"ret": 1, "revents": 5}),
            ("poll", {"fd": "dev", "events": 5, "timeout_ms": 0}, 0, {"ret": 0, "revents": 0}),
            ("eventfd_write", {"fd": "e", "value": 1}, 8, {"ret": 8}),
            ("eventfd_read", {"fd": "e", "timeout_ms": 50}, 3, {"ret": 8, "value": 3}),
            ("peek", {"addr": "0x1", "len": 2}, b"\1\2", {"ret": 0, "out": "0102"}),
            ("wait_u16", {"addr": "0x1", "value": 2, "timeout_ms": 5}, 2, {"ret": 0, "seen": 2}),
            ("wait_u16", {"addr": "0x1", "value": 2, "timeout_ms": 5}, 1, {"ret": 1, "seen": 1}),
            ("vmpin", {}, 2048, {"ret": 0, "kb": 2048}),
            ("pread", {"fd": "m", "off": 0, "len": 2}, b"\1\2", {"ret": 2, "out": "0102"}),
            ("pread", {"fd": "m", "off": 0, "len": 2}, b"", {"ret": 0}),
            ("pwrite", {"fd": "m", "off": 0, "data": "0102"}, 2, {"ret": 2}),
        ],
    )
    def test_give_their_results(
        self, case: Make, step: Step, op: str, keys: dict[str, Any], result: Any, expected: dict[str, Any]
    ) -> None:
        assert outputs(case(step(op, **keys)), Recorder(**{op: result})) == {"errno": 0, **expected}

    def test_read_to_an_address_returns_the_count_only(self, case: Make, step: Step) -> None:
        floor = Recorder(read_into=72)
        assert outputs(case(step("read", fd="dev", size=72, ptr="null")), floor) == {"ret": 72, "errno": 0}
        assert floor.calls == [("read_into", "dev", 0, 72)]


class TestIoctl:
    def test_bytes_go_through_the_argument_buffer(self, case: Make, step: Step) -> None:
        floor = Recorder(peek=b"\1\2")
        steps = step("ioctl", fd="dev", name="VHOST_GET_FEATURES", in_="0304", outlen=2)
        assert outputs(case(steps), floor) == {"ret": 0, "errno": 0, "out": "0102"}
        assert floor.calls == [("argument", b"\3\4"), ("ioctl", "dev", 0x8008AF00, 0x7000), ("peek", 0x7000, 2)]

    def test_nothing_comes_back_without_outlen_or_on_an_error(self, case: Make, step: Step) -> None:
        plain = step("ioctl", fd="dev", name="VHOST_SET_FEATURES", in_="00")
        assert outputs(case(plain), Recorder()) == {"ret": 0, "errno": 0}
        refused = step("ioctl", fd="dev", name="VHOST_GET_FEATURES", in_="", outlen=8)
        answer = outputs(case(refused), Recorder(ioctl=OSError(EBADF, "")))
        assert answer == {"ret": -1, "errno": "EBADF"}

    @pytest.mark.parametrize(("arg", "value"), [(None, 0), ("null", 0), ("$m+0x4", 0x104)])
    def test_an_address_is_passed_as_it_is(self, case: Make, step: Step, arg: str | None, value: int) -> None:
        floor = Recorder()
        run(case(step("ioctl", fd="dev", name="RAW", cmd="0xaf27", arg=arg)), floor, Symbols({"m": 0x100}))
        assert floor.calls == [("ioctl", "dev", 0xAF27, value)]

    def test_an_unknown_name_is_an_error_of_the_case(self, case: Make, step: Step) -> None:
        with pytest.raises(TraceFormatError, match="VHOST_GET_LOST"):
            run(case(step("ioctl", fd="dev", name="VHOST_GET_LOST", arg=None)), Recorder())


class TestErrors:
    def test_carry_the_rule(self, case: Make, step: Step) -> None:
        error = OSError(14, "")
        error.rule, error.handler_errno = "vdpa.iotlb.overlap", 17  # type: ignore[attr-defined]
        answer = run(case(step("writev", fd="dev", parts=[])), Recorder(writev=error))[0].answer
        assert answer == Answer({"ret": -1, "errno": "EFAULT"}, "vdpa.iotlb.overlap", 17)

    def test_that_no_header_names_are_written_with_their_number(self, case: Make, step: Step) -> None:
        answer = outputs(case(step("close", fd="dev")), Recorder(close=OSError(524, "")))
        assert answer == {"ret": -1, "errno": "ENOTSUPP(524)"}

    def test_a_call_that_blocks_was_ended_by_a_signal(self, case: Make, step: Step) -> None:
        answer = outputs(case(step("read", fd="dev", size=72)), Recorder(read=Interrupted()))
        assert answer == {"ret": -1, "errno": "EINTR", "blocked": True}

    def test_an_empty_eventfd_reads_as_zero(self, case: Make, step: Step) -> None:
        answer = outputs(case(step("eventfd_read", fd="e", timeout_ms=1)), Recorder(eventfd_read=OSError(11, "")))
        assert answer == {"ret": -1, "errno": "EAGAIN", "value": 0}

    def test_an_error_of_the_floor_ends_the_case_and_is_its_answer(self, case: Make, step: Step) -> None:
        results = run(case(step("sleep", ms=1), step("sleep", ms=1)), Recorder(sleep=ZeroDivisionError("oops")))
        assert [result.answer.outputs for result in results] == [{"errno": "ZeroDivisionError: oops"}]
        assert results[0].differing == ["ret", "errno"]


class TestBuffers:
    def test_lie_in_slots_of_their_own(self, case: Make, step: Step) -> None:
        floor = Recorder()
        names = ("mem0", "mem1")
        run(case(*(step("buf", name=name, kind="anon", len=4096) for name in names)), floor)
        assert floor.calls == [("buf", "anon", 4096, FIRST_SLOT), ("buf", "anon", 4096, FIRST_SLOT + SLOT)]

    def test_lie_where_they_were_recorded(self, case: Make, step: Step) -> None:
        floor = Recorder()
        at = f"{FIRST_SLOT:#x}"
        run(case(step("buf", name="a", kind="shm", len=1, at=at), step("buf", name="b", kind="shm", len=1)), floor)
        assert [call[3] for call in floor.calls] == [FIRST_SLOT, FIRST_SLOT + SLOT]


class TestDescriptors:
    def test_have_the_number_the_floor_gave(self, case: Make, step: Step) -> None:
        floor = Recorder()
        steps = step("eventfd", fd="kick0", init=0), step("write", fd="dev", data="<fd:kick0>", len=4)
        run(case(*steps), floor)
        assert floor.calls[-1] == ("write", "dev", b"\5\0\0\0")

    def test_of_a_child_are_not_the_parents(self, case: Make, step: Step) -> None:
        steps = step("eventfd", fd="kick0", init=0, proc="child"), step("write", fd="dev", data="<fd:kick0>", len=4)
        with pytest.raises(TraceFormatError):
            run(case(*steps), Recorder())


class TestProcesses:
    @pytest.mark.parametrize(("proc", "stay"), [("child", False), ("child_stay", True)])
    def test_a_child_does_the_step(self, case: Make, step: Step, proc: str, *, stay: bool) -> None:
        floor = Recorder()
        run(case(step("sleep", ms=1, proc=proc)), floor)
        assert floor.calls == [("child", stay), ("sleep", 1)]

    def test_exec_hands_over_what_the_next_image_needs(self, case: Make, step: Step) -> None:
        floor = Recorder()
        symbols = Symbols({"mem0": 0x100})
        run(case(step("sleep", ms=1), step("exec", cloexec=["dev"]), step("sleep", ms=2)), floor, symbols)
        assert floor.calls[1] == ("exec", ["dev"], symbols, 2)

    def test_a_run_can_begin_in_the_middle(self, case: Make, step: Step) -> None:
        floor = Recorder()
        run_ = Interpreter(case(step("sleep", ms=1), step("sleep", ms=2)), cast("Floor", floor))
        assert [result.number for result in run_.run(1)] == [2]
        assert floor.calls == [("sleep", 2)]


class TestComparing:
    def result(self, make: Make, step: Step, expected: dict[str, Any], got: dict[str, Any]) -> StepResult:
        recorded = make(step("poll", fd="d", events=1, timeout_ms=0, **expected)).steps[0]
        return StepResult(1, recorded, Answer(got))

    def test_the_same_outputs_do_not_differ(self, case: Make, step: Step) -> None:
        same = self.result(case, step, {"ret": 1, "revents": 1}, {"revents": 1, "errno": 0, "ret": 1})
        assert same.differing == []

    @pytest.mark.parametrize(
        ("got", "differing"),
        [
            ({"ret": 1, "errno": 0, "revents": 4}, ["revents"]),
            ({"ret": -1, "errno": "EINVAL"}, ["ret", "errno", "revents"]),
            ({"ret": 1, "errno": 0, "revents": 1, "blocked": True}, ["blocked"]),
        ],
    )
    def test_a_wrong_a_missing_and_an_extra_output_differ(
        self, case: Make, step: Step, got: dict[str, Any], differing: list[str]
    ) -> None:
        assert self.result(case, step, {"ret": 1, "revents": 1}, got).differing == differing

    def test_the_case_of_hex_digits_does_not_matter(self, case: Make, step: Step) -> None:
        recorded = case(step("peek", addr="0x1", len=1, out="AB")).steps[0]
        assert StepResult(1, recorded, Answer({"ret": 0, "errno": 0, "out": "ab"})).differing == []
