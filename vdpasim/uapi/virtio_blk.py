"""Features, config space and requests of virtio-blk (mirrors linux/virtio_blk.h).

Theory. A request is a readable ``virtio_blk_outhdr``, the data, and a status byte the device writes. The config space
grew: 60 bytes, 72 with secure erase (6.1), 96 with zones (6.3); a program compiled with an older header asks for
less, and a device of an older kernel has less. Fields are little-endian, as for VERSION_1.

Not modelled: the requests of zoned devices.
"""

from __future__ import annotations

from vdpasim.uapi.table import U8, U16, U32, U64, Bytes, Nested, Struct

_HEADER = "linux/virtio_blk.h"

# -- feature bits

VIRTIO_BLK_F_BARRIER = 0
VIRTIO_BLK_F_SIZE_MAX = 1
VIRTIO_BLK_F_SEG_MAX = 2
VIRTIO_BLK_F_GEOMETRY = 4
VIRTIO_BLK_F_RO = 5
VIRTIO_BLK_F_BLK_SIZE = 6
VIRTIO_BLK_F_SCSI = 7
VIRTIO_BLK_F_FLUSH = 9
VIRTIO_BLK_F_WCE = VIRTIO_BLK_F_FLUSH
VIRTIO_BLK_F_TOPOLOGY = 10
VIRTIO_BLK_F_CONFIG_WCE = 11
VIRTIO_BLK_F_MQ = 12
VIRTIO_BLK_F_DISCARD = 13
VIRTIO_BLK_F_WRITE_ZEROES = 14
VIRTIO_BLK_F_SECURE_ERASE = 16
VIRTIO_BLK_F_ZONED = 17

VIRTIO_BLK_ID_BYTES = 20

# -- config space

virtio_blk_geometry = Struct(
    "virtio_blk_geometry",
    U16("cylinders"),
    U8("heads"),
    U8("sectors"),
    header=_HEADER,
    byteorder="little",
    doc="Legacy geometry, inside virtio_blk_config",
)
virtio_blk_zoned_characteristics = Struct(
    "virtio_blk_zoned_characteristics",
    U32("zone_sectors"),
    U32("max_open_zones"),
    U32("max_active_zones"),
    U32("max_append_sectors"),
    U32("write_granularity"),
    U8("model"),
    Bytes("unused2", 3),
    header=_HEADER,
    byteorder="little",
    doc="Zones, inside virtio_blk_config",
    since="6.3",
)

_CONFIG = (
    U64("capacity"),
    U32("size_max"),
    U32("seg_max"),
    Nested("geometry", virtio_blk_geometry),
    U32("blk_size"),
    U8("physical_block_exp"),
    U8("alignment_offset"),
    U16("min_io_size"),
    U32("opt_io_size"),
    U8("wce"),
    U8("unused"),
    U16("num_queues"),
    U32("max_discard_sectors"),
    U32("max_discard_seg"),
    U32("discard_sector_alignment"),
    U32("max_write_zeroes_sectors"),
    U32("max_write_zeroes_seg"),
    U8("write_zeroes_may_unmap"),
    Bytes("unused1", 3),
    U32("max_secure_erase_sectors"),
    U32("max_secure_erase_seg"),
    U32("secure_erase_sector_alignment"),
)

virtio_blk_config = Struct(
    "virtio_blk_config",
    *_CONFIG,
    Nested("zoned", virtio_blk_zoned_characteristics),
    header=_HEADER,
    packed=True,
    byteorder="little",
    doc="Config space of virtio-blk, 96 bytes since 6.3",
)
virtio_blk_config_72 = Struct(
    "virtio_blk_config_72",
    *_CONFIG,
    header=_HEADER,
    packed=True,
    byteorder="little",
    doc="virtio_blk_config of 6.1 and 6.2, 72 bytes; the name is ours",
)

# -- requests

VIRTIO_BLK_T_IN = 0
VIRTIO_BLK_T_OUT = 1
VIRTIO_BLK_T_SCSI_CMD = 2
VIRTIO_BLK_T_FLUSH = 4
VIRTIO_BLK_T_GET_ID = 8
VIRTIO_BLK_T_DISCARD = 11
VIRTIO_BLK_T_WRITE_ZEROES = 13
VIRTIO_BLK_T_SECURE_ERASE = 14
VIRTIO_BLK_T_BARRIER = 0x80000000

VIRTIO_BLK_S_OK = 0
VIRTIO_BLK_S_IOERR = 1
VIRTIO_BLK_S_UNSUPP = 2

VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1

virtio_blk_outhdr = Struct(
    "virtio_blk_outhdr",
    U32("type"),
    U32("ioprio"),
    U64("sector"),
    header=_HEADER,
    byteorder="little",
    doc="Start of a request",
)
virtio_scsi_inhdr = Struct(
    "virtio_scsi_inhdr",
    U32("errors"),
    U32("data_len"),
    U32("sense_len"),
    U32("residual"),
    header=_HEADER,
    byteorder="little",
    doc="Answer to a legacy SCSI command",
)
virtio_blk_discard_write_zeroes = Struct(
    "virtio_blk_discard_write_zeroes",
    U64("sector"),
    U32("num_sectors"),
    U32("flags"),
    header=_HEADER,
    byteorder="little",
    doc="One range of a DISCARD, WRITE_ZEROES or SECURE_ERASE",
    since="5.0",
)
