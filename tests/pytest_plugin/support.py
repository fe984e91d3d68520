"""A test suite of somebody who uses the plugin: files in a folder, run by a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

INSTALLED = bool(entry_points(group="pytest11", name="vdpasim"))
"""Whether pytest finds the plugin by itself; a checkout that is only on the path has no entry point."""

PLUGIN = [] if INSTALLED else ["-p", "vdpasim.pytest_plugin"]

OUTSIDE = ("CI", "BUILD_NUMBER", "COLUMNS", "FORCE_COLOR", "PY_COLORS", "PYTEST_ADDOPTS")
"""Variables of the outer run that change what a pytest prints: under CI the short summary is not cut to the line."""

INI = "[pytest]\nxfail_strict = true\nfilterwarnings = error\n"


class Shown(NamedTuple):
    """What a run printed."""

    code: int
    text: str
    outcomes: dict[str, int]

    def section(self, title: str) -> str:
        """The body of the first section with this title."""
        found = re.search(rf"^-+ {re.escape(title)} -+\n(.*?)(?=^[-=_]{{5}})", self.text, re.MULTILINE | re.DOTALL)
        return found[1] if found else ""


class Suite:
    """The folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file("pytest.ini", INI)

    def file(self, name: str, text: str) -> None:
        (self.path / name).write_text(textwrap.dedent(text), encoding="utf-8")

    def tests(self, text: str) -> None:
        """The only test file."""
        self.file("test_it.py", text)

    def run(self, *words: str) -> Shown:
        strict = ["--strict-markers", "--strict-config", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-q", *PLUGIN, *strict, *words]
        environment = {name: value for name, value in os.environ.items() if name not in OUTSIDE}
        done = subprocess.run(command, cwd=self.path, capture_output=True, text=True, check=False, env=environment)
        text = done.stdout + done.stderr
        last = [line for line in text.splitlines() if re.search(r"\d+ (passed|failed|error)", line)][-1:]
        counts = re.findall(r"(\d+) ([a-z]+)", last[0]) if last else []
        return Shown(done.returncode, text, {what.rstrip("s"): int(number) for number, what in counts})
