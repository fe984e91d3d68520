"""Device status and the feature bits every virtio device may have (mirrors linux/virtio_config.h)."""

from __future__ import annotations

from vdpasim.uapi import vhost_types

VIRTIO_CONFIG_S_ACKNOWLEDGE = 1
VIRTIO_CONFIG_S_DRIVER = 2
VIRTIO_CONFIG_S_DRIVER_OK = 4
VIRTIO_CONFIG_S_FEATURES_OK = 8
VIRTIO_CONFIG_S_NEEDS_RESET = 0x40
VIRTIO_CONFIG_S_FAILED = 0x80

VIRTIO_TRANSPORT_F_START = 28
VIRTIO_TRANSPORT_F_END = 42
"""First bit behind those reserved for transports (41 and lower numbers in older headers)."""

VIRTIO_F_NOTIFY_ON_EMPTY = 24
VHOST_F_LOG_ALL = vhost_types.VHOST_F_LOG_ALL
"""vhost's only; no virtio device offers bit 26."""
VIRTIO_F_ANY_LAYOUT = 27
VIRTIO_F_VERSION_1 = 32
VIRTIO_F_ACCESS_PLATFORM = 33
VIRTIO_F_IOMMU_PLATFORM = VIRTIO_F_ACCESS_PLATFORM
VIRTIO_F_RING_PACKED = 34
VIRTIO_F_IN_ORDER = 35
VIRTIO_F_ORDER_PLATFORM = 36
VIRTIO_F_SR_IOV = 37
VIRTIO_F_NOTIFICATION_DATA = 38
VIRTIO_F_NOTIF_CONFIG_DATA = 39
VIRTIO_F_RING_RESET = 40
VIRTIO_F_ADMIN_VQ = 41
