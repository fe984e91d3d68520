"""``python -m tests.fuzz [--minutes N] [--seed S]``: play cases until the time is up; failing seeds go into the
corpus.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz.machine import Case

CORPUS = Path(__file__).parent / "corpus.txt"
"""Seeds of cases that once failed, one a line; the test suite plays them all."""


def main() -> int:
    """Run; the exit status is 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    cases = steps = failed = 0
    while time.monotonic() < until:
        seed = options.seed * 1_000_000_007 + cases
        cases += 1
        case: Case | None = None
        try:
            case = Case(seed)
            steps += case.run()
        except Exception:
            failed += 1
            print(f"seed {seed} failed; the last steps:", *(case.log[-6:] if case else ()), sep="\n  ")
            traceback.print_exc(limit=-6)
            with CORPUS.open("a", encoding="utf-8") as corpus:
                corpus.write(f"{seed}\n")
    print(f"{cases} cases, {steps} steps, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
