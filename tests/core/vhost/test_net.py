"""/dev/vhost-net: what needs an owner and what does not, features, backends, and the life of the device IOTLB."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.core.rings import rules_hit
from tests.core.support import ACCESS_PLATFORM, VERSION_1, Machine, refused
from tests.core.vhost.test_net_handlers import IOVA, Net
from vdpasim.core.vhost.net import NVQS, RX, TX, VhostNet, offered_features
from vdpasim.core.vhost.net_handlers import FRAME_MAX
from vdpasim.core.vhost.vhost_msg import vhost_iotlb_miss
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.transport import run_sync
from vdpasim.vmm.vhost_net import VhostNetVmm

if TYPE_CHECKING:
    from vdpasim.uapi.ioctl import Ioctl

LOG_ALL, IN_ORDER, RING_RESET = 1 << 26, 1 << 35, 1 << 40
MSG_V2 = 1 << 1
PAGE = 4096


@pytest.fixture
def net() -> Machine:
    return Machine("vhost-net")


def inside(machine: Machine) -> VhostNet:
    ops = machine.file.open_file.ops
    assert isinstance(ops, VhostNet)
    return ops


def memory_table(machine: Machine) -> int:
    """One region, the process's memory at its own address; returns that."""
    ram = machine.memory()
    machine.call(vhost.VHOST_SET_MEM_TABLE, 1, 0, ram.addr, ram.size, ram.addr, 0, code="IIQQQQ")
    return ram.addr


def ring(machine: Machine, queue: int, at: int, size: int = 16) -> None:
    desc, avail, used = at, at + 16 * size, at + 0x800
    machine.call(vhost.VHOST_SET_VRING_NUM, queue, size)
    machine.call(vhost.VHOST_SET_VRING_ADDR, queue, 0, desc, used, avail, 0, code="IIQQQQ")


def ready(machine: Machine) -> int:
    """Everything SET_BACKEND asks for."""
    at = memory_table(machine)
    for queue in range(NVQS):
        ring(machine, queue, at + 0x1000 * queue)
    return at


def backend(machine: Machine, queue: int, fd: int) -> None:
    machine.call(vhost.VHOST_NET_SET_BACKEND, queue, fd & 0xFFFF_FFFF)


# -- features


@pytest.mark.parametrize(
    ("kernel", "offered"),
    [("6.1", 0x3_3D00_8000), ("6.12", 0x3_3D00_8000 | RING_RESET), ("7.1", 0x3_3D00_8000 | RING_RESET | IN_ORDER)],
)
def test_features_differ_by_kernel(kernel: str, offered: int) -> None:
    machine = Machine("vhost-net", kernel, owner=False)
    assert machine.number(vhost.VHOST_GET_FEATURES, 8) == offered


def test_features_are_set_by_anybody_at_any_time() -> None:
    machine = Machine("vhost-net", owner=False)
    machine.features(VERSION_1)
    machine.features(0)
    with refused(E.EOPNOTSUPP, "net.features.unknown"):
        machine.features(1 << 63)


def test_the_array_counts_missing_words_as_zero_and_refuses_bits_beyond_the_known_words() -> None:
    machine = Machine("vhost-net", "tip", owner=False)
    low, high = struct.unpack("<QQ", machine.call(vhost.VHOST_GET_FEATURES_ARRAY, 2, 0, 0, code="QQQ")[8:])
    assert (low, high) == (offered_features(machine.sim.kernel) & (1 << 64) - 1, 0xA)
    machine.call(vhost.VHOST_SET_FEATURES_ARRAY, 3, VERSION_1, 0, 0, code="QQQQ")
    assert inside(machine).vqs[0].acked_features == VERSION_1
    machine.call(vhost.VHOST_SET_FEATURES_ARRAY, 0, code="Q")
    assert inside(machine).vqs[0].acked_features == 0
    with refused(E.EOPNOTSUPP, "net.features.array-unknown"):
        machine.call(vhost.VHOST_SET_FEATURES_ARRAY, 3, VERSION_1, 0, 1, code="QQQQ")


def test_backend_features_are_one_bit(net: Machine) -> None:
    assert net.number(vhost.VHOST_GET_BACKEND_FEATURES, 8) == MSG_V2
    net.call(vhost.VHOST_SET_BACKEND_FEATURES, MSG_V2, code="Q")
    for bit in (0, 2, 9, 63):
        with refused(E.EOPNOTSUPP, "net.backend-features.unknown"):
            net.call(vhost.VHOST_SET_BACKEND_FEATURES, 1 << bit, code="Q")
    assert {vq.acked_backend_features for vq in inside(net).vqs} == {MSG_V2}


# -- the device IOTLB


def test_access_platform_brings_an_empty_iotlb_each_time(net: Machine) -> None:
    with refused(E.EFAULT, "vhost.msg.no-iotlb"):
        net.update(0, PAGE, 0)
    net.features(ACCESS_PLATFORM)
    net.update(0, PAGE, 0x7000_0000)
    first = inside(net).iotlb
    net.features(ACCESS_PLATFORM)
    second = inside(net).iotlb
    assert first is not second
    assert second is not None
    assert len(second) == 0


def test_messages_need_no_owner() -> None:
    machine = Machine("vhost-net", owner=False)
    machine.features(ACCESS_PLATFORM)
    machine.update(0, PAGE, 0x7000_0000)
    machine.invalidate(0, PAGE)


# -- the backend


def test_a_backend_needs_the_owner_a_known_queue_and_a_memory_table(net: Machine) -> None:
    tap = net.process.tap("tap0")
    stranger = net.sim.process("other").receive(net.file)
    with refused(E.EPERM, "vhost.owner.perm"):
        net.call(vhost.VHOST_NET_SET_BACKEND, TX, tap.fd, file=stranger)
    with refused(E.ENOBUFS, "net.backend.index"):
        backend(net, NVQS, tap.fd)
    for fd in (tap.fd, -1):
        with refused(E.EFAULT, "net.backend.access"):
            backend(net, TX, fd)
    ready(net)
    backend(net, TX, tap.fd)


@pytest.mark.parametrize("kind", ["packet-dgram", "inet-stream"])
def test_it_must_be_a_tap_or_a_raw_packet_socket(net: Machine, kind: str) -> None:
    ready(net)
    for fd in (net.process.socket(kind).fd, net.process.eventfd().fd, 999):
        with refused(E.ENOTSOCK, "net.backend.not-socket"):
            backend(net, TX, fd)


def test_one_that_cannot_be_polled_leaves_the_old_one_in_place(net: Machine) -> None:
    ready(net)
    tap = net.process.tap("tap0")
    backend(net, TX, tap.fd)
    with refused(E.EINVAL, "net.backend.poll"):
        backend(net, TX, net.process.socket("tun-unattached").fd)
    assert inside(net).vqs[TX].private_data is tap.open_file.ops


def test_activating_writes_the_flags_and_takes_over_the_used_index(net: Machine) -> None:
    ram = net.memory()
    net.call(vhost.VHOST_SET_MEM_TABLE, 1, 0, ram.addr, ram.size, ram.addr, 0, code="IIQQQQ")
    ring(net, TX, ram.addr)
    ram.write(0x800, b"\xff\xff\x34\x12")
    backend(net, TX, net.process.tap("tap0").fd)
    assert ram.read(0x800, 2) != b"\xff\xff"
    assert inside(net).vqs[TX].last_used_idx == 0x1234


def test_a_used_ring_that_is_not_there_is_refused_and_asked_for(net: Machine) -> None:
    net.features(ACCESS_PLATFORM)
    net.call(vhost.VHOST_SET_BACKEND_FEATURES, MSG_V2, code="Q")
    ready(net)
    tap = net.process.tap("tap0")
    with refused(E.EFAULT, "net.backend.used"):
        backend(net, TX, tap.fd)
    assert inside(net).vqs[TX].private_data is None
    assert len(net.file.read_nowait(72)) == 72


@pytest.mark.parametrize("request_", [vhost.VHOST_SET_VRING_NUM, vhost.VHOST_SET_VRING_BASE])
def test_size_and_base_of_an_active_queue_are_busy(net: Machine, request_: Ioctl) -> None:
    ready(net)
    backend(net, TX, net.process.tap("tap0").fd)
    with refused(E.EBUSY):
        net.call(request_, TX, 16)
    net.call(request_, RX, 16)
    backend(net, TX, -1)
    net.call(request_, TX, 16)


def test_removing_a_backend_drops_the_messages(net: Machine) -> None:
    net.features(ACCESS_PLATFORM)
    ready(net)
    with refused(E.EFAULT):
        backend(net, TX, net.process.tap("tap0").fd)
    assert inside(net).read_list
    backend(net, RX, -1)
    assert not inside(net).read_list


# -- owner


def test_reset_owner_puts_everything_back_with_an_empty_memory_table(net: Machine) -> None:
    ready(net)
    tap = net.process.tap("tap0")
    backend(net, TX, tap.fd)
    net.call(vhost.VHOST_RESET_OWNER)
    device = inside(net)
    assert (device.mm, device.vqs[TX].private_data, device.vqs[TX].num) == (None, None, 1)
    assert device.umem is not None
    with refused(E.EPERM, "vhost.owner.perm"):
        net.call(vhost.VHOST_SET_VRING_NUM, TX, 16)
    net.call(vhost.VHOST_SET_OWNER)
    backend(net, TX, -1)


def test_each_open_is_a_device_of_its_own(net: Machine) -> None:
    other = net.process.open_nowait("/dev/vhost-net")
    net.call(vhost.VHOST_SET_OWNER, file=other)
    net.features(ACCESS_PLATFORM)
    second = other.open_file.ops
    assert isinstance(second, VhostNet)
    assert (inside(net).iotlb is not None, second.iotlb) == (True, None)


def test_close_stops_the_worker_and_lets_the_backend_go(net: Machine) -> None:
    ready(net)
    tap = net.process.tap("tap0")
    backend(net, RX, tap.fd)
    device = inside(net)
    net.file.close_nowait()
    assert device.worker.stopped
    assert not tap.open_file.ops.waiting  # type: ignore[attr-defined]


# -- rounds


def big_ring(machine: Net, queue: int, num: int) -> Virtqueue:
    """Another ring for a queue that has no backend yet."""
    ring = machine.rings[queue] = Virtqueue(machine.ram, machine.base, num, offset=0x20000)
    run_sync(machine.handle.set_vring_num(queue, num))
    run_sync(machine.handle.set_vring_addr(queue, *ring.addresses()))
    return ring


@pytest.mark.parametrize(("frames", "again"), [(255, False), (256, True), (300, True)])
def test_a_round_of_256_packets_queues_another(frames: int, again: bool) -> None:
    machine = Net(features=0, table=True)
    big = big_ring(machine, TX, 512)
    for _ in range(frames):
        big.add(Buffer(machine.base + 0x8000, 64))
    with rules_hit() as rules:
        machine.backend(TX)
        machine.kicked(TX)
    assert len(machine.far.frames) == frames
    assert ("net.weight" in rules) == again


@pytest.mark.parametrize(("frames", "again"), [(7, False), (8, True)])
def test_so_does_one_of_512_kib(frames: int, again: bool) -> None:
    machine = Net(features=0, table=True)
    for _ in range(frames):
        machine.rings[TX].add(Buffer(machine.base + 0x8000, 0x10000))
    with rules_hit() as rules:
        machine.backend(TX)
        machine.kicked(TX)
    assert len(machine.far.frames) == frames
    assert ("net.weight" in rules) == again


@pytest.mark.parametrize(("frames", "interrupts"), [(64, 1), (65, 2)])
def test_used_elements_come_in_batches_of_64(frames: int, interrupts: int) -> None:
    machine = Net(features=0, table=True)
    big = big_ring(machine, TX, 128)
    for _ in range(frames):
        big.add(Buffer(machine.base + 0x8000, 64))
    machine.backend(TX)
    machine.kicked(TX)
    assert machine.count(machine.call[TX]) == interrupts
    assert len(big.used()) == frames


@pytest.mark.parametrize(("length", "out"), [(FRAME_MAX, 1), (FRAME_MAX + 1, 0)])
def test_a_frame_too_long_for_the_socket_is_lost_and_its_chain_completes(length: int, out: int) -> None:
    machine = Net(features=0, table=True)
    machine.backend(TX)
    machine.send(Buffer(machine.base + 0x8000, length))
    assert (len(machine.far.frames), len(machine.rings[TX].used())) == (out, 1)


def test_a_frame_that_waits_when_the_backend_comes_is_received_at_once() -> None:
    machine = Net(features=0, table=True)
    machine.rings[RX].add(Buffer(machine.base + 0xA000, 256, writable=True))
    machine.socket.deliver(b"early")
    machine.backend(RX)
    machine.sim.run_idle()
    assert [used.length for used in machine.rings[RX].used()] == [15]


@pytest.mark.parametrize(
    ("replace", "bad"),
    [
        (lambda process, at: process.dup(process.tap("tap1"), at=at), ["kernel.oops"]),
        (lambda process, at: process.dup(process.socket("packet-raw"), at=at), []),
        (lambda process, at: process.dup(process.eventfd(), at=at), []),
        (lambda process, at: None, []),
    ],
    ids=["another tap", "a socket, which has no ring", "no socket at all", "the same"],
)
def test_a_descriptor_that_changes_between_two_look_ups(replace: Any, bad: list[str]) -> None:
    async def story(sim: Simulator) -> None:
        vmm = await VhostNetVmm.create(sim, queue=RX)
        await vmm.negotiate(0)
        await vmm.net.set_vring_addr(RX, vmm.ram.addr, vmm.ram.addr + PAGE, vmm.ram.addr + 2 * PAGE)
        with sim.hold("vhost-net-0.backend.lookup") as hold:
            attaching = sim.spawn(vmm.attach)
            await hold.reached()
            replace(vmm.process, vmm.tap.fd)
        await attaching.join()

    sim = Simulator("tip+bug-backend-fd-twice")
    sim.run(story)
    assert [ident for ident, _ in sim.kernel.violations] == bad


def test_the_same_socket_again_changes_nothing_and_reads_no_index() -> None:
    machine = Net(features=0, table=True)
    machine.backend(TX)
    machine.ram.write(machine.rings[TX].used_at + 2, b"\x09\0")
    machine.backend(TX)
    assert machine.device.vqs[TX].last_used_idx == 0


def test_removing_a_backend_drops_the_messages_even_when_it_fails(net: Machine) -> None:
    net.features(ACCESS_PLATFORM)
    vhost_iotlb_miss(inside(net).vqs[TX], 0x1000, 1)
    with refused(E.EFAULT, "net.backend.access"):
        backend(net, TX, -1)
    assert not inside(net).read_list


def test_what_the_used_ring_lacks_is_asked_for_with_read_permission() -> None:
    machine = Net()
    with refused(E.EFAULT, "net.backend.used"):
        machine.backend(TX)
    miss = machine.miss()
    assert (miss.iova - IOVA, miss.perm) == (machine.rings[TX].used_at, 1)
