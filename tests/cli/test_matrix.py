"""``vdpasim matrix`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli.test_run import V3
from vdpasim.cli.matrix import command

REMAP = Path(__file__).parents[2] / "scenarios" / "live_update" / "unbatched_remap.py"


def run(*args: object) -> Result:
    return CliRunner().invoke(command, [str(arg) for arg in args])


def test_everything_by_default() -> None:
    result = run(REMAP)
    assert result.exit_code == 0, result.output
    titles = [line for line in result.output.splitlines() if line.endswith(", x86_64")]
    assert [title.partition(",")[0] for title in titles] == [
        "mainline",
        "live-update-v1",
        "live-update-v2+lu-advertise",
        "live-update-fixed",
    ]
    assert max(map(len, result.output.splitlines())) <= 120
    assert "[1] 6.1 has no VA mode" in result.output


def test_a_choice_and_json() -> None:
    chosen = ("--kernels", "6.12, tip", "--series", "live-update-fixed,live-update-v1", "--modes", "va")
    told = json.loads(run(REMAP, *chosen, "--json").output)
    assert [(one["kernel"], one["series"], one["found"]) for one in told] == [
        ("6.12", "live-update-fixed", []),
        ("tip", "live-update-fixed", []),
        ("6.12", "live-update-v1", ["iotlb.divergence"]),
        ("tip", "live-update-v1", ["iotlb.divergence"]),
    ]


@pytest.mark.usefixtures("registry")
def test_a_series_of_a_file_stands_beside_the_shipped_ones(tmp_path: Path) -> None:
    mine = tmp_path / "v3.py"
    mine.write_text(V3)
    narrow = (REMAP, "--kernels", "6.12", "--modes", "va")
    result = run(*narrow, "--series", f"live-update-v1,{mine}")
    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.output.splitlines() if line][::3] == [
        ["live-update-v1,", "x86_64"],
        ["cli-v3+lu-advertise,", "x86_64"],
    ]
    assert [line.split()[-1] for line in result.output.splitlines() if line.startswith("unbatched")] == [
        "iotlb.divergence",
        "ok",
    ]
    again = run(*narrow, "--series", "live-update-v1", "--series", mine)
    assert again.output == result.output


def test_why() -> None:
    result = run(REMAP, "--kernels", "6.12", "--series", "mainline", "--modes", "va", "--why")
    assert "oserror [1]" in result.output
    assert "Operation not permitted" in result.output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--kernels", "5.0"], "no kernel profile in '5.0'"),
        (["--series", "live-update-v9"], "no switch at"),
        (["--series", "live-update-v1,nothing.py"], "nothing.py: neither a series nor a file"),
        (["--abis", "vax"], "--abis: 'vax' is none of x86_64"),
        (["--modes", "va,,pa"], "--modes: '' is none"),
        (["--kernels", ""], "--kernels: '' is none"),
    ],
)
def test_mistakes_are_exit_2(args: list[str], said: str) -> None:
    result = run(REMAP, *args)
    assert result.exit_code == 2
    assert said in result.output


def test_a_path_that_is_not_there_is_exit_2(tmp_path: Path) -> None:
    result = run(tmp_path / "none.py")
    assert result.exit_code == 2
    assert "no such file" in result.output
