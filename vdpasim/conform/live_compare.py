"""Golden cases on a real kernel, compared with the recording or with a profile of the simulator, and recorded.

Theory. A run on the machine gives the same case with other outputs. Without a profile it is compared with the outputs
it was read with: does this kernel answer as that one did? With a profile the simulator replays the *new* outputs: does
the simulator model this kernel? Either way the new case can be written down and is from then on a golden case itself.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import attrs

from vdpasim.conform.cases import case_object, parse_case
from vdpasim.conform.live import LiveFloor
from vdpasim.conform.live_run import kernel_name, obstacle, run_live
from vdpasim.conform.replay import compared, judge, judged, verdicts
from vdpasim.uapi.vhost import VHOST_VDPA_GET_DEVICE_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vdpasim.conform.cases import Case
    from vdpasim.conform.live_run import LiveOptions, LiveRun
    from vdpasim.conform.replay import Selection, Verdict

_KIND_OF_ID = {1: "vhost-vdpa-net", 2: "vhost-vdpa-blk"}
_KINDS = ("vhost-net", "vhost-vdpa-net", "vhost-vdpa-blk", "vhost-vdpa-net-mac")


def device_kind(word: str) -> tuple[str, str]:
    """``KIND=PATH``, or a path whose kind is found by asking the device; the kind and the path.

    Raises:
        ValueError: an unknown kind, or a device that is neither net nor blk.
        OSError: the device cannot be asked.
    """
    kind, found, path = word.partition("=")
    if found:
        if kind not in _KINDS:
            raise ValueError(f"{kind!r} is no device kind; known are {', '.join(_KINDS)}")
        return kind, path
    if Path(word).name == "vhost-net":
        return "vhost-net", word
    floor = LiveFloor({"it": word})
    floor.open("it", "it", "", "rw")
    try:
        addr = floor.argument(b"")
        floor.ioctl("it", VHOST_VDPA_GET_DEVICE_ID.request(), addr)
        number: int = struct.unpack("=I", floor.peek(addr, 4))[0]
    finally:
        floor.close("it")
    if number not in _KIND_OF_ID:
        raise ValueError(f"{word} is a virtio device of id {number}; there are cases for net (1) and blk (2) only")
    return _KIND_OF_ID[number], word


def compare_live(
    paths: Iterable[Path],
    selection: Selection,
    options: LiveOptions,
    profile: str | None,
    accepted: Mapping[tuple[str, str], str],
    record: TextIO | None,
) -> Iterator[Verdict]:
    """Run the cases of files on this machine; one verdict a line of the files, in order."""
    kernel = kernel_name()

    def judging(collection: str, case: Case, reason: str) -> Verdict:
        hindrance = obstacle(case, options)
        if hindrance:
            return judged(collection, case, "not run", hindrance)
        run = run_live(case, options)
        if record is not None:
            record.write(json.dumps(recording(case, run, kernel)) + "\n")
        return _verdict(collection, case, run, kernel, profile, reason)

    return verdicts(paths, selection, accepted, judging)


def recording(case: Case, run: LiveRun, kernel: str) -> dict[str, object]:
    """The case as this kernel answered it."""
    outputs = [result.answer.outputs for result in run.results]
    return case_object(attrs.evolve(case, kernel=kernel, end=run.end), outputs)


def _verdict(collection: str, case: Case, run: LiveRun, kernel: str, profile: str | None, accepted: str) -> Verdict:
    if profile is not None:
        recorded = parse_case(json.dumps(recording(case, run, kernel)), case.place)
        return judge(collection, recorded, profile, accepted)
    if run.end != case.end:
        reason = f"ended by {run.end or 'its last step'} after {len(run.results)} of {len(case.steps)} steps"
        return judged(collection, case, "differs", reason, trail=tuple(run.results))
    return compared(collection, case, tuple(run.results), accepted)
