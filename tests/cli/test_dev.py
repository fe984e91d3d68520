"""``vdpasim dev``: capture and profiles."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vdpasim.cli import dev
from vdpasim.devices.profile import load
from vdpasim.sim import Simulator
from vdpasim.vmm.transport import NowaitTransport


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    result = CliRunner().invoke(dev.command, list(arguments), standalone_mode=False)
    if isinstance(result.exception, click.ClickException):
        return result.exception.exit_code, result.stdout, result.exception.format_message()
    if result.exception is not None:
        raise result.exception
    return result.exit_code or (result.return_value or 0), result.stdout, result.stderr


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A character device behind which there is a simulated one."""
    sim = Simulator("6.12")
    file = sim.process("vmm").open_nowait(sim.vdpa.dev_add("dev", mgmtdev="vdpasim_blk").path)
    monkeypatch.setattr(dev, "SYSFS", tmp_path)
    monkeypatch.setattr(dev, "FdTransport", lambda fd: NowaitTransport(file))
    return os.devnull


class TestCapture:
    def test_needs_a_yes_and_says_why(self, node: str) -> None:
        code, out, err = run("capture", node)
        assert (code, out) == (2, "")
        assert "RESETS the device" in err

    def test_prints_a_profile(self, node: str) -> None:
        code, out, err = run("capture", "--yes", node)
        assert code == 0
        assert out.startswith(f'source = "captured from {node}"\ndevice_id = 2\n')
        assert "is being reset" in err

    def test_as_owner_learns_groups(self, node: str) -> None:
        assert "\nqueue_groups = [0]\n" in run("capture", "--yes", "--owner", node)[1]
        assert "# queue_groups = unknown" in run("capture", "--yes", node)[1]

    def test_writes_a_file_that_makes_a_device(self, node: str, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        code, out, err = run("capture", "--yes", "-o", str(path), node)
        assert (code, out) == (0, "")
        assert "8 keys are unknown" in err
        assert Simulator().vdpa.dev_add("dev", profile=path).device.device_id == 2

    def test_a_file_that_cannot_be_written(self, node: str, tmp_path: Path) -> None:
        code, _, err = run("capture", "--yes", "-o", str(tmp_path / "no" / "x.toml"), node)
        assert (code, err) == (1, f"{tmp_path}/no/x.toml: No such file or directory")


class TestWrongPaths:
    def test_nothing_there(self, tmp_path: Path) -> None:
        code, _, err = run("capture", "--yes", str(tmp_path / "vhost-vdpa-0"))
        assert code == 1
        assert "there is no such device; is vhost_vdpa loaded" in err

    def test_no_character_device(self, tmp_path: Path) -> None:
        code, _, err = run("capture", "--yes", str(tmp_path))
        assert (code, err) == (1, f"{tmp_path}: not a character device; it should be something like /dev/vhost-vdpa-0")

    def test_a_character_device_of_another_kind_is_not_even_opened(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        found = Path(os.devnull).stat().st_rdev
        (tmp_path / "null").mkdir()
        (tmp_path / f"{os.major(found)}:{os.minor(found)}").symlink_to(tmp_path / "null")
        monkeypatch.setattr(dev, "SYSFS", tmp_path)
        monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
        code, _, err = run("capture", "--yes", os.devnull)
        assert (code, err) == (1, f"{os.devnull}: no vhost-vdpa device; the kernel calls it null")

    def test_one_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(dev, "SYSFS", tmp_path)
        code, _, err = run("capture", "--yes", os.devnull)
        assert code == 1
        assert "GET_DEVICE_ID: Inappropriate ioctl for device; is it a vhost-vdpa device" in err

    @pytest.mark.parametrize(("errno", "words"), [(16, "somebody has it open"), (13, "you may not"), (5, "Input")])
    def test_one_that_cannot_be_opened(
        self, node: str, monkeypatch: pytest.MonkeyPatch, errno: int, words: str
    ) -> None:
        def refuse(path: str, flags: int) -> int:
            raise OSError(errno, os.strerror(errno))

        monkeypatch.setattr(os, "open", refuse)
        code, _, err = run("capture", "--yes", node)
        assert code == 1
        assert words in err


class TestProfiles:
    def test_are_listed_with_their_source(self) -> None:
        code, out, _ = run("profiles")
        assert code == 0
        assert "mlx5-like          public documents, not hardware\n" in out

    def test_one_is_printed_as_it_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "again.toml"
        path.write_text(run("profiles", "mlx5-like")[1])
        assert load(path) == load("mlx5-like")

    def test_a_wrong_one_is_told(self) -> None:
        code, _, err = run("profiles", "mlx5")
        assert (code, err) == (1, "mlx5: no such profile; did you mean mlx5-like?")
