"""Stored answers of the compiler, and the compiler itself."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

HERE = Path(__file__).parent


@cache
def _golden(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((HERE / "golden" / f"{name}.json").read_text())
    return loaded


@pytest.fixture
def stored() -> Callable[[str], dict[str, Any]]:
    """Loads what the compiler said about an ABI, or ``constants``."""
    return _golden


@pytest.fixture(scope="session")
def compiler() -> ModuleType:
    """``compiler.py``, by its path: the tests may run in an empty directory."""
    spec = importlib.util.spec_from_file_location("vdpasim_test_compiler", HERE / "compiler.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
