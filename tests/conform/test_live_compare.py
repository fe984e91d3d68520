"""Comparing this machine with a recording or with the simulator, and recording it."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.conform.cases import parse_case
from vdpasim.conform.live_compare import compare_live, device_kind
from vdpasim.conform.live_run import LiveOptions, kernel_name
from vdpasim.conform.replay import Selection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vdpasim.conform.replay import Verdict

    Step = Callable[..., dict[str, Any]]

ALL = LiveOptions({}, destructive=True)


@pytest.fixture
def traces(tmp_path: Path, step: Step) -> Path:
    counter = [step("eventfd", fd="e", init=2), step("eventfd_read", 8, fd="e", timeout_ms=0, value=2)]
    wrong = [step("eventfd", fd="e", init=2), step("eventfd_read", 8, fd="e", timeout_ms=0, value=3)]
    absent = [step("open", fd="dev", dev="vhost-vdpa-blk", flags="rw")]
    folder = tmp_path / "6.12"
    folder.mkdir()
    with (folder / "misc.jsonl").open("w") as file:
        for name, steps in (("right", counter), ("wrong", wrong), ("absent", absent)):
            data = {"case": name, "topic": "misc", "dev": "vhost-net", "kernel": "6.12.117", "steps": steps}
            file.write(json.dumps(data) + "\n")
        file.write("nonsense\n")
    return folder


def run(traces: Path, profile: str | None = None, record: io.StringIO | None = None) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in compare_live([traces], Selection(), ALL, profile, {}, record)}


def test_every_line_gets_a_verdict(traces: Path) -> None:
    verdicts = run(traces)
    assert {name: verdict.outcome for name, verdict in verdicts.items()} == {
        "right": "agrees",
        "wrong": "differs",
        "absent": "not run",
        "": "unreadable",
    }
    assert verdicts["absent"].reason == "needs a device of kind vhost-vdpa-blk"


def test_the_difference_to_the_recording_is_shown(traces: Path) -> None:
    difference = run(traces)["wrong"].difference
    assert difference is not None
    assert difference.step.outputs["value"] == 3
    assert difference.answer.outputs["value"] == 2


def test_with_a_profile_the_simulator_is_compared_with_this_machine(traces: Path) -> None:
    assert {name: verdict.outcome for name, verdict in run(traces, "6.12").items()} == {
        "right": "agrees",
        "wrong": "agrees",
        "absent": "not run",
        "": "unreadable",
    }


def test_a_recording_is_a_case_that_this_machine_agrees_with(traces: Path) -> None:
    record = io.StringIO()
    run(traces, record=record)
    cases = [parse_case(line, "record") for line in record.getvalue().splitlines()]
    assert [case.name for case in cases] == ["right", "wrong"]
    assert {case.kernel for case in cases} == {kernel_name()}
    (traces / "misc.jsonl").write_text(record.getvalue())
    assert {verdict.outcome for verdict in run(traces).values()} == {"agrees"}


def test_a_case_that_ends_early_differs_by_that(traces: Path, step: Step) -> None:
    steps = [step("munmap", addr="0x1000", len=0x7FFF_FFFF_0000)]
    data = {"case": "dies", "topic": "misc", "dev": "vhost-net", "kernel": "6.12.117", "steps": steps}
    (traces / "misc.jsonl").write_text(json.dumps(data) + "\n")
    verdict = run(traces)["dies"]
    assert (verdict.outcome, verdict.reason) == ("differs", "ended by signal after 0 of 1 steps")


class TestDeviceKind:
    @pytest.mark.parametrize(
        ("word", "kind"),
        [
            ("vhost-vdpa-blk=/dev/vhost-vdpa-3", ("vhost-vdpa-blk", "/dev/vhost-vdpa-3")),
            ("/dev/vhost-net", ("vhost-net", "/dev/vhost-net")),
        ],
    )
    def test_is_the_one_given_or_known_by_name(self, word: str, kind: tuple[str, str]) -> None:
        assert device_kind(word) == kind

    def test_that_is_unknown_is_refused(self) -> None:
        with pytest.raises(ValueError, match="vhost-vdpa-gpu"):
            device_kind("vhost-vdpa-gpu=/dev/x")

    def test_a_node_that_is_no_vdpa_device_says_so(self) -> None:
        with pytest.raises(OSError):
            device_kind(os.devnull)

    def test_a_node_that_is_not_there_says_so(self) -> None:
        with pytest.raises(FileNotFoundError):
            device_kind("/dev/vhost-vdpa-999")
