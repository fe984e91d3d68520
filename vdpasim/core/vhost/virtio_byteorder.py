"""In which byte order a ring and its device's fields are (mirrors include/linux/virtio_byteorder.h).

Theory. With VERSION_1 everything is little-endian. A *legacy* ring is in the order of the guest, which vhost and
vdpa_sim take for the order of the host: little on x86, big on s390x. The cross-endian ioctls that would say otherwise
are not built into distribution kernels.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from vdpasim.uapi.virtio_config import VIRTIO_F_VERSION_1

if TYPE_CHECKING:
    from vdpasim.uapi.abi import Abi, ByteOrder


class RingStructs(NamedTuple):
    """The structures of a split ring in one byte order."""

    byteorder: ByteOrder
    desc: Struct
    used_elem: Struct
    u16: Struct


LITTLE = RingStructs("little", Struct("<QIHH"), Struct("<II"), Struct("<H"))
BIG = RingStructs("big", Struct(">QIHH"), Struct(">II"), Struct(">H"))


def ring_structs(abi: Abi, features: int) -> RingStructs:
    """The structures for the features negotiated on a kernel."""
    return BIG if abi.byteorder == "big" and not features >> VIRTIO_F_VERSION_1 & 1 else LITTLE
