"""Scenarios on many machines: cells, reasons, tables that fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vdpasim.core.profiles import ProfileError
from vdpasim.scenario import matrix
from vdpasim.scenario.loader import Found, load
from vdpasim.scenario.matrix import Cell, Column, Row, columns, play, table, to_json

SCENARIOS = Path(__file__).parents[2] / "scenarios"
V1 = "live-update-v1"
STORIES = '''
from vdpasim.scenario import scenario
from vdpasim.sim import Simulator

@scenario(expect="never.found")
async def {name}(sim: Simulator) -> None:
    """One."""
    for ident in {ids!r}:
        sim.violation(ident, "seen")

@scenario(options={{"max_iotlb_entries": 4}})
async def own_mode(sim: Simulator) -> None:
    """Two."""
    device = sim.vdpa.dev_add("d", mgmtdev="vdpasim_net", use_va=False)
    await sim.process("vmm").open(device.path)
    assert sim.kernel.abi.name == "x86_64"

@scenario(extensions=("no-such",))
async def refused(sim: Simulator) -> None:
    """Three."""
'''

FULL = '''
from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator

@scenario(expect="my.finding")
async def full(sim: Simulator) -> None:
    """One."""
    vmm = sim.process("vmm")
    with refused(12):
        vmm.mmap(4096, vmm.memfd("ram", 4096), addr=1 << 44)
    sim.violation("my.finding", "seen")
'''


def shipped(path: str) -> Found:
    (found,) = load([SCENARIOS / path])
    return found


def stories(tmp_path: Path, ids: tuple[str, ...] = (), name: str = "story", file: str = "story.py") -> list[Found]:
    (tmp_path / file).write_text(STORIES.format(name=name, ids=ids))
    return load([tmp_path / file])


def found(series: str, *, kernel: str = "6.12", mode: str = "va") -> tuple[str, ...]:
    return play(shipped("live_update/unbatched_remap.py"), Column(kernel, series, "x86_64", mode)).ids


def test_a_cell_is_what_the_run_found_whatever_is_expected(tmp_path: Path) -> None:
    assert found(V1) == ("iotlb.divergence",)
    assert found("live-update-fixed") == ()
    assert found("mainline") == ("oserror",)
    assert found(V1, mode="pa") == ("oserror",)
    story = stories(tmp_path, ("b.two", "a.one", "b.two"))[0]
    assert play(story, Column("tip", "mainline", "x86_64", "pa")) == Cell(("a.one", "b.two"), "seen")


def test_what_could_not_be_played_says_why(tmp_path: Path) -> None:
    _, own_mode, refused = stories(tmp_path)
    assert play(own_mode, Column("6.1", "mainline", "x86_64", "va")).reason == "6.1 has no VA mode"
    assert "the story's own choice, and not VA" in play(own_mode, Column("6.12", "mainline", "x86_64", "va")).reason
    assert play(own_mode, Column("6.12", "mainline", "x86_64", "pa")) == Cell()
    assert play(own_mode, Column("6.12", "mainline", "i386", "pa")).ids == ("assertion",)
    reason = play(refused, Column("6.12", "mainline", "x86_64", "pa")).reason
    assert reason.startswith("unknown extension 'no-such'")


@pytest.mark.parametrize("kernel", matrix.KERNELS)
def test_every_series_plays_on_every_kernel(kernel: str) -> None:
    """A kernel that lacks a request that a series changes refuses it as without the series."""
    story = shipped("live_update/batched_remap.py")
    ids = {series: play(story, Column(kernel, series, "x86_64", "va")).ids for series in matrix.SERIES}
    assert set(ids.values()) <= {(), ("oserror",)}


def test_a_program_of_the_package_has_the_kernels_abi() -> None:
    """A disk is brought up on a kernel whose request numbers are others; 32 bits are too few for the story's memory."""
    story = shipped("live_update/mainline_refuses.py")
    assert play(story, Column("6.12", "mainline", "ppc64", "va")) == Cell()
    unfit = play(story, Column("6.12", "mainline", "i386", "va"))
    assert (unfit.sign, unfit.ids) == ("does not fit", ())
    assert unfit.reason == "does not fit this ABI: the story maps memory where i386 has no addresses"
    machines = columns(["6.12"], ["mainline"], ["i386"], ["va"])
    assert "mainline_refuses  does not fit [1]" in table([row(story, unfit)], machines)


def test_what_is_found_on_a_small_abi_is_found(tmp_path: Path) -> None:
    """Only a story that broke off has told nothing: here ENOMEM is what it is about."""
    path = tmp_path / "full.py"
    path.write_text(FULL)
    (story,) = load([path])
    assert play(story, Column("tip", "mainline", "i386", "pa")).ids == ("my.finding",)


def test_a_mode_that_the_options_state_is_the_storys_own() -> None:
    story = shipped("live_update/accounting.py::lu31_small_limit")
    va, pa = (play(story, Column("6.12", V1, "x86_64", mode)) for mode in ("va", "pa"))
    assert va.reason == "the mode of a device is the story's own choice, and not VA"
    assert pa.ids == ("dma.after-handover",)


def test_columns_are_every_combination_by_blocks() -> None:
    made = columns(["6.1", "tip"], ["mainline", V1], ["x86_64"], ["va", "pa"])
    assert [column.block for column in made] == ["mainline, x86_64"] * 4 + [f"{V1}, x86_64"] * 4
    assert [column.head for column in made[:4]] == ["6.1 va", "6.1 pa", "tip va", "tip pa"]
    assert [made[0].profile, made[-1].profile] == ["6.1", f"tip+{V1}"]
    for kernels, series in ((["5.0"], ["mainline"]), (["tip"], ["live-update-v9"])):
        with pytest.raises(ProfileError):
            columns(kernels, series, ["x86_64"], ["va"])


def row(found: Found, *cells: Cell) -> Row:
    return Row(found, cells)


def test_long_ids_become_notes_and_reasons_always_are(tmp_path: Path) -> None:
    story = stories(tmp_path)[0]
    machines = columns(["6.1", "6.12", "7.1", "tip"], ["mainline"], ["x86_64"], ["va", "pa"])
    long = Cell(("dma.after-handover", "dma.wrong-object", "worker.ran-while-suspended"), "text")
    short = Cell(("dma.fault",), "other")
    text = table([row(story, Cell(reason="no"), *[long] * 5, short, Cell())], machines)
    assert text.splitlines()[2].split() == ["story", "-", "[1]", *["[2]"] * 5, "dma.fault", "ok"]
    assert "[1] no\n[2] dma.after-handover, dma.wrong-object, worker.ran-while-suspended\n" in text
    few = table([row(story, long, short)], machines[:2])
    assert "worker.ran-while-suspended" in few.splitlines()[2]
    assert "[1]" not in few


def test_why_adds_what_was_found_first(tmp_path: Path) -> None:
    story = stories(tmp_path)[0]
    machines = columns(["tip"], ["mainline"], ["x86_64"], ["va", "pa"])
    text = table([row(story, Cell(("dma.fault",), "at 3 " + "x" * 90 + " " + "y" * 90), Cell())], machines, why=True)
    assert "dma.fault [1]  ok" in text
    assert "\n[1] at 3 x" in text
    assert max(map(len, text.splitlines())) <= matrix.WIDTH


def test_what_never_fits_is_spread_over_several_blocks(tmp_path: Path) -> None:
    story = stories(tmp_path, name="a_story_with_a_name_" + "x" * 40)[0]
    machines = columns(matrix.KERNELS, ["mainline"], ["x86_64"], ["va", "pa"])
    text = table([row(story, *[Cell()] * 8)], machines)
    lines = text.splitlines()
    assert lines.count("mainline, x86_64") == 1
    assert sum("6.12 va" in line for line in lines) == 1
    assert max(map(len, lines)) <= matrix.WIDTH
    assert sum(line.startswith("a_story") for line in lines) == 2


def test_stories_of_one_name_are_told_apart(tmp_path: Path) -> None:
    two = [stories(tmp_path, file="a.py")[0], stories(tmp_path, file="b.py")[0]]
    machines = columns(["tip"], ["mainline"], ["x86_64"], ["pa"])
    text = table(matrix.matrix(two, machines), machines)
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["a::story", "b::story"]


def test_json_is_one_object_a_run(tmp_path: Path) -> None:
    story, own_mode, _ = stories(tmp_path, ("dma.fault",))
    machines = columns(["6.12"], ["mainline"], ["x86_64"], ["va", "pa"])
    told = json.loads(to_json(matrix.matrix([story, own_mode], machines), machines))
    assert [one["found"] for one in told] == [["dma.fault"], ["dma.fault"], None, []]
    assert [told[0][key] for key in ("kernel", "series", "abi", "mode")] == ["6.12", "mainline", "x86_64", "va"]
    assert "own choice" in told[2]["text"]


def test_what_no_kernel_confirms_is_marked_and_stands_below(tmp_path: Path) -> None:
    story, *_ = stories(tmp_path)
    machines = columns(["6.12"], ["mainline", "live-update-fixed"], ["x86_64"], ["va"])
    own = Cell(("dma.fault",), "text", unconfirmed={"vdpa.guard.stale": "vdpasim's own"})
    rows = [row(story, Cell(), own)]
    text = table(rows, machines)
    assert "dma.fault*" in text
    assert text.endswith("\n* live-update-fixed: vdpasim's own: vdpa.guard.stale\n")
    assert [one["unconfirmed"] for one in json.loads(to_json(rows, machines))] == [{}, dict(own.unconfirmed)]
    assert "*" not in table([row(story, Cell(), Cell())], machines)
