"""What kernel, ABI, seed and device a test has: marker, then command line, then ini file.

Theory. A marker is part of the test: what it names is not up for choice, and options give the rest. Of several markers
the closest to the function wins, keyword by keyword. Several kernels, in the marker, on the command line or in the ini
file, are several runs of the test; one kernel changes no node id. A series is put on all of them, those of markers too:
it asks what the same tests say of another kernel. Whatever is wrong is a ValueError of one line.
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pytest

KERNEL = "vdpasim_kernel"
"""The fixture that tests are parametrized with."""

DEFAULT_KERNEL = "tip"

KEYWORDS = {
    "kernel": "a profile string, or a list of them",
    "abi": "a string",
    "seed": "a number",
    "device": "a management device (a string), or keywords of vdpa.dev_add() (a dict)",
    "expect": "an id, or a list of them",
    "options": "a dict",
    "extensions": "a string, or a list of them",
    "faults": "a string, or a list of them",
}
"""What the marker takes."""


class Settings(NamedTuple):
    """The machine of one test."""

    kernel: str = DEFAULT_KERNEL
    abi: str = "x86_64"
    seed: int = 0
    device: str | dict[str, Any] = "vdpasim_net"
    expect: frozenset[str] = frozenset()
    options: dict[str, int | bool] = {}  # noqa: RUF012 - only read
    extensions: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    series: str = ""
    """What was put on the kernel, a name or a file."""


# -------------------------------------------------------------------------------------------------------------- marker


def marked(node: pytest.Item | pytest.Collector) -> dict[str, Any]:
    """The keywords of the markers, the closest first; not checked yet."""
    merged: dict[str, Any] = {}
    for mark in node.iter_markers("vdpasim"):
        merged = {**mark.kwargs, **merged}
    return merged


def is_list(value: object) -> bool:
    """Whether it is several."""
    return isinstance(value, list | tuple)


def parametrized(node: pytest.Item | pytest.Collector) -> bool:
    """Whether the test brings its kernels by a parametrize mark."""
    names: list[Any] = [next(iter(mark.args), ()) for mark in node.iter_markers("parametrize")]
    return any(KERNEL in (name.replace(" ", "").split(",") if isinstance(name, str) else name) for name in names)


def check_marker(node: pytest.Item | pytest.Collector) -> None:
    """Refuse what the marker does not have.

    Raises:
        ValueError: a positional argument, an unknown keyword, a value of the wrong type.
    """
    for mark in node.iter_markers("vdpasim"):
        if mark.args:
            raise ValueError(f"takes keywords only, not {mark.args[0]!r}; there are {', '.join(KEYWORDS)}")
        for key, value in mark.kwargs.items():
            if key not in KEYWORDS:
                near = difflib.get_close_matches(key, KEYWORDS, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(KEYWORDS)}"
                raise ValueError(f"unknown keyword {key!r}; {hint}")
            if not _fits(key, value):
                raise ValueError(f"{key}={value!r}: it takes {KEYWORDS[key]}")


def _fits(key: str, value: object) -> bool:
    match key:
        case "seed":
            return isinstance(value, int)
        case "abi":
            return isinstance(value, str)
        case "options":
            return isinstance(value, Mapping)
        case "device":
            return isinstance(value, str | Mapping)
        case _:
            words = _words(value) if isinstance(value, str | list | tuple | set | frozenset) else (value,)
            return bool(words or key != "kernel") and all(isinstance(word, str) for word in words)


def _words(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


# ------------------------------------------------------------------------------------------------------------- options


def configured(config: pytest.Config) -> tuple[str, ...]:
    """The kernels of the command line, or else of the ini file."""
    return tuple(config.option.vdpasim_kernel or config.getini("vdpasim_kernel"))


def series(config: pytest.Config) -> str:
    """The series that is put on every kernel; a file by its whole path."""
    given: str = config.option.vdpasim_series or ""
    written = str(config.getini("vdpasim_series"))
    file = config.rootpath / written
    return given or (str(file) if written and file.is_file() else written)


def _under(config: pytest.Config, kernels: tuple[str, ...]) -> tuple[str, ...]:
    # kernels with the series in the place of theirs
    given = series(config)
    if not given:
        return kernels
    from vdpasim.scenario.series_file import on_kernels  # noqa: PLC0415 - only who names a series needs it

    return tuple(on_kernels(kernels, given))


def seed(config: pytest.Config) -> int:
    """The seed of tests that do not name one.

    Raises:
        ValueError: the ini file's is no number.
    """
    given: int | None = config.option.vdpasim_seed
    text = str(config.getini("vdpasim_seed"))
    try:
        return int(text, 0) if given is None else given
    except ValueError:
        raise ValueError(f"vdpasim_seed = {text!r} is no number") from None


def trace_dir(config: pytest.Config) -> Path | None:
    """Where traces go."""
    given: str | None = config.option.vdpasim_trace_dir
    if given:
        return Path(given)
    written = str(config.getini("vdpasim_trace_dir"))
    return config.rootpath / written if written else None


def check_options(config: pytest.Config) -> None:
    """Refuse a wrong option; without options nothing is imported.

    Raises:
        ValueError: no such kernel or series, an ini value that is no number.
    """
    seed(config)
    _check_series(series(config))
    for kernel in configured(config):
        _check_kernel(kernel)


def _check_series(given: str) -> None:
    if not given:
        return
    from vdpasim.scenario.loader import ScenarioError  # noqa: PLC0415 - only who names a series needs them
    from vdpasim.scenario.series_file import series_name  # noqa: PLC0415

    try:
        series_name(given)
    except ScenarioError as error:
        raise ValueError(str(error)) from None


def _check_kernel(kernel: str) -> None:
    from vdpasim.core import profiles  # noqa: PLC0415 - only who names a kernel needs it

    profiles.parse(kernel)


# ---------------------------------------------------------------------------------------------------------------- both


def kernels(config: pytest.Config, given: dict[str, Any]) -> tuple[str, ...]:
    """The kernels a test with these keywords runs on."""
    value = given.get("kernel")
    bare = _words(value) if _fits("kernel", value) else configured(config) or (DEFAULT_KERNEL,)
    try:
        return _under(config, bare)
    except ValueError:
        return bare  # one of them is none: the test says so


def resolve(request: pytest.FixtureRequest, kernel: str) -> Settings:
    """The machine of the test that asks.

    Raises:
        ValueError: the marker.
    """
    node: pytest.Item = request.node
    check_marker(node)
    given = marked(node)
    _check_kernel(kernel)
    (kernel,) = _under(request.config, (kernel,))
    device = given.get("device", "vdpasim_net")
    return Settings(
        kernel,
        given.get("abi", "x86_64"),
        given.get("seed", seed(request.config)),
        device if isinstance(device, str) else dict(device),
        frozenset(_words(given.get("expect", ()))),
        dict(given.get("options", {})),
        _words(given.get("extensions", ())),
        _words(given.get("faults", ())),
        series(request.config),
    )


def rerun(node: pytest.Item, found: Settings, schedule: str = "") -> str:
    """The command that runs a test again as it ran.

    A list of kernels is repeated, since it is part of the node id.
    """
    config = node.config
    several = () if "kernel" in marked(node) else configured(config)
    file, colons, name = node.nodeid.partition("::")
    here = os.path.relpath(config.rootpath / file, config.invocation_params.dir)
    words = ["pytest", here + colons + name]
    for kernel in several or (found.kernel,):
        words += ["--vdpasim-kernel", kernel]
    if found.series:
        file = os.path.relpath(found.series, config.invocation_params.dir)
        words += ["--vdpasim-series", file if Path(found.series).is_file() else found.series]
    words += ["--vdpasim-seed", str(found.seed)]
    if schedule:
        words += ["--vdpasim-schedule", schedule]
    return shlex.join(words)
