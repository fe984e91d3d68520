"""The fixture ``explore``: a campaign over the schedules of a body, with the machine that the marker describes.

Theory. Each schedule needs a fresh machine, so the fixture is a callable that takes a body, ``async def body(sim)``,
or a scenario. A schedule that fails is run once more for its trace, and named in a way that ``--vdpasim-schedule``
understands: the string, with ``N:`` before it if it belongs to the N-th call of ``explore`` in the test. What the
marker expects is no failure of a schedule: in most interleavings a race does not happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vdpasim import explore as engine
from vdpasim.pytest_plugin import report, settings
from vdpasim.pytest_plugin.machine import rules_text
from vdpasim.scenario import Scenario, scenario
from vdpasim.sim.errors import VdpasimError
from vdpasim.trace.text import inert

if TYPE_CHECKING:
    from vdpasim.pytest_plugin.settings import Settings
    from vdpasim.scenario import Body


class Failed:
    """A schedule that failed, for the report."""

    def __init__(self, schedule: str, outcome: engine.Outcome, *, said: bool) -> None:
        self.schedule = schedule
        self._outcome = outcome
        self._said = said

    def judge(self) -> str:
        return ""  # explore() has complained, or was told not to

    def told(self) -> str:
        return "" if self._said else _lines(self._outcome.text)

    def notes_text(self) -> str:
        return ""

    def trace_text(self) -> str:
        return self._outcome.trace

    def rules_text(self) -> str:
        # a trace names the rule of a refusal at the end of its line
        lines = (line.rpartition("  # ") for line in self._outcome.trace.splitlines())
        return rules_text(dict.fromkeys(rule for _, mark, rule in lines if mark))


def _lines(text: str) -> str:
    # findings hold what the program under test wrote
    return "\n".join(inert(line) for line in text.split("\n"))


class Unfit:
    """A schedule that was to be replayed and could not be, for the report."""

    def __init__(self, given: str, schedule_number: int) -> None:
        self.schedule = given if schedule_number == 1 else f"{schedule_number}:{given}"

    def judge(self) -> str:
        return ""

    told = notes_text = trace_text = rules_text = judge


class Explorer:
    """``explore(body)``; see :meth:`__call__`."""

    def __init__(self, item: pytest.Item, found: Settings) -> None:
        self._item = item
        self._settings = found
        self._calls = 0
        given: str = item.config.option.vdpasim_schedule or ""
        number, colon, schedule = given.partition(":")
        self._number, self._schedule = (int(number), schedule) if colon and number.isdigit() else (1, given)

    def __call__(self, body: Body | Scenario, *, check: bool = True, **keywords: Any) -> engine.Campaign:
        """Run a body under many schedules.

        Args:
            body: ``async def body(sim)``, or a scenario, which brings its own machine but for kernel and seed.
            check: whether a schedule that fails, fails the test.
            keywords: as :func:`vdpasim.explore.explore` has them: ``strategy``, ``schedules``, ``depth``,
                ``preemptions``, ``go_on``, ``executor``, and ``kernel``, ``seed`` and ``series``.

        Raises:
            AssertionError: a schedule failed.
        """
        __tracebackhide__ = True
        self._calls += 1
        found = self._settings
        story = body if isinstance(body, Scenario) else self._story(body)
        keywords = {"kernel": found.kernel, "seed": found.seed, "series": found.series, **keywords}
        if self._schedule and self._calls == self._number:
            keywords["replay"] = self._schedule
        try:
            campaign = engine.explore(story, **keywords)
        except VdpasimError as error:
            if "replay" in keywords:
                report.add(self._item, Unfit(self._schedule, self._number), traced=False)
            raise pytest.fail.Exception(f"vdpasim: {error}", pytrace=False) from None
        report.rests_on(self._item, lambda: campaign.unconfirmed)
        complaint = self._report(campaign, story, keywords, said=check) if campaign.failures else ""
        if check and complaint:
            raise AssertionError(complaint)
        return campaign

    def _story(self, body: Body) -> Scenario:
        found = self._settings
        return scenario(
            kernel=found.kernel,
            expect=tuple(found.expect),
            abi=found.abi,
            options=found.options,
            extensions=found.extensions,
            faults=found.faults,
        )(body)

    def _report(self, campaign: engine.Campaign, story: Scenario, keywords: dict[str, Any], *, said: bool) -> str:
        first = campaign.failures[0]
        how = {name: keywords[name] for name in ("kernel", "seed", "series")}
        target = engine.Target.of(story, story.name, by_name=False, **how)
        failed = Failed(
            first.schedule if self._calls == 1 else f"{self._calls}:{first.schedule}",
            engine.replay(target, first.schedule),
            said=said,
        )
        report.add(self._item, failed)
        again = settings.rerun(self._item, self._settings, failed.schedule)
        return f"{_lines(first.text)}\n{campaign.line}\nschedule: {first.schedule}\nrerun: {again}"
