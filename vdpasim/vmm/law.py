"""Linear laws of counts, fitted to runs in exact arithmetic.

Theory. What a sequence of calls costs, counted in messages or pages, grows with what it is about: so much at any size,
so much for each entry, so much for each page. :func:`fit` finds these numbers by least squares, in fractions, so that
nothing is rounded: a count that obeys such a law is met in every run and the *residual*, the largest distance of a run
from the law, is 0. One that does not obey says so by its residual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import attrs

Values = Mapping[str, int]
"""Name of a variable -> its value."""
CONSTANT = ""
"""The variable that is always 1."""


@attrs.frozen
class Law:
    """``a + b*entries + c*pages``, as numbers by the name of the variable."""

    factors: dict[str, Fraction]
    residual: Fraction
    """The largest distance of a run from the law; 0: all runs obey it."""

    def at(self, values: Values) -> Fraction:
        """What the law says for these values."""
        return sum((factor * _value(values, name) for name, factor in self.factors.items()), Fraction(0))

    def __str__(self) -> str:
        """``2 + 72 entries``; behind a law that does not hold, how far off it is."""
        terms = [_term(factor, name) for name, factor in self.factors.items() if factor]
        text = " + ".join(terms).replace("+ -", "- ") or "0"
        return f"{text} (off by up to {_number(self.residual)})" if self.residual else text


def _value(values: Values, name: str) -> int:
    return values[name] if name else 1


def _term(factor: Fraction, name: str) -> str:
    if not name:
        return _number(factor)
    return name if factor == 1 else f"{_number(factor)} {name}"


def _number(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.4g}"


def fit(variables: Sequence[str], runs: Sequence[tuple[Values, int]]) -> Law:
    """The law that is nearest to the counts of the runs.

    Raises:
        ValueError: the runs do not tell the variables apart.
    """
    names = [CONSTANT, *variables]
    rows = [[_value(values, name) for name in names] for values, _ in runs]
    counts = [count for _, count in runs]
    normal = [
        [Fraction(sum(row[i] * row[j] for row in rows)) for j in range(len(names))]
        + [Fraction(sum(row[i] * count for row, count in zip(rows, counts, strict=True)))]
        for i in range(len(names))
    ]
    factors = dict(zip(names, _solve(normal), strict=True))
    law = Law(factors, Fraction(0))
    worst = max((abs(law.at(values) - count) for values, count in runs), default=Fraction(0))
    return attrs.evolve(law, residual=worst)


def _solve(matrix: list[list[Fraction]]) -> list[Fraction]:
    # Gauss and Jordan; the last column is the right side
    size = len(matrix)
    for column in range(size):
        pivot = next((row for row in range(column, size) if matrix[row][column]), None)
        if pivot is None:
            raise ValueError("the runs do not tell the variables apart: give more sizes, and small ones")
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        matrix[column] = [value / matrix[column][column] for value in matrix[column]]
        for row in range(size):
            if row != column and matrix[row][column]:
                times = matrix[row][column]
                matrix[row] = [a - times * b for a, b in zip(matrix[row], matrix[column], strict=True)]
    return [row[-1] for row in matrix]
