"""``vdpasim run`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vdpasim.cli.run import command

SCENARIOS = Path(__file__).parents[2] / "scenarios"
REMAP = SCENARIOS / "live_update" / "unbatched_remap.py"


def run(*args: object) -> Result:
    return CliRunner().invoke(command, [str(arg) for arg in args])


def test_every_shipped_scenario_finds_what_it_should() -> None:
    result = run(SCENARIOS)
    assert result.exit_code == 0, result.output
    assert "FAIL" not in result.output


def test_demo_plays_a_selection() -> None:
    result = run("--demo", SCENARIOS)
    assert result.exit_code == 0
    assert 6 <= len({line.split()[1] for line in result.output.splitlines() if line.startswith("ok")}) <= 10


def test_a_story_whose_bug_is_gone_fails(tmp_path: Path) -> None:
    swapped = tmp_path / "swapped.py"
    swapped.write_text(REMAP.read_text().replace('expect="iotlb.divergence", ', ""))
    result = run(swapped)
    assert result.exit_code == 1
    assert "iotlb.divergence" in result.output
    assert f"rerun: vdpasim run {swapped}::unbatched_remap --kernel 6.12+live-update-v1 --seed 0" in result.output


def test_an_expected_bug_that_does_not_come_fails(tmp_path: Path) -> None:
    swapped = tmp_path / "swapped.py"
    batched = SCENARIOS / "live_update" / "batched_remap.py"
    swapped.write_text(batched.read_text().replace("demo=True", 'expect="iotlb.divergence"'))
    result = run(swapped)
    assert result.exit_code == 1
    assert "iotlb.divergence was expected and not found" in result.output


def test_json_ktap_junit_and_traces_are_written(tmp_path: Path) -> None:
    assert json.loads(run("--json", REMAP).output)[0]["expected"] == ["iotlb.divergence"]
    assert run("--ktap", REMAP).output.startswith("KTAP version 1\n1..2\nok 1 ")
    result = run(REMAP, "--junitxml", tmp_path / "out.xml", "--trace", tmp_path / "traces")
    assert result.exit_code == 0
    assert (tmp_path / "out.xml").read_text().startswith("<?xml")
    assert "VHOST_NEW_OWNER" in (tmp_path / "traces" / "unbatched_remap-6.12+live-update-v1.txt").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.py"], "no such file or folder"),
        ([REMAP, "--kernel", "6.13"], "no kernel profile"),
        ([REMAP, "--kernel", "6.12+F99"], "no switch"),
        ([REMAP, "--set", "pages=1"], "no setting"),
        ([REMAP, "--set", "pages"], "NAME=VALUE"),
        (["--demo", SCENARIOS / "owner"], "no scenario is marked demo"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_2(args: list[object], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
