"""Virtio device ids."""

from __future__ import annotations

from vdpasim.uapi import virtio_ids


def test_net_is_1_and_block_is_2() -> None:
    assert (virtio_ids.VIRTIO_ID_NET, virtio_ids.VIRTIO_ID_BLOCK) == (1, 2)


def test_ids_share_no_number() -> None:
    for prefix in ("VIRTIO_ID_", "VIRTIO_TRANS_ID_"):
        ids = [value for name, value in vars(virtio_ids).items() if name.startswith(prefix)]
        assert len(ids) == len(set(ids)) > 5
