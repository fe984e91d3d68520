"""Features, config space, headers and control commands of virtio-net (mirrors linux/virtio_net.h).

Theory. Every packet starts with a header; which one depends on the features: ``virtio_net_hdr_v1`` (12 bytes) for a
device with VERSION_1, ``virtio_net_hdr`` (10 bytes) for a legacy device without MRG_RXBUF. Fields are little-endian,
as for VERSION_1. Commands on the control queue are ``virtio_net_ctrl_hdr``, data, and a status byte the device
writes.

Not modelled: the commands of device statistics (6.10) and of flow filters.
"""

from __future__ import annotations

from vdpasim.uapi import vhost_types
from vdpasim.uapi.table import U8, U16, U32, Array, ByteArray, Bytes, Flex, Nested, Struct, Union, u8, u16

_HEADER = "linux/virtio_net.h"

ETH_ALEN = 6

# -- feature bits

VIRTIO_NET_F_CSUM = 0
VIRTIO_NET_F_GUEST_CSUM = 1
VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2
VIRTIO_NET_F_MTU = 3
VIRTIO_NET_F_MAC = 5
VIRTIO_NET_F_GSO = 6
VIRTIO_NET_F_GUEST_TSO4 = 7
VIRTIO_NET_F_GUEST_TSO6 = 8
VIRTIO_NET_F_GUEST_ECN = 9
VIRTIO_NET_F_GUEST_UFO = 10
VIRTIO_NET_F_HOST_TSO4 = 11
VIRTIO_NET_F_HOST_TSO6 = 12
VIRTIO_NET_F_HOST_ECN = 13
VIRTIO_NET_F_HOST_UFO = 14
VIRTIO_NET_F_MRG_RXBUF = 15
VIRTIO_NET_F_STATUS = 16
VIRTIO_NET_F_CTRL_VQ = 17
VIRTIO_NET_F_CTRL_RX = 18
VIRTIO_NET_F_CTRL_VLAN = 19
VIRTIO_NET_F_CTRL_RX_EXTRA = 20
VIRTIO_NET_F_GUEST_ANNOUNCE = 21
VIRTIO_NET_F_MQ = 22
VIRTIO_NET_F_CTRL_MAC_ADDR = 23
VIRTIO_NET_F_DEVICE_STATS = 50
VIRTIO_NET_F_VQ_NOTF_COAL = 52
VIRTIO_NET_F_NOTF_COAL = 53
VIRTIO_NET_F_GUEST_USO4 = 54
VIRTIO_NET_F_GUEST_USO6 = 55
VIRTIO_NET_F_HOST_USO = 56
VIRTIO_NET_F_HASH_REPORT = 57
VIRTIO_NET_F_GUEST_HDRLEN = 59
VIRTIO_NET_F_RSS = 60
VIRTIO_NET_F_RSC_EXT = 61
VIRTIO_NET_F_STANDBY = 62
VIRTIO_NET_F_SPEED_DUPLEX = 63
VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO = 65
VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM = 66
VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO = 67
VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM = 68

VHOST_NET_F_VIRTIO_NET_HDR = vhost_types.VHOST_NET_F_VIRTIO_NET_HDR
"""What vhost-net takes bit 27 for: it adds the header itself."""

# -- config space

VIRTIO_NET_S_LINK_UP = 1
VIRTIO_NET_S_ANNOUNCE = 2

virtio_net_config = Struct(
    "virtio_net_config",
    Bytes("mac", ETH_ALEN),
    U16("status"),
    U16("max_virtqueue_pairs"),
    U16("mtu"),
    U32("speed"),
    U8("duplex"),
    U8("rss_max_key_size"),
    U16("rss_max_indirection_table_length"),
    U32("supported_hash_types"),
    header=_HEADER,
    packed=True,
    byteorder="little",
    doc="Config space of virtio-net",
)

VIRTIO_NET_RSS_HASH_TYPE_IPv4 = 1 << 0
VIRTIO_NET_RSS_HASH_TYPE_TCPv4 = 1 << 1
VIRTIO_NET_RSS_HASH_TYPE_UDPv4 = 1 << 2
VIRTIO_NET_RSS_HASH_TYPE_IPv6 = 1 << 3
VIRTIO_NET_RSS_HASH_TYPE_TCPv6 = 1 << 4
VIRTIO_NET_RSS_HASH_TYPE_UDPv6 = 1 << 5
VIRTIO_NET_RSS_HASH_TYPE_IP_EX = 1 << 6
VIRTIO_NET_RSS_HASH_TYPE_TCP_EX = 1 << 7
VIRTIO_NET_RSS_HASH_TYPE_UDP_EX = 1 << 8

# -- packet headers

VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
VIRTIO_NET_HDR_F_DATA_VALID = 2
VIRTIO_NET_HDR_F_RSC_INFO = 4
VIRTIO_NET_HDR_GSO_NONE = 0
VIRTIO_NET_HDR_GSO_TCPV4 = 1
VIRTIO_NET_HDR_GSO_UDP = 3
VIRTIO_NET_HDR_GSO_TCPV6 = 4
VIRTIO_NET_HDR_GSO_UDP_L4 = 5
VIRTIO_NET_HDR_GSO_ECN = 0x80
VIRTIO_NET_HASH_REPORT_NONE = 0
VIRTIO_NET_HASH_REPORT_IPv4 = 1
VIRTIO_NET_HASH_REPORT_TCPv4 = 2
VIRTIO_NET_HASH_REPORT_UDPv4 = 3
VIRTIO_NET_HASH_REPORT_IPv6 = 4
VIRTIO_NET_HASH_REPORT_TCPv6 = 5
VIRTIO_NET_HASH_REPORT_UDPv6 = 6
VIRTIO_NET_HASH_REPORT_IPv6_EX = 7
VIRTIO_NET_HASH_REPORT_TCPv6_EX = 8
VIRTIO_NET_HASH_REPORT_UDPv6_EX = 9

_HDR = (U8("flags"), U8("gso_type"), U16("hdr_len"), U16("gso_size"))

virtio_net_hdr = Struct(
    "virtio_net_hdr",
    *_HDR,
    U16("csum_start"),
    U16("csum_offset"),
    header=_HEADER,
    byteorder="little",
    doc="Packet header of a legacy device",
)
virtio_net_hdr_mrg_rxbuf = Struct(
    "virtio_net_hdr_mrg_rxbuf",
    Nested("hdr", virtio_net_hdr),
    U16("num_buffers"),
    header=_HEADER,
    byteorder="little",
    doc="Packet header of a legacy device with MRG_RXBUF",
)
virtio_net_hdr_v1 = Struct(
    "virtio_net_hdr_v1",
    *_HDR,
    Union(
        Nested("", Struct("", U16("csum_start"), U16("csum_offset"))),
        Nested("csum", Struct("", U16("start"), U16("offset"))),
        Nested("rsc", Struct("", U16("segments"), U16("dup_acks"))),
    ),
    U16("num_buffers"),
    header=_HEADER,
    byteorder="little",
    doc="Packet header of a device with VERSION_1",
)
virtio_net_hdr_v1_hash = Struct(
    "virtio_net_hdr_v1_hash",
    Nested("hdr", virtio_net_hdr_v1),
    U32("hash_value"),
    U16("hash_report"),
    U16("padding"),
    header=_HEADER,
    byteorder="little",
    doc="Packet header with HASH_REPORT",
    since="5.18",
)

# -- control queue

VIRTIO_NET_OK = 0
VIRTIO_NET_ERR = 1
VIRTIO_NET_CTRL_RX = 0
VIRTIO_NET_CTRL_RX_PROMISC = 0
VIRTIO_NET_CTRL_RX_ALLMULTI = 1
VIRTIO_NET_CTRL_RX_ALLUNI = 2
VIRTIO_NET_CTRL_RX_NOMULTI = 3
VIRTIO_NET_CTRL_RX_NOUNI = 4
VIRTIO_NET_CTRL_RX_NOBCAST = 5
VIRTIO_NET_CTRL_MAC = 1
VIRTIO_NET_CTRL_MAC_TABLE_SET = 0
VIRTIO_NET_CTRL_MAC_ADDR_SET = 1
VIRTIO_NET_CTRL_VLAN = 2
VIRTIO_NET_CTRL_VLAN_ADD = 0
VIRTIO_NET_CTRL_VLAN_DEL = 1
VIRTIO_NET_CTRL_ANNOUNCE = 3
VIRTIO_NET_CTRL_ANNOUNCE_ACK = 0
VIRTIO_NET_CTRL_MQ = 4
VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0
VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN = 1
VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX = 0x8000
VIRTIO_NET_CTRL_MQ_RSS_CONFIG = 1
VIRTIO_NET_CTRL_MQ_HASH_CONFIG = 2
VIRTIO_NET_CTRL_GUEST_OFFLOADS = 5
VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET = 0
VIRTIO_NET_CTRL_NOTF_COAL = 6
VIRTIO_NET_CTRL_NOTF_COAL_TX_SET = 0
VIRTIO_NET_CTRL_NOTF_COAL_RX_SET = 1

virtio_net_ctrl_hdr = Struct(
    "virtio_net_ctrl_hdr",
    U8("class"),
    U8("cmd"),
    header=_HEADER,
    packed=True,
    byteorder="little",
    doc="What a control command is; the member class is class_ in Python",
)
virtio_net_ctrl_mac = Struct(
    "virtio_net_ctrl_mac",
    U32("entries"),
    Flex("macs", ByteArray(ETH_ALEN)),
    header=_HEADER,
    packed=True,
    byteorder="little",
    doc="A MAC table; entries addresses follow",
)
virtio_net_ctrl_mq = Struct(
    "virtio_net_ctrl_mq",
    U16("virtqueue_pairs"),
    header=_HEADER,
    byteorder="little",
    doc="How many queue pairs to use",
)
virtio_net_rss_config = Struct(
    "virtio_net_rss_config",
    U32("hash_types"),
    U16("indirection_table_mask"),
    U16("unclassified_queue"),
    Array("indirection_table", u16, 1),
    U16("max_tx_vq"),
    U8("hash_key_length"),
    Flex("hash_key_data", u8),
    header=_HEADER,
    byteorder="little",
    doc="Receive steering; the table and what follows it grow with the mask",
    since="5.18",
)
virtio_net_hash_config = Struct(
    "virtio_net_hash_config",
    U32("hash_types"),
    Array("reserved", u16, 4),
    U8("hash_key_length"),
    Flex("hash_key_data", u8),
    header=_HEADER,
    byteorder="little",
    doc="Which hashes to report; hash_key_length bytes follow",
    since="5.18",
)
virtio_net_ctrl_coal_tx = Struct(
    "virtio_net_ctrl_coal_tx",
    U32("tx_max_packets"),
    U32("tx_usecs"),
    header=_HEADER,
    byteorder="little",
    doc="Coalescing of transmit interrupts",
)
virtio_net_ctrl_coal_rx = Struct(
    "virtio_net_ctrl_coal_rx",
    U32("rx_max_packets"),
    U32("rx_usecs"),
    header=_HEADER,
    byteorder="little",
    doc="Coalescing of receive interrupts",
)
