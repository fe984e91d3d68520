"""The IOTLB against a list that is searched from one side to the other, at the edges of 64 bits above all."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vdpasim.core.rules import KernelError
from vdpasim.core.vhost import iotlb_index
from vdpasim.core.vhost.iotlb import Iotlb, IotlbMap, Translation
from vdpasim.core.vhost.iotlb_index import ExclusiveIndex, OverlapIndex

TOP = 2**64 - 1
HALF = 2**63

edges = st.sampled_from([0, 0x1000, 0x2000, HALF, TOP - 0xFFF, TOP])
near_edges = st.builds(lambda edge, by: min(max(edge + by, 0), TOP), edges, st.integers(-3, 3))
crowded = st.integers(0, 120)
addresses = st.one_of(crowded, crowded, near_edges)
sizes = st.one_of(st.integers(1, 4), st.integers(1, 40), st.sampled_from([0x1000, HALF, TOP]))
lengths = st.one_of(st.integers(0, 60), st.sampled_from([0x1000, 0x3000, 2**32 - 1]))
perms = st.sampled_from([1, 2, 3])

Row = tuple[int, int, int, int, int]
"""(start, last, address, permission, serial)"""


class Model:
    """What the kernel's container does, in its own words: entries in the order they were inserted."""

    def __init__(self, limit: int, *, retire: bool, enforce_limit: bool) -> None:
        self.limit, self.retire, self.enforce_limit = limit, retire, enforce_limit
        self.rows: list[Row] = []
        self.adds = self.retired = self.changes = 0
        self.overlapped = False  # whether any entry ever met another

    def tree(self) -> list[Row]:
        return sorted(self.rows, key=lambda row: (row[0], row[4]))

    def overlaps(self, start: int, last: int) -> list[Row]:
        return [row for row in self.tree() if row[0] <= last and row[1] >= start]

    def add(self, start: int, last: int, addr: int, perm: int) -> str | None:
        """The rule it is refused by, None if it is done."""
        if last < start:
            return "iotlb.add.wraps"
        if self.enforce_limit and self.limit == 0:
            return "iotlb.add.limit-zero"
        halves = [(start, last, addr)]
        if (start, last) == (0, TOP):
            halves = [(0, HALF - 1, addr), (HALF, TOP, (addr + HALF) % 2**64)]
        if self.enforce_limit and not self.retire and len(self.rows) + len(halves) > self.limit:
            return "iotlb.add.full"
        for half in halves:
            if self.retire and self.limit and len(self.rows) == self.limit:
                del self.rows[0]
                self.retired += 1
                self.changes += 1
            self.overlapped |= bool(self.overlaps(half[0], half[1]))
            self.rows.append((*half, perm, self.adds))
            self.adds += 1
            self.changes += 1
        return None

    def remove(self, rows: list[Row]) -> None:
        self.rows = [row for row in self.rows if row not in rows]
        self.changes += len(rows)

    def translate(self, addr: int, length: int, access: int) -> tuple[list[tuple[int, int, int]], str, int | None]:
        """Pieces (serial, address, bytes), and how it ends, where."""
        last = (addr + length - 1) % 2**64
        pieces: list[tuple[int, int, int]] = []
        while length > 0:
            found = self.overlaps(addr, last)
            if not found or found[0][0] > addr:
                return pieces, "miss", addr
            start, until, target, perm, serial = found[0]
            if not perm & access:
                return pieces, "denied", addr
            size = min(length, until - addr + 1)
            pieces.append((serial, (target + addr - start) % 2**64, size))
            addr, length = (addr + size) % 2**64, length - size
        return pieces, "done", None


def row(entry: IotlbMap) -> Row:
    return (entry.start, entry.last, entry.addr, entry.perm, entry.serial)


def rows(entries: list[IotlbMap]) -> list[Row]:
    return [row(entry) for entry in entries]


def ending(found: Translation) -> tuple[str, int | None]:
    assert found.miss is None or found.denied is None
    if found.miss is not None:
        return "miss", found.miss
    if found.denied is not None:
        return "denied", found.denied
    return "done", None


class IotlbMachine(RuleBasedStateMachine):
    """Any operation in any order, on tables of every kind; small buckets, so that they split and unite."""

    overlapping = True

    def __init__(self) -> None:
        super().__init__()
        self.small_buckets = mock.patch.object(iotlb_index, "LOAD", 4)
        self.small_buckets.start()
        self.known: dict[int, IotlbMap] = {}

    def teardown(self) -> None:
        self.small_buckets.stop()

    @initialize(limit=st.sampled_from([0, 1, 2, 3, 30]), retire=st.booleans(), enforce=st.booleans())
    def make(self, limit: int, retire: bool, enforce: bool) -> None:
        self.table = Iotlb(limit, retire=retire, enforce_limit=enforce)
        self.model = Model(limit, retire=retire, enforce_limit=enforce)
        self.generation = self.table.generation
        self.changes = 0

    @rule(start=addresses, size=sizes, addr=addresses, perm=perms)
    def add_range(self, start: int, size: int, addr: int, perm: int) -> None:
        last = min(start + size - 1, TOP)
        if self.overlapping or not self.model.overlaps(start, last):
            self._add(start, last, addr, perm)

    @precondition(lambda self: self.overlapping)
    @rule(addr=addresses, perm=perms)
    def add_everything(self, addr: int, perm: int) -> None:
        self._add(0, TOP, addr, perm)

    @rule(start=addresses, last=addresses, perm=perms)
    def add_exclusive(self, start: int, last: int, perm: int) -> None:
        before = self.model.adds
        if self.model.overlaps(start, last):
            assert self.table.add_exclusive(start, last, 7, perm) is None
            return
        refusal = self.model.add(start, last, 7, perm)
        if refusal:
            with pytest.raises(KernelError) as refused:
                self.table.add_exclusive(start, last, 7, perm)
            assert refused.value.rule == refusal
        else:
            entry = self.table.add_exclusive(start, last, 7, perm)
            assert entry is not None
            assert (entry.start, entry.addr, entry.perm, entry.serial) == (start, 7, perm, before)
            self._remember()

    def _add(self, start: int, last: int, addr: int, perm: int) -> None:
        before = len(self.model.rows)
        refusal = self.model.add(start, last, addr, perm)
        if refusal:
            with pytest.raises(KernelError) as refused:
                self.table.add_range(start, last, addr, perm)
            assert refused.value.rule == refusal
            assert len(self.table) == before
        else:
            added = self.table.add_range(start, last, addr, perm)
            assert [entry.serial for entry in added] == list(range(self.model.adds - len(added), self.model.adds))
            self.known.update((entry.serial, entry) for entry in added)

    def _remember(self) -> None:
        self.known.update((entry.serial, entry) for entry in self.table)

    @rule(start=addresses, last=addresses)
    def refuse_what_wraps(self, start: int, last: int) -> None:
        if last < start:
            self._add(start, last, 0, 3)

    @rule(start=addresses, last=addresses)
    def del_range(self, start: int, last: int) -> None:
        expected = self.model.overlaps(start, last)
        self.model.remove(expected)
        assert rows(self.table.del_range(start, last)) == expected

    @rule(addr=addresses)
    def del_byte(self, addr: int) -> None:
        self.del_range(addr, addr)

    @rule(data=st.data())
    def map_free(self, data: st.DataObject) -> None:
        if self.model.rows:
            one = data.draw(st.sampled_from(self.model.tree()))
            self.model.remove([one])
            self.table.map_free(self.known[one[4]])

    @rule(data=st.data(), addr=addresses)
    def set_addr(self, data: st.DataObject, addr: int) -> None:
        if self.model.rows:
            one = data.draw(st.sampled_from(self.model.rows))
            self.table.set_addr(self.known[one[4]], addr)
            at = self.model.rows.index(one)
            self.model.rows[at] = (one[0], one[1], addr, one[3], one[4])
            self.model.changes += 1

    @rule()
    def reset(self) -> None:
        self.model.remove(self.model.rows)
        self.table.reset()
        self.model.overlapped = False

    @rule(start=addresses, last=addresses)
    def look_up(self, start: int, last: int) -> None:
        expected = self.model.overlaps(start, last)
        assert rows(self.table.overlaps(start, last)) == expected
        found = []
        entry = self.table.itree_first(start, last)
        while entry is not None:
            found.append(entry)
            entry = self.table.itree_next(entry, start, last)
        assert rows(found) == expected

    @rule(data=st.data(), start=addresses, last=addresses)
    def go_on_from_any_entry(self, data: st.DataObject, start: int, last: int) -> None:
        if self.model.rows:
            tree = self.model.tree()
            at = data.draw(st.integers(0, len(tree) - 1))
            behind = [one for one in self.model.overlaps(start, last) if one in tree[at + 1 :]]
            following = self.table.itree_next(self.known[tree[at][4]], start, last)
            assert (row(following) if following else None) == (behind[0] if behind else None)

    @rule(addr=addresses, length=lengths, access=st.sampled_from([1, 2]))
    def translate(self, addr: int, length: int, access: int) -> None:
        found = self.table.translate(addr, length, access)
        pieces = [(entry.serial, target, size) for entry, target, size in found.pieces]
        assert (pieces, *ending(found)) == self.model.translate(addr, length, access)
        assert all(entry is self.known[entry.serial] for entry, _, _ in found.pieces)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        tree = self.model.tree()
        assert rows(list(self.table)) == tree
        assert len(self.table) == self.table.nmaps == len(self.table._index) == len(tree)
        counts = self.table.statistics()
        assert (counts.nmaps, counts.adds, counts.retired) == (len(tree), self.model.adds, self.model.retired)
        assert counts.adds == counts.nmaps + counts.removes + counts.retired

    @invariant()
    def generation_tells_every_change(self) -> None:
        changed = self.model.changes != self.changes
        assert (self.table.generation != self.generation) == changed
        self.generation, self.changes = self.table.generation, self.model.changes

    @invariant()
    def entries_know_whether_they_live(self) -> None:
        present = {one[4] for one in self.model.rows}
        assert {serial for serial, entry in self.known.items() if entry.live} == present

    @invariant()
    def index_is_sound(self) -> None:
        index = self.table._index
        assert isinstance(index, OverlapIndex if self.model.overlapped else ExclusiveIndex)
        if isinstance(index, OverlapIndex):
            index.check()
        else:
            index._check()  # type: ignore[attr-defined]


class ExclusiveMachine(IotlbMachine):
    """The same without overlaps, as vhost-vdpa keeps its tables."""

    overlapping = False


TestIotlb = IotlbMachine.TestCase
TestIotlb.settings = settings(max_examples=150, stateful_step_count=50)
TestExclusiveIotlb = ExclusiveMachine.TestCase
TestExclusiveIotlb.settings = settings(max_examples=150, stateful_step_count=50)


class TestModel:
    """The model is judged by hand: it would be no judge otherwise."""

    def model(self, *ranges: tuple[int, int]) -> Model:
        model = Model(0, retire=False, enforce_limit=False)
        for start, last in ranges:
            assert model.add(start, last, 0x100 + start, 3) is None
        return model

    def test_orders_equal_starts_by_age(self) -> None:
        assert [row[4] for row in self.model((5, 9), (0, 2), (5, 5)).overlaps(0, 9)] == [1, 0, 2]

    def test_evaluates_a_degenerate_range_by_the_same_formula(self) -> None:
        assert [row[4] for row in self.model((0, 9), (5, 5), (4, 6)).overlaps(6, 5)] == [0, 2]

    def test_translates_piece_by_piece(self) -> None:
        assert self.model((0, 9), (10, 19)).translate(8, 4, 1) == ([(0, 0x108, 2), (1, 0x10A + 0, 2)], "done", None)
