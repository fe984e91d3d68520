"""The command group: what is listed, what is loaded, how it ends."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys

import click
import pytest

from vdpasim import cli


def vdpasim(*words: str) -> subprocess.CompletedProcess[str]:
    program = "from vdpasim.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)


def test_help_lists_every_command() -> None:
    shown = vdpasim("--help")
    assert shown.returncode == 0
    assert cli.cli.list_commands(click.Context(cli.cli)) == list(cli.COMMANDS)
    assert all(summary in shown.stdout for summary in cli.COMMANDS.values())


def test_every_module_is_a_command_and_the_other_way_round() -> None:
    modules = {found.name for found in pkgutil.iter_modules(cli.__path__)}
    assert modules == set(cli.COMMANDS)
    assert all(cli.cli.get_command(click.Context(cli.cli), name) for name in modules)
    assert cli.cli.get_command(click.Context(cli.cli), "teleport") is None


def test_wrong_usage_exits_2() -> None:
    assert vdpasim("teleport").returncode == 2
    assert vdpasim("abi", "--teleport").returncode == 2


def test_a_command_is_imported_when_it_is_called() -> None:
    program = "import sys, vdpasim.cli; print([name for name in sys.modules if name.startswith('vdpasim.c')])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['vdpasim.cli']"


class TestEnding:
    def end(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> object:
        def fail(**keys: object) -> None:
            raise error

        monkeypatch.setattr(cli.cli, "main", fail)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code

    def test_an_internal_error_exits_3_with_its_traceback(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.end(monkeypatch, ZeroDivisionError("oops")) == 3
        shown = capsys.readouterr().err
        assert "ZeroDivisionError: oops" in shown
        assert "a bug of vdpasim" in shown

    def test_an_interrupt_exits_130(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.end(monkeypatch, KeyboardInterrupt()) == 130
        assert self.end(monkeypatch, click.exceptions.Abort()) == 130

    def test_the_exit_code_of_a_command_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cli.cli, "main", lambda **keys: 1)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 1


def test_a_reader_that_leaves_is_no_error() -> None:
    source, sink = os.pipe()
    os.close(source)
    program = "import sys; from vdpasim.cli import main; sys.argv = ['vdpasim', '--help']; main()"
    done = subprocess.run([sys.executable, "-c", program], stdout=sink, stderr=subprocess.PIPE, check=False)
    os.close(sink)
    assert (done.returncode, done.stderr) == (0, b"")
