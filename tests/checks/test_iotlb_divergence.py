"""``iotlb.divergence``, by events made by hand."""

from __future__ import annotations

import pytest

from tests.checks.support import feed
from vdpasim.checks.iotlb_divergence import IotlbDivergence
from vdpasim.core.events import Kind

DEV = "vhost-vdpa-0"


@pytest.fixture
def check() -> IotlbDivergence:
    """One entry in the table, pushed."""
    one = IotlbDivergence()
    add(one, 1, 0x1000)
    push(one)
    return one


def add(check: IotlbDivergence, serial: int, start: int, addr: int = 0x7000) -> None:
    last = start + 0xFFF
    feed(check, Kind.MAP, device=DEV, asid=0, serial=serial, start=start, last=last, addr=addr, perm=3, promise=())


def push(check: IotlbDivergence, *, errno: int = 0, maps: int = 1) -> None:
    feed(check, Kind.PUSH, device=DEV, asid=0, maps=maps, errno=errno)


def remap(check: IotlbDivergence, serial: int, new: int) -> None:
    feed(check, Kind.REMAP, device=DEV, asid=0, serial=serial, start=0x1000, last=0x1FFF, old=0x7000, new=new)


def found(check: IotlbDivergence) -> list[str]:
    check.finish()
    return [finding.id for finding in check.findings]


def test_a_pushed_table_is_no_divergence(check: IotlbDivergence) -> None:
    assert found(check) == []


def test_an_entry_that_was_never_pushed_is_one(check: IotlbDivergence) -> None:
    add(check, 2, 0x2000)
    assert found(check) == ["iotlb.divergence"]
    assert "has no map of [0x2000, 0x2fff]" in check.findings[0].text


def test_a_failed_push_leaves_the_device_with_nothing(check: IotlbDivergence) -> None:
    push(check, errno=28)
    assert found(check) == ["iotlb.divergence"]


def test_a_reset_that_cleans_the_map_is_one_until_the_next_push(check: IotlbDivergence) -> None:
    push(check, maps=-1)
    push(check)
    assert found(check) == []


def test_an_address_stored_behind_the_push_is_one(check: IotlbDivergence) -> None:
    push(check)
    remap(check, 1, 0x9000)
    assert found(check) == ["iotlb.divergence"]
    assert "maps [0x1000, 0x1fff] to 0x7000, the table says 0x9000" in check.findings[0].text


def test_a_later_push_repairs_it(check: IotlbDivergence) -> None:
    remap(check, 1, 0x9000)
    push(check)
    assert found(check) == []


def test_inside_a_batch_nothing_is_said_until_the_device_is_kicked(check: IotlbDivergence) -> None:
    remap(check, 1, 0x9000)
    assert check.findings == []
    feed(check, Kind.KICK, device=DEV, queue=0)
    assert [finding.id for finding in check.findings] == ["iotlb.divergence"]


def test_each_divergence_is_told_once(check: IotlbDivergence) -> None:
    remap(check, 1, 0x9000)
    for _ in range(3):
        feed(check, Kind.KICK, device=DEV, queue=0)
    assert found(check) == ["iotlb.divergence"]


def test_an_unmapped_entry_is_forgotten(check: IotlbDivergence) -> None:
    remap(check, 1, 0x9000)
    feed(check, Kind.UNMAP, device=DEV, asid=0, serial=1, start=0x1000, last=0x1FFF)
    push(check)
    assert found(check) == []
