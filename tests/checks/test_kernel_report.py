"""What the kernel says of itself becomes a finding."""

from __future__ import annotations

from tests.checks.support import feed
from vdpasim.checks.kernel_report import KernelReport
from vdpasim.core.events import Kind


def test_a_reported_violation_keeps_its_id_text_and_place() -> None:
    check = KernelReport()
    seq = feed(check, Kind.VIOLATION, id="kernel.oops", text="a null call")
    check.finish()
    assert [(finding.id, finding.text, finding.seq) for finding in check.findings] == [
        ("kernel.oops", "a null call", seq)
    ]


def test_other_events_are_none_of_its_business() -> None:
    check = KernelReport()
    feed(check, Kind.KICK, device="d", queue=0)
    assert check.findings == []
