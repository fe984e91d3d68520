"""The dialect of a kernel, and what a run came to."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import attrs
import pytest

from tests.scenario.test_catalogue import FIXED, V1, V2, verdict
from vdpasim.core import series
from vdpasim.core.series import Series
from vdpasim.core.series.live_update import V2 as POSTED
from vdpasim.core.switches import SWITCHES
from vdpasim.scenario.outcomes import Outcome, Refusal, dialect, outcome, outcomes, refusals, spoken, stories, waits
from vdpasim.trace.text import TextTrace

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (V1, "v1"),
        (V2, "v2"),
        (FIXED, "fixed"),
        ("7.1+live-update-v1+lu-advertise", "v1"),
        ("6.12+live-update-v2", "v2-advertise"),
        ("7.1+live-update-fixed+lu-guard-resume", "fixed+guard-resume"),
        ("6.12+live-update-v1+lu-drops-old-mm", "v1+drops-old-mm"),
        ("6.12+live-update-v1-pending-kick", "v1-pending-kick"),
        ("6.12+live-update-v1-live-update-v1", "mainline+advertise"),
        ("6.12", "mainline"),
        ("6.1", "mainline"),
        ("tip+bug-stale-misses-F7", "mainline+bug-stale-misses-F7"),
    ],
)
def test_the_dialect_of_a_kernel(kernel: str, expected: str) -> None:
    assert dialect(kernel) == expected


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[Series]:
    """A series of a user's; it is gone when the test is over."""
    one = Series("my-dialect", "a series", offers=request.param)
    series.load()
    series.register(one)
    yield one
    del series.SERIES[one.name], SWITCHES[one.name]
    spoken.cache_clear()


@pytest.mark.parametrize(("own", "asked"), [(0, "my-dialect-advertise"), (1 << 9, "my-dialect")], indirect=["own"])
def test_a_series_of_the_users_is_a_dialect(own: Series, asked: str) -> None:
    assert dialect(f"6.12+{own.name}") == asked
    assert dialect(f"6.12+{own.name}+lu-advertise") == own.name
    assert dialect(f"6.12+{own.name}+lu-advertise-resume") == f"{own.name}-resume"
    assert dialect(f"6.12+live-update-v1+{own.name}") == f"v1+{own.name}"


def test_the_posted_series_offers_nothing_itself() -> None:
    assert not POSTED.offers


def exits(*results: tuple[int, int, str | None]) -> str:
    """The trace of calls with these results."""
    trace = TextTrace()
    for seq, (ret, inside, rule) in enumerate(results):
        trace.event((seq, 0, "vmm", 2, "write", "/dev/x", ret, inside, rule))
    return trace.text()


def test_refusals_are_read_off_the_trace() -> None:
    """By rule, in their order, each once; what is no refusal is not among them."""
    trace = exits(
        (-errno.EFAULT, errno.EPERM, "b.rule"),
        (-errno.EBUSY, 0, "a.rule"),
        (-errno.EBUSY, errno.EBUSY, "a.rule"),
        (-errno.ENOENT, 0, None),
        (-errno.EAGAIN, 0, "c.rule"),
        (72, 0, None),
    )
    one = outcome(verdict("a", V1, "z.id", "a.id", "z.id", trace=trace))
    refused = (Refusal("EFAULT (EPERM inside)", "b.rule"), Refusal("EBUSY", "a.rule"))
    assert one == Outcome(("a.id", "z.id"), refused, passed=True)
    assert [refusal.said for refusal in one.refusals] == ["EPERM", "EBUSY"]
    assert str(one.refusals[0]) == "EFAULT (EPERM inside) b.rule"


def test_refusals_can_be_counted_and_told_to_machines() -> None:
    run = verdict("a", V1, trace=exits((-errno.EBUSY, 0, "a.rule"), (-errno.EBUSY, 0, "a.rule")))
    assert refusals(run) == (Refusal("EBUSY", "a.rule"),) * 2
    assert Refusal("EBUSY", "a.rule").row == {"errno": "EBUSY", "rule": "a.rule"}
    message = {"errno": "EFAULT", "inside": "EPERM", "rule": "b.rule"}
    assert Refusal("EFAULT (EPERM inside)", "b.rule").row == message


def test_a_dead_kernel_refuses_nothing() -> None:
    assert outcome(verdict("a", V1, "kernel.oops", trace=exits((-errno.EFAULT, 0, "a.rule")))).refusals == ()


def test_runs_of_a_story_that_came_to_the_same_are_together() -> None:
    runs = [verdict("a", kernel) for kernel in (V1, "6.1+live-update-v1", V2)]
    other = verdict("a", FIXED, "dma.fault")
    assert [(shown.dialects, shown.outcome.shows) for shown in outcomes([*runs, other])] == [
        (("v1", "v2"), False),
        (("fixed",), True),
    ]
    assert stories([*runs, verdict("b", V1), other]) == [[*runs, other], [verdict("b", V1)]]


def test_what_waits_for_another_order() -> None:
    tagged = verdict("a", V1, tags=("explore",))
    assert waits(tagged, outcome(tagged))
    found = attrs.evolve(tagged, found=verdict("a", V1, "dma.fault").found)
    assert not waits(found, outcome(found))
    assert not waits(verdict("a", V1), outcome(verdict("a", V1)))
