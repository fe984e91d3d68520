"""Handlers of named steps: what runs, in which order, and how a copy is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.core.rules import KernelError
from vdpasim.core.series.handler import Handler, IotlbMessage, Request, handler, mainline

if TYPE_CHECKING:
    from collections.abc import Callable

Log = list[str]


def first(log: Log) -> None:
    log.append("first")


def second(log: Log) -> None:
    log.append("second")


def third(log: Log) -> None:
    log.append("third")


def refuse(log: Log) -> None:
    raise KernelError(22, "test.refused")


THREE: Handler[Log] = handler(first, second, third)


def played(one: Handler[Log]) -> Log:
    log: Log = []
    one(log)
    return log


@pytest.mark.parametrize(
    ("changed", "order"),
    [
        (THREE, ["first", "second", "third"]),
        (THREE.without("second"), ["first", "third"]),
        (THREE.moved("first", behind="second"), ["second", "first", "third"]),
        (THREE.moved("third", before="first"), ["third", "first", "second"]),
        (THREE.moved("first"), ["second", "third", "first"]),
        (handler(first).added(second), ["first", "second"]),
        (handler(first, third).added(second, before="third"), ["first", "second", "third"]),
        (handler(first, third).added(second, behind="first"), ["first", "second", "third"]),
    ],
)
def test_steps_run_in_their_order_and_are_named_for_their_functions(changed: Handler[Log], order: Log) -> None:
    assert played(changed) == order
    assert list(changed.names) == order


def test_a_step_that_is_replaced_keeps_its_name() -> None:
    changed = THREE.replaced("second", third)
    assert played(changed) == ["first", "third", "third"]
    assert changed.names == ("first", "second", "third")


def test_the_first_refusal_ends_it() -> None:
    log: Log = []
    with pytest.raises(KernelError):
        handler(first, refuse, third)(log)
    assert log == ["first"]


def test_a_change_makes_a_copy() -> None:
    assert played(THREE.without("first")) == ["second", "third"]
    assert played(THREE) == ["first", "second", "third"]


@pytest.mark.parametrize(
    "change",
    [
        lambda: THREE.without("fourth"),
        lambda: THREE.moved("fourth"),
        lambda: THREE.moved("first", behind="fourth"),
        lambda: THREE.added(first, before="fourth"),
        lambda: THREE.replaced("fourth", first),
    ],
)
def test_a_step_that_is_not_there_is_said_with_those_that_are(change: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"there is no step 'fourth'; there are (first, )?second, third"):
        change()


def test_a_step_goes_before_one_or_behind_one() -> None:
    with pytest.raises(ValueError, match="not both"):
        THREE.moved("first", before="second", behind="third")


def test_mainline_has_nothing_for_what_is_the_series_own() -> None:
    nothing: object = None
    for context in (
        Request(nothing, nothing, nothing, None, {}),  # type: ignore[arg-type]
        IotlbMessage(nothing, nothing, 0, nothing, None, {}),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match="mainline has nothing"):
            mainline(context)
