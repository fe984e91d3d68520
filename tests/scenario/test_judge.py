"""The one judge of runs, schedules and tests: what it finds, in which order, and what a verdict rests on."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from vdpasim.core import rules
from vdpasim.core.events import Kind
from vdpasim.core.kernel import Steps, Work, Worker
from vdpasim.core.rules import RULES
from vdpasim.scenario import Scenario, refused, scenario
from vdpasim.scenario.judge import Judge, come_to_rest, outcome, where
from vdpasim.scenario.loader import Found
from vdpasim.scenario.runner import Verdict, run
from vdpasim.sim import Deadlock, Livelock, Simulator
from vdpasim.uapi import vhost
from vdpasim.uapi.abi import X86_64
from vdpasim.uapi.vhost_types import VHOST_IOTLB_REMAP
from vdpasim.vmm.blk import BlkVmm

if TYPE_CHECKING:
    from collections.abc import Callable


def ids(judge: Judge) -> list[str]:
    return [finding.id for finding in judge.findings]


def test_findings_stand_in_one_order() -> None:
    sim = Simulator(faults=["UPDATE:1:EIO"])
    with Judge(sim) as judge:
        sim.kernel.emit(Kind.UNMODELLED, "vhost-net", "teleport")
        sim.violation("a.broken", "it broke")
        judge.ended(OSError(errno.EIO, "no"))
        judge.rest()
    judge.finish()
    assert ids(judge) == ["oserror", "fault.unfired", "unmodelled", "a.broken"]


def test_asked_again_it_tells_only_what_checks_have_seen_since() -> None:
    sim = Simulator(faults=["UPDATE:1:EIO"])
    judge = Judge(sim)
    assert ids(judge) == []
    judge.finish()
    sim.inject("UPDATE:2:EIO")
    sim.violation("a.broken", "it broke")
    judge.finish()
    assert ids(judge) == ["fault.unfired", "a.broken"]
    judge.close()


async def careless(sim: Simulator) -> None:
    """RESUME without SUSPEND."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.resume()


MISTAKE = "vmm.resume-without-suspend"


@pytest.mark.parametrize(
    ("expected", "how", "found", "notes"),
    [
        ((), {}, [], [MISTAKE]),
        ((), {"strict": True}, [MISTAKE], []),
        ((MISTAKE,), {}, [MISTAKE], []),
        ((MISTAKE,), {"program": False}, [], []),
    ],
)
def test_mistakes_of_the_program(
    expected: tuple[str, ...], how: dict[str, bool], found: list[str], notes: list[str]
) -> None:
    sim = Simulator()
    with Judge(sim, frozenset(expected), **how) as judge:
        sim.run(careless)
    judge.finish()
    assert (ids(judge), [finding.id for finding in judge.notes]) == (found, notes)


def test_stillness_is_an_event_or_told_to_the_checks_alone() -> None:
    sim = Simulator()
    seen: list[int] = []
    sim.listen(lambda event: seen.append(event[3]))
    with Judge(sim) as judge:
        judge.still()
        assert seen == []
        judge.rest()
    assert seen == [Kind.STILL]


def test_work_that_feeds_itself_never_rests() -> None:
    sim = Simulator()
    assert come_to_rest(sim)
    worker = Worker(sim.kernel, "spins")

    def spins() -> Steps:
        worker.queue(work)
        yield from ()

    work = Work(spins)
    worker.queue(work)
    assert not come_to_rest(sim, limit=7)


@pytest.mark.parametrize(
    ("error", "ident", "text"),
    [
        (AssertionError(), "assertion", "an assertion of the story failed"),
        (OSError(errno.EIO, "no"), "oserror", "[Errno 5] no"),
        (Deadlock("all wait"), "deadlock", "all wait"),
        (Livelock("all run"), "livelock", "all run"),
        (KeyError("x"), "error", "KeyError: 'x'"),
    ],
)
def test_what_ends_a_story_has_an_id(error: Exception, ident: str, text: str) -> None:
    assert outcome(error) == (ident, text)


def test_the_line_is_the_story_s_and_not_of_what_it_called() -> None:
    try:
        int("x")
    except ValueError as error:
        assert where(error, Path(__file__)).startswith("test_judge.py:")
        assert where(error, Path("other.py")) == ""


# -- what a verdict rests on


def play(story: Scenario, **how: object) -> Verdict:
    (verdict,) = run(Found(Path(__file__), story), **how)  # type: ignore[arg-type]
    return verdict


@scenario(kernel="6.12+live-update-fixed", options={"use_va": False})
async def remap_of_pinned_pages(sim: Simulator) -> None:
    """A refusal that only our own series has."""
    disk = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk", advertise="IOTLB_REMAP")
    vmm = await BlkVmm.boot(sim.process("vmm"), disk.path)
    with refused(errno.EFAULT, inside=errno.EOPNOTSUPP):
        await vmm.device.iotlb(VHOST_IOTLB_REMAP, iova=0, size=4096, uaddr=0)


@scenario(kernel="6.12")
async def owned_twice(sim: Simulator) -> None:
    """A refusal that recordings confirm."""
    file = await sim.process("vmm").open("/dev/vhost-net")
    await file.ioctl(vhost.VHOST_SET_OWNER.request(X86_64))
    with refused(errno.EBUSY):
        await file.ioctl(vhost.VHOST_SET_OWNER.request(X86_64))


def test_a_story_that_rests_on_a_rule_of_our_own_says_so() -> None:
    verdict = play(remap_of_pinned_pages)
    assert verdict.passed
    assert verdict.line == "clean (vdpasim's own: vdpa.remap.pinned)"
    assert verdict.unconfirmed == {"vdpa.remap.pinned": "vdpasim's own"}


def test_a_story_that_does_not_says_nothing() -> None:
    assert play(owned_twice).line == "clean"


def planted(ident: str, **change: Any) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(RULES, ident, attrs.evolve(RULES[ident], **change))

    return plant


@pytest.mark.parametrize(
    ("plant", "story", "line"),
    [
        (
            planted("vdpa.remap.pinned", where="vdpa.c:x()", source="inferred"),
            remap_of_pinned_pages,
            "clean (inferred: vdpa.remap.pinned)",
        ),
        (planted("vdpa.remap.pinned", where="vdpa.c:x()"), remap_of_pinned_pages, "clean"),
        (planted("vhost.owner.busy", source="inferred"), owned_twice, "clean"),  # a golden case confirms it
        (planted("vhost.owner.busy", where="vdpasim: x"), owned_twice, "clean (vdpasim's own: vhost.owner.busy)"),
    ],
)
def test_the_line_goes_by_what_the_row_says(
    plant: Callable[[pytest.MonkeyPatch], None], story: Scenario, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert play(story).line == line


def test_an_injected_fault_is_no_kernel_s() -> None:
    @scenario(faults="VHOST_SET_OWNER:1:EIO")
    async def story(sim: Simulator) -> None:
        await (await sim.process("vmm").open("/dev/vhost-net")).ioctl(vhost.VHOST_SET_OWNER.request(X86_64))

    assert play(story).line == "oserror (vdpasim's own: fault.injected)"


def test_it_hears_of_rules_until_it_is_closed() -> None:
    before = list(rules._observers)
    with Judge(Simulator()) as judge:
        rules.hit("miss.stopped")
    rules.hit("fault.injected")
    judge.close()
    assert list(judge.unconfirmed) == ["miss.stopped"]
    assert rules._observers == before
    with pytest.raises(KeyError), Judge(Simulator()):
        raise KeyError
    assert rules._observers == before
