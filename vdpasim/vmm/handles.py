"""Typed handles of vhost files: one method per request, integers in, integers out.

Theory. A handle owns no state but the ABI its program was compiled for: a 32-bit VMM on a 64-bit kernel is a handle
with ``abi=I386``, and what the kernel makes of its bytes is the kernel's affair. Methods are named for the request
without its prefix. ``iotlb`` sends one message; ``read_miss`` decodes what read() gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vdpasim.uapi import vhost as uapi
from vdpasim.uapi.abi import X86_64, Abi
from vdpasim.uapi.layout import layout
from vdpasim.uapi.message import Message, decode_message, encode_message, message_size
from vdpasim.uapi.vhost_types import (
    VHOST_IOTLB_BATCH_BEGIN,
    VHOST_IOTLB_BATCH_END,
    VHOST_IOTLB_INVALIDATE,
    VHOST_IOTLB_MSG_V2,
    VHOST_IOTLB_REMAP,
    VHOST_IOTLB_UPDATE,
    vhost_vdpa_config,
    vhost_vdpa_iova_range,
    vhost_vring_addr,
    vhost_vring_file,
    vhost_vring_state,
)

if TYPE_CHECKING:
    from vdpasim.uapi.ioctl import Ioctl
    from vdpasim.uapi.table import Struct
    from vdpasim.vmm.transport import Transport


class Vhost:
    """What every vhost file understands."""

    def __init__(self, file: Transport, *, abi: Abi = X86_64, version: int = VHOST_IOTLB_MSG_V2) -> None:
        self.file = file
        self.abi = abi
        self.version = version
        """Format of the messages this handle writes."""

    # -- one request

    async def call(self, request: Ioctl, data: bytes | None = None) -> bytes:
        """An ioctl with an argument buffer; the buffer as the kernel left it."""
        out = await self.file.ioctl(request.request(self.abi), data)
        return out if isinstance(out, bytes) else b""

    async def get_int(self, request: Ioctl, size: int) -> int:
        """A request that stores one integer."""
        return int.from_bytes(await self.call(request, bytes(size)), self.abi.byteorder)

    async def put_int(self, request: Ioctl, size: int, value: int) -> None:
        """A request that takes one integer."""
        await self.call(request, (value & (1 << 8 * size) - 1).to_bytes(size, self.abi.byteorder))

    async def put_struct(self, request: Ioctl, struct: Struct, **fields: int) -> Any:
        """A request that takes a structure; the structure as the kernel left it."""
        shape = layout(struct, self.abi)
        out = await self.call(request, shape.pack(**fields))
        return shape.unpack(out) if out else None

    # -- device

    async def set_owner(self) -> None:
        """SET_OWNER."""
        await self.call(uapi.VHOST_SET_OWNER)

    async def get_features(self) -> int:
        """GET_FEATURES."""
        return await self.get_int(uapi.VHOST_GET_FEATURES, 8)

    async def set_features(self, features: int) -> None:
        """SET_FEATURES."""
        await self.put_int(uapi.VHOST_SET_FEATURES, 8, features)

    async def get_backend_features(self) -> int:
        """GET_BACKEND_FEATURES."""
        return await self.get_int(uapi.VHOST_GET_BACKEND_FEATURES, 8)

    async def set_backend_features(self, features: int) -> None:
        """SET_BACKEND_FEATURES."""
        await self.put_int(uapi.VHOST_SET_BACKEND_FEATURES, 8, features)

    async def set_mem_table(self, regions: list[tuple[int, int, int]]) -> None:
        """SET_MEM_TABLE: (guest_phys_addr, memory_size, userspace_addr) each."""
        order = self.abi.byteorder
        data = len(regions).to_bytes(4, order) + bytes(4)
        for region in regions:
            data += b"".join(value.to_bytes(8, order) for value in (*region, 0))
        await self.call(uapi.VHOST_SET_MEM_TABLE, data)

    # -- rings

    async def set_vring_num(self, index: int, num: int) -> None:
        """SET_VRING_NUM."""
        await self.put_struct(uapi.VHOST_SET_VRING_NUM, vhost_vring_state, index=index, num=num)

    async def set_vring_base(self, index: int, num: int) -> None:
        """SET_VRING_BASE."""
        await self.put_struct(uapi.VHOST_SET_VRING_BASE, vhost_vring_state, index=index, num=num)

    async def get_vring_base(self, index: int) -> int:
        """GET_VRING_BASE."""
        state = await self.put_struct(uapi.VHOST_GET_VRING_BASE, vhost_vring_state, index=index)
        return int(state.num)

    async def set_vring_addr(
        self, index: int, desc: int, avail: int, used: int, *, flags: int = 0, log: int = 0
    ) -> None:
        """SET_VRING_ADDR."""
        await self.put_struct(
            uapi.VHOST_SET_VRING_ADDR,
            vhost_vring_addr,
            index=index,
            flags=flags,
            desc_user_addr=desc,
            used_user_addr=used,
            avail_user_addr=avail,
            log_guest_addr=log,
        )

    async def set_vring_kick(self, index: int, fd: int) -> None:
        """SET_VRING_KICK; -1 removes."""
        await self.put_struct(uapi.VHOST_SET_VRING_KICK, vhost_vring_file, index=index, fd=fd)

    async def set_vring_call(self, index: int, fd: int) -> None:
        """SET_VRING_CALL; -1 removes."""
        await self.put_struct(uapi.VHOST_SET_VRING_CALL, vhost_vring_file, index=index, fd=fd)

    async def set_vring_err(self, index: int, fd: int) -> None:
        """SET_VRING_ERR; -1 removes."""
        await self.put_struct(uapi.VHOST_SET_VRING_ERR, vhost_vring_file, index=index, fd=fd)

    # -- messages

    async def iotlb(
        self, kind: int, *, iova: int = 0, size: int = 0, uaddr: int = 0, perm: int = 0, asid: int = 0
    ) -> int:
        """Write one IOTLB message; what write() returned."""
        message = Message(self.version, asid, iova, size, uaddr, perm, kind)
        return await self.file.write(encode_message(self.abi, message))

    async def iotlb_update(self, iova: int, size: int, uaddr: int, perm: int = 3, *, asid: int = 0) -> None:
        """UPDATE."""
        await self.iotlb(VHOST_IOTLB_UPDATE, iova=iova, size=size, uaddr=uaddr, perm=perm, asid=asid)

    async def iotlb_invalidate(self, iova: int, size: int, *, asid: int = 0) -> None:
        """INVALIDATE."""
        await self.iotlb(VHOST_IOTLB_INVALIDATE, iova=iova, size=size, asid=asid)

    async def read_miss(self) -> Message:
        """Wait for one message of the kernel and decode it as a program of this ABI does."""
        return decode_message(self.abi, await self.file.read(message_size(self.abi)))


class VhostNet(Vhost):
    """/dev/vhost-net."""

    async def reset_owner(self) -> None:
        """RESET_OWNER."""
        await self.call(uapi.VHOST_RESET_OWNER)

    async def set_backend(self, index: int, fd: int) -> None:
        """NET_SET_BACKEND; -1 removes."""
        await self.put_struct(uapi.VHOST_NET_SET_BACKEND, vhost_vring_file, index=index, fd=fd)


class VhostVdpa(Vhost):
    """/dev/vhost-vdpa-N."""

    async def get_device_id(self) -> int:
        """GET_DEVICE_ID."""
        return await self.get_int(uapi.VHOST_VDPA_GET_DEVICE_ID, 4)

    async def get_status(self) -> int:
        """GET_STATUS."""
        return await self.get_int(uapi.VHOST_VDPA_GET_STATUS, 1)

    async def set_status(self, status: int) -> None:
        """SET_STATUS; 0 resets."""
        await self.put_int(uapi.VHOST_VDPA_SET_STATUS, 1, status)

    async def get_config(self, off: int, length: int) -> bytes:
        """GET_CONFIG."""
        head = layout(vhost_vdpa_config, self.abi).pack(off=off, len=length)
        return (await self.call(uapi.VHOST_VDPA_GET_CONFIG, head + bytes(length)))[len(head) :]

    async def set_config(self, off: int, data: bytes) -> None:
        """SET_CONFIG."""
        head = layout(vhost_vdpa_config, self.abi).pack(off=off, len=len(data))
        await self.call(uapi.VHOST_VDPA_SET_CONFIG, head + data)

    async def get_config_size(self) -> int:
        """GET_CONFIG_SIZE."""
        return await self.get_int(uapi.VHOST_VDPA_GET_CONFIG_SIZE, 4)

    async def set_config_call(self, fd: int) -> None:
        """SET_CONFIG_CALL; -1 removes."""
        await self.put_int(uapi.VHOST_VDPA_SET_CONFIG_CALL, 4, fd)

    async def get_vring_num(self) -> int:
        """GET_VRING_NUM: the largest ring."""
        return await self.get_int(uapi.VHOST_VDPA_GET_VRING_NUM, 2)

    async def get_iova_range(self) -> tuple[int, int]:
        """GET_IOVA_RANGE: first and last."""
        out = await self.put_struct(uapi.VHOST_VDPA_GET_IOVA_RANGE, vhost_vdpa_iova_range)
        return int(out.first), int(out.last)

    async def get_vqs_count(self) -> int:
        """GET_VQS_COUNT."""
        return await self.get_int(uapi.VHOST_VDPA_GET_VQS_COUNT, 4)

    async def get_group_num(self) -> int:
        """GET_GROUP_NUM."""
        return await self.get_int(uapi.VHOST_VDPA_GET_GROUP_NUM, 4)

    async def get_as_num(self) -> int:
        """GET_AS_NUM."""
        return await self.get_int(uapi.VHOST_VDPA_GET_AS_NUM, 4)

    async def get_vring_group(self, index: int) -> int:
        """GET_VRING_GROUP."""
        out = await self.put_struct(uapi.VHOST_VDPA_GET_VRING_GROUP, vhost_vring_state, index=index)
        return int(out.num)

    async def get_vring_size(self, index: int) -> int:
        """GET_VRING_SIZE: of one queue."""
        out = await self.put_struct(uapi.VHOST_VDPA_GET_VRING_SIZE, vhost_vring_state, index=index)
        return int(out.num)

    async def set_group_asid(self, group: int, asid: int) -> None:
        """SET_GROUP_ASID."""
        await self.put_struct(uapi.VHOST_VDPA_SET_GROUP_ASID, vhost_vring_state, index=group, num=asid)

    async def set_vring_enable(self, index: int, enable: bool = True) -> None:
        """SET_VRING_ENABLE."""
        await self.put_struct(uapi.VHOST_VDPA_SET_VRING_ENABLE, vhost_vring_state, index=index, num=int(enable))

    async def suspend(self) -> None:
        """SUSPEND."""
        await self.call(uapi.VHOST_VDPA_SUSPEND)

    async def resume(self) -> None:
        """RESUME."""
        await self.call(uapi.VHOST_VDPA_RESUME)

    async def new_owner(self) -> None:
        """NEW_OWNER, of the live-update series."""
        await self.call(uapi.VHOST_NEW_OWNER)

    async def batch_begin(self, *, asid: int = 0) -> None:
        """BATCH_BEGIN."""
        await self.iotlb(VHOST_IOTLB_BATCH_BEGIN, asid=asid)

    async def batch_end(self, *, asid: int = 0) -> None:
        """BATCH_END."""
        await self.iotlb(VHOST_IOTLB_BATCH_END, asid=asid)

    async def iotlb_remap(self, iova: int, size: int, uaddr: int, *, asid: int = 0) -> None:
        """REMAP, of the live-update series."""
        await self.iotlb(VHOST_IOTLB_REMAP, iova=iova, size=size, uaddr=uaddr, asid=asid)
