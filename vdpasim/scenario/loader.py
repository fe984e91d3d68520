"""Finding scenarios: paths to files and folders in, :class:`Scenario` objects out, in the order of names."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from vdpasim.scenario import Scenario
from vdpasim.sim.errors import VdpasimError

if TYPE_CHECKING:
    from collections.abc import Iterable


class ScenarioError(VdpasimError):
    """A scenario file cannot be loaded; the message names the file and the reason."""


@attrs.frozen
class Found:
    """A scenario and where it stands."""

    path: Path
    scenario: Scenario

    @property
    def ident(self) -> str:
        """``file.py::name``, as users name it."""
        return f"{self.path}::{self.scenario.name}"


def load(paths: Iterable[str | Path]) -> list[Found]:
    """Every scenario of the files and folders given; a folder is searched for ``*.py`` without a leading underscore.

    Raises:
        ScenarioError: no such path, a file that does not import, or nothing found at all.
    """
    found: list[Found] = []
    for path in paths:
        name = None
        target = Path(path)
        if "::" in str(path):
            file, _, name = str(path).partition("::")
            target = Path(file)
        if not target.exists():
            raise ScenarioError(f"{target}: no such file or folder")
        files = sorted(p for p in target.rglob("*.py") if not p.name.startswith("_")) if target.is_dir() else [target]
        for file_path in files:
            found += [one for one in _load_file(file_path) if name is None or one.scenario.name == name]
    if not found:
        raise ScenarioError(f"no scenario in {', '.join(map(str, paths))}")
    return found


def _load_file(path: Path) -> list[Found]:
    spec = importlib.util.spec_from_file_location(f"vdpasim_scenario_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ScenarioError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        told = " ".join(str(error).split())
        raise ScenarioError(f"{path}: {type(error).__name__}: {told}") from error
    own = (value for value in vars(module).values() if isinstance(value, Scenario))
    return [Found(path, story) for story in own if story.body.__module__ == module.__name__]
