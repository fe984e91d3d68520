"""The IOTLB against a plain SortedDict and PyPI's intervaltree, and against itself as it grows.

* *pages*: n mappings of 4 KiB, every 16th page a hole, in a random order, each leading elsewhere; find asks for 64
  random bytes, translate for as many, translate3 for 12 KiB, iter64 for all mappings of 256 KiB, pair unmaps a page and
  maps it again.
* *overlap*: n mappings at random starts, nine of ten 4 KiB, the others 64 KiB and 1 MiB; pair removes what contains the
  first byte of a mapping and adds that mapping.
* *retire*: additions to a full table that drops its oldest entry.
* *fused*: add_exclusive() against itree_first() and add_range().
* *growth*: pages of ours alone, n = 1e2 to 1e6, in units of n = 1e2.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

from bench.ab import Experiment, Goal, Measures, timed
from bench.peers import DictTable, Table, TreeTable, iotlb, iotlb_searching_twice
from vdpasim.core.vhost.iotlb import Iotlb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAGE = 4096
RW = 3

TREE = "intervaltree"
DICT = "SortedDict"
MAKERS: dict[str, Callable[[], Table]] = {
    "Iotlb": iotlb,
    TREE: lambda: TreeTable().table(),
    DICT: lambda: DictTable().table(),
}


def _pages(n: int, chance: random.Random) -> list[int]:
    numbers = [number for number in range(n + n // 15 + 1) if number % 16 != 15][:n]
    chance.shuffle(numbers)
    return [number * PAGE for number in numbers]


def each(call: Callable[..., object], arguments: Sequence[tuple[int, ...]]) -> float:
    """Nanoseconds of one call, over prepared arguments."""

    def work() -> None:
        for one in arguments:
            call(*one)

    return timed(work, len(arguments))


def filled(tables: list[Table], adds: list[Callable[..., object]], maps: Sequence[tuple[int, ...]]) -> Measures:
    """Fill several tables in one go, so that small ones take long enough to be measured."""

    def fill() -> None:
        for add in adds:
            for one in maps:
                add(*one)

    return {"add": timed(fill, len(maps) * len(tables))}


def pages(make: Callable[[], Table], n: int, operations: int) -> Measures:
    """All operations on a table of n pages; ``operations`` of each, the additions apart."""
    chance = random.Random(n)
    starts, targets = _pages(n, chance), _pages(n, chance)
    maps = [(start, start + PAGE - 1, target, RW) for start, target in zip(starts, targets, strict=True)]
    tables = [make() for _ in range(max(1, 2000 // n))]
    measures = filled(tables, [table.add for table in tables], maps)
    table = tables[0]
    again = chance.choices(maps, k=operations)
    asked = [start + chance.randrange(PAGE - 64) for start, *_ in again]

    def pair() -> None:
        add, remove = table.add, table.remove
        for start, last, target, perm in again:
            remove(start, last)
            add(start, last, target, perm)

    measures["find"] = each(table.find, [(at, at + 63) for at in asked])
    measures["translate"] = each(table.translate, [(at, 64, 1) for at in asked])
    measures["translate3"] = each(table.translate, [(at, 3 * PAGE, 1) for at in asked])
    measures["iter64"] = each(table.overlaps, [(at, at + 64 * PAGE - 1) for at in asked])
    measures["pair"] = timed(pair, operations)
    return measures


def overlap(make: Callable[[], Table], n: int, operations: int) -> Measures:
    """The operations that vhost-net needs, with mappings that overlap."""
    chance = random.Random(n)
    sizes = chance.choices([PAGE, 16 * PAGE, 256 * PAGE], [90, 9, 1], k=n)
    starts = [chance.randrange(n * PAGE) for _ in sizes]
    maps = [(start, start + size - 1, start, RW) for start, size in zip(starts, sizes, strict=True)]
    tables = [make() for _ in range(max(1, 2000 // n))]
    measures = filled(tables, [table.add_any for table in tables], maps)
    table = tables[0]
    asked = chance.choices(starts, k=operations)
    again = chance.choices(maps, k=operations)

    def pair() -> None:
        # What contains the first byte goes, the mapping comes back alone: fewer and fewer overlaps, for all candidates.
        add, remove = table.add_any, table.remove
        for start, last, target, perm in again:
            remove(start, start)
            add(start, last, target, perm)

    measures["find"] = each(table.find, [(at, at + 63) for at in asked])
    measures["iter64"] = each(table.overlaps, [(at, at + 64 * PAGE - 1) for at in asked])
    measures["pair"] = timed(pair, operations)
    return measures


def retire_ours(n: int) -> Measures:
    """Additions to a full table of n entries."""
    table = Iotlb(n, retire=True)
    starts = _pages(4 * n, random.Random(n))
    for start in starts[:n]:
        table.add_range(start, start + PAGE - 1, start, RW)

    def more() -> None:
        for start in starts[n:]:
            table.add_range(start, start + PAGE - 1, start, RW)

    return {"add": timed(more, 3 * n)}


def retire_dict(n: int) -> Measures:
    """The same with a SortedDict by start, and a plain dict for the order of insertion."""
    maps: SortedDict[int, tuple[int, int, int]] = SortedDict()
    order: dict[int, None] = {}
    starts = _pages(4 * n, random.Random(n))
    for start in starts[:n]:
        maps[start] = (start + PAGE - 1, start, RW)
        order[start] = None

    def more() -> None:
        for start in starts[n:]:
            oldest = next(iter(order))
            del order[oldest], maps[oldest]
            maps[start] = (start + PAGE - 1, start, RW)
            order[start] = None

    return {"add": timed(more, 3 * n)}


def fused(make: Callable[[], Table], n: int) -> Measures:
    """Only the additions."""
    return {"add": pages(make, n, 1)["add"]}


# (peer, n, operation): t(peer) / t(ours) at least
ASKED: dict[tuple[str, int], dict[str, float]] = {
    (TREE, 100): {"find": 10, "add": 20, "pair": 20},
    (TREE, 10_000): {"find": 10, "add": 150, "pair": 150},
}
GUARDED: dict[tuple[str, int], dict[str, float]] = {
    (TREE, 100): {"translate": 3, "translate3": 4, "iter64": 50},
    (TREE, 10_000): {"translate": 3, "translate3": 4, "iter64": 80},
    (DICT, 100): {"find": 2, "add": 1.5, "translate": 1, "translate3": 1.5, "iter64": 8, "pair": 1.5},
    (DICT, 10_000): {"find": 2, "add": 1.5, "translate": 1, "translate3": 1.5, "iter64": 8, "pair": 1.5},
}
OVERLAP_GUARDED = {"add": 2, "find": 7, "iter64": 10, "pair": 2}
GROWTH_AT_MOST: dict[int, dict[str, float]] = {
    1_000: {"add": 3, "find": 3, "translate": 3, "pair": 3},
    10_000: {"add": 4, "find": 4, "translate": 4, "pair": 4},
    100_000: {"add": 8, "find": 8, "translate": 8, "pair": 8},
    1_000_000: {"add": 20, "find": 20, "translate": 20, "pair": 20},
}


def _goals(n: int) -> list[Goal]:
    asked = [Goal(peer, op, at) for (peer, size), ops in ASKED.items() if size == n for op, at in ops.items()]
    guards = [
        Goal(peer, op, at, source="guard")
        for (peer, size), ops in GUARDED.items()
        if size == n
        for op, at in ops.items()
    ]
    return asked + guards


def _growth() -> Experiment:
    sizes = [100, *GROWTH_AT_MOST]
    goals = [
        Goal(f"n={size}", operation, at_most=most, source="guard")
        for size, operations in GROWTH_AT_MOST.items()
        for operation, most in operations.items()
    ]
    candidates = {f"n={size}": partial(pages, iotlb, size, 2000) for size in sizes}
    return Experiment("growth", candidates, goals, rounds=3)


def experiments() -> list[Experiment]:
    """All of them."""
    found = []
    for n, operations in ((100, 2000), (10_000, 500)):
        candidates = {name: partial(pages, make, n, operations) for name, make in MAKERS.items()}
        found.append(Experiment(f"pages n={n}", candidates, _goals(n)))
    for n in (100, 10_000):
        candidates = {name: partial(overlap, MAKERS[name], n, 500) for name in ("Iotlb", TREE)}
        goals = [Goal(TREE, operation, at, source="guard") for operation, at in OVERLAP_GUARDED.items()]
        found.append(Experiment(f"overlap n={n}", candidates, goals))
    found.append(
        Experiment(
            "retire n=2048",
            {"Iotlb": partial(retire_ours, 2048), "SortedDict + dict": partial(retire_dict, 2048)},
        )
    )
    for n in (100, 10_000):
        twice = "itree_first, add_range"
        candidates = {"Iotlb": partial(fused, iotlb, n), twice: partial(fused, iotlb_searching_twice, n)}
        found.append(Experiment(f"fused n={n}", candidates, [Goal(twice, "add", 1.0, source="guard")]))
    return [*found, _growth()]
