"""IOTLB messages to the byte: what write() accepts and returns, what read() gives, what wakes a queue."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.support import ACCESS_PLATFORM, Machine, refused
from vdpasim.core.vhost.net import VhostNet
from vdpasim.core.vhost.vhost_msg import Miss, codec, vhost_iotlb_miss
from vdpasim.sim import WouldBlock
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost
from vdpasim.uapi.abi import ABIS, I386, X86_64

UPDATE, INVALIDATE = 2, 3
O_NONBLOCK = 0o4000


def net(kernel: str = "6.12", *, abi: str = "x86_64", iotlb: bool = True) -> Machine:
    machine = Machine("vhost-net", kernel, abi=abi)
    if iotlb:
        machine.features(ACCESS_PLATFORM)
    return machine


def inside(machine: Machine) -> VhostNet:
    ops = machine.file.open_file.ops
    assert isinstance(ops, VhostNet)
    return ops


def update(word: int = 2, size: int = 4096, kind: int = UPDATE, pad: int = 38) -> bytes:
    return struct.pack("<IIQQQBB", word, 0, 0x1000, size, 0x10000, 3, kind) + bytes(pad)


# -- write


@pytest.mark.parametrize(
    ("offered", "rule"),
    [
        (0, "type-short"),
        (3, "type-short"),
        (4, "short"),
        (39, "short"),
        (40, None),
        (71, None),
        (72, None),
        (144, None),
    ],
)
@pytest.mark.parametrize("word", [1, 2])
def test_forty_bytes_are_enough_and_the_answer_is_always_72(offered: int, rule: str | None, word: int) -> None:
    machine, data = net(), (update(word) * 2)[:offered]
    if rule is None:
        assert machine.file.write_nowait(data) == 72
    else:
        with refused(E.EINVAL, f"vhost.msg.{rule}"):
            machine.file.write_nowait(data)


@pytest.mark.parametrize("length", [4, 39, 72])
def test_another_type_word_is_einval_whatever_the_length(length: int) -> None:
    with refused(E.EINVAL, "vhost.msg.type"):
        net().file.write_nowait(update(3)[:length])


def test_a_second_message_in_the_same_write_is_ignored() -> None:
    machine = net()
    machine.file.write_nowait(update() + update(kind=INVALIDATE))
    assert len(inside(machine).iotlb or ()) == 1


def test_an_unmapped_pointer_is_a_short_message_and_a_kernel_pointer_is_efault() -> None:
    machine = net()
    with refused(E.EINVAL, "vhost.msg.type-short"):
        machine.file.write_nowait((0x1000, 72))
    with refused(E.EFAULT, "uaccess.range"):
        machine.file.write_nowait((0xFFFF_8000_0000_0000, 72))


def test_an_update_of_nothing_is_einval_an_invalidate_of_nothing_is_not() -> None:
    machine = net()
    with refused(E.EINVAL, "vhost.msg.update-size"):
        machine.file.write_nowait(update(size=0))
    assert machine.file.write_nowait(update(size=0, kind=INVALIDATE)) == 72


def test_without_an_iotlb_the_handler_refuses() -> None:
    machine = net(iotlb=False)
    for kind in (UPDATE, INVALIDATE):
        with refused(E.EFAULT, "vhost.msg.no-iotlb"):
            machine.file.write_nowait(update(kind=kind))


@pytest.mark.parametrize("kind", [0, 1, 4, 5, 6, 7, 255])
def test_vhost_net_knows_update_and_invalidate_only(kind: int) -> None:
    with refused(E.EFAULT, "vhost.msg.unknown", inside=E.EINVAL):
        net().file.write_nowait(update(kind=kind))


def test_any_process_may_write_to_vhost_net() -> None:
    machine = net()
    child = machine.process.fork("child")
    assert child.file(machine.file.fd).write_nowait(update()) == 72


@pytest.mark.parametrize("acked", [False, True])
def test_the_asid_word_counts_only_when_acked(acked: bool) -> None:
    machine = Machine()
    ram = machine.memory()
    machine.call(vhost.VHOST_SET_BACKEND_FEATURES, 0xE if acked else 0x6, code="Q")
    machine.update(0, 4096, ram.addr, asid=1)
    assert machine.device.node.opened is not None
    assert list(machine.device.node.opened.spaces.tables) == [1 if acked else 0]


@pytest.mark.parametrize(("word", "least", "answer"), [(1, 32, 68), (2, 36, 72)])
def test_a_native_i386_kernel_needs_less_and_answers_its_own_sizes(word: int, least: int, answer: int) -> None:
    machine = net(abi="i386")
    head = struct.pack("<I", 1) if word == 1 else struct.pack("<II", 2, 0)
    data = head + struct.pack("<QQQBB", 0x1000, 4096, 0x10000, 3, UPDATE) + bytes(64)
    with refused(E.EINVAL, "vhost.msg.short"):
        machine.file.write_nowait(data[: least - 1])
    assert machine.file.write_nowait(data[:least]) == answer


# -- read


def queue(machine: Machine, iova: int = 0x4000, perm: int = 1) -> None:
    """Queue a miss where the ring walk does."""
    vhost_iotlb_miss(inside(machine).vqs[1], iova, perm)


def test_a_miss_is_72_bytes_in_the_format_that_was_acked_when_it_was_queued() -> None:
    machine = net()
    queue(machine)
    machine.call(vhost.VHOST_SET_BACKEND_FEATURES, 2, code="Q")
    queue(machine, 0x5001, 2)
    first, second = machine.file.read_nowait(72), machine.file.read_nowait(4096)
    assert first == struct.pack("<IIQQQBB", 1, 0, 0x4000, 0, 0, 1, 1) + bytes(38)
    assert second == struct.pack("<IIQQQBB", 2, 0, 0x5001, 0, 0, 2, 1) + bytes(38)


@pytest.mark.parametrize("size", [0, 64, 71])
def test_a_small_buffer_gets_nothing_and_the_message_stays(size: int) -> None:
    machine = net()
    queue(machine)
    assert machine.file.read_nowait(size) == b""
    assert machine.file.poll_nowait(5) == 1
    assert len(machine.file.read_nowait(72)) == 72


def test_a_bad_pointer_loses_the_message() -> None:
    machine = net()
    queue(machine)
    assert machine.file.read_nowait((0x1000, 72)) == 0
    assert machine.file.poll_nowait(5) == 0


def test_nothing_to_read_is_eagain_ebadfd_or_sleep() -> None:
    machine = net(iotlb=False)
    with refused(E.EBADFD, "vhost.read.no-iotlb"):
        machine.file.read_nowait(72)
    machine.file.open_file.flags |= O_NONBLOCK
    with refused(E.EAGAIN, "vhost.read.again"):
        machine.file.read_nowait(72)
    machine.features(ACCESS_PLATFORM)
    machine.file.open_file.flags &= ~O_NONBLOCK
    with pytest.raises(WouldBlock):
        machine.file.read_nowait(72)


# -- what wakes a queue


def woken(machine: Machine) -> list[int]:
    calls: list[int] = []
    device = inside(machine)
    for vq in device.vqs:
        device.works[vq.index].fn = lambda index=vq.index: iter(calls.append(index) or ())  # type: ignore[misc, func-returns-value, assignment]
    return calls


@pytest.mark.parametrize(
    ("iova", "size", "wakes"), [(0x4000, 1, True), (0x3001, 0x1000, True), (0x4001, 0x1000, False)]
)
def test_an_update_wakes_the_queue_of_a_miss_whose_byte_it_covers(iova: int, size: int, wakes: bool) -> None:
    machine = net()
    calls = woken(machine)
    queue(machine)
    machine.file.read_nowait(72)
    machine.update(iova, size, 0x10000)
    assert calls == ([1] if wakes else [])
    assert machine.file.open_file.ops is inside(machine)
    assert inside(machine).statistics().pending == (0 if wakes else 1)


def test_an_unread_miss_wakes_nobody_and_an_invalidate_neither() -> None:
    machine = net()
    calls = woken(machine)
    queue(machine)
    machine.update(0x4000, 4096, 0x10000)
    machine.file.read_nowait(72)
    machine.invalidate(0x4000, 4096)
    assert calls == []
    assert inside(machine).statistics().pending == 1


def test_permissions_are_not_compared() -> None:
    machine = net()
    calls = woken(machine)
    queue(machine, perm=2)
    machine.file.read_nowait(72)
    machine.update(0x4000, 4096, 0x10000, perm=1)
    assert calls == [1]


# -- codec


@given(st.sampled_from(sorted(ABIS)), st.integers(0, 2**64 - 1), st.sampled_from([1, 2]), st.booleans())
def test_a_miss_says_the_same_in_every_abi(abi: str, iova: int, perm: int, v2: bool) -> None:
    machine = net()
    shape = codec(ABIS[abi])
    data = Miss(inside(machine).vqs[0], iova, perm, v2).encode(ABIS[abi])
    assert len(data) == (shape.v2_size if v2 else shape.v1_size)
    assert shape.msg.unpack_from(data, shape.v2_offset if v2 else shape.v1_offset) == (iova, 0, 0, perm, 1)


def test_the_hole_of_v1_is_four_bytes_and_missing_on_i386() -> None:
    assert (codec(X86_64).v1_offset, codec(X86_64).v1_size) == (8, 72)
    assert (codec(I386).v1_offset, codec(I386).v1_size) == (4, 68)
