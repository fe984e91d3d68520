"""Rings in guest memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdpasim.uapi import virtio_ring as r
from vdpasim.uapi.abi import ABIS
from vdpasim.uapi.layout import layout

if TYPE_CHECKING:
    from vdpasim.uapi.table import Struct


@pytest.mark.parametrize("abi", ABIS)
def test_a_descriptor_is_16_little_endian_bytes_everywhere(abi: str) -> None:
    shape = layout(r.vring_desc, ABIS[abi])
    packed = shape.pack(addr=0x1122334455667788, len=0x100, flags=r.VRING_DESC_F_NEXT | r.VRING_DESC_F_WRITE, next=2)
    assert packed == bytes.fromhex("8877665544332211 00010000 0300 0200")


@pytest.mark.parametrize(
    ("struct", "entries"),
    [(r.vring_avail, "__u16[]"), (r.vring_used, "struct vring_used_elem[]")],
    ids=["avail", "used"],
)
def test_the_rings_begin_with_flags_and_index(struct: Struct, entries: str) -> None:
    shape = layout(struct, ABIS["x86_64"])
    assert (shape.offset("flags"), shape.offset("idx"), shape.offset("ring"), shape.size) == (0, 2, 4, 4)
    assert shape.fields[-1].type == entries


def test_a_packed_descriptor_swaps_id_and_flags() -> None:
    shape = layout(r.vring_packed_desc, ABIS["x86_64"])
    assert (shape.offset("id"), shape.offset("flags"), shape.size) == (12, 14, 16)


def test_event_suppression_is_two_words() -> None:
    shape = layout(r.vring_packed_desc_event, ABIS["ppc64"])
    packed = shape.pack(off_wrap=1 << r.VRING_PACKED_EVENT_F_WRAP_CTR, flags=r.VRING_PACKED_EVENT_FLAG_DESC)
    assert packed == b"\0\x80\2\0"
