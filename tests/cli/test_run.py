"""``vdpasim run`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vdpasim.cli.run import command
from vdpasim.trace.file import load

SCENARIOS = Path(__file__).parents[2] / "scenarios"
LU12 = f"{SCENARIOS / 'live_update' / 'batch.py'}::lu12_unbatched_remaps"
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
    swapped.write_text(REMAP.read_text().replace('"iotlb.divergence",', "(),"))
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


CARELESS = '''"""A device is resumed that was not suspended."""

from vdpasim.scenario import scenario
from vdpasim.vmm.blk import BlkVmm


@scenario({expect})
async def careless(sim):
    """RESUME without SUSPEND."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.resume()
'''


def test_a_mistake_of_the_program_is_a_note_and_counts_where_it_is_asked_for(tmp_path: Path) -> None:
    story = tmp_path / "careless.py"
    story.write_text(CARELESS.format(expect=""))
    result = run(story)
    assert result.exit_code == 0
    assert "note  vmm.resume-without-suspend: vhost-vdpa-0" in result.output
    assert "note  vmm.resume-without-suspend" in run("--explain", story).output
    strict = run("--strict", story)
    assert strict.exit_code == 1
    assert "FAIL  careless" in strict.output
    assert "--seed 0 --strict" in strict.output
    assert json.loads(run("--json", story).output)[0]["notes"][0]["id"] == "vmm.resume-without-suspend"
    story.write_text(CARELESS.format(expect='expect="vmm.resume-without-suspend"'))
    assert run(story).exit_code == run("--strict", story).exit_code == 0


def test_an_explained_finding_fits_a_screen() -> None:
    result = run("--explain", f"{SCENARIOS / 'live_update' / 'stale_write.py'}", "--kernel", "6.12+live-update-v1")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) <= 40
    for wanted in (
        "  dma.stale-va",
        "    promised:  vmm/ram+0x9000 (512)",
        "    touched:   vmm/heap+0x9000 (512)",
        "    steps before, and the event itself:",
    ):
        assert wanted in lines
    assert any(": owner device=vhost-vdpa-0 old=mm:vmm-0 new=mm:vmm-1" in line for line in lines)
    assert any(line.startswith("  rerun: vdpasim run ") for line in lines)


def test_json_ktap_junit_and_traces_are_written(tmp_path: Path) -> None:
    assert json.loads(run("--json", REMAP).output)[0]["expected"] == ["iotlb.divergence"]
    assert run("--ktap", REMAP).output.startswith("KTAP version 1\n1..3\nok 1 ")
    result = run(REMAP, "--junitxml", tmp_path / "out.xml", "--trace", tmp_path / "traces")
    assert result.exit_code == 0
    assert (tmp_path / "out.xml").read_text().startswith("<?xml")
    assert "VHOST_NEW_OWNER" in (tmp_path / "traces" / "unbatched_remap-6.12+live-update-v1.txt").read_text()
    trace = load(tmp_path / "traces" / "unbatched_remap-6.12+live-update-v1.jsonl")
    assert (trace.header.kernel, trace.complete) == ("6.12+live-update-v1", True)
    assert [mark.id for mark in trace.marks] == ["iotlb.divergence"]


def test_two_stories_of_one_name_have_a_trace_each(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(REMAP.read_text())
    assert run(tmp_path / "a", tmp_path / "b", "--trace", tmp_path / "traces", "--kernel", "7.1").exit_code == 1
    names = sorted(path.name for path in (tmp_path / "traces").iterdir())
    stem = "unbatched_remap-7.1"
    assert names == [f"{stem}-2.jsonl", f"{stem}-2.txt", f"{stem}.jsonl", f"{stem}.txt"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(REMAP, "--trace", tmp_path / "file" / "traces")
    assert result.exit_code == 2
    assert "Not a directory" in result.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.py"], "no such file or folder"),
        ([REMAP, "--kernel", "6.13"], "no kernel profile"),
        ([REMAP, "--kernel", "6.12+F99"], "no switch"),
        ([REMAP, "--set", "pages=1"], "no setting"),
        ([REMAP, "--set", "pages"], "NAME=VALUE"),
        ([SCENARIOS / "owner", "--set", "pages=1"], "none of"),
        ([LU12, "--set", "regions=0"], "regions='0' is outside the domain of lu12_unbatched_remaps: 1 to 64"),
        ([SCENARIOS / "live_update" / "batch.py", "--set", "regions=-1"], "is outside the domain of lu12_unbatched"),
        (["--demo", SCENARIOS / "owner"], "no scenario is marked demo"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_2(args: list[object], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_three_settings_of_one_story() -> None:
    result = run(LU12, "--set", "regions=7", "--set", "order=reverse", "--set", "asid=1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.output.endswith("3 of 3 runs as expected\n")


def test_settings_come_to_the_stories_that_have_them() -> None:
    result = run(REMAP, LU12, "--set", "regions=7", "--kernel", "6.12", "--json")
    assert result.stderr == "regions=7 is set in 1 of 2 stories; played as they are: 1 without such a setting\n"
    assert ["--set" in one["rerun"] for one in json.loads(result.stdout)] == [False, True]


# -- series


V3 = """
from vdpasim.core.series.live_update import REMAP_V2, V2
from vdpasim.uapi.vhost_types import VHOST_IOTLB_REMAP

SERIES = V2.derive(
    "cli-v3",
    "v2 with the push behind the store",
    messages={VHOST_IOTLB_REMAP: REMAP_V2.moved("push", behind="store")},
)
"""


@pytest.mark.usefixtures("registry")
def test_a_series_of_a_file_takes_the_place_of_the_story_s(tmp_path: Path) -> None:
    mine = tmp_path / "v3.py"
    mine.write_text(V3)
    assert run(REMAP, "--series", mine).exit_code == 0, "it is expected to be mended, and is"
    again = tmp_path / "again.py"
    again.write_text(V3.replace("cli-v3", "cli-v3-as-it-was").replace('.moved("push", behind="store")', ""))
    result = run(REMAP, "--series", again)
    assert result.exit_code == 1
    assert "iotlb.divergence" in result.output
    assert f"--kernel 6.12+cli-v3-as-it-was+lu-advertise --seed 0 --series {again}" in result.output


def test_two_series_are_compared_by_what_they_find() -> None:
    result = run(REMAP, "--series", "live-update-v1", "--series", "live-update-fixed", "--diff")
    assert result.exit_code == 0
    assert result.output.splitlines()[1].split() == ["unbatched_remap", "6.12", "iotlb.divergence", "clean"]
    assert result.output.endswith("1 of 1 verdicts change, refusals change in 0\n")


ORDER = """
from vdpasim.core.series.live_update import NEW_OWNER, V2
from vdpasim.uapi import vhost

SERIES = V2.derive("cli-order", "mine", ioctls={vhost.VHOST_NEW_OWNER: NEW_OWNER.moved("another", before="limit")})
"""


@pytest.mark.usefixtures("registry")
def test_two_series_are_compared_by_what_they_refuse(tmp_path: Path) -> None:
    mine = tmp_path / "order.py"
    mine.write_text(ORDER)
    args = (SCENARIOS / "live_update" / "accounting.py", "--series", "live-update-v2", "--series", mine, "--diff")
    result = run(*args)
    assert result.exit_code == 0
    assert [line.split()[-2:] for line in result.output.splitlines() if "refused" in line] == [
        ["ENOMEM", "vdpa.new-owner.memlock"],
        ["EBUSY", "vdpa.new-owner.same"],
    ]
    changed = [one for one in json.loads(run(*args, "--json").output) if one["refusals_change"]]
    assert [one["id"].partition("::")[2] for one in changed] == ["lu29_counted_twice"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--diff"], "--diff compares two or more --series"),
        (["--series", "live-update-v2"] * 2 + ["--diff"], "--diff compares different series"),
        (["--series", "mainline", "--diff"], "--diff compares two or more --series"),
        (["--series", "mainline", "--series", "live-update-v1"], "several --series need it"),
        (["--series", "nothing"], "neither a series nor a file"),
        (["--series", "mainline", "--series", "live-update-v1", "--diff", "--ktap"], "does not go with --ktap"),
    ],
)
def test_mistakes_with_series(flags: list[str], said: str) -> None:
    result = run(REMAP, *flags)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def tagged(tmp_path: Path) -> Path:
    path = tmp_path / "tagged.py"
    text = REMAP.read_text().replace('tags="LU12"', 'tags=("LU12", "objection:same-pages")')
    path.write_text(text + '\n\n@scenario(tags="LU12:twin")\nasync def twin(sim: Simulator) -> None: ...\n')
    return path


def test_stories_of_the_catalogue_are_shown_as_such(tmp_path: Path) -> None:
    result = run(tagged(tmp_path))
    assert result.exit_code == 0, result.output
    heads, row, *_, last = result.output.splitlines()
    assert heads.split() == ["id", "shows", "in", "found", "twin", "why"]
    assert row.startswith("LU12  v1 v2     iotlb.divergence  ok    Suspend, exec, NEW_OWNER")
    assert last == "4 of 4 runs as expected"


def test_objections_are_answered_by_runs(tmp_path: Path) -> None:
    result = run(tagged(tmp_path), "--objections")
    assert result.exit_code == 0
    (row,) = (line for line in result.output.splitlines() if line.startswith("same-pages  "))
    assert row.split() == ["same-pages", "iotlb.divergence", "iotlb.divergence", "clean", "-"]
    assert "\n  unbatched_remap  v1 v2  iotlb.divergence\n" in result.output
