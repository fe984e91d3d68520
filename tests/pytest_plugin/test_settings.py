"""Marker, options and ini file: who wins, what is refused, what the command of a failure names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.pytest_plugin.support import Suite

KERNELS = """
    import pytest

    def test_any(vdpasim, vdpasim_kernel):
        assert vdpasim.kernel.switches.spec == vdpasim_kernel
        print(f"any {vdpasim_kernel} {vdpasim.seed}")

    @pytest.mark.vdpasim(kernel="6.12", seed=3)
    def test_marked(vdpasim):
        print(f"marked {vdpasim.kernel.switches.spec} {vdpasim.seed}")

    @pytest.mark.vdpasim(kernel=["7.1", "tip-F4"])
    def test_several(vdpasim):
        print(f"several {vdpasim.kernel.switches.spec} {vdpasim.seed}")

    @pytest.mark.parametrize("vdpasim_kernel", ["7.1"])
    def test_own(vhost_vdpa):
        print(f"own {vhost_vdpa.process.sim.kernel.switches.spec}")

    def test_without():
        print("without")
"""


def told(suite: Suite, *words: str) -> list[str]:
    shown = suite.run("-s", *words)
    assert shown.code == 0, shown.text
    names = ("any", "marked", "several", "own", "without")
    return [line.lstrip(".") for line in shown.text.splitlines() if line.lstrip(".").startswith(names)]


def test_options_give_what_markers_do_not_name(suite: Suite) -> None:
    suite.tests(KERNELS)
    marked = ["marked 6.12 3", "several 7.1 {}", "several tip-F4 {}", "own 7.1", "without"]
    assert told(suite) == ["any tip 0", *(line.format(0) for line in marked)]
    one = told(suite, "--vdpasim-kernel", "6.1", "--vdpasim-seed", "5")
    assert one == ["any 6.1 5", *(line.format(5) for line in marked)]
    two = told(suite, "--vdpasim-kernel", "6.1", "--vdpasim-kernel", "tip")
    assert two == ["any 6.1 0", "any tip 0", *(line.format(0) for line in marked)]


def test_the_ini_file_gives_defaults(suite: Suite) -> None:
    suite.file("pytest.ini", "[pytest]\nvdpasim_kernel =\n    6.1\n    6.12\nvdpasim_seed = 9\nvdpasim_trace_dir = t\n")
    suite.tests(KERNELS)
    assert told(suite, "-k", "any") == ["any 6.1 9", "any 6.12 9"]
    assert told(suite, "-k", "any", "--vdpasim-kernel", "tip", "--vdpasim-seed", "1") == ["any tip 1"]
    assert len(list((suite.path / "t").iterdir())) == 3


def test_the_closest_marker_wins_word_by_word(suite: Suite) -> None:
    suite.tests("""
        import pytest

        @pytest.mark.vdpasim(kernel="6.1", seed=1)
        class TestIt:
            @pytest.mark.vdpasim(seed=2, options={"use_va": 0})
            def test_it(self, vdpasim):
                assert (vdpasim.kernel.switches.spec, vdpasim.seed) == ("6.1", 2)
                assert vdpasim.vdpa.options == {"use_va": 0}
    """)
    assert suite.run().outcomes == {"passed": 1}


def test_the_command_of_a_failure_selects_that_test(suite: Suite) -> None:
    suite.tests("""
        import pytest

        @pytest.mark.parametrize("a", ["x y"])
        def test_any(vdpasim, a):
            assert 0

        @pytest.mark.vdpasim(kernel=["7.1"])
        def test_listed(vdpasim):
            assert 0
    """)
    several = ("--vdpasim-kernel", "6.1", "--vdpasim-kernel", "tip")
    shown = suite.run(*several, "-k", "any and tip")
    expected = "pytest 'test_it.py::test_any[tip-x y]' --vdpasim-kernel 6.1 --vdpasim-kernel tip --vdpasim-seed 0\n"
    assert shown.section("vdpasim rerun") == expected
    assert suite.run("test_it.py::test_any[tip-x y]", *several).outcomes == {"failed": 1}
    shown = suite.run("-k", "listed")
    expected = "pytest 'test_it.py::test_listed[7.1]' --vdpasim-kernel 7.1 --vdpasim-seed 0\n"
    assert shown.section("vdpasim rerun") == expected
    assert suite.run("test_it.py::test_listed[7.1]", "--vdpasim-kernel", "7.1").outcomes == {"failed": 1}


def test_the_command_is_for_the_folder_pytest_was_called_in(suite: Suite) -> None:
    (suite.path / "sub").mkdir()
    suite.file("sub/test_it.py", "def test_it(vdpasim):\n    assert 0\n")
    suite.path = suite.path / "sub"
    shown = suite.run()
    assert shown.section("vdpasim rerun").startswith("pytest test_it.py::test_it ")


class TestRefusals:
    @pytest.mark.parametrize("words", [(), ("-n", "2")])
    def test_an_unknown_kernel_on_the_command_line_ends_the_run(self, suite: Suite, words: tuple[str, ...]) -> None:
        suite.tests(KERNELS)
        shown = suite.run("--vdpasim-kernel", "6.13", *words)
        assert shown.code == 4
        error = "ERROR: vdpasim: no kernel profile in '6.13': did you mean 6.1, 6.12, 7.1?"
        assert shown.text.strip() == error

    def test_so_does_a_wrong_ini_value(self, suite: Suite) -> None:
        suite.file("pytest.ini", "[pytest]\nvdpasim_seed = many\n")
        suite.tests(KERNELS)
        assert suite.run().text.strip() == "ERROR: vdpasim: vdpasim_seed = 'many' is no number"

    def test_a_wrong_marker_is_one_line(self, suite: Suite) -> None:
        suite.tests("""
            import pytest

            @pytest.mark.parametrize("words", [
                pytest.param(None, marks=pytest.mark.vdpasim(kernel="6.13")),
                pytest.param(None, marks=pytest.mark.vdpasim(kernel=[])),
                pytest.param(None, marks=pytest.mark.vdpasim(kernels="6.1")),
                pytest.param(None, marks=pytest.mark.vdpasim(teleport=1)),
                pytest.param(None, marks=pytest.mark.vdpasim("6.1")),
                pytest.param(None, marks=pytest.mark.vdpasim(seed="1")),
                pytest.param(None, marks=pytest.mark.vdpasim(abi="z80")),
                pytest.param(None, marks=pytest.mark.vdpasim(faults="what?")),
                pytest.param(None, marks=pytest.mark.vdpasim(kernel=["6.1", "tip"])),
                pytest.param(None, marks=pytest.mark.vdpasim(device="vdpasim_nut")),
                pytest.param(None, marks=pytest.mark.vdpasim(device={"profile": "nut"})),
            ])
            def test_it(words, vhost_vdpa):
                pass
        """)
        shown = suite.run()
        assert shown.outcomes == {"error": 11}
        assert "Traceback" not in shown.text
        assert "another exception" not in shown.text
        lines = [line for line in shown.text.splitlines() if line.startswith("vdpasim: ")]
        assert len(lines) == 11
        for line, words in zip(
            lines,
            (
                "no kernel profile in '6.13': did you mean",
                "kernel=[]: it takes a profile string, or a list of them",
                "unknown keyword 'kernels'; did you mean 'kernel'?",
                "unknown keyword 'teleport'; there are kernel, abi,",
                "takes keywords only, not '6.1'",
                "seed='1': it takes a number",
                "unknown ABI 'z80'",
                "what?",
                "there are several kernels, so",
                "device='vdpasim_nut': ",
                "device={'profile': 'nut'}: ",
            ),
            strict=True,
        ):
            assert words in line
