"""One run of a body under a policy: the same machine, the same checks, another order.

Theory. The kernel asks its chooser before every step. :class:`Driver` is that chooser: it names the ready units so that
the names mean the same in every interleaving, asks the policy where there is more than one, and writes down choices and
fingerprints. Who stands before a mutex that is taken cannot run; a step that nobody can see (``footprint.local``) is no
choice but made at once. A *thread* is an actor with the call it waits for, a worker, or a call nobody waits for; its
path says who made it (``0.1`` is the second actor that main started). Somebody in ``sim.settle()`` goes on when nothing
but actors is ready, so a schedule cannot be spent on waiting.

A run fails with the ids that were found and not expected. An expected one that does not show is no failure here: in
most interleavings a race does not happen.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol, cast
from zlib import crc32

import attrs

from vdpasim.core.kernel import Call, Unit, Woken, Worker
from vdpasim.explore.footprint import Footprint, Recorder, local, waits
from vdpasim.explore.schedule import Follower, ReplayDivergence, Schedule, fingerprint
from vdpasim.scenario.judge import Judge
from vdpasim.scenario.loader import load
from vdpasim.scenario.series_file import on_kernels, series_name
from vdpasim.sim import InternalError, Livelock, Simulator
from vdpasim.sim.hosts import SETTLE, Actor
from vdpasim.trace.text import TextTrace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vdpasim.checks import Finding
    from vdpasim.scenario import Body, Scenario

STEP_LIMIT = 20_000
"""Steps of one run before it is a livelock."""


class Pruned(Exception):
    """The policy does not want to see the rest of this run."""


class Policy(Protocol):
    """Decides one run."""

    footprints: bool
    """It wants to know what each step touched."""

    def choose(self, threads: list[str], labels: list[str]) -> int:
        """One of several threads that can run; the one that ran last, if it can, is the first."""

    def forced(self, thread: str) -> None:
        """Only this one can run."""

    def stepped(self, thread: str, footprint: Footprint) -> None:
        """It ran; told only if :attr:`footprints`."""

    def finish(self) -> None:
        """The run is over."""


class Simple:
    """What policies share that only choose."""

    footprints = False

    def forced(self, thread: str) -> None:
        """Nothing to decide."""

    def stepped(self, thread: str, footprint: Footprint) -> None:
        """Nothing to learn."""

    def finish(self) -> None:
        """Nothing to check."""


class Following(Simple):
    """Plays a schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self.follower = Follower(schedule)

    def choose(self, threads: list[str], labels: list[str]) -> int:
        return self.follower.choose(labels)

    def finish(self) -> None:
        self.follower.finish()


@attrs.frozen
class Target:
    """What is explored: a body, and the machine it gets."""

    ident: str
    """``file.py::name`` of a scenario, or the name of a body."""
    body: Body | None = None
    """None: the scenario that ``ident`` names, loaded where it is run."""
    kernel: str = "tip"
    abi: str = "x86_64"
    seed: int = 0
    options: dict[str, int | bool] = attrs.Factory(dict[str, "int | bool"])
    extensions: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    expected: frozenset[str] = frozenset()
    series: str = ""
    """The patch series that ``kernel`` names, as it was given, if a file may have to be loaded for it."""

    @classmethod
    def of(
        cls, story: Scenario, ident: str, kernel: str, *, seed: int = 0, by_name: bool = True, series: str = ""
    ) -> Target:
        """A scenario on a kernel, under a series if one is given; ``by_name``: another process can load it."""
        (kernel,) = on_kernels([kernel], series)
        body = None if by_name else story.body
        rest = (story.abi, seed, story.options, story.extensions, story.faults, story.expected(kernel))
        return cls(ident, body, kernel, *rest, series)

    def machine(self) -> Simulator:
        """A fresh one."""
        if self.series:
            series_name(self.series)  # this may be another process than the one that was told
        return Simulator(
            self.kernel,
            abi=self.abi,
            seed=self.seed,
            options=self.options,
            extensions=self.extensions,
            faults=self.faults,
        )

    def story(self) -> Body:
        """The coroutine function."""
        return self.body or story_of(self.ident)


@cache
def story_of(ident: str) -> Body:
    """The body of a scenario, by ``file.py::name``."""
    return load([ident])[0].scenario.body


@attrs.frozen
class Outcome:
    """How one run ended."""

    ids: tuple[str, ...]
    """What was found and not expected; empty: fine."""
    text: str
    """The findings, a line each."""
    key: str
    """Equal for equal outcomes: everything that was found, and what the body returned."""
    schedule: str
    steps: int
    choices: int
    """Steps where there was a choice."""
    preemptions: int
    """Times a unit that could have gone on had to wait."""
    ready: int
    """Hash of what was ready at each step."""
    actors: tuple[str, ...] = ()
    """Paths of the actors but the first."""
    trace: str = ""
    unconfirmed: dict[str, str] = attrs.Factory(dict["str", "str"])
    """The rules it came to that no kernel confirms, each with what it rests on."""

    @property
    def failed(self) -> bool:
        """Something was found that was not expected."""
        return bool(self.ids)


class Nothing:
    """An actor that a schedule leaves out."""

    def send(self, value: Woken | None, /) -> Any:
        """It ends at once."""
        raise StopIteration(None)

    def close(self) -> None:
        """Nothing to abandon."""


class Driver:
    """The kernel's chooser: see the module docstring."""

    def __init__(self, sim: Simulator, policy: Policy, without: frozenset[str] = frozenset()) -> None:
        self.kernel = sim.kernel
        self.policy = policy
        self.without = without
        self.choices: list[int] = []
        self.prints: list[int] = []
        self.preemptions = 0
        self.ready = 0
        self.recorder = Recorder(sim.kernel) if policy.footprints else None
        self.paths: dict[Unit, str] = {}
        self.children: dict[str, int] = {}
        self.actors: list[str] = []
        self.last = ""
        if sim.kernel.current is not None:
            self.last = self.path(sim.kernel.current)
        sim.kernel.points = True
        sim.kernel.chooser = self

    def __call__(self, ready: list[Unit]) -> int:
        kernel = self.kernel
        if self.recorder is not None:
            self._told()
        if kernel.steps > STEP_LIMIT:
            raise Livelock(f"after {STEP_LIMIT} steps still ready: {', '.join(sorted({u.name for u in ready}))}")
        at, threads = self._enabled(ready)
        if len(at) == 1:
            index, thread = at[0], threads[0]
            self.policy.forced(thread)
        else:
            labels = [label(ready[index]) for index in at]
            choice = self.policy.choose(threads, labels)
            index, thread = at[choice], threads[choice]
            self.preemptions += choice != 0 and threads[0] == self.last
            self.choices.append(choice)
            self.prints.append(fingerprint(labels, choice))
            self.ready = crc32("|".join(labels).encode(), self.ready)
        self.last = thread
        if self.recorder is not None:
            self.recorder.begin(ready[index], thread)
        return index

    def finish(self) -> None:
        """The run has ended: the last step counts too."""
        if self.recorder is not None:
            self._told()
        self.policy.finish()

    def _told(self) -> None:
        assert self.recorder is not None
        step = self.recorder.finish()
        if step is not None:
            self.policy.stepped(*step)

    def _enabled(self, ready: list[Unit]) -> tuple[list[int], list[str]]:
        # positions and paths of what can run, the one that ran last first
        if len(ready) == 1:
            return [0], [self.path(ready[0])]
        busy = any(not isinstance(unit, Actor) for unit in ready)
        at: list[int] = []
        threads: list[str] = []
        for index, unit in enumerate(ready):
            path = self.path(unit)
            if local(unit):
                return [index], [path]
            if (busy and unit.point is SETTLE) or waits(unit):
                continue
            if path == self.last:
                at.insert(0, index)
                threads.insert(0, path)
            else:
                at.append(index)
                threads.append(path)
        if not at:  # everybody waits for a mutex: let them fall asleep, the kernel will call it a deadlock
            return list(range(len(ready))), [self.path(unit) for unit in ready]
        return at, threads

    def path(self, unit: Unit) -> str:
        """Who it is, in every interleaving alike."""
        path = self.paths.get(unit)
        if path is None:
            path = self.paths[unit] = self._path(unit)
        return path

    def _path(self, unit: Unit) -> str:
        parent = unit.parent
        if isinstance(unit, Worker):
            return unit.name
        if isinstance(unit, Call) and isinstance(parent, Actor) and parent.call is unit:
            return self.path(parent)
        if isinstance(unit, Actor) and parent is not None:
            return self._actor(unit, f"{self.path(parent)}.{unit.number}")
        stem = "" if parent is None else self.path(parent) + ".c"
        number = self.children.get(stem, 0)
        self.children[stem] = number + 1
        return f"{stem}{number}"

    def _actor(self, actor: Actor, path: str) -> str:
        self.actors.append(path)
        if path in self.without and actor.gen is not None:
            actor.gen.close()
            actor.gen = Nothing()
        return path


def label(unit: Unit) -> str:
    """A unit and where it stands, for people and fingerprints."""
    where = unit.point.name if unit.point is not None else "start or wake-up"
    doing = f" {unit.op}" if isinstance(unit, Call) else ""
    return f"{unit.name}{doing} at {where}"


def execute(
    target: Target,
    policy: Policy,
    *,
    without: frozenset[str] = frozenset(),
    trace: bool = False,
    rest: bool = False,
) -> Outcome:
    """Run the body once.

    ``rest`` runs what it left behind too, as ``vdpasim run`` does, so that checks can say what did not happen. Without
    it they can where the body has left nothing.

    Raises:
        Pruned: the policy broke off.
        ReplayDivergence: the policy follows a schedule that does not fit.
    """
    sim = target.machine()
    text = TextTrace(sim.kernel.abi) if trace else None
    if text is not None:
        sim.listen(text.event)
    driver = Driver(sim, policy, without)
    with Judge(sim, target.expected, program=False) as judge:
        result = _play(judge, target)
        if rest or not sim.kernel.ready:
            judge.rest()
    driver.finish()
    judge.finish()
    found = judge.findings
    bad = [finding for finding in found if finding.id not in target.expected]
    return Outcome(
        tuple(sorted({finding.id for finding in bad})),
        "\n".join(f"{finding.id}: {finding.text}" for finding in bad),
        _key(found, result),
        str(Schedule.of(driver.choices, driver.prints, without)),
        sim.kernel.steps,
        len(driver.choices),
        driver.preemptions,
        driver.ready,
        tuple(driver.actors),
        text.text() if text is not None else "",
        judge.unconfirmed,
    )


def _play(judge: Judge, target: Target) -> Any:
    try:
        return judge.sim.run(target.story())
    except (InternalError, Pruned, ReplayDivergence):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a story raises is its outcome
        judge.ended(error)
        return None
    finally:
        judge.sim.abandon()


def _key(found: list[Finding], result: Any) -> str:
    text = f"{sorted({finding.id for finding in found})}{_shown(result)!r}"
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _shown(value: Any) -> str:
    # the same for the same values in every process: the repr of what is no plain value may hold an address
    if isinstance(value, dict):
        table = cast("Mapping[Any, Any]", value)
        return "{" + ",".join(sorted(f"{_shown(key)}:{_shown(one)}" for key, one in table.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(map(_shown, cast("set[Any]", value)))) + "}"
    if isinstance(value, tuple | list):
        left, right = "()" if isinstance(value, tuple) else "[]"
        return left + ",".join(map(_shown, cast("list[Any]", value))) + right
    plain = type(value) in (int, bool, str, bytes, float, type(None))
    return repr(value) if plain else type(value).__name__


def replay(target: Target, schedule: str | Schedule, *, trace: bool = True) -> Outcome:
    """Run a stored schedule again.

    Raises:
        UsageError: the string is none.
        ReplayDivergence: it does not fit the body any more.
    """
    parsed = schedule if isinstance(schedule, Schedule) else Schedule.parse(schedule)
    return execute(target, Following(parsed), without=parsed.without, trace=trace)


async def replayed(sim: Simulator, body: Body, schedule: str) -> Any:
    """As the first thing of a scenario: the rest of the run goes by a stored schedule, and ``body`` is its story.

    Behind the body's end the schedule must be over, too; a body that fails says so instead.

    Raises:
        ReplayDivergence: the schedule does not fit the body any more.
    """
    parsed = Schedule.parse(schedule)
    driver = Driver(sim, Following(parsed), parsed.without)
    result = await body(sim)
    driver.finish()
    return result
