"""Laws from counts: exact where there is one, and honest where there is none."""

from __future__ import annotations

from fractions import Fraction

import pytest

from vdpasim.vmm.law import fit

SHAPES = [{"entries": e, "pages": p} for e, p in ((1, 1), (10, 10), (10, 40), (1000, 1000))]


def runs(law: str) -> list[tuple[dict[str, int], int]]:
    return [(shape, eval(law, {}, shape)) for shape in SHAPES]


@pytest.mark.parametrize(
    ("law", "text"),
    [
        ("7", "7"),
        ("0", "0"),
        ("entries", "entries"),
        ("144 + 72 * entries", "144 + 72 entries"),
        ("3 + 2 * entries + pages", "3 + 2 entries + pages"),
        ("pages - 2 * entries", "-2 entries + pages"),
        ("pages * 3 - 5", "-5 + 3 pages"),
    ],
)
def test_a_law_is_found_exactly(law: str, text: str) -> None:
    found = fit(["entries", "pages"], runs(law))
    assert str(found) == text
    assert found.residual == 0
    big = {"entries": 1 << 40, "pages": 1 << 52}
    assert found.at(big) == eval(law, {}, big)


def test_what_is_no_law_says_how_far_off_it_is() -> None:
    found = fit(["entries", "pages"], [*runs("entries * entries"), ({"entries": 500, "pages": 500}, 250000)])
    assert found.residual > 1000
    assert "off by up to" in str(found)


def test_the_nearest_law_is_the_one_of_least_squares() -> None:
    found = fit(["n"], [({"n": 0}, 0), ({"n": 1}, 1), ({"n": 2}, 5)])
    assert found.factors == {"": Fraction(-1, 2), "n": Fraction(5, 2)}
    assert found.residual == 1


def test_runs_that_do_not_tell_variables_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="more sizes"):
        fit(["entries", "pages"], [({"entries": n, "pages": n}, n) for n in (1, 2, 3)])
    with pytest.raises(ValueError, match="more sizes"):
        fit(["n"], [])
