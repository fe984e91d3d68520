"""Device status and common feature bits."""

from __future__ import annotations

from vdpasim.uapi import vhost_types, virtio_config


def test_status_bits_are_distinct_bits() -> None:
    bits = [value for name, value in vars(virtio_config).items() if name.startswith("VIRTIO_CONFIG_S_")]
    assert sum(bits) == 0xCF
    assert all(bit & bit - 1 == 0 for bit in bits)


def test_feature_bits_share_no_number() -> None:
    names = [name for name in vars(virtio_config) if name.startswith("VIRTIO_F_")]
    numbers = {getattr(virtio_config, name) for name in names}
    assert len(numbers) == len(names) - 1, "IOMMU_PLATFORM is the old name of ACCESS_PLATFORM"


def test_transport_bits_are_in_the_reserved_range() -> None:
    reserved = range(virtio_config.VIRTIO_TRANSPORT_F_START, virtio_config.VIRTIO_TRANSPORT_F_END)
    legacy = {"VIRTIO_F_NOTIFY_ON_EMPTY", "VIRTIO_F_ANY_LAYOUT"}
    names = [name for name in vars(virtio_config) if name.startswith("VIRTIO_F_") and name not in legacy]
    assert all(getattr(virtio_config, name) in reserved for name in names)


def test_vhost_lends_its_log_bit() -> None:
    assert virtio_config.VHOST_F_LOG_ALL == vhost_types.VHOST_F_LOG_ALL == 26
