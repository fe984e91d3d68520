"""What the oracles share."""

from __future__ import annotations

from tests.checks.support import feed
from vdpasim.checks.oracle import Oracle, drop
from vdpasim.core.events import Kind


class Kicks(Oracle):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten: list[str] = []

    def on_kick(self, seq: int, device: str, queue: int) -> None:
        self.tell("a.kick", "a kick", seq, None, 0, 3, once=device, where={"queue": queue})

    def forget(self, device: str) -> None:
        self.forgotten.append(device)


def test_a_finding_has_its_steps_in_order_and_is_shown_by_the_last() -> None:
    check = Kicks()
    seq = feed(check, Kind.KICK, device="d", queue=2)
    (finding,) = check.findings
    assert finding.seq == max(seq, 3)
    assert finding.steps == tuple(sorted({seq, 3}))
    assert finding.where == (("queue", "2"),)


def test_each_thing_is_told_once() -> None:
    check = Kicks()
    for device in ("d", "d", "e"):
        feed(check, Kind.KICK, device=device, queue=0)
    assert len(check.findings) == 2


def test_events_nobody_reads_are_no_matter() -> None:
    check = Kicks()
    feed(check, Kind.CONFIG, device="d")
    check.finish()
    assert check.findings == []


def test_the_device_below_a_file_goes_by_the_files_name() -> None:
    check = Kicks()
    feed(check, Kind.OPEN, device="vhost-vdpa-0", below="disk", family="vhost-vdpa")
    assert check.file("disk") == check.file("vhost-vdpa-0") == "vhost-vdpa-0"
    assert check.families == {"vhost-vdpa-0": "vhost-vdpa"}


def test_what_went_is_remembered_and_a_released_file_forgotten() -> None:
    check = Kicks()
    seq = feed(check, Kind.GONE, what="mm", name="mm:vmm")
    assert check.gone == {("mm", "mm:vmm"): seq}
    assert check.forgotten == []
    feed(check, Kind.GONE, what="file", name="vhost-vdpa-0")
    assert check.forgotten == ["vhost-vdpa-0"]


def test_drop_takes_one_device_out() -> None:
    table = {("d", 0): 1, ("d", 1): 2, ("e", 0): 3}
    drop(table, "d")
    assert table == {("e", 0): 3}
