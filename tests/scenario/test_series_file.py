"""``--series``: files that hold one, files that do not, and the profile strings they make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.core.profiles import parse
from vdpasim.scenario.loader import ScenarioError
from vdpasim.scenario.series_file import column, flag, offering, on_kernel, on_kernels, series_name

if TYPE_CHECKING:
    from pathlib import Path

MENDED = """
from vdpasim.core.series.live_update import REMAP_V2, V2
from vdpasim.uapi.vhost_types import VHOST_IOTLB_REMAP

SERIES = V2.derive(
    "my-v3", "v2 with the push behind the store",
    messages={VHOST_IOTLB_REMAP: REMAP_V2.moved("push", behind="store")},
)
"""


pytestmark = pytest.mark.usefixtures("registry")


def written(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_file_brings_a_switch(tmp_path: Path) -> None:
    assert series_name(written(tmp_path, MENDED)) == "my-v3"
    assert "my-v3" in parse("tip+my-v3")


def test_a_file_is_registered_once(tmp_path: Path) -> None:
    path = written(tmp_path, MENDED)
    assert series_name(path) == series_name(path) == "my-v3"


@pytest.mark.parametrize("name", ["mainline", "live-update-v1", "live-update-fixed"])
def test_what_is_known_needs_no_file(name: str) -> None:
    assert series_name(name) == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a file holds one series of its own; here is none"),
        (MENDED + 'OTHER = V2.derive("my-v4", "")', "here is my-v3, my-v4"),
        (MENDED.replace('"push"', '"pull"'), "ValueError: there is no step 'pull'"),
        (MENDED.replace("my-v3", "F1"), "switch 'F1' is there already"),
        (MENDED.replace("my-v3", "live-update-v1"), "is registered twice"),
        (MENDED.replace("my-v3", "mainline"), "'mainline' is the name of no series at all"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def", "SyntaxError"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        series_name(written(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["a" * 300, "a\0b", ""])
def test_what_no_file_can_be_called_is_neither(given: str) -> None:
    with pytest.raises(ScenarioError, match="neither a series nor a file"):
        series_name(given)


def test_what_is_neither_is_told_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"neither a series nor a file; the series are mainline, live-update-v1"):
        series_name(str(tmp_path / "nothing.py"))


@pytest.mark.parametrize(
    ("kernel", "name", "made"),
    [
        ("6.12", "live-update-v1", "6.12+live-update-v1"),
        ("6.12+live-update-v1", "mainline", "6.12"),
        ("6.12+live-update-v1-F3", "live-update-fixed", "6.12-F3+live-update-fixed"),
        ("6.12+live-update-v1", "live-update-v2", "6.12+live-update-v2+lu-advertise"),
        ("6.12+live-update-v2", "live-update-fixed", "6.12+live-update-fixed"),
        ("6.12+live-update-v2+lu-advertise", "live-update-v1", "6.12+live-update-v1"),
        ("tip+live-update-v2+lu-advertise", "mainline", "tip"),
    ],
)
def test_a_series_takes_the_place_of_the_one_that_is_there(kernel: str, name: str, made: str) -> None:
    assert on_kernel(kernel, name) == made


def test_a_story_of_two_series_runs_once() -> None:
    kernels = ("6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "tip")
    assert on_kernels(kernels, "live-update-fixed") == ["6.12+live-update-fixed", "tip+live-update-fixed"]


def test_without_a_series_kernels_stay_as_they_are() -> None:
    assert on_kernels(("6.12", "6.12"), "") == ["6.12", "6.12"]
    assert flag("") == ""


def test_a_file_is_loaded_for_the_kernels_and_named_in_commands(tmp_path: Path) -> None:
    path = written(tmp_path, MENDED)
    assert on_kernels(["6.12"], path) == ["6.12+my-v3"]
    assert flag("my series.py") == " --series 'my series.py'"


OTHER = """
from vdpasim.core.series import Series

SERIES = Series("my-other", "of something else", backend_features=1 << 20)
"""


@pytest.mark.parametrize(
    ("name", "switches"),
    [
        ("mainline", "mainline"),
        ("live-update-v1", "live-update-v1"),
        ("live-update-v2", "live-update-v2+lu-advertise"),
        ("live-update-fixed", "live-update-fixed"),
    ],
)
def test_devices_offer_a_series_that_does_not_see_to_it(name: str, switches: str) -> None:
    assert offering(series_name(name)) == switches


def test_what_a_series_does_not_know_is_not_offered(tmp_path: Path) -> None:
    assert offering(series_name(written(tmp_path, OTHER))) == "my-other"


def test_switches_are_taken_as_they_are_and_a_file_for_its_series(tmp_path: Path) -> None:
    path = written(tmp_path, MENDED)
    assert [column(one) for one in ("mainline", "live-update-v2", "live-update-v1-F3", "my-v3")] == [
        "mainline",
        "live-update-v2",
        "live-update-v1-F3",
        "my-v3",
    ]
    assert column(path) == "my-v3+lu-advertise"
    assert column(f"{path}+lu-guard-resume") == "my-v3+lu-advertise+lu-guard-resume"
    assert column(f"{path}-lu-advertise") == "my-v3-lu-advertise"
    with pytest.raises(ScenarioError, match="neither a series nor a file"):
        column(f"{path}x.py")
