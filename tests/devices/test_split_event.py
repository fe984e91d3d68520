"""The device side of a split ring with event index, against the driver side of ``vmm/guest.py``."""

from __future__ import annotations

import pytest

from tests.devices.ringside import BUFFERS, IOVA, RW, SIZE, Ringside, readable, writable
from vdpasim.core.rules import KernelError
from vdpasim.vmm.guest import Used, Virtqueue


@pytest.fixture
def ring() -> Ringside:
    return Ringside(packed=False, event_idx=True)


def driver(ring: Ringside) -> Virtqueue:
    assert isinstance(ring.driver, Virtqueue)
    return ring.driver


def avail_event(ring: Ringside) -> int:
    return ring.u16(driver(ring).used_at + 4 + 8 * 8)


def round_trip(ring: Ringside) -> None:
    ring.driver.add(readable(0, 1))
    ring.device.complete(ring.take()[0], 0)
    ring.driver.used()


class TestKicks:
    def test_an_idle_device_says_what_it_waits_for(self, ring: Ringside) -> None:
        for _ in range(3):
            round_trip(ring)
        assert avail_event(ring) == 0, "it was never idle"
        assert ring.device.getdesc() is None
        assert avail_event(ring) == 3

    def test_the_driver_kicks_once_per_idle_time(self, ring: Ringside) -> None:
        assert ring.device.getdesc() is None
        kicks = []
        for _ in range(4):
            ring.driver.add(readable(0, 1))
            kicks.append(ring.driver.need_kick())
        assert kicks == [True, False, False, False]
        for _ in range(4):
            ring.device.complete(ring.take()[0], 0)
        assert ring.device.getdesc() is None
        ring.driver.add(readable(0, 1))
        assert ring.driver.need_kick()

    def test_without_the_feature_nothing_is_written(self) -> None:
        ring = Ringside(packed=False)
        round_trip(ring)
        assert ring.device.getdesc() is None
        assert avail_event(ring) == 0
        ring.driver.add(readable(0, 1))
        assert ring.driver.need_kick()
        assert not ring.driver.need_kick(), "nothing was added since"

    def test_the_flag_of_the_device_is_honoured(self) -> None:
        ring = Ringside(packed=False)
        ring.put_u16(driver(ring).used_at, 1)
        ring.driver.add(readable(0, 1))
        assert not ring.driver.need_kick()


class TestInterrupts:
    def test_come_when_the_used_index_passes_the_event(self, ring: Ringside) -> None:
        told = []
        ring.driver.want_interrupt(after=3)
        for _ in range(8):
            round_trip(ring)
            told.append(ring.device.need_notify())
        assert [i for i, one in enumerate(told) if one] == [0, 3], "the first is always told"

    def test_one_question_covers_all_that_came_before(self, ring: Ringside) -> None:
        round_trip(ring)
        ring.device.need_notify()
        ring.driver.want_interrupt(after=1)
        for _ in range(3):
            round_trip(ring)
        assert ring.device.need_notify()
        assert not ring.device.need_notify()

    def test_none_are_sent_to_who_wants_none(self, ring: Ringside) -> None:
        round_trip(ring)
        ring.device.need_notify()
        ring.driver.want_interrupt(None)
        for _ in range(20):
            round_trip(ring)
            assert not ring.device.need_notify()

    def test_the_index_wraps(self, ring: Ringside) -> None:
        ring.device.restore(0xFFFE, 0xFFFE)
        one = driver(ring)
        one._avail_idx = one._used_idx = 0xFFFE
        ring.put_u16(one.avail_at + 2, 0xFFFE)
        ring.put_u16(one.used_at + 2, 0xFFFE)
        round_trip(ring)
        assert ring.device.need_notify()
        ring.driver.want_interrupt(after=1)
        told = []
        for _ in range(4):
            round_trip(ring)
            told.append(ring.device.need_notify())
        assert told == [False, True, False, False]

    def test_without_the_feature_the_flag_decides(self) -> None:
        ring = Ringside(packed=False)
        for after, wanted in ((None, False), (0, True)):
            ring.driver.want_interrupt(after)
            round_trip(ring)
            assert ring.device.need_notify() is wanted


class TestWhatBreaksTheRules:
    def test_an_index_more_than_a_ring_ahead(self, ring: Ringside) -> None:
        ring.put_u16(driver(ring).avail_at + 2, 9)
        for _ in range(2):
            with pytest.raises(KernelError) as caught:
                ring.device.getdesc()
            assert caught.value.rule == "peer.split.avail-idx"
        assert ring.device.last_avail_idx == 0

    def test_a_bad_chain_is_not_consumed(self, ring: Ringside) -> None:
        ring.driver.add(writable(0, 1), readable(0, 1))
        for _ in range(2):
            with pytest.raises(KernelError) as caught:
                ring.device.getdesc()
            assert caught.value.rule == "vringh.chain.order"
        assert ring.device.last_avail_idx == 0

    def test_a_ring_outside_the_map_is_looked_at_again(self, ring: Ringside) -> None:
        ring.driver.add(readable(0, 1))
        ring.revoke()
        with pytest.raises(KernelError):
            ring.device.getdesc()
        ring.grant(IOVA, SIZE, RW)
        assert ring.device.getdesc() is not None


def test_an_indirect_chain_takes_one_slot() -> None:
    ring = Ringside(packed=False, event_idx=True, indirect=True)
    ring.ram.write(BUFFERS, b"abc")
    head = ring.driver.add(readable(0, 1), readable(1, 2), writable(0x100, 4))
    following = ring.driver.add(readable(0, 1))
    assert (head, following) == (0, 1)
    found, riov, wiov = ring.take()
    assert (found, ring.read(riov), wiov.total) == (head, b"abc", 4)
    ring.device.complete(found, 4)
    assert ring.driver.used() == [Used(head, 4)]


def test_state_is_the_avail_index_alone(ring: Ringside) -> None:
    for _ in range(3):
        round_trip(ring)
    assert ring.device.restore(3, 0)
    assert ring.device.last_used_idx == 3
