"""``dma.wrong-object`` and ``dma.fault``, by events made by hand."""

from __future__ import annotations

import pytest

from tests.checks.support import feed
from vdpasim.checks.dma_place import DmaPlace, Runs, cut, show
from vdpasim.core.events import Kind


@pytest.fixture
def check() -> DmaPlace:
    """Entry 1 promised the first page of ``ram`` at iova 0x1000."""
    one = DmaPlace()
    promise = (("ram", 0, 0x1000),)
    feed(one, Kind.MAP, device="d", asid=0, serial=1, start=0x1000, last=0x1FFF, addr=0, perm=3, promise=promise)
    return one


def dma(check: DmaPlace, place: Runs, *, iova: int = 0x1010, length: int = 16, serial: int = 1) -> list[str]:
    where = {"device": "d", "queue": 0, "iova": iova, "length": length}
    feed(check, Kind.DMA, **where, access=1, serial=serial, target="va", place=place)
    return [finding.id for finding in check.findings]


def test_bytes_on_the_promised_place_are_fine(check: DmaPlace) -> None:
    assert dma(check, (("ram", 0x10, 16),)) == []


def test_the_right_object_at_another_offset_is_wrong(check: DmaPlace) -> None:
    assert dma(check, (("ram", 0x20, 16),)) == ["dma.wrong-object"]


def test_another_object_is_wrong_and_named(check: DmaPlace) -> None:
    assert dma(check, (("heap", 0x10, 16),)) == ["dma.wrong-object"]
    assert "landed on heap+0x10 (16), promised was ram+0x10 (16)" in check.findings[0].text


def test_memory_that_is_not_there_is_a_fault(check: DmaPlace) -> None:
    assert dma(check, (("ram", 0x10, 4),)) == ["dma.fault"]


def test_passthrough_promises_nothing(check: DmaPlace) -> None:
    assert dma(check, (("anything", 7, 16),), serial=0) == []


@pytest.mark.parametrize(
    ("offset", "length", "wanted"),
    [
        (0, 4, (("a", 0, 4),)),
        (2, 4, (("a", 2, 2), ("b", 8, 2))),
        (4, 9, (("b", 8, 4),)),
        (9, 1, ()),
    ],
)
def test_a_part_of_the_runs_is_cut_out(offset: int, length: int, wanted: Runs) -> None:
    assert cut((("a", 0, 4), ("b", 8, 4)), offset, length) == wanted


def test_adjacent_runs_of_one_object_are_one() -> None:
    assert cut((("a", 0, 4), ("a", 4, 4)), 2, 6) == (("a", 2, 6),)


def test_nothing_is_shown_as_nothing() -> None:
    assert show(()) == "nothing"
