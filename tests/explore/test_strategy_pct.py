"""PCT: priorities, d-1 changes, and the probability it promises."""

from __future__ import annotations

from itertools import pairwise

from vdpasim.explore.execute import Outcome
from vdpasim.explore.strategy import Ran, Settings
from vdpasim.explore.strategy_pct import First, PctPolicy, PctStrategy

THREADS = ["a", "b", "c"]
LENGTH = 10


def run(depth: int, number: int) -> list[str]:
    policy = PctPolicy(Settings(depth=depth), number, LENGTH)
    return [THREADS[policy.choose(THREADS, THREADS)] for _ in range(LENGTH)]


def test_of_depth_1_nobody_falls_behind() -> None:
    firsts = set()
    for number in range(1, 50):
        chosen = run(1, number)
        assert len(set(chosen)) == 1
        firsts.add(chosen[0])
    assert firsts == set(THREADS)


def test_of_depth_d_at_most_d_minus_1_do() -> None:
    for depth in (2, 3, 4):
        runs = [run(depth, number) for number in range(99)]
        switches = [sum(a != b for a, b in pairwise(one)) for one in runs]
        assert max(switches) == min(depth - 1, 3)


def test_it_keeps_its_promise() -> None:
    # depth 2: "a runs, then b before a's 6th step" is one change at one place, for one first thread
    hits = sum(run(2, n)[:6] == ["a"] * 5 + ["b"] for n in range(1, 2001))
    assert hits / 2000 >= 0.8 / (len(THREADS) * LENGTH) / 2


def test_the_first_run_tells_the_length() -> None:
    strategy = PctStrategy(Settings())
    (first,) = strategy.take(64)
    assert isinstance(PctStrategy.policy(Settings(), first), First)
    strategy.put(first, Ran(Outcome((), "", "", "s1--1.", 20, 17, 0, 0)))
    assert [work["length"] for work in strategy.take(3)] == [17, 17, 17]


def test_the_nth_schedule_does_not_depend_on_how_many_are_asked_for() -> None:
    def works(limits: list[int]) -> list[dict[str, int]]:
        strategy = PctStrategy(Settings())
        done: list[dict[str, int]] = []
        for limit in limits:
            for work in strategy.take(limit):
                strategy.put(work, Ran(Outcome((), "", "", "s1--1.", 20, work["n"] + 5, 0, 0)))
                done.append(work)
        return done

    many, few = works([64] * 6), works([7] * 40)
    assert [work["n"] for work in few] == list(range(len(few)))
    assert few[:250] == many[:250]
