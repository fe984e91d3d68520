"""Cases made for tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.conform.cases import parse_case

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.conform.cases import Case


def _step(op: str, ret: int = 0, errno: str | int = 0, **keys: Any) -> dict[str, Any]:
    renamed = {key.rstrip("_"): value for key, value in keys.items()}
    return {"op": op, **renamed, "ret": ret, "errno": errno}


@pytest.fixture
def step() -> Callable[..., dict[str, Any]]:
    """Makes the JSON object of a step; a trailing underscore of a key (``from_``) is dropped."""
    return _step


@pytest.fixture
def case() -> Callable[..., Case]:
    """Makes a case from steps."""

    def make(*steps: dict[str, Any], dev: str = "vhost-vdpa-net", kernel: str = "6.12.117", **keys: Any) -> Case:
        data = {"case": "c", "topic": "t", "dev": dev, "kernel": kernel, "steps": list(steps), **keys}
        return parse_case(json.dumps(data), "file:1")

    return make
