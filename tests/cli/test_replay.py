"""``vdpasim replay``: scenarios again, without the scenario."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli.test_run import V3
from vdpasim.cli import cli
from vdpasim.scenario.loader import load
from vdpasim.scenario.runner import run
from vdpasim.sim.replay import Replay

ROOT = Path(__file__).parents[2]
STORIES = [
    "live_update/stale_write.py", "live_update/kick_while_suspended.py", "miss/vhost_net.py", "miss/every_page.py",
    "rings/live_update.py", "races/read_update.py", "owner/forked_child.py", "abi/i386_vmm.py",
    "iotlb/batch_failing_device.py", "history/control.py",
]  # fmt: skip


def vdpasim(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    story = ROOT / "scenarios/live_update/stale_write.py"
    folder = tmp_path / "out"
    kernel = ("--kernel", "6.12+live-update-v1")
    assert not vdpasim("run", story, *kernel, "--journal", folder, "--trace", folder).exit_code
    (found,) = folder.glob("*.journal")
    return found


@pytest.mark.parametrize("story", STORIES)
def test_replays_a_scenario_whose_file_is_gone(story: str, tmp_path: Path) -> None:
    copy = tmp_path / "story.py"
    shutil.copy(ROOT / "scenarios" / story, copy)
    vdpasim("run", copy, "--journal", tmp_path / "out")
    copy.unlink()
    journals = sorted((tmp_path / "out").glob("*.journal"))
    assert journals
    for journal in journals:
        result = vdpasim("replay", journal)
        assert result.exit_code == 0, result.output
        assert result.output.endswith("events, the same as recorded\n")


def test_writes_the_trace_again(recorded: Path, tmp_path: Path) -> None:
    assert vdpasim("replay", recorded, "--trace", tmp_path / "again.jsonl").exit_code == 0
    diff = vdpasim("trace", "diff", recorded.with_suffix(".jsonl"), tmp_path / "again.jsonl", "--exact")
    # findings are not replayed, events are; the last says that the recorded run came to rest
    changed = [line for line in diff.output.splitlines() if line[:1] in "+-" and line[1:2] not in "+-"]
    assert all("!!!" in line or line.endswith(": still") for line in changed)


def test_shows_the_first_difference(recorded: Path) -> None:
    text = recorded.read_text().replace("6.12+live-update-v1", "6.12", 1)
    recorded.write_text(text)
    result = vdpasim("replay", recorded, "--recorded", recorded.with_suffix(".jsonl"))
    assert result.exit_code == 1
    first, then, now = result.output.splitlines()
    assert "events are the same; event" in first
    assert then.startswith("  recorded: [")
    assert now.startswith("  now:      [")


def test_replays_up_to_the_cut(recorded: Path) -> None:
    recorded.write_text(recorded.read_text()[:-700])
    result = vdpasim("replay", recorded)
    assert result.exit_code == 0
    assert result.output.startswith("cut short: ")


def test_says_that_another_version_recorded(recorded: Path) -> None:
    recorded.write_text(recorded.read_text().replace('"program":"vdpasim ', '"program":"vdpasim 9.', 1))
    assert vdpasim("replay", recorded).output.startswith("recorded by vdpasim 9.")


def test_a_file_that_is_no_journal_is_one_line(recorded: Path) -> None:
    result = vdpasim("replay", recorded.with_suffix(".jsonl"))
    assert result.exit_code == 2
    assert "not a journal" in result.output
    assert len(result.output.splitlines()) == 1


def test_does_not_overwrite_the_journal(recorded: Path) -> None:
    assert vdpasim("replay", recorded, "--trace", recorded).exit_code == 2


@pytest.mark.usefixtures("registry")
def test_asks_for_the_file_of_the_series_it_lacks(recorded: Path, tmp_path: Path) -> None:
    text = recorded.read_text().replace("6.12+live-update-v1", "6.12+cli-v3+lu-advertise", 1)
    recorded.write_text(text)
    result = vdpasim("replay", recorded)
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert line.endswith(
        "recorded under cli-v3, which is no series or switch here; "
        "if it is a series of your own, give its file: --series FILE"
    )
    mine = tmp_path / "v3.py"
    mine.write_text(V3.replace('.moved("push", behind="store")', ""))  # as v1 but for what it checks
    assert vdpasim("replay", recorded, "--series", mine).exit_code == 0


@pytest.mark.slow
def test_replays_every_scenario_there_is() -> None:
    class Kept(io.StringIO):
        def close(self) -> None:
            self.seek(0)

    for found in load([str(ROOT / "scenarios")]):
        for kernel in found.scenario.kernels:
            stream = Kept()
            run(found, kernel=kernel, journal=lambda _, stream=stream: stream)  # type: ignore[misc]
            outcome = Replay(stream).run()
            assert (outcome.different, outcome.complete, outcome.lost) == ("", True, []), (found.ident, kernel)
            assert outcome.events
