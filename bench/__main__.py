"""``python -m bench``: one table of ratios, with the goals.

``--check`` exits 1 where a goal is missed by more than the slack; ``--only WORD`` takes the experiments whose name has
the word; ``--rounds N`` measures N times (5).
"""

from __future__ import annotations

import argparse
import sys

from bench.ab import SLACK, Row, load, run

MODULES = ["explore", "iotlb", "messages", "ring"]
"""Files beside this one that have experiments."""

HEAD = f"{'experiment':<22} {'operation':<12} {'ours':>10}   {'against':<30} {'takes':>10} {'ratio':>8}   goal"


def line(row: Row) -> str:
    """One line of the table; times in nanoseconds."""
    times = f"{row.ours_ns:>10.0f}   {row.peer:<30} {row.peer_ns:>10.0f} {row.ratio:>7.2f}x"
    goal = f"   {row.goal}  {row.verdict}" if row.goal else ""
    return f"{row.experiment:<22} {row.operation:<12} {times}{goal}"


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--check", action="store_true", help=f"fail where a goal is missed more than {SLACK:g} times")
    parser.add_argument("--only", default="", metavar="WORD", help="only experiments whose name has this word")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (5)")
    options = parser.parse_args()
    print("times are CPU nanoseconds for one operation; ratio = theirs / ours, the median over the rounds")
    print(HEAD)
    missed = 0
    for module in MODULES:
        for experiment in load(module):
            if options.only in experiment.name:
                for row in run(module, experiment, options.rounds):
                    print(line(row), flush=True)
                    missed += row.verdict == "MISSED"
    if missed:
        print(f"{missed} goals missed by more than {SLACK:g} times", file=sys.stderr)
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
