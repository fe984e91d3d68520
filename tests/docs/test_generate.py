"""The generated pages are those the code's tables give now."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def generate(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # a process of its own: in this one, tests may have added rules
    program = [sys.executable, str(root / "docs" / "generate.py"), *words]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def test_pages_are_fresh(root: Path) -> None:
    done = generate(root, "--check")
    assert done.returncode == 0, f"run `python -m docs.generate`: {done.stdout}{done.stderr}"


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root / "docs", tmp_path / "docs")
    shutil.copy(root / "README.md", tmp_path)
    (tmp_path / "tests").symlink_to(root / "tests")
    generate(tmp_path)
    return tmp_path


def test_a_stale_page_is_named_and_left_alone_by_a_check(copy: Path) -> None:
    page = copy / "docs" / "rules.md"
    page.write_text("# Rules\n", "utf-8")
    done = generate(copy, "--check")
    assert (done.returncode, done.stdout) == (1, "docs/rules.md: stale\n")
    assert page.read_text("utf-8") == "# Rules\n"


def test_a_stale_page_is_written(copy: Path) -> None:
    fresh = (copy / "docs" / "profiles.md").read_text("utf-8")
    (copy / "docs" / "profiles.md").unlink()
    done = generate(copy)
    assert (done.returncode, done.stdout) == (0, "docs/profiles.md: written\n")
    assert (copy / "docs" / "profiles.md").read_text("utf-8") == fresh


def test_a_number_in_the_readme_is_brought_up_to_date(copy: Path) -> None:
    readme = copy / "README.md"
    fresh = readme.read_text("utf-8")
    readme.write_text(fresh.replace("| 602 of 602 |", "| 1 of 602 |", 1), "utf-8")
    assert generate(copy).returncode == 0
    assert readme.read_text("utf-8") == fresh


def test_a_readme_without_its_table_is_refused(copy: Path) -> None:
    readme = copy / "README.md"
    readme.write_text(readme.read_text("utf-8").replace("<!-- agreement -->", ""), "utf-8")
    assert "has lost the marks" in generate(copy).stderr
