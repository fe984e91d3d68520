"""NEW_OWNER and REMAP as the two posted series have them: the order of refusals, the accounting, and the defect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tests.core.support import Machine, refused
from vdpasim.core.events import Kind
from vdpasim.core.rules import observe
from vdpasim.devices.profile import load
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.uapi.vhost_types import VHOST_IOTLB_BATCH_BEGIN, VHOST_IOTLB_BATCH_END, VHOST_IOTLB_REMAP

if TYPE_CHECKING:
    from vdpasim.core.events import Event
    from vdpasim.core.vhost.iotlb import Iotlb
    from vdpasim.sim import File

V1, V2 = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise"
PAGE = 4096
IOVA = 0x10000
OLD, NEW = 0x7000_0000, 0x7100_0000


def machine(kernel: str = V1, **options: Any) -> Machine:
    one = Machine(kernel=kernel, **options)
    one.process.mmap(16 * PAGE, one.process.memfd("ram", 16 * PAGE), addr=OLD)
    return one


def remap(one: Machine, *, iova: int = IOVA, size: int = 4 * PAGE, uaddr: int = NEW, perm: int = 0) -> int:
    return one.message(VHOST_IOTLB_REMAP, iova=iova, size=size, uaddr=uaddr, perm=perm)


def tree(one: Machine) -> Iotlb:
    opened = one.device.node.opened
    assert opened is not None
    return opened.spaces.tables[0]


def addresses(table: Iotlb) -> list[int]:
    return [entry.addr for entry in table]


def device_map(one: Machine) -> Iotlb:
    device: Any = one.device.device
    return device.maps[0].table  # type: ignore[no-any-return]


# -- NEW_OWNER


def successor(one: Machine, memlock: int = 8 << 20) -> File:
    return one.sim.process("new", memlock=memlock).receive(one.file)


@pytest.mark.parametrize("kernel", [V1, V2])
def test_new_owner_makes_the_caller_s_address_space_the_device_s(kernel: str) -> None:
    one = machine(kernel)
    file = successor(one)
    one.call(vhost.VHOST_NEW_OWNER, file=file)
    with refused(E.EPERM, "vhost.owner.perm"):
        one.call(vhost.VHOST_SET_VRING_NUM, 0, 8)
    one.call(vhost.VHOST_SET_VRING_NUM, 0, 8, file=file)
    with refused(E.EFAULT, "vdpa.msg.owner", inside=E.EPERM):
        one.invalidate(0, PAGE)


def bound(one: Machine) -> object:
    """Whose memory the device works in."""
    device: Any = one.device.device
    return device.mm_bound


def test_the_device_works_in_the_new_owner_s_memory_from_there_on() -> None:
    one = machine()
    file = successor(one)
    one.call(vhost.VHOST_NEW_OWNER, file=file)
    assert bound(one) is file.process.mm


@pytest.mark.parametrize("pages", [0, 4])
@pytest.mark.parametrize("dropped", [False, True])
def test_an_old_owner_that_is_gone_is_counted_on_all_the_same(dropped: bool, pages: int) -> None:
    one = machine(V1 + "+lu-drops-old-mm" * dropped, use_va=False)
    if pages:
        one.update(IOVA, pages * PAGE, OLD)
    file, old = successor(one), one.process.mm
    one.process.exit_nowait()
    one.call(vhost.VHOST_NEW_OWNER, file=file)
    assert (old.pinned_vm, file.process.mm.pinned_vm) == (0, pages)
    assert [ident for ident, _ in one.sim.kernel.violations] == ["uaf.old-mm"] * (dropped and pages > 0)


def test_one_that_lives_is_not_freed_memory() -> None:
    one = machine(V1 + "+lu-drops-old-mm", use_va=False)
    one.update(IOVA, PAGE, OLD)
    one.call(vhost.VHOST_NEW_OWNER, file=successor(one))
    assert one.sim.kernel.violations == []


def test_a_device_without_the_bit_is_refused_before_everything_else() -> None:
    one = machine("6.12+live-update-v2", owner=False)
    with refused(E.EOPNOTSUPP, "vdpa.new-owner.unsupported"):
        one.call(vhost.VHOST_NEW_OWNER)


def test_mainline_takes_the_number_for_a_ring_request() -> None:
    one = machine("6.12")
    with refused(E.EFAULT, "uaccess.from-user"):
        one.call(vhost.VHOST_NEW_OWNER)


def test_nobody_owns_it_yet() -> None:
    with refused(E.EINVAL, "vdpa.new-owner.unowned"):
        machine(owner=False).call(vhost.VHOST_NEW_OWNER)


def test_the_owner_itself_is_busy() -> None:
    one = machine()
    with refused(E.EBUSY, "vdpa.new-owner.same"):
        one.call(vhost.VHOST_NEW_OWNER)
    assert one.device.device.mm_bound is one.process.mm  # type: ignore[attr-defined]


def test_pinned_pages_move_with_the_owner() -> None:
    one = machine(use_va=False)
    one.update(IOVA, 4 * PAGE, OLD)
    file = successor(one)
    one.call(vhost.VHOST_NEW_OWNER, file=file)
    assert (one.process.mm.pinned_vm, file.process.mm.pinned_vm) == (0, 4)


@pytest.mark.parametrize(("pages", "fits"), [(4, True), (3, False)])
def test_they_must_fit_the_caller_s_limit(pages: int, fits: bool) -> None:
    one = machine(use_va=False)
    one.update(IOVA, 4 * PAGE, OLD)
    file = successor(one, memlock=pages * PAGE)
    if fits:
        one.call(vhost.VHOST_NEW_OWNER, file=file)
        return
    with refused(E.ENOMEM, "vdpa.new-owner.memlock"):
        one.call(vhost.VHOST_NEW_OWNER, file=file)
    assert (one.process.mm.pinned_vm, file.process.mm.pinned_vm) == (4, 0)


def test_the_owner_s_own_pins_count_twice() -> None:
    one = machine(use_va=False)
    one.process.limits.memlock = 7 * PAGE
    one.update(IOVA, 4 * PAGE, OLD)
    with refused(E.ENOMEM, "vdpa.new-owner.memlock"):
        one.call(vhost.VHOST_NEW_OWNER)


def test_in_va_mode_nothing_is_pinned_and_no_limit_asked() -> None:
    one = machine()
    one.update(IOVA, 4 * PAGE, OLD)
    one.call(vhost.VHOST_NEW_OWNER, file=successor(one, memlock=0))


# -- REMAP


@pytest.mark.parametrize("kernel", [V1, V2])
def test_remap_gives_an_entry_another_address_and_looks_at_nothing_there(kernel: str) -> None:
    one = machine(kernel)
    one.update(IOVA, 4 * PAGE, OLD)
    assert remap(one, uaddr=0xDEAD_0000_0000_0001) == 72
    assert addresses(tree(one)) == [0xDEAD_0000_0000_0001]


@pytest.mark.parametrize(
    ("message", "rule", "inside"),
    [
        ({"perm": 1}, "vdpa.remap.args", E.EINVAL),
        ({"size": 0}, "vdpa.remap.args", E.EINVAL),
        ({"iova": 0}, "vdpa.remap.absent", E.ENOENT),
        ({"iova": IOVA + 4 * PAGE}, "vdpa.remap.absent", E.ENOENT),
        ({"size": PAGE}, "vdpa.remap.inexact", E.EINVAL),
        ({"size": 5 * PAGE}, "vdpa.remap.inexact", E.EINVAL),
        ({"iova": IOVA + PAGE, "size": 3 * PAGE}, "vdpa.remap.inexact", E.EINVAL),
        ({"iova": 0, "size": 1 << 63}, "vdpa.remap.inexact", E.EINVAL),
    ],
)
def test_it_must_name_one_entry_exactly(message: dict[str, int], rule: str, inside: int) -> None:
    one = machine()
    one.update(IOVA, 4 * PAGE, OLD)
    with refused(E.EFAULT, rule, inside=inside):
        remap(one, **message)
    assert addresses(tree(one)) == [OLD]


def test_arguments_are_looked_at_before_the_bit_and_the_bit_before_the_entry() -> None:
    one = machine("6.12+live-update-v1-lu-advertise")
    one.update(IOVA, 4 * PAGE, OLD)
    with refused(E.EFAULT, "vdpa.remap.args", inside=E.EINVAL):
        remap(one, perm=3)
    with refused(E.EFAULT, "vdpa.remap.unsupported", inside=E.EOPNOTSUPP):
        remap(one, iova=0)


def test_each_entry_that_leads_elsewhere_is_told() -> None:
    one = machine()
    one.update(IOVA, 4 * PAGE, OLD)
    remap(one)  # nobody listens
    heard: list[Event] = []
    one.sim.listen(heard.append)
    remap(one, uaddr=OLD)
    (told,) = [event[4:] for event in heard if event[3] == Kind.REMAP]
    assert told == ("vhost-vdpa-0", 0, 1, IOVA, IOVA + 4 * PAGE - 1, NEW, OLD)


@pytest.mark.parametrize("kernel", [V1, V2])
def test_a_driver_that_cannot_be_asked_is_a_null_call(kernel: str) -> None:
    mute = attrs.evolve(load("vdpasim_blk-6.12"), tells_backend_features=False, backend_features=0)
    one = Machine(mute, kernel)
    one.update(IOVA, 4 * PAGE, one.memory().addr)
    with refused(E.EFAULT, "vdpa.remap.null-features", inside=E.EOPNOTSUPP):
        remap(one)
    ((ident, text),) = one.sim.kernel.violations
    assert (ident, "get_backend_features" in text) == ("kernel.oops", True)


def test_in_pa_mode_the_bit_is_not_offered() -> None:
    one = machine(use_va=False)
    one.update(IOVA, 4 * PAGE, OLD)
    with refused(E.EFAULT, "vdpa.remap.unsupported", inside=E.EOPNOTSUPP):
        remap(one)


@pytest.mark.parametrize("kernel", [V1, V2])
def test_outside_a_batch_the_device_gets_the_old_address(kernel: str) -> None:
    one = machine(kernel)
    one.update(IOVA, 4 * PAGE, OLD)
    one.update(2 * IOVA, 4 * PAGE, OLD + 4 * PAGE)
    remap(one)
    assert addresses(device_map(one)) == [OLD, OLD + 4 * PAGE]
    remap(one, iova=2 * IOVA, uaddr=NEW + 4 * PAGE)
    assert addresses(device_map(one)) == [NEW, OLD + 4 * PAGE]
    assert addresses(tree(one)) == [NEW, NEW + 4 * PAGE]


@pytest.mark.parametrize("kernel", [V1, V2])
def test_a_batch_hands_over_what_the_tree_has_at_its_end(kernel: str) -> None:
    one = machine(kernel)
    one.update(IOVA, 4 * PAGE, OLD)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    remap(one)
    assert addresses(device_map(one)) == [OLD]
    one.message(VHOST_IOTLB_BATCH_END)
    assert addresses(device_map(one)) == [NEW]


def test_a_device_without_set_map_is_refused_in_v2_and_a_null_call_in_v1() -> None:
    v2, v1 = (machine(kernel, batch_mapping=False) for kernel in (V2, V1))
    for one in (v2, v1):
        one.update(IOVA, 4 * PAGE, OLD)
    with refused(E.EFAULT, "vdpa.remap.no-set-map", inside=E.EINVAL):
        remap(v2)
    assert not v2.sim.kernel.violations
    with refused(E.EFAULT, "vdpa.remap.null-call"):
        remap(v1)
    assert [ident for ident, _ in v1.sim.kernel.violations] == ["kernel.oops"]


def test_in_v1_a_batch_hides_that_the_device_is_never_told() -> None:
    one = machine(V1, batch_mapping=False)
    one.update(IOVA, 4 * PAGE, OLD)
    one.message(VHOST_IOTLB_BATCH_BEGIN)
    assert remap(one) == 72
    one.message(VHOST_IOTLB_BATCH_END)
    assert (addresses(tree(one)), addresses(device_map(one))) == ([NEW], [OLD])


# -- what no other test would miss


def test_a_device_with_user_addresses_asks_no_limit_even_of_a_caller_that_pins() -> None:
    one = machine()
    one.update(IOVA, 4 * PAGE, OLD)
    file = successor(one, memlock=8 * PAGE)
    file.process.mm.pinned_vm = 9
    one.call(vhost.VHOST_NEW_OWNER, file=file)
    assert (one.process.mm.pinned_vm, file.process.mm.pinned_vm) == (0, 9)


def test_the_byte_behind_the_range_is_not_looked_at() -> None:
    one = machine()
    one.update(IOVA, 4 * PAGE, OLD)
    with refused(E.EFAULT, "vdpa.remap.absent", inside=E.ENOENT):
        remap(one, iova=IOVA - PAGE, size=PAGE)


@pytest.mark.parametrize("kernel", [V1, V2])
def test_but_the_last_one_of_it_is(kernel: str) -> None:
    one = machine(kernel)
    one.update(IOVA + 4 * PAGE - 1, 1, OLD)
    with refused(E.EFAULT, "vdpa.remap.inexact", inside=E.EINVAL):
        remap(one)


@pytest.mark.parametrize(("uaddr", "batched", "marked"), [(NEW, False, True), (OLD, False, False), (NEW, True, False)])
def test_the_push_of_an_old_address_is_marked(uaddr: int, batched: bool, marked: bool) -> None:
    one = machine()
    one.update(IOVA, 4 * PAGE, OLD)
    if batched:
        one.message(VHOST_IOTLB_BATCH_BEGIN)
    seen: list[str] = []
    stop = observe(seen.append)
    remap(one, uaddr=uaddr)
    stop()
    assert ("vdpa.remap.old-address-pushed" in seen) is marked
