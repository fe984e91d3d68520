"""Finding device models: paths, modules, classes, and what a broken one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.devices.model import DeviceModel
from vdpasim.devices.model_loader import DeviceModelError, load
from vdpasim.sim import Simulator, UsageError

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
from vdpasim.devices.model import DeviceModel


class First(DeviceModel):
    device_id = 4

    def handle_queue(self, queue):
        for request in queue:
            request.write(b"x")
"""
SECOND = "\n\nclass Second(First):\n    pass\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def refusal(spec: str | Path) -> str:
    with pytest.raises(DeviceModelError) as caught:
        load(spec)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestFinding:
    def test_a_path(self, file: Path) -> None:
        model = load(file)
        assert issubclass(model, DeviceModel)
        assert model.__name__ == "First"

    def test_a_path_as_text_with_a_class(self, file: Path) -> None:
        file.write_text(GOOD + SECOND)
        assert load(f"{file}:Second").__name__ == "Second"

    def test_a_module(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(file.parent)
        assert load("mine").__name__ == "First"
        assert load("mine:First") is load("mine")

    def test_an_imported_class_is_not_the_file_s_own(self, file: Path) -> None:
        assert load(file).__name__ == "First"


class TestRefusals:
    def test_no_such_file(self, tmp_path: Path) -> None:
        path = tmp_path / "absent.py"
        assert refusal(path) == f"{path}: no such file"

    def test_a_file_without_the_ending(self, tmp_path: Path) -> None:
        path = tmp_path / "model.txt"
        path.write_text(GOOD)
        assert refusal(path) == f"{path}: not a Python file"

    def test_no_such_module(self) -> None:
        assert refusal("nosuchmodule") == "nosuchmodule: no such module (a file is given as ./nosuchmodule.py)"

    def test_a_syntax_error_has_its_line(self, file: Path) -> None:
        file.write_text("x = 1\n\nclass (:\n")
        assert refusal(file).startswith(f"{file}:3: SyntaxError: ")

    def test_an_error_at_import_has_its_line(self, file: Path) -> None:
        file.write_text("import os\n\n\ndef f():\n    return 1 // 0\n\n\nf()\n")
        assert refusal(file) == f"{file}:5: ZeroDivisionError: integer division or modulo by zero"

    def test_an_import_of_what_is_not_there_has_its_line(self, file: Path) -> None:
        file.write_text("import os\nimport nosuchmodule\n")
        assert refusal(file) == f"{file}:2: ModuleNotFoundError: No module named 'nosuchmodule'"

    def test_an_error_in_a_module_has_file_and_line(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (file.parent / "broken_model.py").write_text("x = 1\nimport nosuchmodule\n")
        (file.parent / "wrong_model.py").write_text("x = 1\nx.y\n")
        monkeypatch.syspath_prepend(file.parent)
        assert refusal("broken_model") == f"{file.parent}/broken_model.py:2: No module named 'nosuchmodule'"
        assert refusal("wrong_model").startswith(f"{file.parent}/wrong_model.py:2: AttributeError: ")

    def test_a_program_that_exits(self, file: Path) -> None:
        file.write_text("raise SystemExit(3)\n")
        assert refusal(file) == f"{file}:1: SystemExit: 3"

    def test_no_model_in_it(self, file: Path) -> None:
        file.write_text("from vdpasim.devices.model import DeviceModel\n")
        assert refusal(file) == f"{file}: there is no class that is a vdpasim.devices.model.DeviceModel"

    def test_more_than_one(self, file: Path) -> None:
        file.write_text(GOOD + SECOND)
        assert refusal(file) == f"{file}: there is 2 device models (First, Second); name one: {file}:First"

    def test_another_one_than_was_named(self, file: Path) -> None:
        assert refusal(f"{file}:Third") == f"{file}: no device model called Third; there is First"

    def test_they_reach_the_user_as_wrong_usage(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such file"):
            Simulator().vdpa.dev_add("dev", model=tmp_path / "absent.py")
