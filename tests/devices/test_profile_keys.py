"""The kinds of value a profile's keys have: reading, refusing, writing."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.devices import profile_keys as kinds
from vdpasim.devices.profile_keys import U64_MAX, Kind


def there_and_back(kind: Kind, value: Any) -> Any:
    return kind.read(tomllib.loads(f"x = {kind.show(value)}")["x"])


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_can_be_quoted(text: str) -> None:
    assert there_and_back(kinds.TEXT, text) == text


@given(st.integers(0, U64_MAX))
def test_integers_of_64_bits_are_text_where_toml_has_none(value: int) -> None:
    assert there_and_back(kinds.U64, value) == value
    assert kinds.U64.show(value).startswith('"') is (value > kinds.S64_MAX)


@given(st.binary(max_size=200))
def test_bytes(data: bytes) -> None:
    assert there_and_back(kinds.BYTES, data) == data


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (kinds.FLAG, True),
        (kinds.number(0, 9), 9),
        (kinds.numbers(0, 9), (1, 2, 3)),
        (kinds.POWER, 32768),
        (kinds.POWERS, (1, 2, 64)),
        (kinds.RANGES, ((0, 3), (7, 7))),
        (kinds.IOVA_RANGE, (0, U64_MAX)),
        (kinds.BACKEND, 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 63),
        (kinds.choice("a", "b"), "b"),
    ],
)
def test_the_others(kind: Kind, value: Any) -> None:
    assert there_and_back(kind, value) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (kinds.FLAG, 0),
        (kinds.TEXT, 7),
        (kinds.number(1, 9), 0),
        (kinds.number(1, 9), 10),
        (kinds.number(1, 9), True),
        (kinds.number(1, 9), 1.0),
        (kinds.number(1, 9), "one"),
        (kinds.numbers(1, 9), 3),
        (kinds.POWER, 0),
        (kinds.POWER, 3),
        (kinds.BYTES, "0g"),
        (kinds.BYTES, [256]),
        (kinds.BYTES, "00" * (kinds.CONFIG_MAX + 1)),
        (kinds.RANGES, [[1]]),
        (kinds.RANGES, [[2, 1]]),
        (kinds.IOVA_RANGE, [0, U64_MAX + 1]),
        (kinds.BACKEND, ["SUSPEND"]),
        (kinds.BACKEND, [8]),
        (kinds.BACKEND, [64]),
        (kinds.choice("a", "b"), "c"),
    ],
)
def test_what_is_not_allowed(kind: Kind, value: Any) -> None:
    try:
        kind.read(value)
    except ValueError:
        return
    pytest.fail("it was read")
