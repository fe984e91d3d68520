"""A short fuzz run, and every case that once failed."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import CORPUS
from tests.fuzz.machine import Case

SEEDS = [int(line) for line in CORPUS.read_text(encoding="utf-8").split()]


@pytest.mark.parametrize("block", range(20))
def test_nothing_but_kernel_errnos_comes_out(block: int) -> None:
    for seed in range(50 * block, 50 * block + 50):
        Case(seed).run()


def test_cases_that_failed_once_stay_fixed() -> None:
    for seed in SEEDS:
        Case(seed).run()


def test_a_seed_is_one_case() -> None:
    first, second = Case(4711), Case(4711)
    first.run()
    second.run()
    assert first.log == second.log
