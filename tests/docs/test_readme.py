"""The README and the pages of docs/: their files are written, their commands are run, what they print is compared.

A block behind ``<!-- file: NAME -->`` is saved under that name. In a ``console`` block a line that begins with ``$`` is
run, in a folder with those files and the repository's ``tests`` and ``scenarios``; what follows must be its output,
where ``...`` stands for anything, and ``# exits N`` names an exit code other than 0.
"""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.pytest_plugin.support import PLUGIN

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("conform", "diagnose", "downtime", "explore", "faults", "live-update", "matrix", "pytest", "traces")
PAGES = ["README.md", *(f"docs/{name}.md" for name in NAMES)]
"""Pages with commands."""

FILE = re.compile(r"<!-- file: (\S+) -->\n```(?:python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+?)\)")

PROGRAMS = {
    "vdpasim": [sys.executable, "-c", "from vdpasim.cli import main; main()"],
    "python": [sys.executable],
    "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *PLUGIN],
}


class Command(NamedTuple):
    """A command of a page."""

    line: str
    output: str
    code: int


def commands(text: str) -> list[Command]:
    found: list[Command] = []
    for block in CONSOLE.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            exits = re.search(r"# exits (\d+)", line)
            found.append(Command(line, output, int(exits[1]) if exits else 0))
    return found


def agrees(expected: str, got: str) -> bool:
    return doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS)


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    for name in ("tests", "scenarios"):
        (tmp_path / name).symlink_to(root / name)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_commands_print_what_the_page_says(page: str, root: Path, folder: Path) -> None:
    text = (root / page).read_text("utf-8")
    for name, content in FILE.findall(text):
        (folder / name).write_text(content, "utf-8")
    todo = commands(text)
    assert todo
    for command in todo:
        program, *words = shlex.split(command.line, comments=True)
        done = subprocess.run([*PROGRAMS[program], *words], cwd=folder, capture_output=True, text=True, check=False)
        shown = f"$ {command.line}\n{done.stdout}{done.stderr}"
        assert done.returncode == command.code, shown
        assert agrees(command.output, done.stdout), f"the page says:\n{command.output}\nbut it is:\n{shown}"


def test_make_targets_of_the_readme_exist(root: Path) -> None:
    named = set(re.findall(r"(?:`|^    )make ([a-z]+)", (root / "README.md").read_text("utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= named
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert named <= targets


def test_links_lead_to_files(root: Path) -> None:
    # vhost-vdpa-miss.md is the only page that is written elsewhere
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    dead = {
        f"{page.name}: {link}"
        for page in pages
        for link in LINK.findall(page.read_text("utf-8"))
        if not link.startswith("http") and not (page.parent / link).exists()
    }
    assert dead == set()


def test_every_page_is_in_the_index(root: Path) -> None:
    index = LINK.findall((root / "docs" / "README.md").read_text("utf-8"))
    assert {path.name for path in (root / "docs").glob("*.md")} - {"README.md"} <= set(index)


def test_the_readme_says_what_no_trace_judges(root: Path) -> None:
    """Profiles without a set of recordings are named there."""
    text = (root / "README.md").read_text("utf-8")
    paragraph = text.partition("**What no trace judges.**")[2].partition("\n## ")[0]
    for word in ("`7.1`", "`tip`", "i386", "big-endian", "concurrency", "`vhost-vdpa+miss`"):
        assert word in paragraph


class TestTheReader:
    """The checks above can fail."""

    def test_finds_commands_outputs_and_exit_codes(self) -> None:
        text = "```console\n$ a b    # exits 3\none\ntwo\n$ c\n```\n\n```console\n$ d\n```\n"
        assert commands(text) == [
            Command("a b    # exits 3", "one\ntwo\n", 3),
            Command("c", "", 0),
            Command("d", "", 0),
        ]

    @pytest.mark.parametrize(
        ("expected", "got", "same"),
        [
            ("one\n", "one\n", True),
            ("one\n", "two\n", False),
            ("one\n", "one\ntwo\n", False),
            ("one\n...\n", "one\ntwo\nthree\n", True),
            ("a ... c\n", "a b c\n", True),
            ("a ... c\n", "a b d\n", False),
        ],
    )
    def test_dots_stand_for_anything_and_nothing_else_does(self, expected: str, got: str, same: bool) -> None:
        assert agrees(expected, got) is same
