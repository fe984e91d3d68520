"""Campaigns: many schedules of one target, counted, checked, resumable, on one processor or many.

Theory. Work goes out in batches of a fixed size and comes back in order, so the counts do not depend on the executor.
An *executor* is any :class:`concurrent.futures.Executor`: none at all (in this process), a process pool, or the one a
dask client gives. After each batch one line is appended to the state file; whoever is killed loses the batch that was
under way, and a line that was cut off is dropped when the file is read again.

Self-check: the first schedules are run twice. What is ready at each step and what comes out must be the same, or the
body depends on something that is no choice (the time, random numbers), and no replay of it would mean anything.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import attrs

from vdpasim.explore.execute import Following, Outcome, Pruned, Target, execute
from vdpasim.explore.schedule import ReplayDivergence, Schedule
from vdpasim.explore.state import StateFile
from vdpasim.explore.strategy import Ran, Settings, Strategy, Work
from vdpasim.explore.strategy_dfs import DfsPolicy, DfsStrategy, FullStrategy
from vdpasim.explore.strategy_pct import PctStrategy
from vdpasim.explore.strategy_random import RandomStrategy
from vdpasim.scenario import Scenario
from vdpasim.scenario.series_file import flag, on_kernels
from vdpasim.sim.errors import UsageError, VdpasimError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from vdpasim.scenario import Body

STRATEGIES: dict[str, Any] = {
    "dfs": DfsStrategy,
    "pct": PctStrategy,
    "random": RandomStrategy,
    "full": FullStrategy,
}
"""By name; ``full`` is dfs without the reduction."""

BATCH = 64
"""Schedules between two lines of the state file."""
PIECE = 8
"""Schedules that one worker does in one go."""
CHECKED = 10
"""Schedules of a campaign that are run twice."""


class CampaignError(VdpasimError):
    """The campaign cannot go on, and what it found means nothing."""


@attrs.frozen
class Failure:
    """A schedule that failed."""

    schedule: str
    text: str
    """What was found."""
    command: str
    """The one command that runs it again."""
    ids: tuple[str, ...] = ()
    number: int = 0
    """Number of the schedule, from 1."""


@attrs.define
class Campaign:
    """What was explored, and what came of it."""

    schedules: int = 0
    """Runs that were seen to their end."""
    pruned: int = 0
    """Runs broken off, because another one has the same outcome."""
    steps: int = 0
    complete: bool = False
    """There is no other schedule, or none up to equal ones and within the bound on preemptions."""
    failures: list[Failure] = attrs.Factory(list["Failure"])
    keys: set[str] = attrs.Factory(set[str])
    preemptions: int = 0
    """The most in one run."""
    unconfirmed: dict[str, str] = attrs.Factory(dict["str", "str"])
    """The rules that some run came to and no kernel confirms, each with what it rests on."""

    @property
    def distinct(self) -> int:
        """Different outcomes."""
        return len(self.keys)

    @property
    def line(self) -> str:
        """The counts, in one line."""
        head = f"complete: {self.schedules} schedules" if self.complete else f"{self.schedules} schedules"
        pruned = f" ({self.pruned} more broken off as equal to others)" if self.pruned else ""
        return f"{head}{pruned}, {self.distinct} distinct outcomes, {self.steps} steps, {len(self.failures)} failures"

    def check(self) -> None:
        """Complain of the first failure.

        Raises:
            AssertionError: what was found, the schedule, and the command that runs it again.
        """
        if self.failures:
            first = self.failures[0]
            raise AssertionError(f"{first.text}\nschedule: {first.schedule}\nrerun: {first.command}")

    def count(self, target: Target, ran: Ran) -> None:
        """Add one run."""
        outcome = ran.outcome
        if outcome is None:
            self.pruned += 1
            return
        self.schedules += 1
        self.steps += outcome.steps
        self.keys.add(outcome.key)
        self.unconfirmed.update(outcome.unconfirmed)
        self.preemptions = max(self.preemptions, outcome.preemptions)
        if outcome.failed:
            again = command(target, outcome.schedule)
            self.failures.append(Failure(outcome.schedule, outcome.text, again, outcome.ids, self.schedules))


def command(target: Target, schedule: str) -> str:
    """What runs a schedule again, for a shell; for a body that is no scenario, for Python."""
    if target.body is not None and "::" not in target.ident:
        words = {
            "abi": target.abi if target.abi != "x86_64" else "",
            "seed": target.seed,
            "options": target.options,
            "extensions": tuple(target.extensions),
            "series": target.series,
        }
        more = "".join(f", {name}={value!r}" for name, value in words.items() if value)
        return f"vdpasim.explore.explore({target.ident}, kernel={target.kernel!r}{more}, replay={schedule!r})"
    flags = flag(target.series) + (f" --seed {target.seed}" if target.seed else "")
    return f"vdpasim explore {shlex.quote(target.ident)} --kernel {target.kernel}{flags} --replay {schedule}"


def perform(target: Target, name: str, settings: Settings, work: Work, twice: bool) -> Ran:
    """Do one piece of work; in any process.

    Raises:
        CampaignError: the second time something else was ready, or came out.
    """
    policy = STRATEGIES[name].policy(settings, work)
    try:
        outcome = execute(target, policy)
    except Pruned:
        outcome = None
    if twice and outcome is not None:
        _again(target, outcome)
    return Ran(outcome, tuple(policy.children()) if isinstance(policy, DfsPolicy) else ())


def _again(target: Target, outcome: Outcome) -> None:
    reason = ""
    try:
        second = execute(target, Following(Schedule.parse(outcome.schedule)))
    except ReplayDivergence as error:
        reason = str(error)
    else:
        if (second.ready, second.steps, second.key, second.ids) == (
            outcome.ready,
            outcome.steps,
            outcome.key,
            outcome.ids,
        ):
            return
        if (second.ready, second.steps) == (outcome.ready, outcome.steps):
            reason = "it ended in another way"
    raise CampaignError(
        f"{target.ident}: run twice with the same schedule, something else happened"
        f"{': ' + reason if reason else ''}; the body depends on something besides the simulator and its choices"
    )


def perform_all(target: Target, name: str, settings: Settings, pieces: list[tuple[Work, bool]]) -> list[Ran]:
    """Several pieces of work, as one task of an executor."""
    return [perform(target, name, settings, work, twice) for work, twice in pieces]


@attrs.define
class Plan:
    """How a target is explored."""

    target: Target
    strategy: str = "dfs"
    schedules: int = 1000
    settings: Settings = attrs.Factory(Settings)
    executor: Executor | None = None
    go_on: bool = False
    """Do not stop behind the batch with the first failure."""
    state: Path | None = None
    progress: Callable[[Campaign], None] | None = None

    def run(self) -> Campaign:
        """Explore until the schedules are spent, the tree is, or something failed.

        Raises:
            CampaignError: the self-check failed.
            UsageError: the state file is of another campaign, or damaged.
        """
        if self.strategy not in STRATEGIES:
            raise UsageError(f"unknown strategy {self.strategy!r}; there are {', '.join(STRATEGIES)}")
        strategy: Strategy = STRATEGIES[self.strategy](self.settings)
        campaign = Campaign()
        file = StateFile(self.state, self._header()) if self.state is not None else None
        if file is not None:
            for number, batch in enumerate(file.batches(), 1):
                taken = strategy.take(len(batch))
                if len(taken) != len(batch):
                    raise file.damaged(number)
                self._count(strategy, campaign, list(zip(taken, batch, strict=True)))
        while not (campaign.failures and not self.go_on):
            left = self.schedules - campaign.schedules - campaign.pruned
            work = strategy.take(min(BATCH, left)) if left > 0 else []
            if not work:
                break
            ran = self._perform(work, campaign.schedules + campaign.pruned)
            if file is not None:
                file.append(ran)
            self._count(strategy, campaign, list(zip(work, ran, strict=True)))
            if self.progress is not None:
                self.progress(campaign)
        campaign.complete = strategy.complete
        return campaign

    def _count(self, strategy: Strategy, campaign: Campaign, pairs: list[tuple[Work, Ran]]) -> None:
        for work, ran in pairs:
            strategy.put(work, ran)
            campaign.count(self.target, ran)

    def _perform(self, work: list[Work], before: int) -> list[Ran]:
        pieces = [(piece, before + number < CHECKED) for number, piece in enumerate(work)]
        fixed = self.target, self.strategy, self.settings
        if self.executor is None:
            return perform_all(*fixed, pieces)
        tasks = [
            self.executor.submit(perform_all, *fixed, pieces[at : at + PIECE]) for at in range(0, len(pieces), PIECE)
        ]
        return [ran for task in tasks for ran in task.result()]

    def _header(self) -> dict[str, Any]:
        target = self.target
        return {
            "version": 2,
            "target": target.ident,
            "kernel": target.kernel,
            "abi": target.abi,
            "machine_seed": target.seed,
            "options": target.options,
            "extensions": list(target.extensions),
            "faults": list(target.faults),
            "expected": sorted(target.expected),
            "file": _checksum(target.ident.partition("::")[0]) if "::" in target.ident else None,
            "series": target.series,
            "series_file": _checksum(target.series),
            "strategy": self.strategy,
            "settings": attrs.asdict(self.settings),
        }


def _checksum(file: str) -> int | None:
    # of what tells the story, or is the series; a changed one is another campaign
    return crc32(Path(file).read_bytes()) if Path(file).is_file() else None


def explore(
    body: Body | Scenario,
    *,
    kernel: str = "tip",
    abi: str = "x86_64",
    strategy: str = "dfs",
    schedules: int = 1000,
    depth: int = 3,
    preemptions: int | None = None,
    seed: int = 0,
    options: dict[str, int | bool] | None = None,
    extensions: tuple[str, ...] = (),
    executor: Executor | None = None,
    go_on: bool = False,
    replay: str | None = None,
    series: str = "",
) -> Campaign:
    """Run ``async def body(sim)`` under many schedules, each on a fresh machine; ``.check()`` of the answer asserts.

    A scenario brings its own ABI, options, extensions and expected findings. ``replay`` runs one stored schedule
    instead. ``series`` is a patch series by name or file, which takes the place of the kernel's own. With an executor
    of other processes the body must be one they can import; they load the file themselves.

    Raises:
        CampaignError: the body depends on something besides the simulator and its choices.
        ReplayDivergence: the schedule to be replayed does not fit the body any more.
        ScenarioError: no such series.
    """
    if isinstance(body, Scenario):
        target = Target.of(body, body.name, kernel, seed=seed, by_name=False, series=series)
    else:
        (kernel,) = on_kernels([kernel], series)
        name, machine = getattr(body, "__name__", "body"), (kernel, abi, seed, options or {}, extensions)
        target = Target(name, body, *machine, series=series)
    if replay is not None:
        return replayed_campaign(target, replay)
    settings = Settings(seed, depth, preemptions)
    return Plan(target, strategy, schedules, settings, executor, go_on).run()


def replayed_campaign(target: Target, schedule: str) -> Campaign:
    """A campaign of one stored schedule.

    Raises:
        ReplayDivergence: it does not fit any more.
    """
    parsed = Schedule.parse(schedule)
    campaign = Campaign()
    campaign.count(target, Ran(execute(target, Following(parsed), without=parsed.without)))
    return campaign
