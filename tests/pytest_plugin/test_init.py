"""The plugin as a user's suite meets it: what it costs, what passes, what fails, with and without other plugins."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pytest_plugin.support import Suite

SYNCHRONOUS = """
    import pytest

    def test_the_machine(vdpasim, vhost_vdpa):
        async def story(sim):
            await vhost_vdpa.set_owner()
            return await vhost_vdpa.get_device_id()

        assert vdpasim.run(story) == 1

    def test_plain_code(vhost_vdpa, vhost_net):
        vhost_vdpa.sync.set_owner()
        assert vhost_vdpa.sync.get_features() and vhost_net.sync.get_features()
        assert vhost_vdpa.process is vhost_net.process
"""

AWAITED = """
    async def test_a_task(vhost_vdpa, vhost_net):
        await vhost_vdpa.set_owner()
        await vhost_net.set_owner()
        assert await vhost_vdpa.get_features()
"""


def test_importing_it_loads_nothing_heavy() -> None:
    program = [sys.executable, "-X", "importtime", "-c", "import vdpasim.pytest_plugin"]
    shown = subprocess.run(program, capture_output=True, text=True, check=True).stderr
    loaded = {line.rpartition("|")[2].strip() for line in shown.splitlines()}
    assert {name for name in loaded if name.startswith("vdpasim")} == {
        "vdpasim",
        "vdpasim.pytest_plugin",
        "vdpasim.pytest_plugin.report",
        "vdpasim.pytest_plugin.settings",
    }
    assert not loaded & {"trio", "sortedcontainers", "attr", "click"}


def test_a_run_that_does_not_use_it_loads_nothing_heavy(suite: Suite) -> None:
    suite.tests("""
        import sys

        def test_nothing():
            assert not {"trio", "sortedcontainers", "vdpasim.core", "vdpasim.sim"} & set(sys.modules)
    """)
    assert suite.run("-p", "no:trio").outcomes == {"passed": 1}


def test_the_entry_point_names_it(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    named = project["entry-points"]["pytest11"]
    assert named == {"vdpasim": "vdpasim.pytest_plugin"}
    assert hasattr(import_module(named["vdpasim"]), "pytest_addoption")


class TestBesideOtherPlugins:
    def test_without_trio(self, suite: Suite) -> None:
        suite.tests(SYNCHRONOUS)
        assert suite.run("-p", "no:trio").outcomes == {"passed": 2}

    def test_with_trio(self, suite: Suite) -> None:
        suite.file("pytest.ini", "[pytest]\nfilterwarnings = error\ntrio_mode = true\n")
        suite.tests(SYNCHRONOUS + AWAITED)
        assert suite.run().outcomes == {"passed": 3}

    def test_in_workers(self, suite: Suite) -> None:
        suite.tests(
            SYNCHRONOUS + "\n    def test_bad(vdpasim):\n        vdpasim.violation('mine.broken', 'it broke')\n"
        )
        shown = suite.run("-n", "2", "--vdpasim-kernel", "6.1", "--vdpasim-kernel", "tip", "--vdpasim-trace-dir", "t")
        assert shown.outcomes == {"failed": 2, "passed": 4}
        assert "mine.broken" in shown.section("vdpasim trace (last 40 events)")
        assert len(list((suite.path / "t").iterdir())) == 6


class TestFindings:
    def test_a_finding_fails_the_test(self, suite: Suite) -> None:
        suite.tests("""
            def test_bad(vdpasim):
                vdpasim.violation("mine.broken", "it broke")
        """)
        shown = suite.run()
        assert shown.outcomes == {"failed": 1}
        assert "vdpasim: mine.broken found\n  [1] mine.broken: it broke\n" in shown.text

    def test_a_finding_can_be_expected(self, suite: Suite) -> None:
        suite.tests("""
            import pytest

            pytestmark = pytest.mark.vdpasim(expect="mine.broken")

            def test_found(vdpasim):
                vdpasim.violation("mine.broken", "it broke")

            @pytest.mark.xfail(reason="it is not there")
            def test_not_found(vdpasim):
                pass

            def test_skipped(vdpasim):
                pytest.skip("what is not judged is not missing")
        """)
        assert suite.run().outcomes == {"passed": 1, "xfailed": 1, "skipped": 1}

    def test_the_checks_find_what_a_real_defect_does(self, suite: Suite) -> None:
        suite.tests("""
            import pytest

            @pytest.mark.vdpasim(kernel="6.12+live-update-v1", expect="iotlb.divergence")
            def test_handover(vdpasim, vhost_vdpa):
                vmm, handle = vhost_vdpa.process, vhost_vdpa.sync
                memfd = vmm.memfd("ram", 4096)
                handle.set_owner()
                handle.set_backend_features(handle.get_backend_features())
                handle.iotlb_update(0x100000, 4096, vmm.mmap(4096, memfd).addr)
                vmm.exec_nowait()
                ram = vmm.mmap(4096, memfd, addr=0x600000000000)
                handle.new_owner()
                handle.iotlb_remap(0x100000, 4096, ram.addr)
        """)
        shown = suite.run()
        assert shown.outcomes == {"passed": 1}, shown.text

    def test_what_is_found_while_fixtures_go_is_an_error(self, suite: Suite) -> None:
        suite.tests("""
            import pytest

            @pytest.fixture
            def late(vdpasim):
                yield
                vdpasim.violation("mine.late", "it broke late")

            def test_good(late):
                pass

            @pytest.mark.vdpasim(faults="kick@nobody:1:drop")
            def test_unfired(vdpasim):
                pass
        """)
        shown = suite.run()
        assert shown.outcomes == {"passed": 1, "failed": 1, "error": 1}
        assert shown.text.count("[1] mine.late: it broke late\n") == 1
        assert "vdpasim: fault.unfired found\n" in shown.text


class TestFailureReport:
    TEST = """
        class TestIt:
            def test_refused(self, vdpasim, vhost_vdpa):
                for _ in range(100):
                    vhost_vdpa.sync.get_features()
                vhost_vdpa.sync.get_vring_base(0)
    """

    def test_shows_events_rules_and_the_command(self, suite: Suite) -> None:
        suite.tests(self.TEST)
        shown = suite.run("--vdpasim-seed", "0x10")
        events = shown.section("vdpasim trace (last 40 events)").splitlines()
        assert len(events) == 40
        assert "ioctl(/dev/vhost-vdpa-0, VHOST_GET_VRING_BASE" in events[-1]
        assert events[-1].endswith("= -1 EPERM  # vhost.owner.perm")
        assert shown.section("vdpasim rules").startswith("vhost.owner.perm  EPERM  vhost.c:vhost_dev_check_owner(): ")
        rerun = "pytest test_it.py::TestIt::test_refused --vdpasim-kernel tip --vdpasim-seed 16\n"
        assert shown.section("vdpasim rerun") == rerun

    def test_leaves_out_frames_of_the_package_unless_asked(self, suite: Suite) -> None:
        suite.tests(self.TEST)
        assert "vmm/handles.py" not in suite.run().text
        assert "vmm/handles.py" in suite.run("--full-trace").text

    def test_is_not_shown_for_tests_without_a_machine(self, suite: Suite) -> None:
        suite.tests("def test_bad():\n    assert 0\n")
        shown = suite.run()
        assert shown.outcomes == {"failed": 1}
        assert "vdpasim" not in shown.text

    def test_findings_before_the_failure_are_listed(self, suite: Suite) -> None:
        suite.tests("""
            def test_bad(vdpasim):
                vdpasim.violation("mine.broken", "it broke")
                assert 0
        """)
        assert suite.run().section("vdpasim findings") == "[1] mine.broken: it broke\n"


def test_properties_are_in_the_junit_file(suite: Suite) -> None:
    suite.tests("""
        import pytest

        @pytest.mark.vdpasim(kernel="6.12", abi="i386", seed=7)
        def test_it(vdpasim, vhost_vdpa):
            assert vhost_vdpa.sync.get_features()
    """)
    for words in ((), ("-n", "1")):
        shown = suite.run("--junitxml=junit.xml", *words)
        assert shown.outcomes == {"passed": 1}, shown.text
        properties = ET.parse(suite.path / "junit.xml").getroot().iter("property")
        assert {one.get("name"): one.get("value") for one in properties} == {
            "vdpasim.kernel": "6.12",
            "vdpasim.abi": "i386",
            "vdpasim.seed": "7",
        }
