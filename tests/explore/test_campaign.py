"""Campaigns: counts, self-check, stopping, executors, resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.explore.bodies import RACES, lost_order, race, two_writers, written
from vdpasim.explore import Target, explore
from vdpasim.explore.campaign import BATCH, CampaignError, Failure, Plan
from vdpasim.scenario.loader import load
from vdpasim.sim.errors import UsageError

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

ROOT = Path(__file__).parents[2]


def test_a_campaign_counts_and_complains() -> None:
    campaign = explore(lost_order)
    failure = campaign.failures[0]
    assert campaign.schedules >= failure.number > 0
    assert campaign.distinct == 2
    with pytest.raises(AssertionError, match="the second writer was first") as caught:
        campaign.check()
    assert failure.schedule in str(caught.value)
    assert failure.command in str(caught.value)
    assert explore(lost_order, replay=failure.schedule).failures[0].ids == ("assertion",)


def test_it_stops_at_the_first_batch_with_a_failure_or_goes_on() -> None:
    stopped = explore(lost_order, strategy="random", schedules=4 * BATCH)
    assert stopped.schedules == BATCH
    assert explore(lost_order, strategy="random", schedules=4 * BATCH, go_on=True).schedules == 4 * BATCH


def test_a_complete_one_says_so() -> None:
    campaign = explore(two_writers)
    assert campaign.line.startswith(f"complete: {campaign.schedules} schedules")
    campaign.check()


def test_unknown_strategies_are_refused() -> None:
    with pytest.raises(UsageError, match="dfs, pct, random"):
        explore(two_writers, strategy="best")


def test_a_body_with_a_mind_of_its_own_fails_the_self_check() -> None:
    runs = {"n": 0}

    async def moody(sim: Simulator) -> None:
        runs["n"] += 1

        async def idle() -> None:
            await sim.settle()

        for _ in range(runs["n"] % 3 + 2):
            sim.spawn(idle)

    with pytest.raises(CampaignError, match="run twice"):
        explore(moody)


def counts(campaign: Any) -> tuple[Any, ...]:
    failures: list[Failure] = campaign.failures
    return campaign.schedules, campaign.pruned, campaign.steps, campaign.complete, campaign.keys, failures


@pytest.mark.parametrize("strategy", ["dfs", "pct", "random"])
def test_one_worker_and_four_find_the_same(strategy: str) -> None:
    plans = [Plan(race("close_write"), strategy, 200, go_on=True) for _ in range(2)]
    alone = counts(plans[0].run())
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        plans[1].executor = pool
        assert counts(plans[1].run()) == alone


def test_a_dask_client_is_an_executor() -> None:
    distributed = pytest.importorskip("distributed", reason="the dask extra is not installed")
    alone = counts(Plan(race("close_write"), "random", 100, go_on=True).run())
    local = distributed.LocalCluster(n_workers=2, processes=False, dashboard_address=None)
    with local as cluster, distributed.Client(cluster) as client:
        plan = Plan(race("close_write"), "random", 100, executor=client.get_executor(), go_on=True)
        assert counts(plan.run()) == alone


def test_a_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    state = tmp_path / "state"
    whole = counts(Plan(race("close_write_fixed"), schedules=5000).run())
    first = Plan(race("close_write_fixed"), schedules=70, state=state).run()
    assert not first.complete
    assert counts(Plan(race("close_write_fixed"), schedules=5000, state=state).run()) == whole


@pytest.mark.parametrize("strategy", ["dfs", "pct", "random"])
def test_a_campaign_that_was_killed_ends_as_if_it_had_not_been(strategy: str, tmp_path: Path) -> None:
    state, name = tmp_path / "state", "read_update_fixed"
    words = ["explore", f"{RACES}/read_update.py::{name}", "--strategy", strategy, "--schedules", "100000"]
    running = subprocess.Popen(
        [sys.executable, "-c", "from vdpasim.cli import main; main()", *words, "--resume", str(state)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (state.exists() and state.read_bytes().count(b"\n") > 2):
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    with state.open("ab") as file:
        file.write(b'[99,[[{"ids":[],')  # as if it had been killed in the middle of a line
    done = sum(len(json.loads(line)[1]) for line in state.read_bytes().splitlines()[1:-1])
    assert done
    resumed = Plan(race(name), strategy, done + 2 * BATCH, state=state).run()
    assert counts(resumed) == counts(Plan(race(name), strategy, done + 2 * BATCH).run())
    assert resumed.schedules + resumed.pruned == done + 2 * BATCH


def test_a_body_that_ends_in_another_way_fails_the_self_check() -> None:
    runs = {"n": 0}

    async def counting(sim: Simulator) -> int:
        runs["n"] += 1
        return runs["n"]

    with pytest.raises(CampaignError, match="it ended in another way"):
        explore(counting)


def test_a_callable_without_a_name_and_a_command_with_its_machine() -> None:
    explore(partial(two_writers)).check()
    failure = explore(lost_order, abi="i386", seed=3).failures[0]
    assert "abi='i386', seed=3, replay=" in failure.command


def test_a_campaign_of_a_story_that_changed_is_refused(tmp_path: Path) -> None:
    file, state = tmp_path / "story.py", tmp_path / "state"
    file.write_text((RACES / "vring_num.py").read_text("utf-8"), "utf-8")
    found = load([f"{file}::vring_num_fixed"])[0]
    plan = Plan(Target.of(found.scenario, found.ident, "tip"), schedules=4, state=state)
    plan.run()
    plan.run()
    file.write_text(file.read_text("utf-8") + "# more\n", "utf-8")
    with pytest.raises(UsageError, match="another campaign"):
        plan.run()


@pytest.mark.usefixtures("registry")
def test_a_campaign_of_a_series_that_changed_is_refused(tmp_path: Path) -> None:
    story, series, _ = written(tmp_path)
    (found,) = load([story])
    target = Target.of(found.scenario, found.ident, "6.12", series=series)
    plan = Plan(target, schedules=1, state=tmp_path / "state")
    assert target.kernel == "6.12+as-posted"
    plan.run()
    plan.run()
    Path(series).write_text("# another\n", "utf-8")
    with pytest.raises(UsageError, match="another campaign"):
        plan.run()


@pytest.mark.usefixtures("registry")
def test_a_body_gets_the_series_and_its_command_names_it(tmp_path: Path) -> None:
    _, series, _ = written(tmp_path)

    async def asks(sim: Simulator) -> None:
        assert sim.kernel.switches.spec != "6.12+as-posted"

    failure = explore(asks, kernel="6.12", series=series).failures[0]
    assert f"kernel='6.12+as-posted', series={series!r}, replay=" in failure.command


def test_what_its_runs_rest_on_is_kept_with_the_state(tmp_path: Path) -> None:
    async def resting(sim: Simulator) -> None:
        file = await sim.process("vmm").open("/dev/vhost-net")
        await file.ioctl(0xAF01)

    plan = Plan(Target("body", resting, faults=("VHOST_SET_OWNER:1:drop",)), state=tmp_path / "state")
    told = {"fault.injected": "vdpasim's own"}
    assert plan.run().unconfirmed == plan.run().unconfirmed == told
    assert explore(two_writers).unconfirmed == {}
