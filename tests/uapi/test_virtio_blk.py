"""virtio-blk's config space and requests."""

from __future__ import annotations

from vdpasim.uapi import virtio_blk as b
from vdpasim.uapi.abi import S390X, X86_64
from vdpasim.uapi.layout import layout


def test_the_config_space_grew() -> None:
    old, new = layout(b.virtio_blk_config_72, X86_64), layout(b.virtio_blk_config, X86_64)
    assert (old.size, new.size) == (72, 96)
    assert new.fields[: len(old.fields)] == old.fields
    assert new.offset("zoned") == 72


def test_the_config_space_is_packed_and_little_endian() -> None:
    shape = layout(b.virtio_blk_config, S390X)
    packed = shape.pack(capacity=0x40000, geometry=(1, 2, 3), num_queues=1, write_zeroes_may_unmap=1)
    assert packed[:8] == (0x40000).to_bytes(8, "little")
    assert packed[16:20] == b"\1\0\2\3"
    assert packed[34:36] == b"\1\0"
    assert packed[56] == 1


def test_a_request_begins_with_16_bytes() -> None:
    packed = layout(b.virtio_blk_outhdr, X86_64).pack(type=b.VIRTIO_BLK_T_OUT, sector=7)
    assert packed == bytes.fromhex("01000000 00000000 0700000000000000")


def test_a_range_to_discard_is_16_bytes() -> None:
    shape = layout(b.virtio_blk_discard_write_zeroes, X86_64)
    value = shape.unpack(bytes.fromhex("0800000000000000 10000000 01000000"))
    assert value == (8, 16, b.VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)


def test_features_share_no_number() -> None:
    bits = [value for name, value in vars(b).items() if name.startswith("VIRTIO_BLK_F_") and name != "VIRTIO_BLK_F_WCE"]
    assert len(bits) == len(set(bits))
