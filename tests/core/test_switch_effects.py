"""Each switch, on and off: what a caller sees of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.core.support import ACCESS_PLATFORM, KICK, VERSION_1, Machine
from tests.core.vhost.test_net_handlers import Net
from vdpasim.core.switches import SWITCHES
from vdpasim.core.vhost.net import VhostNet
from vdpasim.explore import explore
from vdpasim.scenario.loader import load
from vdpasim.scenario.runner import run
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.uapi.mman import MAP_SHARED, PROT_WRITE
from vdpasim.vmm.blk import IOVA, RAM, SECTOR, BlkVmm
from vdpasim.vmm.guest import Buffer, Virtqueue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vdpasim.uapi.ioctl import Ioctl

OK = 0
DRIVER_OK = 0xF
PAGE = 4096
CAPACITY = 0x40000
RX, TX = 0, 1
STORIES = {found.scenario.name: found for found in load([Path(__file__).parents[2] / "scenarios" / "history"])}


def errno_of(call: Callable[[], object]) -> int:
    try:
        call()
    except OSError as error:
        return int(getattr(error, "handler_errno", 0))
    return OK


def request(one: Machine, ioctl: Ioctl, *words: int, code: str = "") -> int:
    return errno_of(lambda: one.call(ioctl, *words, code=code))


def backend_bit(bit: int) -> Callable[[str], bool]:
    return lambda kernel: bool(Machine(kernel=kernel).number(vhost.VHOST_GET_BACKEND_FEATURES, 8) >> bit & 1)


def feature_bit(kind: str, bit: int) -> Callable[[str], bool]:
    return lambda kernel: bool(Machine(kind, kernel).number(vhost.VHOST_GET_FEATURES, 8) >> bit & 1)


# -- vhost-vdpa


def limit_of_entries(kernel: str) -> int:
    one = Machine(kernel=kernel, batch_mapping=False)
    ram = one.memory(PAGE)
    answers = (errno_of(partial(one.update, i * PAGE, PAGE, ram.addr)) for i in range(2050))
    return next((errno for errno in answers if errno), OK)


def page_count_overflow(kernel: str) -> str:
    one = Machine(kernel=kernel, use_va=False)
    try:
        one.update(0xFFF, 2**64 - 0xFFF, 0)
    except OSError as error:
        return str(getattr(error, "rule", ""))
    return ""


def size_beyond_the_maximum(kernel: str) -> int:
    return request(Machine(kernel=kernel), vhost.VHOST_SET_VRING_NUM, 0, 512)


def config_eventfd_after_a_bad_one(kernel: str) -> bool:
    one = Machine(kernel=kernel)
    one.call(vhost.VHOST_VDPA_SET_CONFIG_CALL, one.process.eventfd().fd)
    assert request(one, vhost.VHOST_VDPA_SET_CONFIG_CALL, 999) == E.EBADF
    assert one.device.node.opened is not None
    return one.device.node.opened.config_ctx is not None


def doorbell_of_a_wild_queue(kernel: str) -> str:
    one = Machine(kernel=kernel)
    try:
        one.file.mmap_nowait(PAGE, PROT_WRITE, MAP_SHARED, 0x10000 * PAGE)
    except OSError as error:
        return str(getattr(error, "rule", ""))
    return ""


def group_beyond_the_last(kernel: str) -> int:
    return request(Machine(kernel=kernel), vhost.VHOST_VDPA_SET_GROUP_ASID, 2, 0)


def group_of_a_running_device(kernel: str) -> int:
    one = Machine(kernel=kernel)
    one.status(DRIVER_OK)
    return request(one, vhost.VHOST_VDPA_SET_GROUP_ASID, 0, 0)


def base_of_a_running_device(kernel: str) -> int:
    one = Machine(kernel=kernel)
    one.status(DRIVER_OK)
    return request(one, vhost.VHOST_SET_VRING_BASE, 0, 0)


def resume_before_driver_ok(kernel: str) -> bool:
    # whether the device, which nobody started, runs
    one = Machine(kernel=kernel)
    one.call(vhost.VHOST_VDPA_RESUME)
    return bool(one.device.device.running)  # type: ignore[attr-defined]


def identity_at_start(kernel: str) -> int:
    device: Any = Machine(kernel=kernel).device.device
    return len(device.maps[0].table)


# -- vdpa_sim's devices


def blk(kernel: str, story: Callable[[BlkVmm], Awaitable[Any]], **options: Any) -> Any:
    async def main(sim: Simulator) -> Any:
        path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk", **options).path
        return await story(await BlkVmm.boot(sim.process("vmm"), path))

    return Simulator(kernel).run(main)


def kick_while_suspended(kernel: str) -> bool:
    # whether RESUME finds the request

    async def story(vmm: BlkVmm) -> bool:
        await vmm.device.suspend()
        vmm.post(0, 0, SECTOR)
        await vmm.kick_device()
        await vmm.device.resume()
        return bool(vmm.vq.used())

    return bool(blk(kernel, story))


def read_only_used_ring(kernel: str) -> bool:
    # whether the used index moves where only its element may be written

    async def story(vmm: BlkVmm) -> bool:
        vmm.vq = Virtqueue(vmm.ram, IOVA, 16, offset=PAGE - 16 * 16 - 40 - 4)
        assert vmm.vq.used_at == PAGE - 4
        await vmm.device.set_status(0)
        await vmm.device.iotlb_invalidate(0, 2**64 - 1)
        await vmm.negotiate()
        await vmm.device.iotlb_update(IOVA, PAGE, vmm.ram.addr, 1)
        await vmm.device.iotlb_update(IOVA + PAGE, RAM - PAGE, vmm.ram.addr + PAGE)
        await vmm.start()
        vmm.post(0, 0, SECTOR)
        await vmm.kick_device()
        return vmm.ram.read(PAGE - 2, 2) == b"\1\0"

    return bool(blk(kernel, story))


def zero_sectors_at_the_end(kernel: str) -> int:
    async def story(vmm: BlkVmm) -> int:
        return (await vmm.request(0, CAPACITY, 0))[0]

    return int(blk(kernel, story))


def failed_gather(kernel: str) -> list[str]:
    one = loopback(kernel)
    one.rings[TX].add(Buffer(1 << 40, 64))
    one.kick(TX)
    return [ident for ident, _ in one.machine.sim.kernel.violations]


def frames_of_one_pass(kernel: str) -> int:
    # one delivered frame behind five for somebody else: how often the worker ran
    one = loopback(kernel)
    ram = one.ram
    ram.write(0x8000, bytes(12) + b"\x02" * 6 + bytes(46))
    ram.write(0x9000, bytes(12) + b"\xff" * 6 + bytes(46))
    for at in (0x8000,) * 5 + (0x9000,):
        one.rings[TX].add(Buffer(IOVA + at, 64))
    one.rings[RX].add(Buffer(IOVA + 0xA000, 64, writable=True))
    one.kick(TX)
    return int(one.machine.device.device.statistics().passes)  # type: ignore[attr-defined]


class loopback:  # noqa: N801 - reads as the call it is
    """vdpasim_net, started."""

    def __init__(self, kernel: str) -> None:
        self.machine = machine = Machine(kernel=kernel)
        self.ram = ram = machine.memory()
        machine.update(IOVA, 1 << 16, ram.addr)
        machine.features(ACCESS_PLATFORM | VERSION_1)
        self.rings = [Virtqueue(ram, IOVA, 16, offset=0x1000 * queue) for queue in (RX, TX)]
        self.kicks = [machine.process.eventfd() for _ in self.rings]
        for queue, ring in enumerate(self.rings):
            desc, avail, used = ring.addresses()
            machine.call(vhost.VHOST_SET_VRING_NUM, queue, 16)
            machine.call(vhost.VHOST_SET_VRING_ADDR, queue, 0, desc, used, avail, 0, code="IIQQQQ")
            machine.call(vhost.VHOST_SET_VRING_KICK, queue, self.kicks[queue].fd)
            machine.call(vhost.VHOST_VDPA_SET_VRING_ENABLE, queue, 1)
        machine.status(DRIVER_OK)

    def kick(self, queue: int) -> None:
        self.kicks[queue].write_nowait(KICK)


# -- vhost-net


def net(kernel: str) -> tuple[Machine, VhostNet]:
    one = Machine("vhost-net", kernel)
    ops = one.file.open_file.ops
    assert isinstance(ops, VhostNet)
    return one, ops


def cache_of_a_moved_ring(kernel: str) -> bool:
    one, device = net(kernel)
    entry: Any = object()
    device.vqs[0].meta_iotlb["desc"] = entry
    one.call(vhost.VHOST_SET_VRING_ADDR, 0, 0, 0x1000, 0x2000, 0x3000, 0, code="IIQQQQ")
    return bool(device.vqs[0].meta_iotlb)


def ring_addresses_when_the_iotlb_comes(kernel: str) -> int:
    one, device = net(kernel)
    one.call(vhost.VHOST_SET_VRING_ADDR, 0, 0, 0x1000, 0x2000, 0x3000, 0, code="IIQQQQ")
    one.features(ACCESS_PLATFORM)
    return device.vqs[0].desc


def iotlb_after_features_without_it(kernel: str) -> bool:
    one, device = net(kernel)
    one.features(ACCESS_PLATFORM)
    one.features(VERSION_1)
    return device.iotlb is not None


def rounds_of_a_broken_chain(kernel: str) -> bool:
    # whether a chain that cannot be served counts as new when notifications are enabled again
    one, device = net(kernel)
    vq = device.vqs[TX]
    ram = one.memory()
    ring = Virtqueue(ram, ram.addr, 16)
    vq.num, (vq.desc, vq.avail, vq.used) = 16, ring.addresses()
    ring.add(Buffer(0, 1))
    vq.used_flags, vq.avail_idx = 1, 1
    from vdpasim.core.vhost.vhost_vq import enable_notify

    return enable_notify(vq)


def features_array(kernel: str) -> int:
    one, _ = net(kernel)
    return request(one, vhost.VHOST_GET_FEATURES_ARRAY, 2, 0, 0, 0, 0, 0)


def third_word(kernel: str) -> bool:
    # whether the low word of the features is still there when a third was asked for
    one, _ = net(kernel)
    out = one.call(vhost.VHOST_GET_FEATURES_ARRAY, 3, 0, 0, 0, code="QQQQ")
    return any(out[8:16])


def fork_owner(kernel: str) -> int:
    return request(Machine("vhost-net", kernel, owner=False), vhost.VHOST_SET_FORK_FROM_OWNER, 1, code="B")


# -- bugs: what their stories see


# -- series


def lu_blk(kernel: str, story: Callable[[BlkVmm], Awaitable[Any]], series: str, **options: Any) -> Any:
    return blk(f"{kernel}+{series}", story, **options)


def successor_of_a_dead_image(kernel: str) -> list[str]:
    async def story(vmm: BlkVmm) -> list[str]:
        await vmm.exec(0x6000_0000_0000)
        await vmm.device.new_owner()
        return [ident for ident, _ in vmm.process.sim.kernel.violations]

    found: list[str] = lu_blk(kernel, story, "live-update-v1", use_va=False)
    return found


async def _answer(call: Awaitable[None]) -> int:
    try:
        await call
    except OSError as error:
        return int(error.errno or 0)
    return OK


def run_before_the_remap(kernel: str) -> int:
    async def story(vmm: BlkVmm) -> int:
        await vmm.device.suspend()
        await vmm.exec(0x6000_0000_0000)
        await vmm.device.new_owner()
        return await _answer(vmm.device.resume())

    return int(lu_blk(kernel, story, "live-update-fixed"))


def remap_to_other_memory(kernel: str) -> int:
    async def story(vmm: BlkVmm) -> int:
        other = vmm.process.mmap(RAM, vmm.process.memfd("other", RAM))
        return await _answer(vmm.device.iotlb_remap(IOVA, RAM, other.addr))

    return int(lu_blk(kernel, story, "live-update-fixed"))


def told(story: str) -> Callable[[str], object]:
    """What a story of scenarios/history finds."""
    return lambda kernel: sorted({one.id for verdict in run(STORIES[story], kernel=kernel) for one in verdict.found})


def explored(race: str) -> Callable[[str], object]:
    """What some interleaving of a story of scenarios/races finds."""
    (found,) = load([f"{Path(__file__).parents[2]}/scenarios/races/{race}.py::{race}"])
    return lambda kernel: sorted(
        {ident for failure in explore(found.scenario, kernel=kernel, go_on=True).failures for ident in failure.ids}
    )


def num_buffers_without_mergeable_ones(kernel: str) -> int:
    net = Net(ACCESS_PLATFORM | VERSION_1, kernel=kernel)
    net.map(0, 0x10000)
    net.backend(RX)
    net.rings[RX].add(Buffer(IOVA + 0x8000, 200, True))
    net.kicked(RX)
    net.socket.deliver(bytes(60))
    net.sim.run_idle()
    return int.from_bytes(net.ram.read(0x8000 + 10, 2), "little")


EFFECTS: list[tuple[str, Callable[[str], object], object, object]] = [
    ("F1", limit_of_entries, OK, E.ENOSPC),
    ("F2", page_count_overflow, "vdpa.pa.npages", "vdpa.pa.overflow"),
    ("F3", cache_of_a_moved_ring, True, False),
    ("F4", size_beyond_the_maximum, OK, E.EINVAL),
    ("F5", config_eventfd_after_a_bad_one, False, True),
    ("F6", explored("config_interrupt"), ["kernel.oops"], []),
    ("F7", explored("call_interrupt"), ["irq.lost", "kernel.oops"], []),
    ("F8", ring_addresses_when_the_iotlb_comes, 0x1000, 0),
    ("F9", iotlb_after_features_without_it, True, False),
    ("F10", zero_sectors_at_the_end, 0, 1),
    ("F11", failed_gather, ["kernel.leak"], []),
    ("F14", rounds_of_a_broken_chain, True, False),
    ("F15", doorbell_of_a_wild_queue, "vdpa.mmap.index", "vdpa.mmap.unsupported"),
    ("F16", group_beyond_the_last, OK, E.EINVAL),
    ("va-mode", lambda kernel: Machine(kernel=kernel).device.device.use_va, False, True),
    ("passthrough", identity_at_start, 0, 2),
    ("resume", backend_bit(5), False, True),
    ("pending-kick", kick_while_suspended, False, True),
    ("iotlb-persist", backend_bit(8), False, True),
    ("enable-after-driver-ok", backend_bit(6), False, True),
    (
        "desc-asid",
        lambda kernel: request(Machine(kernel=kernel), vhost.VHOST_VDPA_GET_VRING_DESC_GROUP, 0, 0),
        E.ENOTTY,
        E.EOPNOTSUPP,
    ),
    (
        "vring-size",
        lambda kernel: request(Machine(kernel=kernel, batch_mapping=False), vhost.VHOST_VDPA_GET_VRING_SIZE, 0, 0),
        E.ENOTTY,
        OK,
    ),
    ("suspend-needs-driver-ok", resume_before_driver_ok, True, False),
    ("ring-needs-suspend", base_of_a_running_device, OK, E.EINVAL),
    ("group-asid-needs-stopped", group_of_a_running_device, OK, E.EBUSY),
    ("used-idx-read-perm", read_only_used_ring, False, True),
    ("net-status", feature_bit("vdpasim_net", 16), False, True),
    ("net-budget-frames", frames_of_one_pass, 1, 2),
    ("blk-zoned", lambda kernel: Machine("vdpasim_blk", kernel).number(vhost.VHOST_VDPA_GET_CONFIG_SIZE, 4), 72, 96),
    ("vhost-ring-reset", feature_bit("vhost-net", 40), False, True),
    ("vhost-num-buffers", num_buffers_without_mergeable_ones, 0, 1),
    ("vhost-in-order", feature_bit("vhost-net", 35), False, True),
    ("features-array", features_array, E.ENOBUFS, OK),
    ("fork-owner", fork_owner, E.EPERM, OK),
    ("bug-features-array-zero-fill", third_word, True, False),
    (
        "live-update-v1",
        lambda kernel: request(Machine(kernel=kernel + "+lu-advertise"), vhost.VHOST_NEW_OWNER),
        E.EFAULT,
        E.EBUSY,
    ),
    (
        "live-update-v2",
        lambda kernel: request(Machine(kernel=kernel + "+lu-advertise"), vhost.VHOST_NEW_OWNER),
        E.EFAULT,
        E.EBUSY,
    ),
    (
        "live-update-fixed",
        lambda kernel: request(Machine(kernel=kernel + "+lu-advertise"), vhost.VHOST_NEW_OWNER),
        E.EFAULT,
        E.EBUSY,
    ),
    ("lu-drops-old-mm", successor_of_a_dead_image, [], ["uaf.old-mm"]),
    ("lu-guard-resume", run_before_the_remap, OK, E.EBUSY),
    ("lu-guard-same-object", remap_to_other_memory, OK, E.EFAULT),
    ("lu-advertise", backend_bit(9), False, True),
    ("bug-message-without-iotlb", told("message_without_iotlb"), [], ["kernel.oops"]),
    ("bug-message-unlocked", explored("close_write"), [], ["kernel.oops"]),
    ("bug-backend-fd-twice", explored("backend_fd"), [], ["kernel.oops"]),
    ("bug-message-padding", told("message_padding"), [], ["kernel.leak"]),
    ("bug-no-msg-v2", told("program_of_32_bits"), [], ["history.shut-out"]),
    ("bug-miss-last-byte", told("miss_of_the_last_byte"), [], ["history.queue-sleeps", "miss.unanswered"]),
    ("bug-iotlb-recreate-cache", told("iotlb_made_anew"), [], ["kernel.oops"]),
    ("bug-update-size-zero", told("update_of_everything"), [], ["kernel.hang"]),
    ("bug-batch-size-zero", told("batch_without_size"), [], ["history.batch-refused"]),
    ("bug-invalidate-size-zero", told("flush_with_size_zero"), [], ["history.flush-refused"]),
    ("bug-lookup-grows", told("look_up_that_grows"), [], ["history.missed-though-mapped"]),
    ("bug-stale-misses", told("miss_of_a_removed_backend"), [], ["history.stale-miss"]),
    ("bug-update-wrap", told("update_that_wraps"), [], ["history.wrapped-update"]),
    ("bug-user-range-off-by-one", told("last_page_of_all"), [], ["history.last-page-refused"]),
    ("bug-pin-leak", told("pins_of_a_failed_update"), [], ["history.pinned-for-ever"]),
    (
        "bug-close-leaks-asid",
        told("address_space_behind_the_first"),
        [],
        ["history.pinned-after-close", "iotlb.divergence"],
    ),
    ("bug-log-iova", told("dirty_page_behind_an_iommu"), [], ["history.dirty-page-lost"]),
    ("bug-log-overflow", told("log_of_empty_descriptors"), [], ["kernel.oops"]),
    ("bug-rx-heads", told("buffers_of_one_byte"), [], ["kernel.oops"]),
    ("bug-indirect-limit", told("long_indirect_table"), [], ["history.chain-lost"]),
    ("bug-zero-length-segment", told("descriptor_of_length_0"), [], ["kernel.hang"]),
    (
        "bug-vringh-short-copy",
        told("memory_that_went_away"),
        ["dma.fault"],
        ["dma.fault", "history.lost-data-called-ok"],
    ),
    ("bug-config-ctx-dangles", told("config_eventfd_of_the_last_open"), [], ["kernel.oops"]),
    ("bug-config-underflow", told("config_beyond_the_end"), [], ["history.config-beyond-the-end"]),
    ("bug-packed-base", told("state_of_a_packed_ring"), [], ["history.packed-state-lost"]),
    ("bug-ring-max", told("ring_of_the_largest_size"), [], ["history.past-the-ring"]),
    ("bug-enable-base", told("base_before_enable"), [], ["history.base-forgotten", "ring.replay"]),
    ("bug-enable-twice", told("enabled_twice"), [], ["history.request-replayed", "ring.replay"]),
    ("bug-blk-no-groups", told("disk_without_address_space"), [], ["history.no-address-space"]),
    ("bug-va-undo-wipes-all", told("failed_update_at_0"), [], ["history.address-space-wiped"]),
    ("bug-get-id-status", told("short_get_id"), [], ["history.status-eaten", "irq.lost"]),
    ("bug-ctrl-ack-carry", told("unknown_control_class"), [], ["history.ack-of-another"]),
    ("bug-ctrl-partial-mac", told("short_mac_address"), [], ["history.half-an-address"]),
    ("bug-rx-overrun-stops", told("frames_without_a_buffer"), [], ["history.frames-stranded"]),
]


@pytest.mark.parametrize(("switch", "seen", "off", "on"), EFFECTS, ids=[row[0] for row in EFFECTS])
def test_a_switch_changes_what_a_caller_sees(
    switch: str, seen: Callable[[str], object], off: object, on: object
) -> None:
    assert seen(f"tip-{switch}") == off
    assert seen(f"tip+{switch}") == on


def test_f4_is_two_things() -> None:
    seen = explored("vring_num")
    assert (seen("tip-F4"), seen("tip")) == (["vring.size-lost"], [])


def test_every_switch_that_is_modelled_has_an_effect_here() -> None:
    modelled = {name for name, switch in SWITCHES.items() if not switch.unmodelled}
    assert {row[0] for row in EFFECTS} == modelled
