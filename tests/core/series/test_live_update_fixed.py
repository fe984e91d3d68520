"""live-update-fixed: what it refuses that the posted series do not, and that nothing is half done."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.series.test_live_update import (
    IOVA,
    NEW,
    OLD,
    PAGE,
    addresses,
    device_map,
    machine,
    remap,
    successor,
    tree,
)
from tests.core.support import Machine, refused
from vdpasim.core.events import Kind
from vdpasim.core.rules import KernelError, observe
from vdpasim.core.vdpa.vdpa_sim import VdpaSim
from vdpasim.devices.profile import load
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.uapi.vhost_types import VHOST_IOTLB_BATCH_BEGIN, VHOST_IOTLB_BATCH_END

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdpasim.core.events import Event
    from vdpasim.core.vhost.iotlb import Iotlb
    from vdpasim.sim import File

FIXED = "6.12+live-update-fixed"
RESUME_GUARD, OBJECT_GUARD = FIXED + "+lu-guard-resume", FIXED + "+lu-guard-same-object"
SIZE = 4 * PAGE


def fixed(kernel: str = FIXED, **options: Any) -> Machine:
    """A machine whose process has its memory at OLD and, a second time, at NEW."""
    one = Machine(kernel=kernel, **options)
    memfd = one.process.memfd("ram", 16 * PAGE)
    for addr in (OLD, NEW):
        one.process.mmap(16 * PAGE, memfd, addr=addr)
    return one


def memory_of(one: Machine) -> File:
    """The file behind both."""
    return one.process.file(one.file.fd + 1)


def refuse_maps(one: Machine, occurrence: str = "1") -> None:
    """Let the device refuse a map."""
    one.sim.inject(f"set_map:{occurrence}:ENOMEM")


# -- the order of the push


def test_the_device_gets_the_new_address_at_once() -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    assert remap(one) == 72
    assert addresses(tree(one)) == addresses(device_map(one)) == [NEW]


def test_a_batch_hands_over_everything_at_its_end() -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    one.update(2 * IOVA, SIZE, OLD + SIZE)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    remap(one)
    remap(one, iova=2 * IOVA, uaddr=NEW + SIZE)
    assert addresses(device_map(one)) == [OLD, OLD + SIZE]
    one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(device_map(one)) == addresses(tree(one)) == [NEW, NEW + SIZE]


def test_a_device_that_takes_single_entries_has_them_replaced() -> None:
    one = fixed(batch_mapping=False)
    one.update(IOVA, SIZE, OLD)
    assert remap(one) == 72
    assert addresses(device_map(one)) == [NEW]


# -- all or nothing


def test_a_refused_push_leaves_the_old_address_in_both() -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    refuse_maps(one)
    with refused(E.EFAULT, "fault.injected", inside=E.ENOMEM):
        remap(one)
    assert addresses(tree(one)) == addresses(device_map(one)) == [OLD]


def test_a_refused_batch_end_undoes_every_remap_of_it_and_says_so() -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    one.update(2 * IOVA, SIZE, OLD + SIZE)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    remap(one)
    remap(one, iova=2 * IOVA, uaddr=NEW + SIZE)
    remap(one, uaddr=NEW + 2 * SIZE)
    refuse_maps(one)
    with refused(E.EFAULT, inside=E.ENOMEM):
        one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(tree(one)) == addresses(device_map(one)) == [OLD, OLD + SIZE]
    assert remap(one) == 72, "the batch is over"
    assert addresses(device_map(one)) == [NEW, OLD + SIZE]


def test_a_refused_batch_of_updates_is_unmapped_and_said() -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    one.update(2 * IOVA, SIZE, OLD + SIZE)
    refuse_maps(one)
    with refused(E.EFAULT, inside=E.ENOMEM):
        one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(tree(one)) == addresses(device_map(one)) == [OLD]
    assert one.update(2 * IOVA, SIZE, OLD + SIZE) == 72, "its range is free again"


def test_pages_that_a_refused_batch_pinned_are_let_go() -> None:
    one = fixed(use_va=False)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    one.update(IOVA, SIZE, OLD)
    assert one.process.mm.pinned_vm == SIZE // PAGE
    refuse_maps(one)
    with refused(E.EFAULT, inside=E.ENOMEM):
        one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(tree(one)) == []
    assert one.process.mm.pinned_vm == 0


def test_a_map_that_is_too_large_with_what_the_batch_added_is_the_old_one_again() -> None:
    one = fixed(max_iotlb_entries=2)
    one.update(IOVA, SIZE, OLD)
    one.update(2 * IOVA, SIZE, OLD + SIZE)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    remap(one)
    one.update(3 * IOVA, SIZE, OLD + 2 * SIZE)
    with refused(E.EFAULT, inside=E.ENOSPC):
        one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(tree(one)) == addresses(device_map(one)) == [OLD, OLD + SIZE]


def test_what_a_refused_batch_unmapped_stays_unmapped_in_both() -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    one.update(2 * IOVA, SIZE, OLD + SIZE)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    one.invalidate(IOVA, SIZE)
    one.update(IOVA, SIZE, NEW)
    refuse_maps(one)
    with refused(E.EFAULT, inside=E.ENOMEM):
        one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(tree(one)) == addresses(device_map(one)) == [OLD + SIZE]


def test_a_batch_that_was_refused_leaves_nothing_for_the_next_one() -> None:
    one = fixed()
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    one.update(IOVA, SIZE, OLD)
    refuse_maps(one, "1-2")
    with refused(E.EFAULT, inside=E.ENOMEM):
        one.message(VHOST_IOTLB_BATCH_END)
    one.update(IOVA, SIZE, OLD)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    one.update(2 * IOVA, SIZE, OLD + SIZE)
    refuse_maps(one)
    with refused(E.EFAULT, inside=E.ENOMEM):
        one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(tree(one)) == addresses(device_map(one)) == [OLD]


@pytest.mark.parametrize("batch_mapping", [True, False])
def test_the_end_of_a_batch_is_an_event(batch_mapping: bool) -> None:
    one = fixed(batch_mapping=batch_mapping)
    one.update(IOVA, SIZE, OLD)
    events: list[Event] = []
    one.sim.listen(events.append)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    remap(one)
    one.message(VHOST_IOTLB_BATCH_END)
    one.message(VHOST_IOTLB_BATCH_END)
    assert [event[6] for event in events if event[3] == Kind.BATCH] == [1, 0, 0]


def test_an_entry_that_went_within_the_batch_is_not_brought_back() -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    one.update(2 * IOVA, SIZE, OLD + SIZE)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    remap(one)
    remap(one, iova=2 * IOVA, uaddr=NEW + SIZE)
    one.invalidate(IOVA, SIZE)
    refuse_maps(one)
    with refused(E.EFAULT, inside=E.ENOMEM):
        one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(tree(one)) == [OLD + SIZE]


def test_a_device_with_single_entries_that_refuses_one_has_the_old_ones_back() -> None:
    one = fixed(batch_mapping=False)
    one.update(IOVA, SIZE, OLD)
    one.sim.inject("dma_map:1:ENOMEM")
    with refused(E.EFAULT, inside=E.ENOMEM):
        remap(one)
    assert addresses(tree(one)) == addresses(device_map(one)) == [OLD]


@given(
    moves=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 15)), min_size=1, max_size=12),
    batched=st.booleans(),
    refusal=st.integers(0, 6),
)
def test_table_and_device_agree_whatever_is_refused(moves: list[tuple[int, int]], batched: bool, refusal: int) -> None:
    one = fixed()
    places = [OLD + number * SIZE for number in range(4)]
    for number, addr in enumerate(places):
        one.update(IOVA * (number + 1), SIZE, addr)
    if refusal:
        refuse_maps(one, str(refusal))
    wanted = list(places)
    if batched:
        one.message(VHOST_IOTLB_BATCH_BEGIN)
    for number, page in moves:
        try:
            remap(one, iova=IOVA * (number + 1), uaddr=NEW + page * PAGE)
        except OSError:
            continue
        wanted[number] = NEW + page * PAGE
    if batched:
        try:
            one.message(VHOST_IOTLB_BATCH_END)
        except OSError:
            wanted = places
    assert addresses(tree(one)) == addresses(device_map(one)) == wanted


# -- what a REMAP may name


def split(one: Machine) -> None:
    """One UPDATE over two objects: two entries."""
    for number, addr in itertools.product(range(2), (OLD, NEW)):
        one.process.mmap(2 * PAGE, one.process.memfd(f"half{number}", 2 * PAGE), addr=addr + number * 2 * PAGE)
    one.update(IOVA, SIZE, OLD)


def test_it_matches_what_the_update_mapped_not_the_pieces() -> None:
    one = fixed()
    split(one)
    assert len(tree(one)) == 2
    assert remap(one) == 72
    assert addresses(tree(one)) == addresses(device_map(one)) == [NEW, NEW + 2 * PAGE]
    with refused(E.EFAULT, "vdpa.remap.no-update", inside=E.EINVAL):
        remap(one, size=2 * PAGE)


def test_an_update_of_which_a_piece_was_taken_away_is_none_any_more() -> None:
    one = fixed()
    split(one)
    one.invalidate(IOVA, PAGE)
    with refused(E.EFAULT, "vdpa.remap.no-update", inside=E.EINVAL):
        remap(one)
    assert addresses(tree(one)) == [OLD + 2 * PAGE]


@pytest.mark.parametrize(
    ("message", "rule", "inside"),
    [
        ({"perm": 1}, "vdpa.remap.args", E.EINVAL),
        ({"size": 0}, "vdpa.remap.args", E.EINVAL),
        ({"iova": (1 << 64) - PAGE, "size": 2 * PAGE}, "vdpa.remap.range", E.EINVAL),
        ({"iova": (1 << 64) - PAGE, "size": PAGE + 1}, "vdpa.remap.range", E.EINVAL),
        ({"uaddr": (1 << 64) - PAGE}, "vdpa.remap.range", E.EINVAL),
        ({"uaddr": (1 << 64) - SIZE + 1}, "vdpa.remap.range", E.EINVAL),
        ({"iova": IOVA - PAGE, "size": PAGE}, "vdpa.remap.absent", E.ENOENT),
        ({"iova": 0}, "vdpa.remap.absent", E.ENOENT),
        ({"size": PAGE}, "vdpa.remap.no-update", E.EINVAL),
        ({"size": 5 * PAGE}, "vdpa.remap.no-update", E.EINVAL),
    ],
)
def test_what_it_refuses(message: dict[str, int], rule: str, inside: int) -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    with refused(E.EFAULT, rule, inside=inside):
        remap(one, **message)
    assert addresses(tree(one)) == addresses(device_map(one)) == [OLD]


def test_the_last_byte_of_the_address_space_can_be_remapped() -> None:
    one = fixed()
    top = (1 << 64) - SIZE
    one.update(top, SIZE, OLD)
    assert remap(one, iova=top) == 72


def test_a_device_that_pins_is_refused_even_if_it_offers_it() -> None:
    one = fixed(use_va=False, advertise="NEW_OWNER,IOTLB_REMAP")
    one.update(IOVA, SIZE, OLD)
    with refused(E.EFAULT, "vdpa.remap.pinned", inside=E.EOPNOTSUPP):
        remap(one)


# -- NEW_OWNER


def test_the_owner_is_busy_whatever_its_limit() -> None:
    one = fixed(use_va=False)
    one.process.limits.memlock = 5 * PAGE
    one.update(IOVA, SIZE, OLD)
    with refused(E.EBUSY, "vdpa.new-owner.same"):
        one.call(vhost.VHOST_NEW_OWNER)
    assert one.process.mm.pinned_vm == 4


# -- guards


def handed_over(kernel: str) -> tuple[Machine, File]:
    """Two regions, and another process that has taken the device over."""
    one = machine(kernel)
    one.update(IOVA, SIZE, OLD)
    one.update(2 * IOVA, SIZE, OLD + SIZE)
    one.features()
    file = successor(one)
    file.process.mmap(16 * PAGE, file.process.receive(one.process.file(4)), addr=NEW)
    one.call(vhost.VHOST_NEW_OWNER, file=file)
    one.file = file
    return one, file


@pytest.mark.parametrize(
    "go_on", [lambda one: one.call(vhost.VHOST_VDPA_RESUME), lambda one: one.status(4)], ids=["resume", "driver-ok"]
)
def test_no_device_runs_on_an_address_of_the_old_image(go_on: Callable[[Machine], None]) -> None:
    one, _ = handed_over(RESUME_GUARD)
    remap(one)
    with refused(E.EBUSY, "vdpa.guard.stale"):
        go_on(one)
    remap(one, iova=2 * IOVA, uaddr=NEW + SIZE)
    go_on(one)


def test_what_was_unmapped_is_not_stale() -> None:
    one, _ = handed_over(RESUME_GUARD)
    remap(one)
    one.invalidate(2 * IOVA, SIZE)
    one.call(vhost.VHOST_VDPA_RESUME)


def test_without_the_guard_it_runs() -> None:
    one, _ = handed_over(FIXED)
    one.call(vhost.VHOST_VDPA_RESUME)


def test_status_without_driver_ok_is_no_start() -> None:
    one, _ = handed_over(RESUME_GUARD)
    one.status(1)


def test_the_address_must_show_the_same_memory() -> None:
    one = fixed(OBJECT_GUARD)
    one.update(IOVA, SIZE, OLD)
    for wrong in (NEW + PAGE, NEW + 14 * PAGE, 0xDEAD_0000):
        with refused(E.EFAULT, "vdpa.remap.other-object", inside=E.EINVAL):
            remap(one, uaddr=wrong)
    assert remap(one) == 72


def test_a_private_mapping_shows_the_same_memory_until_it_is_written() -> None:
    one = fixed(OBJECT_GUARD)
    one.update(IOVA, SIZE, OLD)
    copy = one.process.mmap(SIZE, memory_of(one), shared=False)
    with refused(E.EFAULT, "vdpa.remap.other-object", inside=E.EINVAL):
        remap(one, uaddr=copy.addr)


def test_of_a_mapping_that_is_private_in_part_the_shared_part_will_do() -> None:
    one = fixed(OBJECT_GUARD)
    one.update(IOVA, SIZE, OLD)
    memfd = memory_of(one)
    one.process.mmap(SIZE, memfd, addr=NEW + SIZE, offset=SIZE, shared=False)
    assert remap(one) == 72, "the private one begins behind it"
    one.process.mmap(PAGE, memfd, addr=NEW + 3 * PAGE, offset=3 * PAGE, shared=False)
    with refused(E.EFAULT, "vdpa.remap.other-object"):
        remap(one)


def test_without_that_guard_any_address_will_do() -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    assert remap(one, uaddr=0xDEAD_0000) == 72


def test_a_neighbour_stays_where_it_is() -> None:
    one = fixed()
    one.update(IOVA + SIZE, SIZE, OLD + SIZE)
    one.update(IOVA, SIZE, OLD)
    remap(one)
    assert addresses(tree(one)) == addresses(device_map(one)) == [NEW, OLD + SIZE]


# -- what no other test would miss


def pushes(one: Machine) -> list[Any]:
    """Every push from here on."""
    seen: list[Any] = []
    one.sim.listen(lambda event: seen.append(event) if event[3] == Kind.PUSH else None)
    return seen


def test_the_device_is_handed_its_map_once() -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    seen = pushes(one)
    remap(one)
    assert len(seen) == 1
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    one.message(VHOST_IOTLB_BATCH_END)
    assert len(seen) == 2


def test_a_device_that_lost_its_map_over_the_refusal_gets_the_old_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    real, calls = VdpaSim.set_map, itertools.count()

    def refusing(device: VdpaSim, asid: int, table: Iotlb) -> None:
        if not next(calls):
            device.maps[asid].table.reset()
            raise KernelError(E.ENOMEM, "test.refused")
        real(device, asid, table)

    monkeypatch.setattr(VdpaSim, "set_map", refusing)
    seen: list[str] = []
    stop = observe(seen.append)
    with refused(E.EFAULT, inside=E.ENOMEM):
        remap(one)
    stop()
    assert addresses(device_map(one)) == [OLD]
    assert "vdpa.remap.rolled-back" in seen


def test_the_last_address_there_is_can_be_named() -> None:
    one = fixed()
    one.update(IOVA, SIZE, OLD)
    assert remap(one, uaddr=(1 << 64) - SIZE) == 72


def test_what_a_batch_remapped_is_not_stale() -> None:
    one, _ = handed_over(RESUME_GUARD)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    remap(one)
    remap(one, iova=2 * IOVA, uaddr=NEW + SIZE)
    with refused(E.EBUSY, "vdpa.guard.stale"):
        one.call(vhost.VHOST_VDPA_RESUME)
    one.message(VHOST_IOTLB_BATCH_END)
    one.call(vhost.VHOST_VDPA_RESUME)


def test_pinned_pages_are_never_stale() -> None:
    one = fixed(RESUME_GUARD, use_va=False)
    one.update(IOVA, SIZE, OLD)
    one.features()
    file = successor(one)
    one.call(vhost.VHOST_NEW_OWNER, file=file)
    one.call(vhost.VHOST_VDPA_RESUME, file=file)


@given(first=st.integers(1, 4), count=st.integers(1, 3), pieces=st.integers(1, 4))
def test_a_device_with_single_entries_has_no_new_one_left_behind_a_refusal(first: int, count: int, pieces: int) -> None:
    one = fixed(batch_mapping=False)
    for number, addr in itertools.product(range(pieces), (OLD, NEW)):
        one.process.mmap(PAGE, one.process.memfd(f"piece{number}", PAGE), addr=addr + number * PAGE)
    one.update(IOVA, pieces * PAGE, OLD)
    one.sim.inject(f"dma_map:{first}-{first + count - 1}:ENOMEM")
    try:
        remap(one, size=pieces * PAGE)
    except OSError:
        assert set(addresses(device_map(one))) <= set(addresses(tree(one)))
        assert addresses(tree(one)) == [OLD + number * PAGE for number in range(pieces)]
    else:
        assert addresses(tree(one)) == addresses(device_map(one))


@pytest.mark.parametrize("way", ["exec", "transfer"])
def test_what_the_old_owner_remapped_in_a_batch_that_goes_on_is_stale(way: str) -> None:
    one = machine(RESUME_GUARD)
    one.update(IOVA, SIZE, OLD)
    one.features()
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    remap(one, uaddr=OLD + SIZE)
    if way == "exec":
        one.process.exec_nowait()
    else:
        one.file = successor(one)
    one.call(vhost.VHOST_NEW_OWNER)
    one.message(VHOST_IOTLB_BATCH_END)
    with refused(E.EBUSY, "vdpa.guard.stale"):
        one.call(vhost.VHOST_VDPA_RESUME)


def test_an_update_into_the_gap_of_another_leaves_that_one_its_name() -> None:
    one = fixed()
    one.process.mmap(2 * PAGE, addr=OLD)
    one.update(IOVA, SIZE, OLD)
    one.update(IOVA, 2 * PAGE, NEW + 8 * PAGE)
    assert len(tree(one)) == 2
    assert remap(one) == 72
    assert remap(one, size=2 * PAGE, uaddr=NEW) == 72
    assert addresses(tree(one)) == [NEW, NEW + 2 * PAGE]


def test_an_update_that_mapped_nothing_names_nothing() -> None:
    one = fixed()
    one.process.mmap(SIZE, addr=OLD)
    one.update(IOVA, SIZE, OLD)
    one.update(IOVA + PAGE, PAGE, NEW)
    with refused(E.EFAULT, "vdpa.remap.no-update", inside=E.EINVAL):
        remap(one)


# -- what no other test would miss


def test_a_device_that_does_not_offer_it_is_not_remapped() -> None:
    one = fixed(advertise="NEW_OWNER")
    one.update(IOVA, SIZE, OLD)
    with refused(E.EFAULT, "vdpa.remap.unsupported", inside=E.EOPNOTSUPP):
        remap(one)
    assert addresses(tree(one)) == addresses(device_map(one)) == [OLD]


def test_a_range_below_the_devices_first_address_is_out_of_range() -> None:
    profile = attrs.evolve(load("vdpasim_blk-6.12"), iova_range=(IOVA, (1 << 48) - 1), backend_features=3 << 9)
    one = fixed(kind=profile)
    one.update(IOVA, SIZE, OLD)
    for iova in (IOVA - PAGE, 1 << 48):
        with refused(E.EFAULT, "vdpa.remap.range", inside=E.EINVAL):
            remap(one, iova=iova)
    assert remap(one) == 72


def test_a_device_with_single_entries_is_told_at_once_within_a_batch_too() -> None:
    one = fixed(batch_mapping=False)
    one.update(IOVA, SIZE, OLD)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    assert remap(one) == 72
    assert addresses(device_map(one)) == [NEW]
    one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(device_map(one)) == [NEW]


@pytest.mark.parametrize(("batch_mapping", "begun"), [(True, False), (False, False), (False, True)])
def test_the_end_of_no_batch_pushes_nothing(batch_mapping: bool, begun: bool) -> None:
    one = fixed(batch_mapping=batch_mapping)
    one.update(IOVA, SIZE, OLD)
    if begun:
        one.message(VHOST_IOTLB_BATCH_BEGIN)
    heard: list[Event] = []
    one.sim.listen(heard.append)
    assert one.message(VHOST_IOTLB_BATCH_END) == 72
    assert Kind.PUSH not in {event[3] for event in heard}


def test_every_batch_of_the_new_owner_counts_from_its_first_remap() -> None:
    one, _ = handed_over(RESUME_GUARD)
    for number in range(2):
        one.message(VHOST_IOTLB_BATCH_BEGIN)
        remap(one, iova=(number + 1) * IOVA, uaddr=NEW + number * SIZE)
        one.message(VHOST_IOTLB_BATCH_END)
    one.call(vhost.VHOST_VDPA_RESUME)


def test_a_refused_batch_lets_the_neighbours_of_what_it_mapped_be() -> None:
    one = fixed()
    for iova in (IOVA - SIZE, IOVA + SIZE):
        one.update(iova, SIZE, OLD)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    one.update(IOVA, SIZE, OLD)
    refuse_maps(one)
    with refused(E.EFAULT, inside=E.ENOMEM):
        one.message(VHOST_IOTLB_BATCH_END)
    assert [entry.start for entry in tree(one)] == [IOVA - SIZE, IOVA + SIZE]


def test_an_update_of_one_byte_is_one() -> None:
    one = fixed()
    one.update(IOVA, 1, OLD)
    assert remap(one, size=1) == 72
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    one.update(2 * IOVA, 1, OLD)
    refuse_maps(one)
    with refused(E.EFAULT, inside=E.ENOMEM):
        one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(tree(one)) == [NEW], "what the batch mapped is gone again"


def test_the_last_byte_of_a_range_counts() -> None:
    one = fixed()
    one.update(IOVA + SIZE - 1, 1, OLD)
    with refused(E.EFAULT, "vdpa.remap.no-update", inside=E.EINVAL):
        remap(one)


def test_the_last_byte_must_be_shared_too() -> None:
    one = fixed(OBJECT_GUARD)
    one.update(IOVA, PAGE + 1, OLD)
    one.process.mmap(PAGE, memory_of(one), addr=NEW + PAGE, shared=False, offset=PAGE)
    with refused(E.EFAULT, "vdpa.remap.other-object", inside=E.EINVAL):
        remap(one, size=PAGE + 1)
    one.process.mmap(PAGE, memory_of(one), addr=NEW + PAGE, offset=PAGE)
    assert remap(one, size=PAGE + 1) == 72
