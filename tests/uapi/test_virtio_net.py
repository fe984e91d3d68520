"""virtio-net's config space, headers and commands."""

from __future__ import annotations

from vdpasim.uapi import virtio_net as n
from vdpasim.uapi.abi import PPC64, X86_64
from vdpasim.uapi.layout import layout


def test_the_config_space_is_packed_and_little_endian() -> None:
    packed = layout(n.virtio_net_config, PPC64).pack(
        mac=bytes.fromhex("020000000001"), status=n.VIRTIO_NET_S_LINK_UP, max_virtqueue_pairs=2, mtu=1500, duplex=0xFF
    )
    assert packed == bytes.fromhex("020000000001 0100 0200 dc05 00000000 ff 00 0000 00000000")


def test_header_sizes_are_what_devices_reckon_with() -> None:
    sizes = [
        layout(struct, X86_64).size
        for struct in (n.virtio_net_hdr, n.virtio_net_hdr_mrg_rxbuf, n.virtio_net_hdr_v1, n.virtio_net_hdr_v1_hash)
    ]
    assert sizes == [10, 12, 12, 20]


def test_the_checksum_words_of_the_header_have_two_more_meanings() -> None:
    shape = layout(n.virtio_net_hdr_v1, X86_64)
    assert shape.offset("csum_start") == shape.offset("csum.start") == shape.offset("rsc.segments") == 6
    assert shape.offset("csum_offset") == shape.offset("csum.offset") == shape.offset("rsc.dup_acks") == 8


def test_a_command_has_a_class_and_a_number() -> None:
    shape = layout(n.virtio_net_ctrl_hdr, X86_64)
    assert shape.pack(class_=n.VIRTIO_NET_CTRL_MAC, cmd=n.VIRTIO_NET_CTRL_MAC_ADDR_SET) == b"\1\1"
    assert shape.unpack(b"\4\0").class_ == n.VIRTIO_NET_CTRL_MQ


def test_a_mac_table_is_a_count_and_addresses() -> None:
    shape = layout(n.virtio_net_ctrl_mac, X86_64)
    assert (shape.size, shape.offset("macs"), shape.fields[-1].type) == (4, 4, "__u8[6][]")


def test_features_share_no_number() -> None:
    bits = [value for name, value in vars(n).items() if name.startswith("VIRTIO_NET_F_")]
    assert len(bits) == len(set(bits))


def test_vhost_net_reuses_bit_27() -> None:
    assert n.VHOST_NET_F_VIRTIO_NET_HDR == 27
