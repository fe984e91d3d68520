"""``vdpasim downtime`` as a user types it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from vdpasim.cli.downtime import command


def run(*args: str) -> Result:
    return CliRunner().invoke(command, ["--sizes", "5,40", *args])


def test_both_modes_by_default_and_one_if_asked() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert ("## VA mode" in result.output, "## PA mode" in result.output) == (True, True)
    assert "## VA mode" not in run("--mode", "pa").output


def test_prices_and_the_guest_are_the_users() -> None:
    result = run("--mode", "pa", "--cost", "pin=0.5us", "--guest", "64GiB", "--regions", "2", "--contiguous", "1GiB")
    assert "pin 500 ns" in result.output
    (line,) = (one for one in result.output.splitlines() if one.startswith("| reset") and "64GiB, extrapolated" in one)
    assert [cell.strip() for cell in line.split("|")][2:5] == ["2", "64", str(1 << 24)]
    assert "ENOSPC" not in result.output


def test_json() -> None:
    told = json.loads(run("--mode", "va", "--json").output)
    assert [one["way"] for one in told["ways"]] == ["REMAP", "INVALIDATE+UPDATE", "reset"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--kernel", "5.0"], "no kernel profile"),
        (["--sizes", "5"], "more sizes"),
        (["--sizes", "5,x"], "--sizes takes numbers"),
        (["--sizes", "0,5"], "--sizes takes numbers"),
        (["--cost", "pin"], "UNIT=TIME"),
        (["--cost", "pin=-1ns"], "UNIT=TIME"),
        (["--cost", "nap=1ns"], "knows no 'nap'; there are ioctl, message"),
        (["--guest", "0TiB"], "a size is a number"),
        (["--contiguous", "2 bananas"], "a size is a number"),
        (["--mode", "dma"], "is not one of"),
    ],
)
def test_mistakes_are_one_line(args: list[str], said: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert said in result.output
