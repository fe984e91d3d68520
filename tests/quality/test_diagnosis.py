"""How often ``vdpasim diagnose`` is right: every story of a live update and every twin, on each of its kernels.

Theory. A run is a *story* if it is tagged with a number, a *twin* otherwise; what is asked is which place the number
has among the answers, and whether a twin gets any. Stories with settings are asked once more, on their first kernel,
with settings for which no pattern was written. The counts are tables of docs/diagnose.md, and a test compares: a rate
that falls fails, and so does a page that is out of date (``python -m tests.quality.test_diagnosis`` writes it).
"""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from vdpasim.checks.diagnosis import diagnose
from vdpasim.checks.diagnosis.catalogue import UNTELLABLE
from vdpasim.explore import Target
from vdpasim.explore.campaign import Plan
from vdpasim.explore.execute import replay
from vdpasim.explore.strategy import Settings
from vdpasim.scenario.loader import Found, load
from vdpasim.scenario.runner import run
from vdpasim.trace.file import Reader

if TYPE_CHECKING:
    from vdpasim.core.events import Event
    from vdpasim.sim import Simulator

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "diagnose.md"
STORIES = load([str(ROOT / "scenarios" / "live_update")])
FIXED = r".*\+live-update-fixed$"
ANY = ".*"

NOTHING_TO_SEE = {
    "lu05_kick_beside_suspend": (ANY, "happens in other orders of events"),
    "lu23_unplugged_meanwhile": (ANY, "happens in other orders of events"),
    "lu32_exact_limit": (ANY, "a limit that is enough"),
    "lu34_old_owner_gone": (r".*(-v1|advertise|-fixed)$", "the kernel holds the address space"),
    "lu12_unbatched_remaps": (FIXED, "the kernel hands over the new address"),
    "lu13_batch_end_fails": (FIXED, "the kernel refuses BATCH_END and undoes the batch"),
    "lu16_arguments_of_the_update": (FIXED, "the kernel goes by the UPDATE"),
    "lu19_single_entries": (FIXED, "the kernel tells such devices as well"),
    "lu19_single_entries_in_a_batch": (FIXED, "the kernel tells such devices as well"),
    "stale_write": (FIXED, "the kernel hands over the new address"),
    "unbatched_remap": (FIXED, "the kernel hands over the new address"),
    "lu20_no_operation_to_ask": (FIXED, "the kernel looks whether the operation is there"),
    "lu45_kicked_while_suspended": (r".*(-v1|advertise|-fixed)$", "the device remembers the kick"),
}
"""Stories whose mistake has no effect: on which kernels, and why."""

ANSWERED = {
    "lu19_fixed": (22, "takes entries away and gives them anew, as the device needs it"),
    "lu22_the_window_fixed": (22, "takes entries away and gives them anew, as the story does, but suspended"),
    "lu28_fixed": (21, "has an UPDATE refused as the story does, and makes it good"),
    "lu29_room_for_twice": (29, "the owner asks in both, the twin hears another errno"),
    "lu30_owned_before": (37, "asks for SET_OWNER of a device that has an owner, to be refused"),
    "mainline_refuses": (37, "tries every request of the series on a kernel without it"),
}
"""Twins that make a mistake of the catalogue all the same: its number, and which it is."""

RACES = ("lu02_in_flight_at_exec", "lu05_kick_beside_suspend", "lu23_unplugged_meanwhile")
"""Stories that are told in the orders of events that show them."""


def claims(found: Found) -> list[int]:
    return [int(tag[2:4]) for tag in found.scenario.tags if re.fullmatch(r"LU\d\d", tag)]


def answers(found: Found, kernel: str, settings: dict[str, str] | None = None) -> list[int]:
    class Kept(io.StringIO):
        def close(self) -> None:
            self.seek(0)

    stream = Kept()
    run(found, kernel=kernel, settings=settings, record=lambda _: stream)
    reader = Reader(stream)
    return [one.number for one in diagnose((item.event for item in reader if item.event), reader.header.layout)]


def place(number: int, shown: list[int]) -> str:
    if shown[:1] == [number]:
        return "first"
    return "three" if number in shown[:3] else "not"


def nothing_to_see(found: Found, kernel: str, number: int) -> bool:
    kernels, _ = NOTHING_TO_SEE.get(str(found.scenario.name), ("", ""))
    return number in UNTELLABLE or (bool(kernels) and re.fullmatch(kernels, kernel) is not None)


@attrs.define
class Rate:
    """Counts of stories and of twins, and what is wrong in a line each."""

    stories: Counter[str] = attrs.Factory(Counter[str])
    twins: Counter[str] = attrs.Factory(Counter[str])
    wrong: list[str] = attrs.Factory(list[str])

    def add(self, found: Found, kernel: str, settings: dict[str, str] | None = None) -> None:
        name, shown = str(found.scenario.name), answers(found, kernel, settings)
        run_of = f"{name} on {kernel} {settings or ''}: {shown}"
        for number in claims(found):
            where = place(number, shown)
            hidden = where == "not" and nothing_to_see(found, kernel, number)
            self.stories["nothing" if hidden else where] += 1
            if where == "not" and not hidden:
                self.wrong.append(run_of)
        if not claims(found):
            self.twins["answered" if shown else "silent"] += 1
            if shown and (name not in ANSWERED or ANSWERED[name][0] != shown[0]):
                self.wrong.append(run_of)


def on_every_kernel() -> Rate:
    rate = Rate()
    for found in STORIES:
        for kernel in found.scenario.kernels:
            rate.add(found, kernel)
    return rate


def with_other_settings() -> Rate:
    rate = Rate()
    for found in STORIES:
        domain = found.scenario.domain
        values = list(product(*[list(value) for value in domain.values()])) if domain else []
        for chosen in values[:: max(1, len(values) // 5)]:
            settings = {key: str(value) for key, value in zip(domain, chosen, strict=True)}
            rate.add(found, str(found.scenario.kernels[0]), settings)
    return rate


def orders(name: str) -> list[list[int]]:
    """The answers for each order of a race that fails, of those with two preemptions."""
    (found,) = [one for one in STORIES if one.scenario.name == name]
    events: list[Event] = []

    async def body(sim: Simulator) -> None:
        events.clear()
        sim.listen(events.append)
        await found.scenario.body(sim)

    target = Target(name, body, str(found.scenario.kernels[0]))
    shown: list[list[int]] = []
    for failure in Plan(target, "dfs", 5000, Settings(preemptions=2)).run().failures:
        replay(target, failure.schedule)
        shown.append([one.number for one in diagnose(events)])
    return shown


def table(kernels: Rate, settings: Rate, races: Counter[str]) -> str:
    lines = [
        "| | runs | right number first | second or third | not named | nothing to see |",
        "|---|---|---|---|---|---|",
    ]
    for title, row in (
        ("stories, on each of their kernels", kernels.stories),
        ("stories, with up to ten of their settings", settings.stories),
        ("LU02, LU05 and LU23, in each order that shows them", races),
    ):
        cells = [row.total(), row["first"], row["three"], row["not"], row["nothing"]]
        lines.append(f"| {title} | " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| | runs | no answer | an answer |", "|---|---|---|---|"]
    for title, row in (
        ("twins, without the mistake, on each of their kernels", kernels.twins),
        ("twins, with up to ten of their settings", settings.twins),
    ):
        lines.append(f"| {title} | {row.total()} | {row['silent']} | {row['answered']} |")
    return "\n".join(lines)


def measured() -> tuple[str, list[str]]:
    """The tables, and what is wrong."""
    kernels, settings = on_every_kernel(), with_other_settings()
    wrong = kernels.wrong
    races = Counter[str]()
    for name in RACES:
        number = int(name[2:4])
        for shown in orders(name):
            races[place(number, shown)] += 1
            if number not in shown[:3]:
                wrong.append(f"{name} in another order: {shown}")
    return table(kernels, settings, races), wrong


START, STOP = "<!-- rate -->\n", "\n<!-- end of rate -->"


def on_the_page() -> str:
    return PAGE.read_text("utf-8").partition(START)[2].partition(STOP)[0]


@pytest.mark.slow
def test_the_rate_is_what_the_page_says() -> None:
    told, wrong = measured()
    assert wrong == []
    assert told == on_the_page(), f"`python -m tests.quality.test_diagnosis` writes docs/diagnose.md:\n{told}"


def test_the_page_tells_of_few_that_are_missed() -> None:
    # a page that is brought up to date after a fall fails here
    rows = [[int(cell) for cell in re.findall(r" (\d+) ", line)] for line in on_the_page().splitlines()]
    told = [row for row in rows if row]
    for runs, first, three, missed, nothing in told[:3]:
        assert missed <= 0.02 * runs
        assert first >= 0.95 * (runs - nothing)
        assert first + three + missed + nothing == runs
    for runs, silent, answered in told[3:]:
        assert silent + answered == runs
        assert silent >= 0.85 * runs


def test_exceptions_are_of_stories_that_exist() -> None:
    names = {str(found.scenario.name) for found in STORIES}
    assert names >= NOTHING_TO_SEE.keys() | ANSWERED.keys() | set(RACES)


def main() -> None:
    """Write the tables into the page."""
    told, wrong = measured()
    head, _, rest = PAGE.read_text("utf-8").partition(START)
    PAGE.write_text(head + START + told + STOP + rest.partition(STOP)[2], "utf-8")
    sys.stdout.write("\n".join([told, *wrong, ""]))


if __name__ == "__main__":
    main()
