"""Running scenarios and judging them: what was found against what was expected."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vdpasim.scenario import Scenario, scenario
from vdpasim.scenario.loader import Found, ScenarioError
from vdpasim.scenario.runner import Verdict, run
from vdpasim.sim import InternalError
from vdpasim.trace.file import load
from vdpasim.vmm.blk import BlkVmm

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.sim import Simulator


def play(story: Scenario, **how: object) -> list[Verdict]:
    return run(Found(Path(__file__), story), **how)  # type: ignore[arg-type]


def only(verdicts: list[Verdict]) -> Verdict:
    (verdict,) = verdicts
    return verdict


@scenario(kernel=("6.12", "tip"))
async def quiet(sim: Simulator) -> None:
    """Nothing is wrong.

    Really nothing.
    """
    await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)


def test_a_quiet_story_passes_on_each_of_its_kernels() -> None:
    verdicts = play(quiet)
    assert [(verdict.kernel, verdict.passed, verdict.line) for verdict in verdicts] == [
        ("6.12", True, "clean"),
        ("tip", True, "clean"),
    ]
    assert verdicts[0].story == "Nothing is wrong."


def test_another_kernel_can_be_chosen() -> None:
    assert [verdict.kernel for verdict in play(quiet, kernel="7.1-F15")] == ["7.1-F15"]


def failing(error: Callable[[], BaseException], expect: str = "") -> Scenario:
    @scenario(expect=expect or ())
    async def story(sim: Simulator) -> None:
        raise error()

    return story


@pytest.mark.parametrize(
    ("error", "ident"),
    [
        (lambda: AssertionError("no"), "assertion"),
        (lambda: OSError(errno.EIO, "no"), "oserror"),
        (lambda: ZeroDivisionError("no"), "error"),
    ],
)
def test_what_ends_a_story_is_its_finding(error: Callable[[], BaseException], ident: str) -> None:
    verdict = only(play(failing(error)))
    assert (verdict.passed, [finding.id for finding in verdict.found]) == (False, [ident])


def test_an_error_names_the_line_of_the_story() -> None:
    verdict = only(play(failing(lambda: ZeroDivisionError("oops"))))
    assert verdict.found[0].text.startswith("test_runner.py:")
    assert "ZeroDivisionError: oops" in verdict.found[0].text


def test_an_expected_finding_passes_and_its_absence_fails() -> None:
    assert only(play(failing(lambda: OSError(errno.EIO, "no"), "oserror"))).passed
    missing = scenario(expect="dma.stale-va")(quiet.body)
    verdict = only(play(missing))
    assert not verdict.passed
    assert verdict.line == "dma.stale-va was expected and not found"


def test_another_finding_than_the_expected_one_fails() -> None:
    assert not only(play(failing(lambda: OSError(errno.EIO, "no"), "dma.stale-va"))).passed


@scenario(kernel={"6.1": "history.seen", "tip": ()})
async def seen_on_one_kernel(sim: Simulator) -> None:
    """A story that says what it saw."""
    if sim.kernel.switches.spec != "tip":
        sim.violation("history.seen", "as it was told")


def test_each_kernel_has_its_own_expectation() -> None:
    verdicts = play(seen_on_one_kernel)
    assert [(verdict.passed, verdict.expected, verdict.line) for verdict in verdicts] == [
        (True, ("history.seen",), "history.seen"),
        (True, (), "clean"),
    ]
    assert not only(play(seen_on_one_kernel, kernel="6.12")).passed, "a kernel that is not named is to be clean"


def test_a_story_that_waits_for_what_cannot_come_is_a_deadlock() -> None:
    @scenario()
    async def story(sim: Simulator) -> None:
        await sim.process("vmm").eventfd(flags=0).read(8)

    verdict = only(play(story))
    assert verdict.found[0].id == "deadlock"
    assert "waits for" in verdict.found[0].text


def test_what_is_not_modelled_fails_the_story() -> None:
    @scenario(abi="s390x")
    async def story(sim: Simulator) -> None:
        file = await sim.process("vmm").open("/dev/vhost-net")
        await file.ioctl(0x4008AF00, (1 << 26).to_bytes(8, "big"))  # LOG_ALL

    assert [finding.id for finding in only(play(story)).found] == ["unmodelled"]


@scenario()
async def adjustable(sim: Simulator, *, count: int = 3, loud: bool = False, name: str = "x") -> None:
    """Says what it was given."""
    raise AssertionError(f"{count} {loud} {name}")


def test_settings_have_the_type_of_their_default() -> None:
    verdict = only(play(adjustable, settings={"count": "0x10", "loud": "yes", "name": "y"}))
    assert "16 True y" in verdict.found[0].text
    assert verdict.rerun.endswith("--set count=0x10 --set loud=yes --set name=y")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": "1"}, "adjustable has no setting 'size'; it has count, loud, name"),
        ({"count": "many"}, "count='many' is no number"),
        ({"loud": "maybe"}, "loud='maybe' is neither yes nor no"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ScenarioError, match=message.replace("'", ".")):
        play(adjustable, settings=settings)


@scenario(domain={"count": range(1, 5), "ratio": (1, 2), "size": (4, 16), "way": ("exec", "transfer")})
async def bounded(sim: Simulator, *, count: int = 3, ratio: int = 1, size: int = 4, way: str = "exec") -> None:
    """Needs something to divide by, and not too much."""
    assert 12 // count // ratio < 10, "too much"
    sim.process("vmm").mmap(size << 12)


def test_what_is_outside_of_a_domain_that_has_all_values_is_refused() -> None:
    with pytest.raises(ScenarioError, match="way='foo' is outside the domain of bounded: exec, transfer"):
        play(bounded, settings={"way": "foo"})
    with pytest.raises(ScenarioError, match="count='5' is outside the domain of bounded: 1 to 4"):
        play(bounded, settings={"count": "5"})
    assert only(play(bounded, settings={"way": "transfer", "count": "4"})).passed


def test_a_number_beyond_a_sample_is_played_and_the_verdict_says_so() -> None:
    verdict = only(play(bounded, settings={"size": "5"}))
    assert verdict.passed
    assert verdict.line == "clean (size=5 is none of 4, 16, for which the verdict holds)"
    assert only(play(bounded, settings={"size": "16"})).line == "clean"


def test_what_cannot_be_played_says_why() -> None:
    finding = only(play(bounded, settings={"ratio": "0"})).found[0]
    assert finding.id == "error"
    assert finding.text.startswith("test_runner.py:")
    said = "ValueError: cannot be played: ratio=0 is none of 1, 2, for which the verdict holds (ZeroDivisionError("
    assert said in finding.text


def test_what_ends_beyond_the_domain_says_so() -> None:
    (finding,) = only(play(bounded, settings={"count": "1", "size": "5"})).found
    assert finding.text.endswith("(size=5 is none of 4, 16, for which the verdict holds)")


def test_within_the_domain_nothing_is_added() -> None:
    assert "verdict holds" not in only(play(bounded, settings={"count": "1"})).found[0].text


def test_two_runs_give_the_same_trace() -> None:
    first, second = play(quiet), play(quiet)
    assert [verdict.trace for verdict in first] == [verdict.trace for verdict in second]
    assert "VHOST_SET_OWNER" in first[0].trace


class TestRecording:
    def test_a_run_is_recorded_with_what_was_asked_for(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        play(quiet, kernel="tip", seed=5, faults=["kick:9"], record=lambda header: path.open("w", encoding="ascii"))
        trace = load(path)
        assert (trace.header.kernel, trace.header.seed, trace.header.abi) == ("tip", 5, "x86_64")
        assert trace.header.options == {"faults": ["kick:9"]}
        assert trace.header.rerun.endswith("--kernel tip --seed 5 --fault kick:9")
        assert [mark.id for mark in trace.marks] == ["fault.unfired"]
        assert trace.complete

    def test_two_runs_are_recorded_in_the_same_bytes(self, tmp_path: Path) -> None:
        paths = [tmp_path / "a", tmp_path / "b"]
        for path in paths:
            play(quiet, kernel="tip", record=lambda header, path=path: path.open("w", encoding="ascii"))
        assert paths[0].read_bytes() == paths[1].read_bytes()

    def test_a_bug_of_ours_leaves_the_trace_as_far_as_it_came(self, tmp_path: Path) -> None:
        @scenario(kernel="tip")
        async def broken(sim: Simulator) -> None:
            """It begins, and the simulator fails."""
            await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
            raise InternalError("ours")

        path = tmp_path / "a.jsonl"
        with pytest.raises(InternalError):
            play(broken, record=lambda header: path.open("w", encoding="ascii"))
        trace = load(path)
        assert trace.events
        assert not trace.complete
