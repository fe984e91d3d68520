"""Where a scenario says for which values of its parameters its verdict holds, it holds for them."""

from __future__ import annotations

import inspect
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vdpasim.scenario.loader import Found, load
from vdpasim.scenario.runner import run

ROOT = Path(__file__).parents[2] / "scenarios"
STORIES = [found for found in load([ROOT]) if found.scenario.domain]


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(STORIES), st.data())
def test_the_verdict_holds_in_the_whole_domain(found: Found, data: st.DataObject) -> None:
    kernel = data.draw(st.sampled_from(found.scenario.kernels))
    chosen = {name: str(data.draw(st.sampled_from(values))) for name, values in found.scenario.domain.items()}
    (verdict,) = run(found, kernel=kernel, settings=chosen)
    assert verdict.passed, f"{verdict.rerun}: {verdict.line}"


def test_every_word_is_of_a_domain() -> None:
    """A parameter that takes words says which: all others are refused."""
    for found in load([ROOT]):
        parameters = inspect.signature(found.scenario.body).parameters.items()
        words = {name for name, one in parameters if isinstance(one.default, str)}
        assert words <= set(found.scenario.domain), found.ident


def test_a_default_is_in_the_domain() -> None:
    for found in STORIES:
        parameters = inspect.signature(found.scenario.body).parameters
        for name, values in found.scenario.domain.items():
            assert parameters[name].default in values, f"{found.ident}: {name}"
