"""Finding scenarios in files and folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.scenario.loader import ScenarioError, load

if TYPE_CHECKING:
    from pathlib import Path

STORY = '''"""Doc."""
from vdpasim.scenario import scenario


@scenario()
async def {name}(sim):
    """{name}"""
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two stories, a helper that is none, and a subfolder."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.py").write_text(STORY.format(name="second"))
    (tmp_path / "a.py").write_text(STORY.format(name="first") + STORY.format(name="also"))
    (tmp_path / "_helper.py").write_text("raise RuntimeError")
    (tmp_path / "sub" / "c.py").write_text(STORY.format(name="third"))
    return tmp_path


def test_a_folder_gives_its_stories_in_the_order_of_names(folder: Path) -> None:
    assert [found.scenario.name for found in load([folder])] == ["first", "also", "second", "third"]


def test_one_story_of_a_file_can_be_named(folder: Path) -> None:
    (found,) = load([f"{folder / 'a.py'}::also"])
    assert found.ident == f"{folder / 'a.py'}::also"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.py", None, "no such file or folder"),
        ("broken.py", "def (", "SyntaxError"),
        ("raising.py", "raise ValueError('mine')", "ValueError: mine"),
        ("empty.py", "x = 1", "no scenario in"),
        ("notes.txt", "x", "not a Python file"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_the_reason(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ScenarioError, match=message):
        load([tmp_path / name])


def test_a_name_that_is_not_in_the_file_is_nothing_found(folder: Path) -> None:
    with pytest.raises(ScenarioError, match="no scenario in"):
        load([f"{folder / 'a.py'}::nobody"])
