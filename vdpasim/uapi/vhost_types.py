"""Structures, message types and feature bits of vhost (mirrors linux/vhost_types.h).

Theory. Everything here is in the byte order of the machine, also when the guest's rings are not. Messages go through
``write`` and ``read``, the rest are arguments of ioctls. Two message formats exist because the first one has a hole
where a 32-bit program has none: ``vhost_msg`` is 72 bytes on x86_64 and 68 on i386, ``vhost_msg_v2`` is 72
everywhere.
"""

from __future__ import annotations

from vdpasim.uapi.table import S32, U8, U16, U32, U64, Bytes, Flex, Nested, Struct, Union, u8, u64

_HEADER = "linux/vhost_types.h"
_LIVE_UPDATE = "live-update series, never merged"

# -- rings

VHOST_VRING_F_LOG = 0
"""Bit number in ``vhost_vring_addr.flags``: log writes to the used ring."""

VHOST_FILE_UNBIND = -1
"""As ``fd``: take the file away (declared in linux/vhost.h)."""

vhost_vring_state = Struct("vhost_vring_state", U32("index"), U32("num"), header=_HEADER, doc="One number of one ring")
vhost_vring_file = Struct(
    "vhost_vring_file", U32("index"), S32("fd"), header=_HEADER, doc="A file for one ring; -1 takes it away"
)
vhost_vring_addr = Struct(
    "vhost_vring_addr",
    U32("index"),
    U32("flags"),
    U64("desc_user_addr"),
    U64("used_user_addr"),
    U64("avail_user_addr"),
    U64("log_guest_addr"),
    header=_HEADER,
    doc="Where the parts of a ring are; used comes before avail",
)
vhost_worker_state = Struct(
    "vhost_worker_state", U32("worker_id"), header=_HEADER, doc="A worker's identity", since="6.5"
)
vhost_vring_worker = Struct(
    "vhost_vring_worker",
    U32("index"),
    U32("worker_id"),
    header=_HEADER,
    doc="Which worker serves a ring",
    since="6.5",
)

# -- messages

VHOST_IOTLB_MSG = 1
VHOST_IOTLB_MSG_V2 = 2

VHOST_ACCESS_RO = 1
VHOST_ACCESS_WO = 2
VHOST_ACCESS_RW = 3

VHOST_IOTLB_MISS = 1
VHOST_IOTLB_UPDATE = 2
VHOST_IOTLB_INVALIDATE = 3
VHOST_IOTLB_ACCESS_FAIL = 4
VHOST_IOTLB_BATCH_BEGIN = 5
VHOST_IOTLB_BATCH_END = 6
VHOST_IOTLB_REMAP = 7
"""Live-update series, never merged."""

vhost_iotlb_msg = Struct(
    "vhost_iotlb_msg",
    U64("iova"),
    U64("size"),
    U64("uaddr"),
    U8("perm"),
    U8("type"),
    header=_HEADER,
    doc="One IOTLB request or answer, inside vhost_msg and vhost_msg_v2",
)
vhost_msg = Struct(
    "vhost_msg",
    S32("type"),
    Union(Nested("iotlb", vhost_iotlb_msg), Bytes("padding", 64)),
    header=_HEADER,
    doc="Message, first format: has a hole where u64 is aligned to 8",
)
vhost_msg_v2 = Struct(
    "vhost_msg_v2",
    U32("type"),
    U32("asid"),
    Union(Nested("iotlb", vhost_iotlb_msg), Bytes("padding", 64)),
    header=_HEADER,
    doc="Message, second format: the same on every machine; asid was reserved before 5.19",
    since="4.19",
)

# -- memory

VHOST_PAGE_SIZE = 0x1000
"""Bytes per bit of the dirty log."""

vhost_memory_region = Struct(
    "vhost_memory_region",
    U64("guest_phys_addr"),
    U64("memory_size"),
    U64("userspace_addr"),
    U64("flags_padding"),
    header=_HEADER,
    doc="One region of guest memory",
)
vhost_memory = Struct(
    "vhost_memory",
    U32("nregions"),
    U32("padding"),
    Flex("regions", vhost_memory_region),
    header=_HEADER,
    doc="Guest memory: nregions regions follow",
)

# -- vhost-scsi

VHOST_SCSI_ABI_VERSION = 1

vhost_scsi_target = Struct(
    "vhost_scsi_target",
    S32("abi_version"),
    Bytes("vhost_wwpn", 224),
    U16("vhost_tpgt"),
    U16("reserved"),
    header=_HEADER,
    doc="A target of vhost-scsi",
)

# -- vhost-vdpa

vhost_vdpa_config = Struct(
    "vhost_vdpa_config",
    U32("off"),
    U32("len"),
    Flex("buf", u8),
    header=_HEADER,
    doc="A range of the config space; len bytes follow",
)
vhost_vdpa_iova_range = Struct(
    "vhost_vdpa_iova_range",
    U64("first"),
    U64("last"),
    header=_HEADER,
    doc="The IOVAs a device can use, both ends included",
)

# -- features

VHOST_F_LOG_ALL = 26
VHOST_NET_F_VIRTIO_NET_HDR = 27

vhost_features_array = Struct(
    "vhost_features_array",
    U64("count"),
    Flex("features", u64),
    header=_HEADER,
    doc="Feature bits beyond 63: count words follow",
    since="6.17",
)

VHOST_BACKEND_F_IOTLB_MSG_V2 = 1
VHOST_BACKEND_F_IOTLB_BATCH = 2
VHOST_BACKEND_F_IOTLB_ASID = 3
VHOST_BACKEND_F_SUSPEND = 4
VHOST_BACKEND_F_RESUME = 5
VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK = 6
VHOST_BACKEND_F_DESC_ASID = 7
VHOST_BACKEND_F_IOTLB_PERSIST = 8
VHOST_BACKEND_F_NEW_OWNER = 9
"""Live-update series, never merged."""
VHOST_BACKEND_F_IOTLB_REMAP = 10
"""Live-update series, never merged: REMAP is supported, and needed after NEW_OWNER."""

SINCE: dict[str, str] = {
    "VHOST_IOTLB_MSG_V2": "4.19",
    "VHOST_IOTLB_BATCH_BEGIN": "5.8",
    "VHOST_IOTLB_BATCH_END": "5.8",
    "VHOST_IOTLB_REMAP": _LIVE_UPDATE,
    "VHOST_BACKEND_F_IOTLB_MSG_V2": "4.19",
    "VHOST_BACKEND_F_IOTLB_BATCH": "5.8",
    "VHOST_BACKEND_F_IOTLB_ASID": "5.19",
    "VHOST_BACKEND_F_SUSPEND": "6.0",
    "VHOST_BACKEND_F_RESUME": "6.3",
    "VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK": "6.6",
    "VHOST_BACKEND_F_DESC_ASID": "6.7",
    "VHOST_BACKEND_F_IOTLB_PERSIST": "6.7",
    "VHOST_BACKEND_F_NEW_OWNER": _LIVE_UPDATE,
    "VHOST_BACKEND_F_IOTLB_REMAP": _LIVE_UPDATE,
}
"""Kernel version, or series, that brought a constant; absent for those of the first vhost."""
