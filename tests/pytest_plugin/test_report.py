"""Names of trace files."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
