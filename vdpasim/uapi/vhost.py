"""ioctls of /dev/vhost-net, /dev/vhost-scsi, /dev/vhost-vsock and /dev/vhost-vdpa-N (mirrors linux/vhost.h).

Theory. All share one type letter, 0xAF. Directions are as the header declares them, which is not always what the
handler does: GET_VRING_ENDIAN, GET_VRING_BUSYLOOP_TIMEOUT and VHOST_SCSI_GET_ABI_VERSION are declared as writes and
write back, VHOST_VDPA_GET_CONFIG and VHOST_GET_FEATURES_ARRAY are declared as reads and read their header first.
"""

from __future__ import annotations

from vdpasim.uapi.ioctl import io, ior, iow, iowr
from vdpasim.uapi.table import s32, u8, u16, u32, u64
from vdpasim.uapi.vhost_types import (
    vhost_features_array,
    vhost_memory,
    vhost_scsi_target,
    vhost_vdpa_config,
    vhost_vdpa_iova_range,
    vhost_vring_addr,
    vhost_vring_file,
    vhost_vring_state,
    vhost_vring_worker,
    vhost_worker_state,
)

VHOST_VIRTIO = 0xAF
_V = VHOST_VIRTIO

VHOST_VRING_LITTLE_ENDIAN = 0
VHOST_VRING_BIG_ENDIAN = 1

VHOST_FORK_OWNER_KTHREAD = 0
VHOST_FORK_OWNER_TASK = 1

# -- every device

VHOST_GET_FEATURES = ior("VHOST_GET_FEATURES", _V, 0x00, u64, "Virtio features the device offers")
VHOST_SET_FEATURES = iow("VHOST_SET_FEATURES", _V, 0x00, u64, "Virtio features the driver takes")
VHOST_SET_OWNER = io("VHOST_SET_OWNER", _V, 0x01, "Lend the caller's address space to the device")
VHOST_RESET_OWNER = io("VHOST_RESET_OWNER", _V, 0x02, "Give the address space back and reset")
VHOST_SET_MEM_TABLE = iow("VHOST_SET_MEM_TABLE", _V, 0x03, vhost_memory, "Guest memory as user addresses")
VHOST_SET_LOG_BASE = iow("VHOST_SET_LOG_BASE", _V, 0x04, u64, "User address of the dirty log")
VHOST_SET_LOG_FD = iow("VHOST_SET_LOG_FD", _V, 0x07, s32, "eventfd signalled when the log is written")
VHOST_NEW_WORKER = ior("VHOST_NEW_WORKER", _V, 0x08, vhost_worker_state, "Make a worker", "6.5")
VHOST_FREE_WORKER = iow("VHOST_FREE_WORKER", _V, 0x09, vhost_worker_state, "Free a worker no ring uses", "6.5")

# -- rings

VHOST_SET_VRING_NUM = iow("VHOST_SET_VRING_NUM", _V, 0x10, vhost_vring_state, "Descriptors of a ring")
VHOST_SET_VRING_ADDR = iow("VHOST_SET_VRING_ADDR", _V, 0x11, vhost_vring_addr, "Addresses of a ring")
VHOST_SET_VRING_BASE = iow("VHOST_SET_VRING_BASE", _V, 0x12, vhost_vring_state, "Where to start in the avail ring")
VHOST_GET_VRING_BASE = iowr(
    "VHOST_GET_VRING_BASE", _V, 0x12, vhost_vring_state, "Where the device is in the avail ring"
)
VHOST_SET_VRING_ENDIAN = iow("VHOST_SET_VRING_ENDIAN", _V, 0x13, vhost_vring_state, "Byte order of a legacy ring")
VHOST_GET_VRING_ENDIAN = iow("VHOST_GET_VRING_ENDIAN", _V, 0x14, vhost_vring_state, "Byte order of a legacy ring")
VHOST_ATTACH_VRING_WORKER = iow(
    "VHOST_ATTACH_VRING_WORKER", _V, 0x15, vhost_vring_worker, "Give a ring to a worker", "6.5"
)
VHOST_GET_VRING_WORKER = iowr("VHOST_GET_VRING_WORKER", _V, 0x16, vhost_vring_worker, "The worker of a ring", "6.5")
VHOST_SET_VRING_KICK = iow("VHOST_SET_VRING_KICK", _V, 0x20, vhost_vring_file, "eventfd the driver kicks")
VHOST_SET_VRING_CALL = iow("VHOST_SET_VRING_CALL", _V, 0x21, vhost_vring_file, "eventfd the device signals")
VHOST_SET_VRING_ERR = iow("VHOST_SET_VRING_ERR", _V, 0x22, vhost_vring_file, "eventfd signalled on a ring error")
VHOST_SET_VRING_BUSYLOOP_TIMEOUT = iow(
    "VHOST_SET_VRING_BUSYLOOP_TIMEOUT", _V, 0x23, vhost_vring_state, "Microseconds to poll before sleeping"
)
VHOST_GET_VRING_BUSYLOOP_TIMEOUT = iow(
    "VHOST_GET_VRING_BUSYLOOP_TIMEOUT", _V, 0x24, vhost_vring_state, "Microseconds to poll before sleeping"
)
VHOST_SET_BACKEND_FEATURES = iow("VHOST_SET_BACKEND_FEATURES", _V, 0x25, u64, "vhost features to use", "4.19")
VHOST_GET_BACKEND_FEATURES = ior(
    "VHOST_GET_BACKEND_FEATURES", _V, 0x26, u64, "vhost features there are; _IOW in 4.19 headers", "4.20"
)
VHOST_NEW_OWNER = io(
    "VHOST_NEW_OWNER", _V, 0x27, "Hand the device to the caller's address space", "live-update series, never merged"
)

# -- vhost-net, vhost-scsi, vhost-vsock

VHOST_NET_SET_BACKEND = iow("VHOST_NET_SET_BACKEND", _V, 0x30, vhost_vring_file, "Tap or socket behind a ring")
VHOST_SCSI_SET_ENDPOINT = iow("VHOST_SCSI_SET_ENDPOINT", _V, 0x40, vhost_scsi_target, "Attach a target")
VHOST_SCSI_CLEAR_ENDPOINT = iow("VHOST_SCSI_CLEAR_ENDPOINT", _V, 0x41, vhost_scsi_target, "Detach a target")
VHOST_SCSI_GET_ABI_VERSION = iow("VHOST_SCSI_GET_ABI_VERSION", _V, 0x42, s32, "Version of vhost_scsi_target")
VHOST_SCSI_SET_EVENTS_MISSED = iow("VHOST_SCSI_SET_EVENTS_MISSED", _V, 0x43, u32, "Set the lost-event flag")
VHOST_SCSI_GET_EVENTS_MISSED = iow("VHOST_SCSI_GET_EVENTS_MISSED", _V, 0x44, u32, "Get the lost-event flag")
VHOST_VSOCK_SET_GUEST_CID = iow("VHOST_VSOCK_SET_GUEST_CID", _V, 0x60, u64, "Context id of the guest")
VHOST_VSOCK_SET_RUNNING = iow("VHOST_VSOCK_SET_RUNNING", _V, 0x61, s32, "Start or stop the device")

# -- vhost-vdpa

VHOST_VDPA_GET_DEVICE_ID = ior("VHOST_VDPA_GET_DEVICE_ID", _V, 0x70, u32, "Virtio device id", "5.7")
VHOST_VDPA_GET_STATUS = ior("VHOST_VDPA_GET_STATUS", _V, 0x71, u8, "Virtio device status", "5.7")
VHOST_VDPA_SET_STATUS = iow("VHOST_VDPA_SET_STATUS", _V, 0x72, u8, "Virtio device status; 0 resets", "5.7")
VHOST_VDPA_GET_CONFIG = ior("VHOST_VDPA_GET_CONFIG", _V, 0x73, vhost_vdpa_config, "Read the config space", "5.7")
VHOST_VDPA_SET_CONFIG = iow("VHOST_VDPA_SET_CONFIG", _V, 0x74, vhost_vdpa_config, "Write the config space", "5.7")
VHOST_VDPA_SET_VRING_ENABLE = iow(
    "VHOST_VDPA_SET_VRING_ENABLE", _V, 0x75, vhost_vring_state, "Make a ring ready or not", "5.7"
)
VHOST_VDPA_GET_VRING_NUM = ior("VHOST_VDPA_GET_VRING_NUM", _V, 0x76, u16, "Largest ring size", "5.7")
VHOST_VDPA_SET_CONFIG_CALL = iow("VHOST_VDPA_SET_CONFIG_CALL", _V, 0x77, s32, "eventfd for config changes", "5.8")
VHOST_VDPA_GET_IOVA_RANGE = ior(
    "VHOST_VDPA_GET_IOVA_RANGE", _V, 0x78, vhost_vdpa_iova_range, "IOVAs the device can use", "5.10"
)
VHOST_VDPA_GET_CONFIG_SIZE = ior("VHOST_VDPA_GET_CONFIG_SIZE", _V, 0x79, u32, "Bytes of the config space", "5.18")
VHOST_VDPA_GET_AS_NUM = ior("VHOST_VDPA_GET_AS_NUM", _V, 0x7A, u32, "Number of address spaces", "5.19")
VHOST_VDPA_GET_VRING_GROUP = iowr("VHOST_VDPA_GET_VRING_GROUP", _V, 0x7B, vhost_vring_state, "Group of a ring", "5.19")
VHOST_VDPA_SET_GROUP_ASID = iow(
    "VHOST_VDPA_SET_GROUP_ASID", _V, 0x7C, vhost_vring_state, "Address space of a group", "5.19"
)
VHOST_VDPA_SUSPEND = io("VHOST_VDPA_SUSPEND", _V, 0x7D, "Stop processing, keep the state", "6.0")
VHOST_VDPA_RESUME = io("VHOST_VDPA_RESUME", _V, 0x7E, "Go on after SUSPEND", "6.3")
VHOST_VDPA_GET_VRING_DESC_GROUP = iowr(
    "VHOST_VDPA_GET_VRING_DESC_GROUP", _V, 0x7F, vhost_vring_state, "Group of a ring's own memory", "6.7"
)
VHOST_VDPA_GET_VQS_COUNT = ior("VHOST_VDPA_GET_VQS_COUNT", _V, 0x80, u32, "Number of rings", "5.18")
VHOST_VDPA_GET_GROUP_NUM = ior("VHOST_VDPA_GET_GROUP_NUM", _V, 0x81, u32, "Number of groups", "5.19")
VHOST_VDPA_GET_VRING_SIZE = iowr(
    "VHOST_VDPA_GET_VRING_SIZE", _V, 0x82, vhost_vring_state, "Size of one ring; was 0x80 in early 6.9-rc", "6.9"
)
VHOST_GET_FEATURES_ARRAY = ior(
    "VHOST_GET_FEATURES_ARRAY", _V, 0x83, vhost_features_array, "Virtio features, beyond bit 63 too", "6.17"
)
VHOST_SET_FEATURES_ARRAY = iow(
    "VHOST_SET_FEATURES_ARRAY", _V, 0x83, vhost_features_array, "Virtio features, beyond bit 63 too", "6.17"
)
VHOST_SET_FORK_FROM_OWNER = iow(
    "VHOST_SET_FORK_FROM_OWNER", _V, 0x84, u8, "Workers as threads of the owner or of the kernel", "6.12.42"
)
VHOST_GET_FORK_FROM_OWNER = ior(
    "VHOST_GET_FORK_FROM_OWNER", _V, 0x85, u8, "Workers as threads of the owner or of the kernel", "6.12.42"
)
