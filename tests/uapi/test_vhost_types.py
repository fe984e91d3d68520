"""vhost's structures as the specification has them, byte by byte."""

from __future__ import annotations

import pytest

from vdpasim.uapi import vhost_types as t
from vdpasim.uapi.abi import ABIS, I386, S390X, X86_64
from vdpasim.uapi.layout import layout

# name, size and members on every ABI alike
SAME = {
    "vhost_msg_v2": (72, {"type": 0, "asid": 4, "iotlb": 8, "padding": 8}),
    "vhost_vring_state": (8, {"index": 0, "num": 4}),
    "vhost_vring_file": (8, {"index": 0, "fd": 4}),
    "vhost_vring_addr": (
        40,
        {
            "index": 0,
            "flags": 4,
            "desc_user_addr": 8,
            "used_user_addr": 16,
            "avail_user_addr": 24,
            "log_guest_addr": 32,
        },
    ),
    "vhost_memory_region": (32, {"guest_phys_addr": 0, "memory_size": 8, "userspace_addr": 16, "flags_padding": 24}),
    "vhost_memory": (8, {"nregions": 0, "padding": 4, "regions": 8}),
    "vhost_vdpa_config": (8, {"off": 0, "len": 4, "buf": 8}),
    "vhost_vdpa_iova_range": (16, {"first": 0, "last": 8}),
    "vhost_worker_state": (4, {"worker_id": 0}),
    "vhost_vring_worker": (8, {"index": 0, "worker_id": 4}),
    "vhost_features_array": (8, {"count": 0, "features": 8}),
    "vhost_scsi_target": (232, {"abi_version": 0, "vhost_wwpn": 4, "vhost_tpgt": 228, "reserved": 230}),
}


@pytest.mark.parametrize(("name", "expected"), SAME.items())
def test_most_structures_are_the_same_everywhere(name: str, expected: tuple[int, dict[str, int]]) -> None:
    for abi in ABIS.values():
        shape = layout(getattr(t, name), abi)
        own = {field.name: field.offset for field in shape.fields if "." not in field.name}
        assert (shape.size, own, shape.holes) == (*expected, ())


@pytest.mark.parametrize("name", [name for name in ABIS if name != "i386"])
def test_the_first_message_has_a_hole_behind_its_type(name: str) -> None:
    shape = layout(t.vhost_msg, ABIS[name])
    assert (shape.size, shape.offset("iotlb"), shape.holes) == (72, 8, ((4, 4),))
    inner = layout(t.vhost_iotlb_msg, ABIS[name])
    assert (inner.size, inner.align, inner.holes) == (32, 8, ((26, 6),))


def test_except_on_i386() -> None:
    shape = layout(t.vhost_msg, I386)
    assert (shape.size, shape.offset("iotlb"), shape.holes) == (68, 4, ())
    inner = layout(t.vhost_iotlb_msg, I386)
    assert (inner.size, inner.align, inner.holes) == (28, 4, ((26, 2),))


def test_a_message_as_x86_64_writes_it() -> None:
    update = {"iova": 0x1000, "size": 0x2000, "uaddr": 0x7F0000000000, "perm": t.VHOST_ACCESS_RW, "type": 2}
    packed = layout(t.vhost_msg_v2, X86_64).pack(type=t.VHOST_IOTLB_MSG_V2, asid=1, iotlb=update)
    assert packed == bytes.fromhex(
        "02000000 01000000 0010000000000000 0020000000000000 000000000 07f0000 03 02".replace(" ", "")
    ) + bytes(38)


def test_and_as_s390x_does() -> None:
    packed = layout(t.vhost_msg, S390X).pack(type=t.VHOST_IOTLB_MSG, iotlb={"iova": 1, "type": 3})
    assert packed == bytes.fromhex("00000001 00000000 0000000000000001") + bytes(17) + b"\3" + bytes(38)


def test_a_file_can_be_taken_away() -> None:
    shape = layout(t.vhost_vring_file, X86_64)
    assert shape.unpack(shape.pack(index=1, fd=t.VHOST_FILE_UNBIND)).fd == -1


def test_backend_features_are_bit_numbers_without_a_gap() -> None:
    bits = {name: value for name, value in vars(t).items() if name.startswith("VHOST_BACKEND_F_")}
    assert sorted(bits.values()) == list(range(1, 11))


def test_versions_are_told_of_constants_that_exist() -> None:
    assert [name for name in t.SINCE if not isinstance(getattr(t, name, None), int)] == []
    assert t.SINCE["VHOST_IOTLB_REMAP"] == t.SINCE["VHOST_BACKEND_F_NEW_OWNER"] == "live-update series, never merged"
