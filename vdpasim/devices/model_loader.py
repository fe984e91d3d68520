"""Finding a user's device model: a file, or a module that can be imported (no kernel file).

Theory. ``./entropy.py`` is a path, ``mypackage.devices`` a module; either may go on with ``:Class`` where there is more
than one. A file is imported anew each time it is named, under a name of its own, and leaves nothing in
``sys.modules``. What goes wrong in it is one line with file and line number, because the file is the user's and the
traceback of this loader would only be in the way.
"""

from __future__ import annotations

import importlib
import importlib.util
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from vdpasim.devices.model import DeviceModel

if TYPE_CHECKING:
    from types import ModuleType


class DeviceModelError(ValueError):
    """A model cannot be loaded; the message names the file, the line and the reason."""


def load(spec: str | Path) -> type[DeviceModel]:
    """The model that ``file.py``, ``file.py:Class``, ``package.module`` or ``package.module:Class`` names.

    Raises:
        DeviceModelError: no such file or module, an error in it, or no class, or several to choose from.
    """
    text = str(spec)
    place, _, name = text.rpartition(":") if ":" in text else (text, "", "")
    is_file = isinstance(spec, Path) or place.endswith(".py") or "/" in place
    module = _from_file(Path(place)) if is_file else _from_module(place)
    return _chosen(module, place, name)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise DeviceModelError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(f"vdpasim_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DeviceModelError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise DeviceModelError(f"{_where(error, path)}: {type(error).__name__}: {_told(error)}") from error
    return module


def _from_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise DeviceModelError(f"{name}: no such module (a file is given as ./{name}.py)") from None
        raise DeviceModelError(f"{_where(error, None) or name}: {_told(error)}") from error
    except Exception as error:
        raise DeviceModelError(f"{_where(error, None) or name}: {type(error).__name__}: {_told(error)}") from error


def _where(error: BaseException, path: Path | None) -> str:
    # file:line of the mistake: of the syntax error, or of the last frame that is in the file
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    inside = [frame for frame in frames if path is not None and Path(frame.filename) == path.absolute()] or frames
    last = inside[-1] if inside else None
    if last is None or last.filename == __file__:
        return str(path or "")
    return f"{path if path is not None else last.filename}:{last.lineno}"


def _told(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())


def _chosen(module: ModuleType, place: str, name: str) -> type[DeviceModel]:
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, DeviceModel) and value.__module__ == module.__name__
    }
    if name:
        if name not in found:
            there = ", ".join(found) or "none"
            raise DeviceModelError(f"{place}: no device model called {name}; there is {there}")
        return found[name]
    if len(found) != 1:
        what = f"{len(found)} device models ({', '.join(found)}); name one: {place}:{next(iter(found))}" if found else (
            "no class that is a vdpasim.devices.model.DeviceModel"
        )
        raise DeviceModelError(f"{place}: there is {what}")
    return next(iter(found.values()))
