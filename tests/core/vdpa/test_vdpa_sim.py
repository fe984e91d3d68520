"""The simulated device itself: status, kicks, suspend, queue enable, reset, and whose memory it reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.core.rings import BUFFERS, IOVA, RAM, RUNNING, Board, Queue, inside, rules_hit
from tests.core.support import ACCESS_PLATFORM, VERSION_1, Machine, refused
from vdpasim.core.events import Kind, as_dict
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.vmm.guest import Used

if TYPE_CHECKING:
    from vdpasim.core.events import Event

KERNELS = ["6.1", "6.12", "7.1", "tip"]
PAGE = 4096
BEGIN, END = 5, 6
ID = b"vdpa_blk_sim"


def ask(board: Board) -> int:
    """Post a GET_ID request; its head."""
    header = board.readable(0, (8).to_bytes(16, "little"))
    return board.queues[0].post(header, board.writable(0x1000, 21))


def disk(kernel: str = "6.12", **how: Any) -> tuple[Board, Queue]:
    board = Board("vdpasim_blk", kernel, **how)
    return board, board.queues[0]


# -- the worker and kicks


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kick_makes_a_running_device_serve_its_queue(kernel: str) -> None:
    board, queue = disk(kernel)
    head = ask(board)
    assert queue.used() == []
    queue.kick()
    assert (queue.used(), queue.interrupts()) == ([Used(head, 21)], 1)
    assert board.ram.read(BUFFERS + 0x1000, 21) == ID.ljust(20, b"\0") + b"\0"


def test_one_kick_of_one_queue_serves_all() -> None:
    board = Board("vdpasim_net", queues=2)
    rx, tx = board.queues
    rx.post(board.writable(0, 100))
    tx.post(board.readable(0x1000, bytes(12) + b"\xff" * 14))
    rx.kick()
    assert (tx.used(), rx.used()) == ([Used(0, 0)], [Used(0, 26)])


def test_many_kicks_before_the_worker_runs_are_one_pass() -> None:
    board, _ = disk()
    for _ in range(3):
        inside(board).kick_vq(0)
    board.sim.run_idle()
    assert inside(board).statistics().passes == 1
    assert inside(board).statistics().kicks == 3


def test_a_kick_before_driver_ok_is_lost_for_good() -> None:
    board, queue = disk(start=False)
    queue.set_up()
    queue.enable()
    ask(board)
    with rules_hit() as hit:
        queue.kick()
    assert "sim.worker.not-running" in hit
    board.status(RUNNING)
    assert queue.used() == [], "DRIVER_OK does not look at the rings"
    queue.kick()
    assert queue.used() == [Used(0, 21)]


def test_a_worker_that_runs_after_driver_ok_serves_a_kick_from_before() -> None:
    board, queue = disk(start=False)
    queue.set_up()
    queue.enable()
    ask(board)
    inside(board).kick_vq(0)
    inside(board).set_status(RUNNING)
    board.sim.run_idle()
    assert queue.used() == [Used(0, 21)]


def test_a_kick_of_a_queue_that_is_not_enabled_is_ignored() -> None:
    board, queue = disk()
    queue.enable(0)
    ask(board)
    with rules_hit() as hit:
        queue.kick()
    assert "sim.kick.ignored" in hit
    queue.enable()
    assert queue.used() == [], "enabling does not kick"
    queue.kick()
    assert queue.used() == [Used(0, 21)]


def test_without_a_call_eventfd_the_request_is_done_all_the_same() -> None:
    board, queue = disk()
    board.call(vhost.VHOST_SET_VRING_CALL, 0, 0xFFFFFFFF)
    ask(board)
    queue.kick()
    assert (queue.used(), queue.interrupts()) == ([Used(0, 21)], 0)
    assert inside(board).statistics().interrupts == 0


def test_the_driver_is_never_told_to_kick_less() -> None:
    board, queue = disk()
    ask(board)
    queue.kick()
    assert board.ram.read(queue.ring.used_at, 2) == b"\0\0"


# -- suspend and resume


@pytest.mark.parametrize("kernel", ["6.12", "7.1", "tip"])
def test_a_kick_while_suspended_is_replayed_by_resume(kernel: str) -> None:
    board, queue = disk(kernel)
    board.call(vhost.VHOST_VDPA_SUSPEND)
    ask(board)
    with rules_hit() as hit:
        queue.kick()
    assert ("sim.kick.remembered" in hit, queue.used()) == (True, [])
    board.call(vhost.VHOST_VDPA_RESUME)
    assert queue.used() == [Used(0, 21)]
    assert not inside(board).pending_kick


def test_resume_kicks_every_queue_whichever_it_was() -> None:
    board = Board("vdpasim_net", queues=2)
    board.queues[0].enable(0)
    board.call(vhost.VHOST_VDPA_SUSPEND)
    board.queues[0].kick()
    before = inside(board).statistics()
    board.call(vhost.VHOST_VDPA_RESUME)
    after = inside(board).statistics()
    assert (after.kicks - before.kicks, after.passes - before.passes) == (3, 1)


def test_resume_does_not_kick_by_itself() -> None:
    board, queue = disk()
    board.call(vhost.VHOST_VDPA_SUSPEND)
    ask(board)
    board.call(vhost.VHOST_VDPA_RESUME)
    assert queue.used() == []


def test_6_1_remembers_nothing() -> None:
    board, queue = disk("6.1")
    board.call(vhost.VHOST_VDPA_SUSPEND)
    ask(board)
    with rules_hit() as hit:
        queue.kick()
    assert "sim.worker.not-running" in hit, "the worker runs and finds it may not"
    assert (queue.used(), inside(board).pending_kick) == ([], False)


def test_writing_the_status_again_restarts_a_suspended_device_without_the_kick() -> None:
    board, queue = disk()
    board.call(vhost.VHOST_VDPA_SUSPEND)
    ask(board)
    queue.kick()
    board.status(RUNNING)
    assert (inside(board).running, queue.used()) == (True, [])
    queue.kick()
    assert queue.used() == [Used(0, 21)]


@pytest.mark.parametrize("way", ["reset", "close"])
def test_the_remembered_kick_outlives_everything_but_resume(way: str) -> None:
    board, queue = disk()
    board.call(vhost.VHOST_VDPA_SUSPEND)
    queue.kick()
    if way == "reset":
        board.status(0)
    else:
        board.file.close_nowait()
    assert inside(board).pending_kick


def test_suspend_keeps_the_index() -> None:
    board, queue = disk()
    ask(board)
    queue.kick()
    board.call(vhost.VHOST_VDPA_SUSPEND)
    assert queue.base == 1


# -- status, features, config


@pytest.mark.parametrize("status", [1, 3, 0xB, 0x40, 0x80])
def test_without_driver_ok_the_device_does_not_run(status: int) -> None:
    board, queue = disk(start=False)
    queue.set_up()
    queue.enable()
    board.status(status)
    ask(board)
    queue.kick()
    assert (inside(board).running, queue.used()) == (False, [])
    for again in (status | 4, status):
        inside(board).set_status(again)
        assert inside(board).running == bool(again & 4)


def test_driver_ok_needs_nothing_before_it() -> None:
    board, queue = disk(start=False)
    queue.set_up()
    queue.enable()
    board.status(4)
    ask(board)
    queue.kick()
    assert queue.used() == [Used(0, 21)]


def test_features_are_stored_as_far_as_they_are_offered() -> None:
    device = inside(Machine("vdpasim_blk"))
    device.set_driver_features(2**64 - 1)
    assert device.get_driver_features() == 0x308007646
    device.set_driver_features(ACCESS_PLATFORM)
    assert device.get_driver_features() == ACCESS_PLATFORM


@pytest.mark.parametrize(
    ("kernel", "features"), [("6.1", 0), ("6.12", 1 << 6), ("6.12+lu-advertise", 1 << 6 | 1 << 9 | 1 << 10)]
)
def test_backend_features_of_the_device(kernel: str, features: int) -> None:
    assert Simulator(kernel).vdpa.dev_add("d", mgmtdev="vdpasim_net").device.get_backend_features() == features


def test_remapping_is_offered_where_user_addresses_are_used() -> None:
    device = Simulator("6.12+lu-advertise").vdpa.dev_add("d", mgmtdev="vdpasim_net", use_va=False).device
    assert device.get_backend_features() == 1 << 6 | 1 << 9


def test_the_links_state_cannot_be_written() -> None:
    device = inside(Machine())
    device.set_config(6, b"\0\0")
    assert device.get_config(6, 2) == b"\1\0"


# -- enabling a queue


def test_both_indices_go_on_from_the_base_whatever_memory_says() -> None:
    board, queue = disk(start=False)
    queue.set_up(base=100)
    queue.enable()
    board.status(RUNNING)
    queue.avail_idx = 100
    board.ram.write(queue.ring.used_at + 2, (7).to_bytes(2, "little"))
    queue.descriptor(0, IOVA + BUFFERS, 16, 0, 0)
    queue.offer(0)
    queue.kick()
    assert (queue.used_idx, queue.base) == (101, 101)
    assert board.ram.read(queue.ring.used_at + 4 + 8 * (100 % 16), 8) == bytes(8)


def test_disable_and_enable_keep_the_index() -> None:
    board, queue = disk()
    ask(board)
    queue.kick()
    queue.enable(0)
    queue.enable(1)
    ask(board)
    queue.kick()
    assert (len(queue.used()), queue.used_idx, queue.base) == (2, 2, 2)


def test_enabling_an_enabled_queue_does_nothing() -> None:
    board, queue = disk("6.12-ring-needs-suspend")
    board.call(vhost.VHOST_SET_VRING_ADDR, 0, 0, 0, 0, 0, 0, code="IIQQQQ")
    queue.enable()
    ask(board)
    queue.kick()
    assert queue.used() == [Used(0, 21)], "the addresses it was enabled with count"


def test_enabling_after_driver_ok_works() -> None:
    board, queue = disk(start=False)
    queue.set_up()
    board.status(RUNNING)
    queue.enable()
    ask(board)
    queue.kick()
    assert queue.used() == [Used(0, 21)]


def test_a_queue_whose_size_was_never_set_counts_as_ready_with_the_reset_ring() -> None:
    board, queue = disk(start=False)
    queue.set_up(num=0)
    with rules_hit() as hit:
        queue.enable()
    assert "sim.enable.no-size" in hit
    vq = inside(board).vqs[0]
    assert (vq.ready, vq.vring.num, vq.vring.desc, vq.vring.avail) == (True, 256, 0, 0)
    board.status(RUNNING)
    ask(board)
    queue.kick()
    assert (queue.used(), queue.base) == ([], 0)


@pytest.mark.parametrize(("num", "taken"), [(64, False), (128, True)])
def test_the_size_that_was_set_bounds_the_heads(num: int, taken: bool) -> None:
    board = Board("vdpasim_blk", num=num)
    queue = board.queues[0]
    queue.offer(64)
    queue.kick()
    assert queue.base == int(taken)


def test_the_state_of_a_queue_is_16_bits() -> None:
    device = inside(Machine("vdpasim_blk"))
    device.set_vq_state(0, 0x12345, 9)
    assert device.get_vq_state(0) == (0x2345, 0)


@pytest.mark.parametrize(("status", "size"), [(0, 256), (0xB, 256), (4, 64)])
def test_the_size_is_told_once_the_device_runs(status: int, size: int) -> None:
    device = inside(Machine("vdpasim_blk", batch_mapping=False))
    device.set_vq_num(0, 64)
    device.set_status(status)
    assert device.get_vq_size(0) == size


def test_groups_are_told_and_there_are_none_for_descriptors() -> None:
    machine = Machine()
    assert [inside(machine).get_vq_group(index) for index in range(3)] == [0, 0, 1]
    with refused(E.EOPNOTSUPP, "vdpa.group.desc-unsupported"):
        machine.call(vhost.VHOST_VDPA_GET_VRING_DESC_GROUP, 0, 0)


# -- reset


def test_reset_forgets_all_but_sizes_config_and_resets() -> None:
    board = Board("vdpasim_net", queues=3, negotiated=ACCESS_PLATFORM | VERSION_1 | 1 << 17)
    device = inside(board)
    board.call(vhost.VHOST_VDPA_SET_GROUP_ASID, 1, 1)
    device.set_config(0, b"\2\0\0\0\0\7")
    board.queues[1].descriptor(0, IOVA + BUFFERS, 0, 0, 0)
    board.queues[1].offer(0)
    board.queues[1].kick()
    before = device.statistics().resets
    assert (device.get_vq_state(1), device.vqs[2].vring.map) == ((1, 0), device.maps[1])
    board.status(0)
    assert (device.get_status(), device.get_driver_features(), device.running) == (0, 0, False)
    for vq in device.vqs:
        assert (vq.ready, vq.desc, vq.driver, vq.device, vq.cb) == (False, 0, 0, 0, None)
        assert (vq.num, vq.vring.num, vq.vring.last_avail_idx, vq.vring.last_used_idx) == (16, 256, 0, 0)
        assert vq.vring.map is device.maps[0], "group bindings are lost"
    assert device.get_config(0, 6) == b"\2\0\0\0\0\7"
    assert device.statistics().resets == before + 1


def test_a_device_that_was_reset_can_be_started_again() -> None:
    board, queue = disk()
    ask(board)
    queue.kick()
    board.status(0)
    board.features()
    board.update(2 * IOVA, PAGE, board.ram.addr)  # any push brings the whole table back
    queue = board.queues[0] = Queue(board, 0, 16)
    board.start()
    ask(board)
    queue.kick()
    assert queue.used() == [Used(0, 21)]


def test_open_and_release_reset_too() -> None:
    board, _ = disk()
    before = inside(board).statistics().resets
    board.file.close_nowait()
    assert (inside(board).statistics().resets, inside(board).vqs[0].ready) == (before + 1, False)
    board.process.open_nowait(board.path)
    assert inside(board).statistics().resets == before + 2


# -- maps


@pytest.mark.parametrize(("kernel", "passthrough"), [("6.1", False), ("6.12", True), ("tip", True)])
def test_a_map_starts_as_the_identity_since_6_7(kernel: str, passthrough: bool) -> None:
    machine = Machine("vdpasim_net", kernel)
    for one in inside(machine).maps:
        entries = [(entry.start, entry.last, entry.addr, entry.perm) for entry in one.table]
        assert one.passthrough == passthrough
        assert sum(last - start + 1 for start, last, _, _ in entries) == (2**64 if passthrough else 0)
        assert all(start == addr and perm == 3 for start, _, addr, perm in entries)


def test_before_the_first_update_an_io_address_is_a_user_address() -> None:
    board = Board("vdpasim_blk", mapped=False)
    ask(board)
    board.queues[0].kick()
    assert board.queues[0].used() == [Used(0, 21)]
    assert board.ram.read(BUFFERS + 0x1000, 12) == ID


def test_the_first_update_ends_the_identity() -> None:
    board = Board("vdpasim_blk", mapped=False)
    board.update(0, PAGE, board.ram.addr)
    ask(board)
    board.queues[0].kick()
    assert board.queues[0].used() == []


def test_a_map_emptied_again_is_no_identity() -> None:
    board = Board("vdpasim_blk", mapped=False)
    board.update(0, PAGE, board.ram.addr)
    with rules_hit() as hit:
        board.invalidate(0, PAGE)
    assert "sim.map.passthrough-restored" not in hit
    assert (len(inside(board).maps[0].table), inside(board).maps[0].passthrough) == (0, False)


@pytest.mark.parametrize("batch_mapping", [True, False])
def test_the_device_holds_what_was_mapped(batch_mapping: bool) -> None:
    machine = Machine("vdpasim_net", batch_mapping=batch_mapping)
    ram = machine.memory()
    machine.update(0x10000, PAGE, ram.addr)
    machine.update(0x20000, 2 * PAGE, ram.addr + PAGE, perm=1)
    machine.invalidate(0x10000, PAGE)
    entries = [(entry.start, entry.last, entry.addr, entry.perm) for entry in inside(machine).maps[0].table]
    assert entries == [(0x20000, 0x21FFF, ram.addr + PAGE, 1)]
    assert inside(machine).statistics().entries == (1 + 2 + 1 if batch_mapping else 2), "tables, or single entries"


def test_an_unmap_alone_ends_the_identity_of_an_incremental_device() -> None:
    board = Board("vdpasim_blk", batch_mapping=False, start=False)
    inside(board).reset_map(0)
    assert [one.passthrough for one in inside(board).maps] == [True]
    inside(board).dma_unmap(0, 0, PAGE)
    assert [(len(one.table), one.passthrough) for one in inside(board).maps] == [(0, False)]


@pytest.mark.parametrize("batch_mapping", [True, False])
def test_the_limit_of_entries_is_the_devices_own_and_what_it_held_stays(batch_mapping: bool) -> None:
    machine = Machine("vdpasim_net", batch_mapping=batch_mapping, max_iotlb_entries=2)
    ram = machine.memory()
    machine.update(0x10000, PAGE, ram.addr)
    machine.update(0x20000, PAGE, ram.addr)
    with refused(E.EFAULT, "iotlb.add.full", inside=E.ENOSPC):
        machine.update(0x30000, PAGE, ram.addr)
    assert [entry.start for entry in inside(machine).maps[0].table] == [0x10000, 0x20000]


def test_a_batch_that_does_not_fit_leaves_an_empty_map_and_nobody_is_told() -> None:
    machine = Machine("vdpasim_net", max_iotlb_entries=2)
    machine.call(vhost.VHOST_SET_BACKEND_FEATURES, 0x6, code="Q")
    ram = machine.memory()
    machine.message(BEGIN)
    for n in range(3):
        machine.update(n << 16, PAGE, ram.addr)
    assert machine.message(END) == 72
    assert len(inside(machine).maps[0].table) == 0
    machine.invalidate(0, PAGE)
    assert len(inside(machine).maps[0].table) == 2, "the next push repairs it"


def test_before_the_limit_was_enforced_there_was_none() -> None:
    machine = Machine("vdpasim_net", "7.1", batch_mapping=False, max_iotlb_entries=2)
    ram = machine.memory()
    for n in range(3):
        machine.update(n << 16, PAGE, ram.addr)
    assert len(inside(machine).maps[0].table) == 3


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_a_cleaning_reset_brings_the_default_map_back(kernel: str) -> None:
    board = Board("vdpasim_blk", kernel, start=False)
    assert not inside(board).maps[0].passthrough
    inside(board).reset(clean_map=True)
    assert inside(board).maps[0].passthrough == (kernel == "6.12")
    assert len(inside(board).maps[0].table) == (2 if kernel == "6.12" else 0)


@pytest.mark.parametrize(("kernel", "kept"), [("6.1", False), ("6.12", True)])
def test_a_reset_that_need_not_clean_keeps_the_map_but_on_6_1(kernel: str, kept: bool) -> None:
    board = Board("vdpasim_blk", kernel, start=False)
    entries = len(inside(board).maps[0].table)
    inside(board).reset(clean_map=False)
    assert len(inside(board).maps[0].table) == (entries if kept else 0)


def test_each_group_has_the_map_of_its_address_space_from_the_next_access_on() -> None:
    board = Board("vdpasim_net", queues=3, negotiated=ACCESS_PLATFORM | VERSION_1 | 1 << 17)
    board.call(vhost.VHOST_SET_BACKEND_FEATURES, 0xE, code="Q")
    control = board.queues[2]
    command = board.readable(0, b"\1\1\2\0\0\0\0\7")
    board.call(vhost.VHOST_VDPA_SET_GROUP_ASID, 1, 1)
    board.message(BEGIN, asid=1)
    board.message(END, asid=1)  # the identity of address space 1 becomes an empty map
    control.post(command, board.writable(0x100, 1))
    control.kick()
    assert control.used() == []
    board.update(IOVA, RAM, board.ram.addr, asid=1)
    control.kick()
    assert control.used() == [Used(0, 1)]


# -- whose memory


def test_memory_unmapped_by_the_owner_is_no_memory_for_the_device() -> None:
    board, queue = disk()
    ask(board)
    board.process.munmap(board.ram.addr + BUFFERS, 0x10000)
    queue.kick()
    assert queue.used() == [Used(0, 0)], "a header that cannot be read"


@pytest.mark.parametrize("batch_mapping", [True, False])
@pytest.mark.parametrize("use_va", [True, False])
def test_a_map_that_changes_between_two_requests_counts_at_once(use_va: bool, batch_mapping: bool) -> None:
    board, queue = disk(use_va=use_va, batch_mapping=batch_mapping)
    ask(board)
    queue.kick()
    assert queue.used() == [Used(0, 21)]
    ask(board)
    other = board.process.mmap(RAM, board.process.memfd("other", RAM))
    other.write(0, board.ram.read(0, RAM))
    other.write(BUFFERS + 0x1000, b"\xee" * 21)
    board.invalidate(IOVA, RAM)
    board.update(IOVA, RAM, other.addr)
    queue.kick()
    assert other.read(BUFFERS + 0x1000, 12) == ID
    assert (queue.used_idx, board.ram.read(BUFFERS + 0x1000, 21)) == (1, b"\xee" * 21)


def test_memory_mapped_anew_under_the_same_user_address_counts_at_once() -> None:
    board, queue = disk()
    ask(board)
    queue.kick()
    queue.used()
    ask(board)
    before = board.ram.read(0, RAM)
    other = board.process.mmap(RAM, board.process.memfd("other", RAM), addr=board.ram.addr)
    other.write(0, before)
    queue.kick()
    assert (queue.used(), other.read(BUFFERS + 0x1000, 12)) == ([Used(2, 21)], ID)


@pytest.mark.parametrize("used_idx", [0, 1])
def test_a_page_written_only_by_the_owner_may_not_be_written_by_the_device_after_mprotect(used_idx: int) -> None:
    board, queue = disk()
    for _ in range(used_idx):
        ask(board)
        queue.kick()
    ask(board)
    board.process.mprotect(board.ram.addr, PAGE, 1)
    queue.kick()
    assert (queue.used_idx, queue.base) == (used_idx, used_idx + 1), "done, but nobody can be told"


def test_pinned_memory_stays_memory_for_the_device() -> None:
    board, queue = disk(use_va=False)
    ask(board)
    again = board.process.mmap(RAM, board.process.memfd("other", RAM))
    board.process.munmap(board.ram.addr + BUFFERS, 0x10000)
    queue.kick()
    assert queue.used() == [Used(0, 21)]
    assert again.read(BUFFERS, 16) == bytes(16)


def test_when_the_bound_address_space_has_died_the_worker_does_nothing() -> None:
    board, queue = disk()
    ask(board)
    other = board.sim.process("other")
    held = [other.receive(file) for file in (board.file, queue.kick_fd)]
    board.process.exit_nowait()
    with rules_hit() as hit:
        held[1].write_nowait((1).to_bytes(8, "little"))
    assert "sim.worker.dead-mm" in hit
    assert inside(board).statistics().passes == 0
    assert inside(board).get_vq_state(0) == (0, 0)


def test_by_page_the_owners_death_is_no_matter() -> None:
    board, queue = disk(use_va=False)
    ask(board)
    other = board.sim.process("other")
    held = [other.receive(file) for file in (board.file, queue.kick_fd)]
    board.process.exit_nowait()
    held[1].write_nowait((1).to_bytes(8, "little"))
    assert inside(board).get_vq_state(0) == (1, 0)


def test_whether_user_addresses_are_used_is_decided_when_the_queue_is_enabled() -> None:
    board = Board("vdpasim_blk", mapped=False)
    device = inside(board)
    assert device.vqs[0].vring.mm is board.process.mm
    device.set_vq_ready(0, False)
    device.unbind_mm()
    device.set_vq_ready(0, True)
    device.bind_mm(board.process.mm)
    assert [vq.vring.mm for vq in device.vqs] == [None], "not changed behind the back of an enabled queue"


@pytest.mark.parametrize(("use_va", "target"), [(True, "va"), (False, "pa")])
def test_every_access_is_an_event_with_the_entry_and_the_place(use_va: bool, target: str) -> None:
    board, queue = disk(use_va=use_va)
    events: list[Event] = []
    board.sim.listen(events.append)
    ask(board)
    queue.kick()
    seen = [as_dict(event) for event in events if event[3] == Kind.DMA]
    header = next(one for one in seen if one["iova"] == IOVA + BUFFERS)
    assert (header["device"], header["queue"], header["length"], header["access"]) == ("dev", 0, 16, 1)
    assert (header["target"], header["place"]) == (target, (("vmm/m", BUFFERS, 16),))
    assert header["serial"] > 0
    assert {one["access"] for one in seen if one["iova"] > IOVA + BUFFERS} == {2}


def test_through_the_identity_the_event_names_no_entry() -> None:
    board = Board("vdpasim_blk", mapped=False)
    events: list[Event] = []
    board.sim.listen(events.append)
    ask(board)
    board.queues[0].kick()
    assert {(one["target"], one["serial"]) for one in map(as_dict, events) if one["kind"] == Kind.DMA} == {
        ("passthrough-va", 0)
    }
