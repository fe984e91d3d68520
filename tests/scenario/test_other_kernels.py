"""The stories of live update on kernels they do not name: the verdict is about the kernel, not about its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vdpasim.core import rules, series
from vdpasim.core.profiles import IMPLIED
from vdpasim.core.switches import SWITCHES
from vdpasim.scenario.loader import load
from vdpasim.scenario.runner import run
from vdpasim.scenario.series_file import on_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdpasim.scenario.runner import Verdict

ROOT = Path(__file__).parents[2]
STORIES = load([ROOT / "scenarios" / "live_update"])
GUIDE = (ROOT / "docs" / "live-update.md").read_text("utf-8")

SERIES = ("live-update-v1", "live-update-v2", "live-update-fixed")
REFUSED_BY_THE_GUARD = {
    "lu14_batch_left_open", "lu24_nothing_to_tell", "lu26_the_other_space", "lu28_half_a_batch",
    "lu35_third_process_takes_over", "lu40_remap_masked_out", "lu50_address_spaces_not_acked",
    "lu64_forgotten_every_time", "lu64_second_update_repairs", "forgotten_remap",
}  # fmt: skip
"""Stories that let a device run on old addresses, needed or not; where RESUME is guarded they cannot be played."""


@pytest.fixture
def registry() -> Iterator[None]:
    """What a test registers is gone behind it."""
    series.load()
    kept = dict(series.SERIES), dict(SWITCHES), dict(IMPLIED), dict(rules.RULES)
    yield
    for table, before in zip((series.SERIES, SWITCHES, IMPLIED, rules.RULES), kept, strict=True):
        table.clear()  # type: ignore[attr-defined]
        table.update(before)  # type: ignore[attr-defined]


def unexpected(verdicts: list[Verdict]) -> dict[str, str]:
    return {one.name: "; ".join(sorted({finding.id for finding in one.found})) for one in verdicts if not one.passed}


@pytest.mark.parametrize("name", SERIES)
def test_under_another_series(name: str) -> None:
    plays = [(found, kernel) for found in STORIES for kernel in on_kernels(found.scenario.kernels, name)]
    new = [(found, kernel) for found, kernel in plays if kernel not in found.scenario.kernels]
    assert unexpected([one for found, kernel in new for one in run(found, kernel=kernel)]) == {}


def test_on_another_kernel() -> None:
    assert unexpected([one for found in STORIES for one in run(found, kernel="7.1+live-update-v1")]) == {}


def test_with_a_guard() -> None:
    kernel = "7.1+live-update-fixed+lu-guard-resume"
    verdicts = [one for found in STORIES for one in run(found, kernel=kernel)]
    assert unexpected(verdicts).keys() == REFUSED_BY_THE_GUARD
    assert all("vdpa.guard.stale" in one.unconfirmed for one in verdicts if not one.passed)


@pytest.mark.usefixtures("registry")
def test_a_series_of_ones_own_fails_where_it_is_wrong(tmp_path: Path) -> None:
    """The guide's mends the order of REMAP alone: what it has still of v2's defects is found, and nothing else."""
    file = re.search(r"<!-- file: my_v3.py -->\n```python\n(.*?)```", GUIDE, re.DOTALL)
    assert file
    path = tmp_path / "my_v3.py"
    path.write_text(file[1].replace("my-v3", "my-other-v3"), "utf-8")
    plays = [(found, kernel) for found in STORIES for kernel in on_kernels(found.scenario.kernels, str(path))]
    assert unexpected([one for found, kernel in plays for one in run(found, kernel=kernel)]) == {
        "lu13_batch_end_fails": "dma.stale-va; iotlb.divergence; set-map.ignored-error",
        "lu18_a_device_that_pins_and_lies": "dma.bogus-pa; unpin.wrong-frame",
        "lu20_no_operation_to_ask": "kernel.oops",
    }


def test_no_story_asks_for_the_name_of_its_kernel() -> None:
    for found in STORIES:
        assert "switches.spec" not in found.path.read_text("utf-8"), found.ident
