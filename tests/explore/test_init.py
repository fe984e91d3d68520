"""The public names of the explorer."""

from __future__ import annotations

import inspect

import vdpasim.explore as public


def test_every_public_name_is_there() -> None:
    assert all(hasattr(public, name) for name in public.__all__)


def test_explore_takes_what_test_suites_pass() -> None:
    parameters = inspect.signature(public.explore).parameters
    wanted = ["kernel", "abi", "strategy", "schedules", "depth", "preemptions", "seed", "options", "extensions"]
    assert list(parameters)[1 : len(wanted) + 1] == wanted
