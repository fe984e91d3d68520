"""``--series``: a patch series by name or from a file, put on whatever kernel a scenario runs on.

Theory. A file is Python and holds one :class:`~vdpasim.core.series.Series`, in a variable of any name. Loading it
registers the series, so that its name is a switch like any other; a file is registered once, however often it is
named. On a scenario's profile string the series takes the place of the one that is there, if any: with ``--series
./my_v3.py`` a story that runs on ``6.12+live-update-v1`` runs on ``6.12+my-v3``, and a story that runs on two series
runs once. Where the devices of the one offered its features, because it says so or ``lu-advertise`` does, those of the
other do: a series that advertises nothing would else be compared by its refusals. Where there is no story to go by, in
``matrix`` and ``downtime``, devices offer what the series knows.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vdpasim.core import series
from vdpasim.core.profiles import IMPLIED, parse
from vdpasim.core.series import Series
from vdpasim.scenario.loader import ScenarioError
from vdpasim.uapi.vhost_types import VHOST_BACKEND_F_IOTLB_REMAP, VHOST_BACKEND_F_NEW_OWNER

if TYPE_CHECKING:
    from collections.abc import Iterable

ADVERTISE = "lu-advertise"
MAINLINE = "mainline"
"""The name of no series at all."""

OFFERED = 1 << VHOST_BACKEND_F_NEW_OWNER | 1 << VHOST_BACKEND_F_IOTLB_REMAP
"""The backend features that ``lu-advertise`` lets devices offer."""

_loaded: dict[Path, str] = {}


def series_name(given: str) -> str:
    """The name of a series that is known, or that a file brings; registered when this returns.

    Raises:
        ScenarioError: no such series or file, an error in the file, no series in it or several, a name that is taken.
    """
    series.load()
    if given in series.SERIES or given == MAINLINE:
        return given
    path = Path(given)
    if not os.path.isfile(given):  # noqa: PTH113 - Path.is_file() raises for a name that is too long
        known = ", ".join([MAINLINE, *series.SERIES])
        raise ScenarioError(f"{given}: neither a series nor a file; the series are {known}")
    path = path.resolve()
    if path not in _loaded:
        one = _from_file(path, given)
        try:
            series.register(one)
        except ValueError as error:
            raise ScenarioError(f"{given}: {error}") from None
        _loaded[path] = one.name
    return _loaded[path]


def _from_file(path: Path, given: str) -> Series:
    spec = importlib.util.spec_from_file_location(f"vdpasim_series_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ScenarioError(f"{given}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # its classes look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        told = " ".join(str(error).split())
        raise ScenarioError(f"{given}: {type(error).__name__}: {told}") from error
    shipped = list(series.SERIES.values())
    own = {one.name: one for one in vars(module).values() if isinstance(one, Series) and one not in shipped}
    if len(own) != 1:
        there = ", ".join(own) or "none"
        raise ScenarioError(f"{given}: a file holds one series of its own; here is {there}")
    (one,) = own.values()
    if one.name == MAINLINE:
        raise ScenarioError(f"{given}: {MAINLINE!r} is the name of no series at all")
    return one


def on_kernel(kernel: str, name: str) -> str:
    """A profile string with this series in the place of the others."""
    others = sorted([*series.SERIES, ADVERTISE], key=len, reverse=True)
    bare = re.sub(rf"\+({'|'.join(map(re.escape, others))})(?=[+-]|$)", "", kernel)
    if name == MAINLINE:
        return bare
    offered = ADVERTISE in parse(kernel) and ADVERTISE not in IMPLIED.get(name, ())
    return f"{bare}+{name}+{ADVERTISE}" if offered else f"{bare}+{name}"


def offering(name: str) -> str:
    """The switches that turn a series on, on devices that offer it: ``my-v3+lu-advertise``.

    Devices offer NEW_OWNER and REMAP if a switch says so; a series that does not know them is not asked for.
    """
    known = series.SERIES[name].backend_features if name in series.SERIES else 0
    if not known & OFFERED or ADVERTISE in IMPLIED.get(name, ()):
        return name
    return f"{name}+{ADVERTISE}"


def column(given: str) -> str:
    """Switches as they were given, or FILE.py with more switches behind it: those of its series, which devices offer.

    Raises:
        ScenarioError: as :func:`series_name` does.
    """
    found = re.fullmatch(r"(.+\.py)([+-].*)?", given)
    if found is None:
        return given
    name, more = series_name(found[1]), found[2] or ""
    return (name if ADVERTISE in more else offering(name)) + more


def on_kernels(kernels: Iterable[str], given: str) -> list[str]:
    """The profile strings of a scenario with a series as it was given, each once; without one as they are.

    Raises:
        ScenarioError: as :func:`series_name` does.
        ProfileError: a profile string that is none.
    """
    if not given:
        return list(kernels)
    name = series_name(given)
    return list(dict.fromkeys(on_kernel(kernel, name) for kernel in kernels))


def flag(given: str) -> str:
    """The end of a command that names a series, if there is one."""
    return f" --series {shlex.quote(given)}" if given else ""
