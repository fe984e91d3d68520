"""What a queue is when it starts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.checks.support import feed
from vdpasim.checks.ring_state import Queue, RingState
from vdpasim.core.events import NO_COPY, Kind
from vdpasim.uapi.virtio_config import VIRTIO_F_RING_PACKED

DEV = "vhost-vdpa-0"


class Starts(RingState):
    def __init__(self) -> None:
        super().__init__()
        self.missing: list[str] = []

    def unmapped(self, seq: int, device: str, queue: int, ring: Queue, missing: str) -> None:
        self.missing.append(missing)


def ring(check: RingState, what: str, value: Any) -> None:
    feed(check, Kind.RING, device=DEV, queue=0, what=what, value=value)


def status(check: RingState, old: int, new: int) -> None:
    feed(check, Kind.STATUS, device=DEV, old=old, new=new)


def add(check: RingState, serial: int, start: int, last: int, asid: int = 0) -> None:
    entry = {"start": start, "last": last, "addr": 0, "perm": 3, "promise": ()}
    feed(check, Kind.MAP, device=DEV, asid=asid, serial=serial, **entry)


@pytest.fixture
def check() -> Starts:
    """A ring of 16 at 0x1000, 0x2000 and 0x3000."""
    one = Starts()
    feed(one, Kind.OPEN, device=DEV, below="disk", family="vhost-vdpa")
    ring(one, "num", 16)
    ring(one, "addr", (0x1000, 0x2000, 0x3000, 0))
    return one


def start(check: Starts) -> list[str]:
    ring(check, "ready", 1)
    status(check, 0xB, 0xF)
    return check.missing


def test_nothing_is_asked_before_the_start(check: Starts) -> None:
    ring(check, "ready", 1)
    assert check.missing == []


def test_every_area_must_be_mapped_whole(check: Starts) -> None:
    add(check, 1, 0x1000, 0x2000)
    add(check, 2, 0x2001, 0x2023)
    assert start(check) == ["used ring at 0x3000"]


def test_by_one_address_space(check: Starts) -> None:
    add(check, 1, 0x1000, 0x20FF, asid=1)
    add(check, 2, 0x3000, 0x3FFF, asid=1)
    assert start(check) == []


def test_entries_of_a_device_iotlb_are_no_table(check: Starts) -> None:
    add(check, 1, 0, 0xFFFF, asid=NO_COPY)
    assert len(start(check)) == 1


def test_of_a_device_that_is_not_watched_they_are_what_there_is(check: Starts) -> None:
    check._files.clear()
    add(check, 1, 0, 0xFFFF, asid=NO_COPY)
    assert start(check) == []


def test_what_was_unmapped_is_not_there(check: Starts) -> None:
    add(check, 1, 0, 0xFFFF)
    feed(check, Kind.UNMAP, device=DEV, asid=0, serial=1, start=0, last=0xFFFF)
    assert len(start(check)) == 1


def test_a_packed_ring_has_small_event_areas(check: Starts) -> None:
    feed(check, Kind.FEATURES, device=DEV, what="virtio", mask=1 << VIRTIO_F_RING_PACKED)
    add(check, 1, 0x1000, 0x2003)
    add(check, 2, 0x3000, 0x3003)
    assert start(check) == []


def test_enabling_behind_driver_ok_starts_too_but_only_once(check: Starts) -> None:
    status(check, 0xB, 0xF)
    ring(check, "ready", 1)
    ring(check, "ready", 1)
    assert len(check.missing) == 1


def test_resume_starts_again(check: Starts) -> None:
    add(check, 1, 0, 0xFFFF)
    assert start(check) == []
    ring(check, "addr", (0x1000, 0x2000, 0x90000, 0))
    feed(check, Kind.SUSPEND, device=DEV, old=1, new=0)
    assert check.missing == ["used ring at 0x90000"]


def test_a_reset_forgets_the_addresses(check: Starts) -> None:
    start(check)
    status(check, 0xF, 0)
    ring(check, "ready", 1)
    status(check, 0xB, 0xF)
    assert len(check.missing) == 1


def test_a_released_file_forgets_everything(check: Starts) -> None:
    feed(check, Kind.GONE, what="file", name=DEV)
    assert start(check) == []


@pytest.mark.parametrize("family", ["vhost-net", "vhost-vdpa+miss"])
def test_who_maps_on_demand_may_start_over_nothing(check: Starts, family: str) -> None:
    feed(check, Kind.OPEN, device=DEV, below="disk", family=family)
    assert start(check) == []
