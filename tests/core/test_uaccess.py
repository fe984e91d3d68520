"""User buffers and the copies between user space and the kernel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.core import profiles
from vdpasim.core.kernel import Kernel
from vdpasim.core.ports import PAGE_SIZE, U64_MAX
from vdpasim.core.rules import KernelError
from vdpasim.core.uaccess import (
    BytesBuffer,
    MmBuffer,
    UserBuffer,
    access_ok,
    copy_from_user,
    copy_to_user,
    get_int,
    get_struct,
    put_int,
    put_struct,
)
from vdpasim.sim import Process, Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi.abi import ABIS, I386, X86_64
from vdpasim.uapi.vhost_types import vhost_vring_state

TASK_SIZE_MAX = X86_64.task_size


@pytest.fixture
def process() -> Process:
    return Simulator().process("vmm")


def kernel_of(abi: str = "x86_64") -> Kernel:
    return Kernel(profiles.parse("tip"), ABIS[abi])


class TestUserRange:
    @pytest.mark.parametrize(
        ("addr", "length", "ok"),
        [
            (0, 0, True),
            (TASK_SIZE_MAX - 1, 1, True),
            (TASK_SIZE_MAX, 0, True),
            (TASK_SIZE_MAX, 1, False),
            (TASK_SIZE_MAX - 1, 2, False),
            (1 << 63, 1, False),
            (U64_MAX, 1, False),
        ],
    )
    def test_the_last_user_byte_is_below_the_limit(self, addr: int, length: int, ok: bool) -> None:
        assert access_ok(X86_64, addr, length) is ok

    def test_a_32_bit_kernel_keeps_the_upper_quarter(self) -> None:
        assert access_ok(I386, 0xBFFF_FFFF, 1)
        assert not access_ok(I386, 0xC000_0000, 1)
        process = Simulator(abi="i386").process("vmm")
        assert not MmBuffer(process.mm, 0xC000_0000, 1).in_user_range

    def test_an_unmapped_user_address_is_in_range(self, process: Process) -> None:
        assert MmBuffer(process.mm, 0x1000, 8).in_user_range

    def test_a_kernel_address_is_not(self, process: Process) -> None:
        assert not MmBuffer(process.mm, 0xFFFF_8000_0000_0000, 8).in_user_range

    def test_an_ioctl_argument_has_no_length_to_judge(self, process: Process) -> None:
        assert MmBuffer(process.mm, TASK_SIZE_MAX).in_user_range

    def test_plain_bytes_are_in_no_address_space(self) -> None:
        assert BytesBuffer(b"").in_user_range


class TestMmBuffer:
    def test_it_reads_and_writes_its_process(self, process: Process) -> None:
        region = process.mmap(PAGE_SIZE)
        buffer = MmBuffer(process.mm, region.addr + 8, 16)
        assert buffer.poke(2, b"abc") == 3
        assert region.read(8, 6) == b"\0\0abc\0"
        assert buffer.peek(1, 4) == b"\0abc"

    def test_it_ends_at_its_length(self, process: Process) -> None:
        region = process.mmap(PAGE_SIZE)
        buffer = MmBuffer(process.mm, region.addr, 4)
        assert (buffer.poke(2, b"abcd"), buffer.poke(4, b"x"), buffer.poke(9, b"x")) == (2, 0, 0)
        assert (buffer.peek(2, 10), buffer.peek(4, 1), buffer.peek(9, 1)) == (b"ab", b"", b"")
        assert region.read(0, 6) == b"\0\0ab\0\0"

    def test_it_comes_up_short_at_a_fault(self, process: Process) -> None:
        region = process.mmap(PAGE_SIZE)
        buffer = MmBuffer(process.mm, region.addr + PAGE_SIZE - 3, 8)
        assert (buffer.peek(0, 8), buffer.poke(0, b"x" * 8)) == (b"\0\0\0", 3)

    def test_it_prints_its_address(self, process: Process) -> None:
        assert [repr(MmBuffer(process.mm, 0x1000, 8)), repr(MmBuffer(process.mm, 0x1000))] == ["0x1000:8", "0x1000"]


class TestBytesBuffer:
    def test_immutable_bytes_take_nothing(self) -> None:
        buffer = BytesBuffer(b"abc")
        assert (buffer.poke(0, b"x"), buffer.data) == (0, b"abc")

    @given(st.binary(max_size=40), st.integers(0, 50), st.binary(max_size=50))
    def test_a_store_changes_the_bytes_it_says_and_never_the_length(self, data: bytes, offset: int, new: bytes) -> None:
        buffer = BytesBuffer(bytearray(data))
        stored = buffer.poke(offset, new)
        assert stored == max(0, min(len(new), len(data) - offset))
        assert bytes(buffer.data) == data[:offset] + new[:stored] + data[offset + stored :]
        assert buffer.peek(offset, stored) == new[:stored]

    def test_long_ones_are_printed_short(self) -> None:
        assert repr(BytesBuffer(b"\x01\xff")) == "01ff"
        assert repr(BytesBuffer(bytes(81))) == "00" * 32 + "…(81)"


class TestCopies:
    @pytest.mark.parametrize("size", [0, 1, 8])
    def test_a_whole_copy_succeeds(self, size: int) -> None:
        assert copy_from_user(BytesBuffer(bytes(range(8))), size) == bytes(range(size))

    def test_an_offset_is_counted(self) -> None:
        assert copy_from_user(BytesBuffer(bytes(range(8))), 3, 5) == b"\5\6\7"

    def test_a_short_copy_is_efault(self) -> None:
        with pytest.raises(KernelError) as refused:
            copy_from_user(BytesBuffer(bytes(7)), 8)
        assert (refused.value.errno, refused.value.rule) == (E.EFAULT, "uaccess.from-user")

    def test_a_short_store_is_efault_and_what_fitted_is_there(self) -> None:
        data = bytearray(4)
        with pytest.raises(KernelError) as refused:
            copy_to_user(BytesBuffer(data), b"abc", 2)
        assert (refused.value.errno, refused.value.rule) == (E.EFAULT, "uaccess.to-user")
        assert data == b"\0\0ab"

    def test_an_unmapped_argument_is_efault(self, process: Process) -> None:
        with pytest.raises(KernelError) as refused:
            copy_from_user(MmBuffer(process.mm, 0x1000), 4)
        assert refused.value.errno == E.EFAULT


class TestTyped:
    """Structures and integers are the kernel's, whatever the caller was compiled for."""

    @pytest.mark.parametrize(("abi", "data"), [("x86_64", "01000000 00010000"), ("s390x", "00000001 00000100")])
    def test_structures_have_the_kernel_s_byte_order(self, abi: str, data: str) -> None:
        raw = bytearray(8)
        put_struct(kernel_of(abi), BytesBuffer(raw), vhost_vring_state, index=1, num=256)
        assert raw == bytes.fromhex(data)
        assert tuple(get_struct(kernel_of(abi), BytesBuffer(raw), vhost_vring_state)) == (1, 256)

    def test_a_structure_may_lie_behind_another(self) -> None:
        buffer = BytesBuffer(bytes(8) + bytes.fromhex("0200000003000000"))
        assert get_struct(kernel_of(), buffer, vhost_vring_state, 8).num == 3

    @given(st.sampled_from(["x86_64", "s390x"]), st.sampled_from([1, 2, 4, 8]), st.integers(-(1 << 63), 1 << 64))
    def test_an_integer_that_was_stored_is_read_modulo_its_size(self, abi: str, size: int, value: int) -> None:
        raw = bytearray(size)
        kernel = kernel_of(abi)
        put_int(kernel, BytesBuffer(raw), size, value)
        assert get_int(kernel, BytesBuffer(raw), size) == value % (1 << 8 * size)
        signed = get_int(kernel, BytesBuffer(raw), size, signed=True)
        assert -(1 << 8 * size - 1) <= signed < 1 << 8 * size - 1
        assert (signed - value) % (1 << 8 * size) == 0

    @pytest.mark.parametrize("buffer", [BytesBuffer(bytearray(3)), BytesBuffer(b"abcd")], ids=["short", "read-only"])
    def test_a_result_that_cannot_be_stored_is_efault(self, buffer: UserBuffer) -> None:
        with pytest.raises(KernelError) as refused:
            put_int(kernel_of(), buffer, 4, 1)
        assert refused.value.rule == "uaccess.to-user"
