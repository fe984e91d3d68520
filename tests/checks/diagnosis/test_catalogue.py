"""The catalogue is whole."""

from __future__ import annotations

from vdpasim.checks.diagnosis.catalogue import CATALOGUE, PARTLY, UNTELLABLE


def test_every_number_has_a_line() -> None:
    assert list(CATALOGUE) == list(range(1, 65))


def test_what_is_not_told_has_a_reason_and_is_not_told_in_part() -> None:
    assert UNTELLABLE.keys() | PARTLY.keys() <= CATALOGUE.keys()
    assert not UNTELLABLE.keys() & PARTLY.keys()
