"""What every test run does: hypothesis without wall-clock limits, and the count of kernel rules that were hit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from vdpasim.core import rules, series
from vdpasim.core.profiles import IMPLIED
from vdpasim.core.switches import SWITCHES
from vdpasim.scenario import series_file

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("vdpasim", deadline=None, print_blob=True)
settings.load_profile("vdpasim")

_hit: set[str] = set()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def golden(root: Path) -> Path:
    """The recorded traces."""
    return root / "tests" / "golden"


@pytest.fixture
def registry() -> Iterator[None]:
    """What series of files are registered within a test is forgotten behind it."""
    series.load()
    tables: list[dict[Any, Any]] = [series.SERIES, SWITCHES, rules.RULES, IMPLIED, series_file._loaded]
    saved = [dict(table) for table in tables]
    yield
    for table, before in zip(tables, saved, strict=True):
        table.clear()
        table.update(before)


def pytest_configure(config: pytest.Config) -> None:
    rules.observe(_hit.add)


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A worker of a parallel run hands its hits to the process that prints.
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["rules_hit"] = sorted(_hit)
        output["rules_known"] = sorted(rules.RULES)


_known: set[str] = set()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    output = getattr(node, "workeroutput", {})
    _hit.update(output.get("rules_hit", ()))
    _known.update(output.get("rules_known", ()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    known = _known | set(rules.RULES)
    if known:
        terminalreporter.write_line(f"rules hit: {len(_hit & known)}/{len(known)}")
        missed = sorted(known - _hit)
        if missed and terminalreporter.verbosity > 0:
            terminalreporter.write_line("rules never hit: " + " ".join(missed))
