"""One run: choices only where something can be chosen, the same machine each time, what counts as failed."""

from __future__ import annotations

import attrs
import pytest

from tests.explore.bodies import lost_order, race, request_and_suspend, two_writers
from vdpasim.explore import ReplayDivergence, Target, replay
from vdpasim.explore.execute import STEP_LIMIT, Following, Simple, execute, replayed, story_of
from vdpasim.explore.schedule import Schedule
from vdpasim.scenario import scenario
from vdpasim.sim import Simulator


class Watching(Simple):
    """Goes on with the same thread, and remembers what was ready."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def choose(self, threads: list[str], labels: list[str]) -> int:
        self.seen.append((tuple(threads), tuple(labels)))
        return 0


def target(body: object = two_writers) -> Target:
    return Target("body", body)  # type: ignore[arg-type]


def test_a_choice_has_several_threads_known_by_who_made_them() -> None:
    policy = Watching()
    outcome = execute(target(), policy)
    assert outcome.choices == len(policy.seen)
    assert all(len(threads) > 1 for threads, _ in policy.seen)
    assert {thread for threads, _ in policy.seen for thread in threads} == {"0", "0.0", "0.1"}
    assert outcome.actors == ("0.0", "0.1")
    assert any("vhost-net-0.mutex.lock" in label for _, labels in policy.seen for label in labels)


def test_the_same_choices_give_the_same_run() -> None:
    first = execute(target(request_and_suspend), Watching())
    assert replay(target(request_and_suspend), first.schedule, trace=False) == first


def test_a_failure_is_an_outcome_and_an_expected_one_is_none() -> None:
    schedule = next(
        outcome.schedule for outcome in (execute(target(lost_order), Turning(n)) for n in range(20)) if outcome.failed
    )
    outcome = replay(target(lost_order), schedule)
    assert outcome.ids == ("assertion",)
    assert "the second writer was first" in outcome.text
    assert "UPDATE" in outcome.trace
    expecting = attrs.evolve(target(lost_order), expected=frozenset({"assertion"}))
    assert not replay(expecting, schedule).failed


class Turning(Simple):
    """Switches at the n-th choice."""

    def __init__(self, at: int) -> None:
        self.left = at

    def choose(self, threads: list[str], labels: list[str]) -> int:
        self.left -= 1
        return 1 if self.left == -1 else 0


def test_another_body_diverges() -> None:
    schedule = execute(target(), Turning(2)).schedule
    with pytest.raises(ReplayDivergence):
        replay(target(request_and_suspend), schedule)


def test_work_that_feeds_itself_is_a_livelock() -> None:
    async def spin(sim: Simulator) -> None:
        async def loop() -> None:
            while True:
                await sim.settle()
                await process.open("/dev/vhost-net")

        process = sim.process("vmm")
        await loop()

    outcome = execute(target(spin), Watching())
    assert outcome.ids == ("livelock",)
    assert outcome.steps <= STEP_LIMIT + 2


def test_an_actor_that_is_left_out_does_nothing() -> None:
    outcome = execute(target(), Watching(), without=frozenset({"0.0"}))
    assert "-x0.0" in outcome.schedule
    assert replay(target(), outcome.schedule, trace=False) == outcome


async def test_calm_has_no_choices() -> None:
    sim = Simulator()
    sim.kernel.points = True
    with sim.calm():
        assert not sim.kernel.points
    assert sim.kernel.points


def test_a_scenario_can_be_played_from_inside() -> None:
    one = race("invalidate_update")
    schedule = next(o.schedule for o in (execute(one, Turning(n)) for n in range(30)) if o.failed)

    @scenario(expect="vmm.update-refused")
    async def pinned(sim: Simulator) -> None:
        await replayed(sim, story_of(one.ident), schedule)

    inside = Target.of(pinned, "pinned", "tip", by_name=False)
    bare = attrs.evolve(inside, expected=frozenset())
    sim = bare.machine()
    sim.run(bare.story())
    assert [ident for ident, _ in sim.kernel.violations] == ["vmm.update-refused"]


def test_a_schedule_of_nothing_runs() -> None:
    async def nothing(sim: Simulator) -> None:
        await sim.settle()

    assert not execute(target(nothing), Following(Schedule())).failed
    with pytest.raises(ReplayDivergence):
        execute(target(), Following(Schedule()))


def test_a_schedule_played_from_inside_must_end_with_the_body() -> None:
    schedule = execute(target(), Turning(2)).schedule

    async def longer(sim: Simulator) -> None:
        await replayed(sim, two_writers, schedule + "aa")

    with pytest.raises(ReplayDivergence, match="the run is over"):
        Simulator().run(longer)


def test_a_result_is_told_by_its_value_and_never_by_its_address() -> None:
    def key(value: object) -> str:
        async def body(sim: Simulator) -> object:
            return value

        return execute(target(body), Watching()).key

    assert key({"a": 1, "b": {2, 3}}) == key({"b": {3, 2}, "a": 1})
    assert key({"a": 1}) != key({"a": 2})
    assert key(frozenset({1})) != key(frozenset({2}))
    assert key([object()]) == key([object()]) != key([])
    assert key((1,)) != key([1])


def test_a_fault_that_never_fired_is_found() -> None:
    planned = attrs.evolve(target(), faults=("kick:2:drop",))
    assert execute(planned, Watching()).ids == ("fault.unfired",)
