"""Trace files, and what a report says of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from vdpasim.pytest_plugin.report import NAME_MAX, file_stem

if TYPE_CHECKING:
    from tests.pytest_plugin.support import Suite


def test_a_file_name_can_be_read_and_is_nobody_elses() -> None:
    stem = file_stem("tests/net/test_a.py::TestB::test_c[6.12+live-update-v1-x/y]")
    assert stem.startswith("tests-net-test_a.py-TestB-test_c-6.12+live-update-v1-x-y.")
    assert file_stem("a/b.py::c") != file_stem("a-b.py::c")
    assert not file_stem("../../etc/x.py::y").startswith(".")
    assert len(file_stem("x" * 1000)) < NAME_MAX + 20


def test_a_trace_is_written_whole_and_named_in_a_failure(suite: Suite) -> None:
    suite.tests("""
        def test_it(vhost_net):
            for _ in range(50):
                vhost_net.sync.get_features()

        def test_bad(vhost_net):
            raise AssertionError(vhost_net.sync.set_owner())
    """)
    shown = suite.run("--vdpasim-trace-dir", "deep/traces")
    assert shown.outcomes == {"passed": 1, "failed": 1}
    assert shown.section("vdpasim trace file").startswith(str(suite.path / "deep/traces/test_it.py-test_bad."))
    traces = {path.name.rsplit(".", 2)[0]: path.read_text("utf-8") for path in (suite.path / "deep/traces").iterdir()}
    assert len(traces["test_it.py-test_it"].splitlines()) == 52
    assert "VHOST_SET_OWNER" in traces["test_it.py-test_bad"]


RESTING = """
    import pytest

    async def body(sim):
        file = await sim.process("vmm").open("/dev/vhost-net")
        await file.ioctl(0xAF01)

    @pytest.mark.vdpasim(faults="VHOST_SET_OWNER:1:drop")
    def test_machine(vdpasim):
        vdpasim.run(body)

    @pytest.mark.vdpasim(faults="VHOST_SET_OWNER:1:drop")
    def test_campaign(explore):
        explore(body)

    @pytest.mark.vdpasim(faults="VHOST_SET_OWNER:1:drop")
    def test_failure(vdpasim):
        vdpasim.run(body)
        assert 0

    def test_confirmed(vdpasim):
        vdpasim.run(body)
"""


def test_what_a_test_rests_on_is_a_property_and_stands_in_a_failure(suite: Suite) -> None:
    suite.tests(RESTING)
    shown = suite.run("--junitxml=junit.xml")
    assert shown.outcomes == {"passed": 3, "failed": 1}, shown.text
    assert shown.section("vdpasim rests on what no kernel confirms") == "vdpasim's own: fault.injected\n"
    cases = ET.parse(suite.path / "junit.xml").getroot().iter("testcase")
    named = {
        str(case.get("name")): [row.get("value") for row in case.iter("property") if row.get("name") == UNCONFIRMED]
        for case in cases
    }
    own = ["vdpasim's own: fault.injected"]
    assert named == {"test_machine": own, "test_campaign": own, "test_failure": own, "test_confirmed": []}


UNCONFIRMED = "vdpasim.unconfirmed"


def test_rules_are_heard_of_only_while_a_test_has_its_machine(suite: Suite) -> None:
    suite.tests("""
        from vdpasim.core import rules

        def test_it(vdpasim):
            assert len(rules._observers) == 1

        def test_behind_it():
            assert rules._observers == []
    """)
    assert suite.run().outcomes == {"passed": 2}
