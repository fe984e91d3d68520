"""Running golden cases on a real kernel: what can run here, what would do harm, one process a case.

Theory. Each case gets a process of its own in a session of its own: this module run as a program, which reads the
state of the case from an inherited memfd, performs the steps on :class:`~vdpasim.conform.live.LiveFloor` and reports
each as a line in a pipe. An ``exec`` step executes the same program again with the state it has reached. When the
report ends, or the time is over, the whole session is killed: children that stayed, parents that wait.

Some cases cannot run here (:func:`obstacle`), some should not run on a card that does real work (:func:`hazard`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs

from vdpasim.conform.cases import Case, Symbols, case_object, needs_data_path, parse_case, read_cases
from vdpasim.conform.floor import BLOCKED_MS, Answer
from vdpasim.conform.interpreter import Interpreter, StepResult
from vdpasim.conform.live import LiveFloor, high

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vdpasim.conform.cases import Step

CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
CAP_SYS_RESOURCE = 24

GRACE_S = 10.0
"""Time a case may take besides its own waits."""

LEAVE_S = 1.0
"""Time the program of a case has to leave by itself once it has reported everything."""

HUGE = 2 << 20


@attrs.frozen
class LiveOptions:
    """How to run cases on the machine."""

    devices: dict[str, str]
    """Device kind -> path."""
    recreate: str = ""
    """Shell command that deletes and adds the device again with its initial parameters."""
    destructive: bool = False
    """Run cases with a hazard too."""


@attrs.frozen
class LiveRun:
    """What one case gave."""

    results: list[StepResult]
    end: str
    """Empty, or why it did not finish: timeout or signal."""


def hazard(case: Case) -> str:
    """What the case does that a production card should be spared; empty if nothing."""
    if case.dev == "vhost-vdpa-blk" and needs_data_path(case):
        return "writes to the disk"
    if any(step.op == "ioctl" and step.text("name") == "VHOST_VDPA_SET_CONFIG" for step in case.steps):
        return "writes the config space (MAC address)"
    if case.dev.startswith("vhost-vdpa-net") and needs_data_path(case):
        return "sends frames and control commands (MAC address, filters)"
    return ""


def hazards(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """The topics in files of cases that hold a case with a hazard, with the hazard."""
    cases = (case for path in paths for case in read_cases(path) if isinstance(case, Case))
    return sorted({(case.topic, harm) for case in cases if (harm := hazard(case))})


def obstacle(case: Case, options: LiveOptions) -> str:
    """Why the case cannot run here; empty if it can."""
    reasons = (_step_obstacle(step, options) for step in case.steps)
    found = next((reason for reason in reasons if reason), "")
    if not found and not options.destructive and (harm := hazard(case)):
        return f"destructive on a production card: {harm}"
    return found


def _step_obstacle(step: Step, options: LiveOptions) -> str:
    match step.op:
        case "open":
            return _open_obstacle(step, options)
        case "recreate_device":
            return "" if options.recreate else "recreates the device, and no command for that was given"
        case "mm_holder":
            return "needs a process that shares the address space without files"
        case "tap" | "tun_unattached" | "packet_socket":
            cap = CAP_NET_RAW if step.op == "packet_socket" else CAP_NET_ADMIN
            return "" if _capable(cap) and Path("/dev/net/tun").exists() else "needs CAP_NET_ADMIN and /dev/net/tun"
        case "rlimit_memlock":
            return "" if _capable(CAP_SYS_RESOURCE) else "raises RLIMIT_MEMLOCK, needs CAP_SYS_RESOURCE"
        case "buf" | "memfd" if step.inputs.get("kind") == "huge" or step.inputs.get("hugetlb"):
            wanted = -(-step.number("len") // HUGE)
            return "" if _proc_number("/proc/meminfo", "HugePages_Free:") >= wanted else "needs free 2 MiB hugepages"
        case _:
            return ""


def _open_obstacle(step: Step, options: LiveOptions) -> str:
    if path := step.text("path"):
        return "" if Path(path).exists() else f"{path} is not there"
    dev = step.text("dev")
    return "" if dev in options.devices else f"needs a device of kind {dev}"


def _capable(cap: int) -> bool:
    return bool(_proc_number("/proc/self/status", "CapEff:", 16) >> cap & 1)


def _proc_number(path: str, label: str, base: int = 10) -> int:
    with contextlib.suppress(OSError):
        for line in Path(path).read_text("ascii", "replace").splitlines():
            if line.startswith(label):
                return int(line.split()[1], base)
    return 0


def kernel_name() -> str:
    """The ``kernel`` field of a recording made here: the release, and the options of vdpa_sim if it is loaded."""
    words = [os.uname().release]
    for option in ("use_va", "batch_mapping"):
        with contextlib.suppress(OSError):
            value = Path(f"/sys/module/vdpa_sim/parameters/{option}").read_text("ascii").strip()
            words.append(f"{option}={int(value in ('Y', '1'))}")
    return " ".join(words)


def run_live(case: Case, options: LiveOptions) -> LiveRun:
    """Run one case on this machine; check :func:`obstacle` first."""
    source, sink = map(high, os.pipe())
    state = _state(case, 0, Symbols(), {}, options, sink)
    image = [sys.executable, "-m", "vdpasim.conform.live_run", str(state)]
    process = subprocess.Popen(image, pass_fds=(state, sink), start_new_session=True, stdin=subprocess.DEVNULL)
    os.close(state)
    os.close(sink)
    try:
        lines, end = _collect(source, time.monotonic() + GRACE_S + _waits_s(case))
        if not end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LEAVE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(source)
    results = [_result(case, json.loads(line)) for line in lines]
    return LiveRun(results, end)


def _waits_s(case: Case) -> float:
    waits = sum(step.number("ms") + step.number("timeout_ms") for step in case.steps)
    return (waits + BLOCKED_MS * len(case.steps)) / 1000


def _collect(source: int, deadline: float) -> tuple[list[bytes], str]:
    # The report lines up to "done"; the second value is how it ended.
    text = b""
    while not text.endswith(b"done\n"):
        ready, _, _ = select.select([source], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return text.split(b"\n")[:-1], "timeout"
        chunk = os.read(source, 1 << 16)
        if not chunk:
            return text.split(b"\n")[:-1], "signal"
        text += chunk
    return text.split(b"\n")[:-2], ""


def _result(case: Case, line: dict[str, Any]) -> StepResult:
    number: int = line["number"]
    return StepResult(number, case.steps[number - 1], Answer(line["outputs"]))


def _state(case: Case, first: int, symbols: Symbols, numbers: dict[str, int], options: LiveOptions, sink: int) -> int:
    # A memfd with everything the next image needs, offset at its beginning.
    data = {
        "case": case_object(case),
        "first": first,
        "addresses": symbols.addresses,
        "descriptors": symbols.descriptors,
        "numbers": numbers,
        "options": attrs.asdict(options),
        "sink": sink,
    }
    state = high(os.memfd_create("vdpasim-state"))
    os.set_inheritable(state, True)
    os.write(state, json.dumps(data).encode())
    os.lseek(state, 0, os.SEEK_SET)
    return state


def main() -> None:
    """The program of one case: ``python -m vdpasim.conform.live_run STATE_FD``."""
    with os.fdopen(int(sys.argv[1]), "rb") as state:
        data = cast("dict[str, Any]", json.loads(state.read()))
    case = parse_case(json.dumps(data["case"]), "state")
    options = LiveOptions(**data["options"])
    sink: int = data["sink"]
    os.set_inheritable(sink, False)
    floor = LiveFloor(options.devices, options.recreate)
    floor.numbers.update(data["numbers"])

    def resume(symbols: Symbols, following: int) -> int:
        os.set_inheritable(sink, True)
        return _state(case, following, symbols, floor.numbers, options, sink)

    floor.resume = resume
    symbols = Symbols(data["addresses"], data["descriptors"])
    first: int = data["first"]
    if first:
        _report(sink, first, {"ret": 0, "errno": 0})
    for result in Interpreter(case, floor, symbols).run(first):
        _report(sink, result.number, result.answer.outputs)
    os.write(sink, b"done\n")


def _report(sink: int, number: int, outputs: object) -> None:
    os.write(sink, json.dumps({"number": number, "outputs": outputs}).encode() + b"\n")


if __name__ == "__main__":
    main()
