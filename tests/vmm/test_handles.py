"""Typed handles: what each method puts on the wire, and what it makes of the answer."""

from __future__ import annotations

from typing import Any

import pytest

from vdpasim.sim import File, Process, Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost as uapi
from vdpasim.uapi.abi import ABIS, I386, X86_64
from vdpasim.uapi.message import Message, decode_message, encode_message
from vdpasim.vmm.handles import Vhost, VhostNet, VhostVdpa
from vdpasim.vmm.transport import run_sync


class Wire:
    """A transport that records what it is given and answers what it was told."""

    def __init__(self, answer: bytes | None = None) -> None:
        self.answer = answer
        self.seen: list[tuple[Any, ...]] = []

    async def read(self, size: int) -> bytes:
        self.seen.append(("read", size))
        return self.answer or b""

    async def write(self, data: bytes) -> int:
        self.seen.append(("write", data))
        return len(data)

    async def ioctl(self, request: int, arg: int | bytes | bytearray | None = None) -> Any:
        self.seen.append((request, arg))
        if isinstance(arg, bytes):
            return self.answer if self.answer is not None else arg
        return 0

    async def mmap(self, length: int, prot: int, flags: int, offset: int = 0) -> Any:
        raise NotImplementedError


def u32(*values: int) -> bytes:
    return b"".join((value & 0xFFFF_FFFF).to_bytes(4, "little") for value in values)


def u64(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


REQUESTS: list[tuple[type[Vhost], str, tuple[Any, ...], str, bytes | None]] = [
    (VhostVdpa, "set_owner", (), "VHOST_SET_OWNER", None),
    (VhostVdpa, "set_features", (1 << 33,), "VHOST_SET_FEATURES", u64(1 << 33)),
    (VhostVdpa, "set_backend_features", (3,), "VHOST_SET_BACKEND_FEATURES", u64(3)),
    (VhostVdpa, "set_mem_table", ([(1, 2, 3)],), "VHOST_SET_MEM_TABLE", u32(1, 0) + u64(1, 2, 3, 0)),
    (VhostVdpa, "set_mem_table", ([],), "VHOST_SET_MEM_TABLE", u32(0, 0)),
    (VhostVdpa, "set_vring_num", (1, 256), "VHOST_SET_VRING_NUM", u32(1, 256)),
    (VhostVdpa, "set_vring_base", (1, 7), "VHOST_SET_VRING_BASE", u32(1, 7)),
    (VhostVdpa, "set_vring_addr", (1, 2, 3, 4), "VHOST_SET_VRING_ADDR", u32(1, 0) + u64(2, 4, 3, 0)),
    (VhostVdpa, "set_vring_kick", (1, 9), "VHOST_SET_VRING_KICK", u32(1, 9)),
    (VhostVdpa, "set_vring_call", (1, -1), "VHOST_SET_VRING_CALL", u32(1, -1)),
    (VhostVdpa, "set_vring_err", (0, 9), "VHOST_SET_VRING_ERR", u32(0, 9)),
    (VhostNet, "reset_owner", (), "VHOST_RESET_OWNER", None),
    (VhostNet, "set_backend", (1, 12), "VHOST_NET_SET_BACKEND", u32(1, 12)),
    (VhostVdpa, "set_status", (15,), "VHOST_VDPA_SET_STATUS", b"\x0f"),
    (VhostVdpa, "set_config", (4, b"xyz"), "VHOST_VDPA_SET_CONFIG", u32(4, 3) + b"xyz"),
    (VhostVdpa, "set_config_call", (-1,), "VHOST_VDPA_SET_CONFIG_CALL", u32(-1)),
    (VhostVdpa, "set_group_asid", (2, 1), "VHOST_VDPA_SET_GROUP_ASID", u32(2, 1)),
    (VhostVdpa, "set_vring_enable", (1, False), "VHOST_VDPA_SET_VRING_ENABLE", u32(1, 0)),
    (VhostVdpa, "suspend", (), "VHOST_VDPA_SUSPEND", None),
    (VhostVdpa, "resume", (), "VHOST_VDPA_RESUME", None),
    (VhostVdpa, "new_owner", (), "VHOST_NEW_OWNER", None),
]

ANSWERS: list[tuple[str, tuple[Any, ...], str, bytes, bytes, Any]] = [
    ("get_features", (), "VHOST_GET_FEATURES", u64(0), u64(1 << 40), 1 << 40),
    ("get_backend_features", (), "VHOST_GET_BACKEND_FEATURES", u64(0), u64(6), 6),
    ("get_vring_base", (2,), "VHOST_GET_VRING_BASE", u32(2, 0), u32(2, 77), 77),
    ("get_device_id", (), "VHOST_VDPA_GET_DEVICE_ID", u32(0), u32(2), 2),
    ("get_status", (), "VHOST_VDPA_GET_STATUS", b"\0", b"\x0b", 0x0B),
    ("get_config", (8, 4), "VHOST_VDPA_GET_CONFIG", u32(8, 4, 0), u32(8, 4) + b"conf", b"conf"),
    ("get_config_size", (), "VHOST_VDPA_GET_CONFIG_SIZE", u32(0), u32(96), 96),
    ("get_vring_num", (), "VHOST_VDPA_GET_VRING_NUM", b"\0\0", b"\0\1", 256),
    ("get_iova_range", (), "VHOST_VDPA_GET_IOVA_RANGE", u64(0, 0), u64(1, (1 << 64) - 1), (1, (1 << 64) - 1)),
    ("get_vqs_count", (), "VHOST_VDPA_GET_VQS_COUNT", u32(0), u32(3), 3),
    ("get_group_num", (), "VHOST_VDPA_GET_GROUP_NUM", u32(0), u32(2), 2),
    ("get_as_num", (), "VHOST_VDPA_GET_AS_NUM", u32(0), u32(2), 2),
    ("get_vring_group", (2,), "VHOST_VDPA_GET_VRING_GROUP", u32(2, 0), u32(2, 1), 1),
    ("get_vring_size", (2,), "VHOST_VDPA_GET_VRING_SIZE", u32(2, 0), u32(2, 64), 64),
]


class TestBytes:
    @pytest.mark.parametrize(("handle", "method", "args", "request_name", "data"), REQUESTS)
    def test_of_a_request(
        self, handle: type[Vhost], method: str, args: tuple[Any, ...], request_name: str, data: bytes | None
    ) -> None:
        wire = Wire()
        run_sync(getattr(handle(wire), method)(*args))
        assert wire.seen == [(getattr(uapi, request_name).request(X86_64), data)]

    @pytest.mark.parametrize(("method", "args", "request_name", "data", "answer", "value"), ANSWERS)
    def test_of_a_question_and_its_answer(
        self, method: str, args: tuple[Any, ...], request_name: str, data: bytes, answer: bytes, value: Any
    ) -> None:
        wire = Wire(answer)
        assert run_sync(getattr(VhostVdpa(wire), method)(*args)) == value
        assert wire.seen == [(getattr(uapi, request_name).request(X86_64), data)]

    def test_every_method_that_is_a_request_is_in_a_table_above(self) -> None:
        tested = {row[1] for row in REQUESTS} | {row[0] for row in ANSWERS}
        general = {"call", "get_int", "put_int", "put_struct", "iotlb", "read_miss"}
        messages = {"iotlb_update", "iotlb_invalidate", "iotlb_remap", "batch_begin", "batch_end"}
        methods = {name for kind in (VhostNet, VhostVdpa) for name in dir(kind) if not name.startswith("_")}
        assert methods == tested | general | messages

    def test_a_big_endian_program_writes_its_own_order(self) -> None:
        wire = Wire()
        run_sync(VhostVdpa(wire, abi=ABIS["s390x"]).set_vring_num(1, 256))
        assert wire.seen[0][1] == bytes.fromhex("00000001 00000100")


class TestMessages:
    def test_kinds_have_their_methods(self) -> None:
        wire = Wire()
        handle = VhostVdpa(wire)

        async def all_of_them() -> None:
            await handle.iotlb_update(0x1000, 0x2000, 0x3000, 1, asid=4)
            await handle.iotlb_invalidate(0x1000, 0x2000)
            await handle.batch_begin(asid=1)
            await handle.batch_end()
            await handle.iotlb_remap(1, 2, 3)

        run_sync(all_of_them())
        assert [tuple(decode_message(X86_64, data)) for _, data in wire.seen] == [
            (2, 4, 0x1000, 0x2000, 0x3000, 1, 2),
            (2, 0, 0x1000, 0x2000, 0, 0, 3),
            (2, 1, 0, 0, 0, 0, 5),
            (2, 0, 0, 0, 0, 0, 6),
            (2, 0, 1, 2, 3, 0, 7),
        ]

    def test_the_format_is_the_handle_s(self) -> None:
        wire = Wire()
        run_sync(VhostNet(wire, version=1).iotlb_invalidate(0, 1))
        assert wire.seen[0][1][:4] == u32(1)

    def test_a_miss_is_asked_for_with_room_for_either_format(self) -> None:
        wire = Wire(encode_message(X86_64, Message(2, 0, 0x5000, 0, 0, 2, 1)))
        assert run_sync(VhostNet(wire).read_miss()) == Message(2, 0, 0x5000, 0, 0, 2, 1)
        assert wire.seen == [("read", 72)]


@pytest.fixture
def process() -> Process:
    sim = Simulator()
    sim.vdpa.dev_add("foo", mgmtdev="vdpasim_net", mac="02:00:00:00:00:05")
    return sim.process("vmm")


class TestAgainstTheSimulator:
    async def test_the_questions_of_a_vdpa_device(self, process: Process) -> None:
        file = await process.open("/dev/vhost-vdpa-0")
        vdpa = VhostVdpa(file)
        await vdpa.set_owner()
        assert await vdpa.get_device_id() == 1
        assert await vdpa.get_vqs_count() == 3
        assert (await vdpa.get_group_num(), await vdpa.get_as_num()) == (2, 2)
        assert await vdpa.get_vring_group(2) == 1
        assert await vdpa.get_iova_range() == (0, (1 << 64) - 1)
        assert await vdpa.get_vring_num() == 256
        assert (await vdpa.get_config(0, 6)).hex() == "020000000005"
        await vdpa.set_status(1)
        assert await vdpa.get_status() == 1
        await vdpa.set_status(0)
        assert await vdpa.get_status() == 0
        await vdpa.set_vring_base(1, 99)
        assert await vdpa.get_vring_base(1) == 99
        await file.aclose()

    async def test_a_refusal_is_an_os_error(self, process: Process) -> None:
        file = await process.open("/dev/vhost-vdpa-0")
        vdpa = VhostVdpa(file)
        await vdpa.set_owner()
        with pytest.raises(OSError) as caught:
            await vdpa.set_vring_num(77, 16)
        assert caught.value.errno == E.ENOBUFS
        await file.aclose()

    def test_in_an_actor(self, process: Process) -> None:
        async def main(sim: Simulator) -> int:
            net = VhostNet(await process.open("/dev/vhost-net"))
            await net.set_owner()
            await net.set_features(await net.get_features())
            return await net.get_features()

        assert process.sim.run(main) >> 33 & 1

    async def test_a_32_bit_program_on_a_64_bit_kernel_gets_its_ioctls_and_loses_its_messages(
        self, process: Process
    ) -> None:
        file: File = await process.open("/dev/vhost-vdpa-0")
        vdpa = VhostVdpa(file, abi=I386, version=1)
        await vdpa.set_owner()
        assert await vdpa.get_device_id() == 1
        # its first format has no hole behind the type word: the kernel takes iova and size from the wrong place
        with pytest.raises(OSError) as caught:
            await vdpa.iotlb_update(0x1000, 0x1000, 0x400000)
        assert caught.value.errno == E.EFAULT
        await file.aclose()
