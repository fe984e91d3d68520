"""``explore``: a race is found, shown, and replayed by the string in its report."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from tests.pytest_plugin.support import Suite

RACE = """
    import pytest

    async def race(sim):
        # two actors add one to a count, with a system call between load and store
        vmm, count = sim.process("vmm"), [0]

        async def add():
            seen = count[0]
            file = await vmm.open("/dev/vhost-net")
            await file.aclose()
            count[0] = seen + 1

        actors = [sim.spawn(add), sim.spawn(add)]
        for actor in actors:
            await actor.join()
        if count[0] != 2:
            sim.violation("mine.lost", f"{count[0]} instead of 2")

    async def calm(sim):
        await sim.settle()
"""


def test_a_race_fails_the_test_and_its_schedule_replays(suite: Suite) -> None:
    suite.tests(RACE + "\n    def test_it(explore):\n        explore(race, schedules=200)\n")
    shown = suite.run("--junitxml=junit.xml")
    assert shown.outcomes == {"failed": 1}, shown.text
    assert "mine.lost: 1 instead of 2" in shown.text
    assert "open(/dev/vhost-net" in shown.section("vdpasim trace (last 40 events)")
    rerun = shown.section("vdpasim rerun")
    schedule = re.search(r"--vdpasim-schedule '?(\S+?)'?\n", rerun)
    assert schedule, shown.text
    properties = {p.get("name"): p.get("value") for p in ET.parse(suite.path / "junit.xml").getroot().iter("property")}
    assert properties["vdpasim.schedule"] == schedule[1]

    again = suite.run("--vdpasim-schedule", schedule[1])
    assert again.outcomes == {"failed": 1}
    assert "1 schedules" in again.text
    assert again.section("vdpasim trace (last 40 events)") == shown.section("vdpasim trace (last 40 events)")


def test_campaigns_that_pass_or_are_looked_at(suite: Suite) -> None:
    suite.tests(
        RACE
        + """
    def test_clean(explore):
        assert explore(calm).complete

    @pytest.mark.vdpasim(expect="mine.lost")
    def test_expected(explore):
        explore(race, schedules=50)

    def test_looked_at(explore):
        campaign = explore(race, check=False, strategy="random", seed=1)
        assert campaign.failures[0].ids == ("mine.lost",)

    @pytest.mark.vdpasim(kernel="6.1")
    def test_the_machine_is_the_markers(explore):
        async def body(sim):
            assert sim.kernel.switches.spec == "6.1"

        explore(body)
    """
    )
    shown = suite.run()
    assert shown.outcomes == {"passed": 4}, shown.text


def test_a_scenario_brings_its_own_machine(suite: Suite) -> None:
    suite.tests(
        RACE
        + """
    from vdpasim.scenario import scenario

    @scenario(abi="i386", expect="mine.lost")
    async def story(sim):
        assert sim.kernel.abi.name == "i386"
        await race(sim)

    def test_it(explore):
        explore(story, schedules=50)
    """
    )
    shown = suite.run()
    assert shown.outcomes == {"passed": 1}, shown.text


def test_a_schedule_of_the_second_call_is_replayed_there(suite: Suite) -> None:
    suite.tests(
        RACE
        + """
    def test_it(explore):
        explore(calm)
        explore(race)
    """
    )
    shown = suite.run()
    schedule = re.search(r"--vdpasim-schedule '?(2:\S+?)'?\n", shown.text)
    assert schedule, shown.text
    again = suite.run("--vdpasim-schedule", schedule[1])
    assert "1 schedules" in again.text
    assert again.outcomes == {"failed": 1}


def test_a_string_that_is_no_schedule_is_one_line(suite: Suite) -> None:
    suite.tests(RACE + "\n    def test_it(explore):\n        explore(calm)\n")
    shown = suite.run("--vdpasim-schedule", "nonsense")
    assert shown.outcomes == {"failed": 1}
    assert "vdpasim: 'nonsense' is no schedule" in shown.text
    assert "another exception" not in shown.text


def test_a_schedule_that_does_not_fit_is_one_line_and_stays_in_the_command(suite: Suite) -> None:
    suite.tests(RACE + "\n    def test_it(explore):\n        explore(race)\n")
    shown = suite.run("--vdpasim-schedule", "s1--1.")
    assert shown.outcomes == {"failed": 1}
    assert "vdpasim: step 1 with a choice is another one" in shown.text
    assert "--vdpasim-schedule s1--1." in shown.section("vdpasim rerun")
    assert "another exception" not in shown.text


def test_traces_are_of_schedules_that_failed_whether_or_not_the_test_did(suite: Suite) -> None:
    suite.tests(
        RACE
        + """
    def test_clean(explore):
        explore(calm)

    def test_looked_at(explore):
        explore(race, check=False)
        explore(race, check=False, strategy="random", seed=1)

    def test_failed(explore):
        explore(race)
    """
    )
    traces = suite.path / "t"
    assert suite.run("--vdpasim-trace-dir", "t").outcomes == {"passed": 2, "failed": 1}
    files = sorted(re.sub(r"\.[0-9a-f]{8}", "", path.name) for path in traces.iterdir())
    failed, looked_at = "test_it.py-test_failed", "test_it.py-test_looked_at"
    assert files == [f"{failed}.txt", f"{looked_at}-2.txt", f"{looked_at}.txt"]
    assert all("open(/dev/vhost-net" in path.read_text("utf-8") for path in traces.iterdir())


def test_a_schedule_that_never_ran_leaves_no_trace(suite: Suite) -> None:
    suite.tests(RACE + "\n    def test_it(explore):\n        explore(race)\n")
    shown = suite.run("--vdpasim-schedule", "s1--1.", "--vdpasim-trace-dir", "t")
    assert shown.outcomes == {"failed": 1}
    assert "vdpasim trace file" not in shown.text
    assert not (suite.path / "t").exists()


def test_a_finding_cannot_paint_the_screen(suite: Suite) -> None:
    suite.tests("""
        async def body(sim):
            sim.violation("mine.said", "\\x1b[2J" + "gone")

        def test_explored(explore):
            explore(body)

        def test_run(vdpasim):
            vdpasim.run(body)
    """)
    shown = suite.run()
    assert shown.outcomes == {"failed": 2}
    assert "\\x1b[2Jgone" in shown.text
    assert "\x1b[2J" not in shown.text
