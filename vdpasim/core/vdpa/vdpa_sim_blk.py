"""The simulated block device: a 128 MiB ramdisk (mirrors drivers/vdpa/vdpa_sim/vdpa_sim_blk.c).

Theory. One queue. A request is a 16-byte header {type, ioprio, sector}, data, and a status byte that is *the last
writable byte*. Requests too malformed to have a header or a status complete with length 0, without status and
**without interrupt**, and stop the pass. Everything else gets a status and a used length of bytes written plus one.
After five requests the worker re-schedules itself. The config space is rebuilt at every read, so SET_CONFIG has no
lasting effect.

Range checks count whole sectors while the copy moves every byte; at the very end of the disk a kernel would run over
by up to 511 bytes. That is reported (``kernel.oops``) and answered IOERR, never performed.

Not modelled: the shared buffer of the ``shared_backend`` option.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import attrs

from vdpasim.core.kernel import Point, Steps
from vdpasim.core.rules import KernelError, hit
from vdpasim.core.vdpa.vdpa import Attributes, MgmtDev, VdpaBus, VdpaDevice
from vdpasim.core.vdpa.vdpa_sim import SimAttr, VdpaSim, VdpasimVirtqueue, create
from vdpasim.core.vhost.virtio_byteorder import LITTLE
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.virtio_config import (
    VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_F_ANY_LAYOUT,
    VIRTIO_F_VERSION_1,
)

if TYPE_CHECKING:
    from vdpasim.core.kernel import Kernel
    from vdpasim.core.vhost.vringh import Iov

CAPACITY = 0x40000
"""Sectors."""
SECTOR = 512
MAX_SECTORS = 0x20000
"""A longer IN or OUT is an IOERR."""
BUDGET = 5
CHUNK = 4096
"""The ramdisk is stored in pieces of this size; absent ones are zero."""
HEADER, HEADER_BIG = Struct("<IIQ"), Struct(">IIQ")
RANGE = Struct("<QII")
ID = b"vdpa_blk_sim".ljust(blk.VIRTIO_BLK_ID_BYTES, b"\0")

_FEATURES = (
    blk.VIRTIO_BLK_F_SIZE_MAX,
    blk.VIRTIO_BLK_F_SEG_MAX,
    blk.VIRTIO_BLK_F_BLK_SIZE,
    blk.VIRTIO_BLK_F_FLUSH,
    blk.VIRTIO_BLK_F_TOPOLOGY,
    blk.VIRTIO_BLK_F_MQ,
    blk.VIRTIO_BLK_F_DISCARD,
    blk.VIRTIO_BLK_F_WRITE_ZEROES,
    VIRTIO_F_ANY_LAYOUT,
    VIRTIO_F_VERSION_1,
    VIRTIO_F_ACCESS_PLATFORM,
)

CONFIG: tuple[tuple[int, int, int], ...] = (
    (0, 8, CAPACITY),
    (8, 4, 4096),
    (12, 4, 32),
    (20, 4, SECTOR),
    (26, 2, 1),
    (28, 4, 1),
    (34, 2, 1),
    (36, 4, 0xFFFF_FFFF),
    (40, 4, 1),
    (44, 4, SECTOR),
    (48, 4, 0xFFFF_FFFF),
    (52, 4, 1),
)
"""(offset, size, value) of the config fields that are not zero."""


def attr(kernel: Kernel) -> SimAttr:
    """The constants of this device for a kernel."""
    features = sum(1 << bit for bit in _FEATURES)
    return SimAttr("vdpasim_blk", 2, 1, (0,), 1, features, 96 if kernel.on("blk-zoned") else 72)


@attrs.define(eq=False)
class Ramdisk:
    """Sparse storage of the device's capacity."""

    chunks: dict[int, bytearray] = attrs.Factory(dict["int", "bytearray"])

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the disk; never written ones are zero."""
        out = bytearray()
        while length:
            at = offset % CHUNK
            part = min(length, CHUNK - at)
            chunk = self.chunks.get(offset // CHUNK)
            out += chunk[at : at + part] if chunk is not None else bytes(part)
            offset, length = offset + part, length - part
        return bytes(out)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes."""
        done = 0
        while done < len(data):
            at = (offset + done) % CHUNK
            part = min(len(data) - done, CHUNK - at)
            chunk = self.chunks.setdefault((offset + done) // CHUNK, bytearray(CHUNK))
            chunk[at : at + part] = data[done : done + part]
            done += part

    def zero(self, offset: int, length: int) -> None:
        """Write zeroes, dropping whole chunks."""
        last = offset + length
        while offset < last:
            at = offset % CHUNK
            part = min(last - offset, CHUNK - at)
            if part == CHUNK:
                self.chunks.pop(offset // CHUNK, None)
            elif offset // CHUNK in self.chunks:
                self.chunks[offset // CHUNK][at : at + part] = bytes(part)
            offset += part


@attrs.define(eq=False)
class VdpasimBlk:
    """The behaviour of ``vdpasim_blk``."""

    disk: Ramdisk = attrs.Factory(Ramdisk)

    def get_config(self, sim: VdpaSim) -> None:
        """Rebuilt from the constants, every time."""
        sim.config[:] = bytes(len(sim.config))
        for offset, size, value in CONFIG:
            sim.config[offset : offset + size] = value.to_bytes(size, sim.structs.byteorder)

    def work(self, sim: VdpaSim) -> Steps:
        """``vdpasim_blk_work``."""
        vq = sim.vqs[0]
        if not vq.ready:
            return
        for _ in range(BUDGET):
            if sim.kernel.points:
                yield Point(sim.name + ".request")
            if not self._handle_req(sim, vq):
                return
            try:
                wanted = vq.vring.need_notify()
            except KernelError:
                wanted = False
            if wanted:
                sim.notify(vq)
        hit("sim.blk.budget")
        sim.schedule_work()

    def _handle_req(self, sim: VdpaSim, vq: VdpasimVirtqueue) -> bool:
        # one request; whether it was completed properly, which is also whether there is an interrupt
        try:
            chain = vq.vring.getdesc()
        except KernelError:
            hit("sim.blk.broken-chain")
            return False
        if chain is None:
            return False
        head, riov, wiov = chain
        handled, pushed = self._execute(sim, vq, riov, wiov)
        try:
            vq.vring.complete(head, pushed)
        except KernelError:
            pass
        return handled

    def _execute(self, sim: VdpaSim, vq: VdpasimVirtqueue, riov: Iov, wiov: Iov) -> tuple[bool, int]:
        # whether the request got a status, and the used length
        if not riov.segments or not wiov.segments or not wiov.segments[-1].length:
            hit("sim.blk.malformed")
            return False, 0
        to_pull, to_push = riov.total, wiov.total - 1
        try:
            header = vq.vring.pull(riov, HEADER.size)
        except KernelError:
            header = b""
        if len(header) < HEADER.size:
            hit("sim.blk.malformed")
            return False, 0
        kind, _, sector = (HEADER if sim.structs is LITTLE else HEADER_BIG).unpack(header)
        request = _Request(sim, vq, riov, wiov, to_pull - HEADER.size, to_push, sector)
        if kind not in (blk.VIRTIO_BLK_T_IN, blk.VIRTIO_BLK_T_OUT) and sector:
            hit("sim.blk.sector")
            status, pushed = blk.VIRTIO_BLK_S_IOERR, 0
        else:
            handler = _HANDLERS.get(kind, _unknown)
            status, pushed = handler(self.disk, request)
        return _put_status(vq, wiov, to_push - pushed, status, pushed)


@attrs.define
class _Request:
    sim: VdpaSim
    vq: VdpasimVirtqueue
    riov: Iov
    wiov: Iov
    out_length: int
    in_length: int
    sector: int

    def bad_range(self, sector: int, sectors: int, limit: int | None) -> bool:
        """Whether the range check refuses (``vdpasim_blk_check_range``)."""
        at_last = sector == CAPACITY and self.sim.kernel.on("F10")
        beyond = sector > CAPACITY or sectors > CAPACITY - sector or at_last
        too_long = limit is not None and sectors > limit
        if beyond and not self.sim.kernel.on("F10") and sector > CAPACITY:
            hit("sim.blk.range-wrapped")
            self.sim.kernel.violation("kernel.oops", f"access at sector {sector:#x} of a disk of {CAPACITY:#x}")
        if beyond or too_long:
            hit("sim.blk.range")
        return beyond or too_long

    def overruns(self, length: int) -> bool:
        """Whether the bytes behind whole sectors leave the disk."""
        if self.sector * SECTOR + length <= CAPACITY * SECTOR:
            return False
        hit("sim.blk.overrun")
        self.sim.kernel.violation("kernel.oops", f"{length} bytes at sector {self.sector:#x} run over the disk")
        return True


def _put_status(vq: VdpasimVirtqueue, wiov: Iov, skip: int, status: int, pushed: int) -> tuple[bool, int]:
    # the status goes to the last writable byte: what is left of the data space is skipped
    wiov.advance(skip)
    try:
        written = vq.vring.push(wiov, bytes([status]))
    except KernelError:
        written = 0
    if written != 1:
        hit("sim.blk.no-status")
        return False, pushed
    return True, pushed + 1


def _in(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    length = request.in_length
    if request.bad_range(request.sector, length // SECTOR, MAX_SECTORS) or request.overruns(length):
        return blk.VIRTIO_BLK_S_IOERR, 0
    try:
        pushed = request.vq.vring.push(request.wiov, disk.read(request.sector * SECTOR, length))
    except KernelError:
        hit("sim.blk.copy")
        return blk.VIRTIO_BLK_S_IOERR, 0
    return blk.VIRTIO_BLK_S_OK, pushed


def _out(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    length = request.out_length
    if request.bad_range(request.sector, length // SECTOR, MAX_SECTORS) or request.overruns(length):
        return blk.VIRTIO_BLK_S_IOERR, 0
    offset = request.sector * SECTOR
    try:
        for piece in request.vq.vring.pull_pieces(request.riov, length):
            disk.write(offset, piece)
            offset += len(piece)
    except KernelError:
        hit("sim.blk.copy")
        return blk.VIRTIO_BLK_S_IOERR, 0
    return blk.VIRTIO_BLK_S_OK, 0


def _get_id(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    try:
        pushed = request.vq.vring.push(request.wiov, ID)
    except KernelError:
        hit("sim.blk.copy")
        return blk.VIRTIO_BLK_S_IOERR, 0
    if request.in_length < len(ID):
        hit("sim.blk.get-id-status")
    return blk.VIRTIO_BLK_S_OK, pushed


def _flush(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    return blk.VIRTIO_BLK_S_OK, 0


def _range(request: _Request) -> tuple[int, int, int] | None:
    # (sector, sectors, flags) of DISCARD and WRITE_ZEROES
    if request.out_length != RANGE.size:
        hit("sim.blk.payload")
        return None
    try:
        payload = request.vq.vring.pull(request.riov, RANGE.size)
    except KernelError:
        hit("sim.blk.copy")
        return None
    sector, sectors, flags = RANGE.unpack(payload)
    return sector, sectors, flags


def _discard(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    given = _range(request)
    if given is None:
        return blk.VIRTIO_BLK_S_IOERR, 0
    sector, sectors, flags = given
    if flags:
        hit("sim.blk.flags")
        return blk.VIRTIO_BLK_S_UNSUPP, 0
    bad = request.bad_range(sector, sectors, None)
    return (blk.VIRTIO_BLK_S_IOERR if bad else blk.VIRTIO_BLK_S_OK), 0


def _write_zeroes(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    given = _range(request)
    if given is None:
        return blk.VIRTIO_BLK_S_IOERR, 0
    sector, sectors, flags = given
    if flags & ~blk.VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP:
        hit("sim.blk.flags")
        return blk.VIRTIO_BLK_S_UNSUPP, 0
    if request.bad_range(sector, sectors, None):
        return blk.VIRTIO_BLK_S_IOERR, 0
    disk.zero(sector * SECTOR, sectors * SECTOR)
    return blk.VIRTIO_BLK_S_OK, 0


def _unknown(disk: Ramdisk, request: _Request) -> tuple[int, int]:
    hit("sim.blk.unknown-type")
    return blk.VIRTIO_BLK_S_IOERR, 0


_HANDLERS = {
    blk.VIRTIO_BLK_T_IN: _in,
    blk.VIRTIO_BLK_T_OUT: _out,
    blk.VIRTIO_BLK_T_GET_ID: _get_id,
    blk.VIRTIO_BLK_T_FLUSH: _flush,
    blk.VIRTIO_BLK_T_DISCARD: _discard,
    blk.VIRTIO_BLK_T_WRITE_ZEROES: _write_zeroes,
}
"""Request type -> handler, which returns (status, bytes pushed before the status)."""


def make(bus: VdpaBus, name: str, attributes: Attributes) -> VdpaDevice:
    """``vdpa dev add … mgmtdev vdpasim_blk``."""
    return create(bus, name, attributes, attr(bus.kernel), VdpasimBlk())


MGMTDEV = MgmtDev(
    "vdpasim_blk",
    2,
    frozenset({"device_features"}),
    frozenset({"use_va", "batch_mapping", "max_iotlb_entries"}),
    make,
)
