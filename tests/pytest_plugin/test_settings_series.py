"""A series is put on the kernel of every test: which one, in which processes, and in the command of a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.explore.bodies import AS_POSTED, MENDED

if TYPE_CHECKING:
    from tests.pytest_plugin.support import Suite

TESTS = """
    import pytest

    from vdpasim.vmm.live_update import LiveUpdate, LiveVmm

    async def unbatched(sim):
        with sim.calm():
            disk = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk")
            vmm = await LiveVmm.boot(sim.process("vmm"), disk.path, blocks=2)
            await LiveUpdate(vmm, batched=False).run()

    def test_any(vdpasim, vdpasim_kernel):
        assert vdpasim.kernel.switches.spec == vdpasim_kernel
        print(f"any {vdpasim_kernel}")

    @pytest.mark.vdpasim(kernel=["6.12+live-update-v1", "6.12+live-update-v2+lu-advertise"])
    def test_listed(vdpasim):
        print(f"listed {vdpasim.kernel.switches.spec}")

    @pytest.mark.parametrize("vdpasim_kernel", ["7.1+live-update-v1"])
    def test_own(vdpasim):
        print(f"own {vdpasim.kernel.switches.spec}")

    @pytest.mark.vdpasim(kernel="6.12+live-update-v2+lu-advertise")
    def test_story(vdpasim):
        vdpasim.run(unbatched)

    @pytest.mark.vdpasim(kernel="6.12+live-update-v2+lu-advertise")
    def test_explored(explore):
        explore(unbatched, schedules=4)
"""


@pytest.fixture
def series(suite: Suite) -> Suite:
    suite.tests(TESTS)
    suite.file("as posted.py", AS_POSTED)
    suite.file("mended.py", MENDED)
    return suite


def told(suite: Suite, *words: str) -> list[str]:
    shown = suite.run("-s", "-k", "any or listed or own", *words)
    assert shown.code == 0, shown.text
    names = ("any", "listed", "own")
    return [line.lstrip(".") for line in shown.text.splitlines() if line.lstrip(".").startswith(names)]


def test_it_takes_the_place_of_the_one_that_is_there(series: Suite) -> None:
    assert told(series, "--vdpasim-series", "live-update-fixed") == [
        "any tip+live-update-fixed",
        "listed 6.12+live-update-fixed",
        "own 7.1+live-update-fixed",
    ]
    assert told(series, "--vdpasim-series", "mainline") == ["any tip", "listed 6.12", "own 7.1"]


def test_a_file_is_seen_from_where_pytest_was_called_or_from_the_root_folder(series: Suite) -> None:
    expected = ["any 6.1+mended", "listed 6.12+mended+lu-advertise", "own 7.1+mended+lu-advertise"]
    assert told(series, "--vdpasim-series", "./mended.py", "--vdpasim-kernel", "6.1") == expected
    series.file("pytest.ini", "[pytest]\nvdpasim_series = mended.py\nvdpasim_kernel = 6.1\n")
    assert told(series) == expected
    (series.path / "sub").mkdir()
    (series.path / "test_it.py").rename(series.path / "sub" / "test_it.py")
    series.path = series.path / "sub"
    assert told(series) == expected


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_what_the_same_tests_say_of_another_series(series: Suite, words: tuple[str, ...]) -> None:
    assert series.run("--vdpasim-series", "mended.py", *words).outcomes == {"passed": 5}
    shown = series.run("--vdpasim-series", "as posted.py", "--junitxml=junit.xml", *words)
    assert shown.outcomes == {"passed": 3, "failed": 2}, shown.text
    assert "iotlb.divergence" in shown.text
    properties = ET.parse(series.path / "junit.xml").getroot().iter("property")
    named = {row.get("value") for row in properties if row.get("name") == "vdpasim.series"}
    assert named == {str(series.path / "as posted.py")}


@pytest.mark.parametrize("test", ["test_story", "test_explored"])
def test_the_command_of_a_failure_names_it(series: Suite, test: str) -> None:
    shown = series.run("--vdpasim-series", "as posted.py", "-k", test)
    rerun = shown.section("vdpasim rerun")
    kernel = "6.12+as-posted+lu-advertise"
    assert rerun.startswith(f"pytest test_it.py::{test} --vdpasim-kernel {kernel} --vdpasim-series 'as posted.py' ")
    again = series.run(f"test_it.py::{test}", "--vdpasim-kernel", kernel, "--vdpasim-series", "as posted.py")
    assert again.outcomes == {"failed": 1}
    assert again.section("vdpasim rerun").split("--vdpasim-schedule")[0] == rerun.split("--vdpasim-schedule")[0]


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_one_that_there_is_not_ends_the_run(series: Suite, words: tuple[str, ...]) -> None:
    shown = series.run("--vdpasim-series", "nothing.py", *words)
    assert shown.code == 4
    assert shown.text.startswith("ERROR: vdpasim: nothing.py: neither a series nor a file; the series are mainline, ")


def test_a_marker_that_names_no_kernel_is_refused_as_ever(suite: Suite) -> None:
    suite.tests("""
        import pytest

        @pytest.mark.vdpasim(kernel=["6.13"])
        def test_it(vdpasim):
            pass
    """)
    shown = suite.run("--vdpasim-series", "mainline")
    assert shown.outcomes == {"error": 1}
    assert "vdpasim: no kernel profile in '6.13'" in shown.text
    assert "Traceback" not in shown.text
