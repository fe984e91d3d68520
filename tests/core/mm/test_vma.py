"""One mapping: what it lets through, how drivers see it, when two are one."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from vdpasim.core.mm.memory import Memory, PhysicalMemory
from vdpasim.core.mm.vma import Vma
from vdpasim.uapi.mman import PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE

RW = PROT_READ | PROT_WRITE
FILE = Memory("file", 1 << 20, PhysicalMemory())
BELOW = Vma(0x10000, 0x13FFF, RW, shared=True, file_writable=True, obj=FILE, offset=0x2000)
ABOVE = Vma(0x14000, 0x14FFF, RW, shared=True, file_writable=True, obj=FILE, offset=0x6000)


@pytest.mark.parametrize(
    ("prot", "readable", "writable"),
    [
        (PROT_NONE, False, False),
        (PROT_READ, True, False),
        (PROT_WRITE, True, True),
        (PROT_EXEC, True, False),
        (RW, True, True),
    ],
)
def test_protection_is_that_of_x86(prot: int, readable: bool, writable: bool) -> None:
    vma = attrs.evolve(BELOW, prot=prot)
    assert (vma.readable, vma.writable) == (readable, writable)


class TestJoins:
    def test_continuous_mappings_of_one_object(self) -> None:
        assert BELOW.joins(ABOVE)
        assert not ABOVE.joins(BELOW)

    @pytest.mark.parametrize(
        "different",
        [
            {"offset": 0x7000},
            {"prot": PROT_READ},
            {"shared": False},
            {"file_writable": False},
            {"obj": Memory("other", 1 << 20, PhysicalMemory())},
            {"start": 0x15000, "last": 0x15FFF},
        ],
        ids=lambda different: next(iter(different)),
    )
    def test_not_if_anything_differs(self, different: dict[str, Any]) -> None:
        assert not BELOW.joins(attrs.evolve(ABOVE, **different))

    def test_anonymous_neighbours_whatever_their_offset(self) -> None:
        below = attrs.evolve(BELOW, obj=None, shared=False)
        assert below.joins(attrs.evolve(ABOVE, obj=None, shared=False, offset=0))


class TestPart:
    def test_of_the_middle_starts_further_in_the_object(self) -> None:
        part = BELOW.part(0x11000, 0x11FFF)
        assert (part.start, part.last, part.offset) == (0x11000, 0x11FFF, 0x3000)

    def test_is_cut_to_the_mapping(self) -> None:
        part = BELOW.part(0, 1 << 40)
        assert (part.start, part.last, part.offset) == (BELOW.start, BELOW.last, BELOW.offset)

    def test_the_parts_at_a_border_join_again(self) -> None:
        assert BELOW.part(0, 0x11FFF).joins(BELOW.part(0x12000, 1 << 40))


class TestView:
    def test_shows_drivers_the_file_and_the_offset(self) -> None:
        view = BELOW.view()
        assert (view.start, view.last, view.shared, view.file, view.offset) == (0x10000, 0x13FFF, True, FILE, 0x2000)
        assert not view.special

    def test_a_shared_mapping_of_a_read_only_file_does_not_look_shared(self) -> None:
        view = attrs.evolve(BELOW, prot=PROT_READ, file_writable=False).view()
        assert (view.shared, view.file) == (False, FILE)

    def test_a_private_mapping_does_not_look_shared(self) -> None:
        assert not attrs.evolve(BELOW, shared=False).view().shared

    def test_anonymous_memory_has_no_file(self) -> None:
        assert attrs.evolve(BELOW, obj=None, shared=False).view().file is None
