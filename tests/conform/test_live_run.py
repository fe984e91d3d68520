"""Running a case on this machine: processes, exec, hand-over, hazards, obstacles."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.conform import live_run
from vdpasim.conform.cases import Case, parse_case, setting_of
from vdpasim.conform.live_run import LiveOptions, hazard, hazards, kernel_name, obstacle, run_live

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Step = Callable[..., dict[str, Any]]
    Make = Callable[..., Case]

HERE = LiveOptions({})


@pytest.fixture(autouse=True)
def everything_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_run, "_capable", lambda cap: True)


def differences(case: Case) -> list[str]:
    options = LiveOptions({}, destructive=True)
    assert obstacle(case, options) == ""
    run = run_live(case, options)
    assert run.end == ""
    assert len(run.results) == len(case.steps)
    return [f"{r.number} {r.step.op} {r.answer.outputs}" for r in run.results if r.differing]


class TestRunning:
    def test_steps_run_in_order_in_a_process_of_their_own(self, case: Make, step: Step) -> None:
        steps = (
            step("eventfd", fd="e", init=0),
            step("eventfd_write", 8, fd="e", value=3),
            step("eventfd_read", 8, fd="e", timeout_ms=10, value=3),
            step("eventfd_read", -1, "EAGAIN", fd="e", timeout_ms=10, value=0),
            step("poll", 1, fd="e", events=5, timeout_ms=0, revents=4),
        )
        assert differences(case(*steps)) == []

    def test_a_child_shares_files_and_shared_memory_only(self, case: Make, step: Step) -> None:
        steps = (
            step("buf", name="shm0", kind="shm", len=4096),
            step("buf", name="anon0", kind="anon", len=4096),
            step("poke", addr="$shm0", data="01", proc="child"),
            step("poke", addr="$anon0", data="01", proc="child"),
            step("peek", addr="$shm0", len=1, out="01"),
            step("peek", addr="$anon0", len=1, out="00"),
            step("eventfd", fd="e", init=0),
            step("eventfd_write", 8, fd="e", value=2, proc="child_stay"),
            step("eventfd_read", 8, fd="e", timeout_ms=0, value=2),
            step("stay_kill"),
        )
        assert differences(case(*steps)) == []

    def test_exec_keeps_descriptors_and_loses_memory(self, case: Make, step: Step) -> None:
        steps = (
            step("memfd", fd="m", len=4096),
            step("eventfd", fd="e", init=7),
            step("buf", name="mem0", kind="anon", len=4096),
            step("pwrite", 2, fd="m", off=1, data="abcd"),
            step("exec", cloexec=["e"]),
            step("pread", 2, fd="m", off=1, len=2, out="abcd"),
            step("eventfd_read", -1, "EBADF", fd="e", timeout_ms=0, value=0),
            step("peek", -1, "EFAULT", addr="$mem0", len=1),
            step("map", addr="$mem0", len=4096, prot="r", kind="shared", fd="m", off=0),
            step("peek", addr="$mem0+0x1", len=2, out="abcd"),
        )
        assert differences(case(*steps)) == []

    @pytest.mark.parametrize("parent", ["exit", "wait"])
    def test_a_forked_heir_does_the_rest(self, case: Make, step: Step, parent: str) -> None:
        steps = (
            step("eventfd", fd="e", init=1),
            step("handover", parent=parent, parent_closes=["e"]),
            step("eventfd_read", 8, fd="e", timeout_ms=0, value=1),
            step("exec", cloexec=[]),
            step("eventfd_write", 8, fd="e", value=1),
        )
        assert differences(case(*steps)) == []

    def test_a_case_that_dies_ended_by_a_signal(self, case: Make, step: Step) -> None:
        # A wild munmap takes the program itself away.
        steps = step("sleep", ms=1), step("munmap", addr="0x1000", len=0x7FFF_FFFF_0000), step("sleep", ms=1)
        run = run_live(case(*steps), HERE)
        assert run.end == "signal"
        assert [result.number for result in run.results] == [1]

    def test_a_case_that_does_not_end_is_ended(
        self, case: Make, step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.mkfifo(tmp_path / "fifo")
        monkeypatch.setattr(live_run, "GRACE_S", 1.0)
        run = run_live(case(step("open", fd="f", path=str(tmp_path / "fifo"), flags="ro")), HERE)
        assert (run.end, run.results) == ("timeout", [])

    def test_a_call_that_blocks_is_interrupted(self, case: Make, step: Step, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        steps = (
            step("open", fd="f", path=str(tmp_path / "fifo"), flags="rw"),
            step("read", -1, "EINTR", fd="f", size=1, blocked=True),
        )
        assert differences(case(*steps)) == []


class TestObstacles:
    @pytest.mark.parametrize(
        ("op", "keys", "reason"),
        [
            ("open", {"fd": "dev", "dev": "vhost-net", "flags": "rw"}, "needs a device of kind vhost-net"),
            ("open", {"fd": "f", "path": "/no/such/file", "flags": "rw"}, "/no/such/file is not there"),
            ("recreate_device", {}, "recreates the device, and no command for that was given"),
            ("mm_holder", {}, "needs a process that shares the address space without files"),
        ],
    )
    def test_are_named(self, case: Make, step: Step, op: str, keys: dict[str, Any], reason: str) -> None:
        assert obstacle(case(step("sleep", ms=1), step(op, **keys)), HERE) == reason

    @pytest.mark.parametrize(
        ("op", "keys", "word"),
        [
            ("tap", {"fd": "t", "ifname": "tap0", "iff_flags": 0}, "CAP_NET_ADMIN"),
            ("rlimit_memlock", {"soft": 1, "hard": 1}, "CAP_SYS_RESOURCE"),
            ("buf", {"name": "mem0", "kind": "huge", "len": 1 << 60}, "hugepages"),
            ("memfd", {"fd": "m", "len": 1 << 60, "hugetlb": True}, "hugepages"),
        ],
    )
    def test_of_privilege_and_memory_are_named(
        self, case: Make, step: Step, monkeypatch: pytest.MonkeyPatch, op: str, keys: dict[str, Any], word: str
    ) -> None:
        monkeypatch.setattr(live_run, "_capable", lambda cap: False)
        assert word in obstacle(case(step(op, **keys)), HERE)

    def test_go_away_with_the_options(self, case: Make, step: Step) -> None:
        options = LiveOptions({"vhost-vdpa-net": os.devnull}, recreate="true")
        steps = step("recreate_device"), step("open", fd="dev", dev="vhost-vdpa-net", flags="rw")
        assert obstacle(case(*steps), options) == ""


class TestHazards:
    def test_are_what_would_hurt_a_production_card(self, case: Make, step: Step) -> None:
        kick = step("eventfd_write", 8, fd="kick0", value=1)
        mac = step("ioctl", fd="dev", name="VHOST_VDPA_SET_CONFIG", in_="00")
        assert "disk" in hazard(case(kick, dev="vhost-vdpa-blk"))
        assert "frames" in hazard(case(kick, dev="vhost-vdpa-net"))
        assert "config" in hazard(case(mac, dev="vhost-vdpa-net"))
        assert hazard(case(kick, dev="vhost-net")) == ""
        assert hazard(case(step("close", fd="dev"))) == ""

    def test_keep_a_case_from_running_unless_asked_for(self, case: Make, step: Step) -> None:
        kick = case(step("eventfd_write", 8, fd="kick0", value=1), dev="vhost-vdpa-blk")
        assert obstacle(kick, HERE).startswith("destructive on a production card: ")
        assert obstacle(kick, LiveOptions({}, destructive=True)) == ""

    def test_are_named_by_topic(self, golden: Path) -> None:
        files = [golden / "6.1" / f"{topic}.jsonl" for topic in ("blk", "net_cvq", "owner")]
        assert [topic for topic, _ in hazards(files)] == ["blk", "net_cvq"]


def test_the_kernel_name_is_one_that_a_case_can_carry() -> None:
    name = kernel_name()
    assert name.startswith(os.uname().release)
    assert parse_case(f'{{"case":"c","topic":"t","dev":"d","kernel":"{name}","steps":[]}}', "x:1").kernel == name
    assert setting_of(name, "tip").profile == "tip"
