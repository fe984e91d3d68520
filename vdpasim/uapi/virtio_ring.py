"""Descriptors and rings in guest memory (mirrors linux/virtio_ring.h).

Theory. A split ring is a descriptor table, an avail ring the driver writes and a used ring the device writes; a
packed ring is one table both write. Fields are little-endian: the rings of a device that has VIRTIO_F_VERSION_1.

Not modelled: the rings of a legacy device, which are in the guest's byte order; the alignment of the ring parts (16,
2 and 4), which is a rule about addresses and not of the structures.
"""

from __future__ import annotations

from vdpasim.uapi.table import U16, U32, U64, Flex, Struct, u16

_HEADER = "linux/virtio_ring.h"

VRING_DESC_F_NEXT = 1
VRING_DESC_F_WRITE = 2
VRING_DESC_F_INDIRECT = 4
VRING_PACKED_DESC_F_AVAIL = 7
"""Bit number."""
VRING_PACKED_DESC_F_USED = 15
"""Bit number."""
VRING_USED_F_NO_NOTIFY = 1
VRING_AVAIL_F_NO_INTERRUPT = 1
VRING_PACKED_EVENT_FLAG_ENABLE = 0
VRING_PACKED_EVENT_FLAG_DISABLE = 1
VRING_PACKED_EVENT_FLAG_DESC = 2
VRING_PACKED_EVENT_F_WRAP_CTR = 15
"""Bit number."""

VIRTIO_RING_F_INDIRECT_DESC = 28
VIRTIO_RING_F_EVENT_IDX = 29

VRING_AVAIL_ALIGN_SIZE = 2
VRING_USED_ALIGN_SIZE = 4
VRING_DESC_ALIGN_SIZE = 16

vring_desc = Struct(
    "vring_desc",
    U64("addr"),
    U32("len"),
    U16("flags"),
    U16("next"),
    header=_HEADER,
    byteorder="little",
    doc="A descriptor of a split ring",
)
vring_avail = Struct(
    "vring_avail",
    U16("flags"),
    U16("idx"),
    Flex("ring", u16),
    header=_HEADER,
    byteorder="little",
    doc="What the driver has made available; a used_event word follows the ring",
)
vring_used_elem = Struct(
    "vring_used_elem",
    U32("id"),
    U32("len"),
    header=_HEADER,
    byteorder="little",
    doc="A chain the device has finished, and the bytes it wrote",
)
vring_used = Struct(
    "vring_used",
    U16("flags"),
    U16("idx"),
    Flex("ring", vring_used_elem),
    header=_HEADER,
    byteorder="little",
    doc="What the device has finished; an avail_event word follows the ring",
)
vring_packed_desc_event = Struct(
    "vring_packed_desc_event",
    U16("off_wrap"),
    U16("flags"),
    header=_HEADER,
    byteorder="little",
    doc="Event suppression of a packed ring",
    since="5.0",
)
vring_packed_desc = Struct(
    "vring_packed_desc",
    U64("addr"),
    U32("len"),
    U16("id"),
    U16("flags"),
    header=_HEADER,
    byteorder="little",
    doc="A descriptor of a packed ring",
    since="5.0",
)
