"""``vdpasim downtime`` as a user types it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from tests.cli.test_run import V3
from vdpasim.cli.downtime import command

if TYPE_CHECKING:
    from pathlib import Path


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


def test_a_price_is_of_what_stands_over_a_column() -> None:
    told = run("--mode", "va", "--cost", "pushed=1us", "--cost", "messages=2us").output
    assert "Time is what was said: pushed 1 us, message 2 us; nothing for ioctls, bytes, pinned" in told
    assert told == run("--mode", "va", "--cost", "pushed=1us", "--cost", "message=2us").output
    assert "| 1TiB, extrapolated |" in told


def test_a_guest_of_a_page_for_each_region_is_a_guest() -> None:
    assert "32KiB, extrapolated" in run("--mode", "va", "--guest", "32KiB").output


@pytest.mark.usefixtures("registry")
def test_a_series_is_measured_on_devices_that_offer_it(tmp_path: Path) -> None:
    mine = tmp_path / "v3.py"
    mine.write_text(V3)
    for given, name in ((str(mine), "cli-v3"), ("live-update-v2", "live-update-v2")):
        output = run("--mode", "va", "--kernel", "7.1", "--series", given).output
        assert output.startswith(f"# Downtime of a live update on 7.1+{name}+lu-advertise\n")
        assert "| REMAP " in output
    assert "on 6.12\n" in run("--mode", "va", "--series", "mainline").output.splitlines(keepends=True)[0]


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
        (["--cost", "entry=1ns"], "knows no 'entry'; there are ioctl, message, byte, pin, unpin, pushed, open"),
        (["--guest", "0TiB"], "a size is a number"),
        (["--guest", "1"], "--guest 1 is less than a page, which has 4096 bytes"),
        (["--guest", "28KiB"], "--guest 28KiB has no 8 regions: a region has a page at least"),
        (["--contiguous", "2KiB"], "--contiguous 2KiB is less than a page"),
        (["--contiguous", "2 bananas"], "a size is a number"),
        (["--series", "nothing.py"], "neither a series nor a file"),
        (["--mode", "dma"], "is not one of"),
    ],
)
def test_mistakes_are_one_line(args: list[str], said: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert said in result.output
