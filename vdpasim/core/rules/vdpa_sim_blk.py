"""Rules of the simulated block device (``vdpa_sim_blk.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register

_REQ = "vdpa_sim_blk.c:vdpasim_blk_handle_req()"
_RANGE = "vdpa_sim_blk.c:vdpasim_blk_check_range()"

register(
    [
        Rule("sim.blk.malformed", _REQ, 0, "no header, no status byte or a short header: completed with length 0, no status, no interrupt; the pass stops"),
        Rule("sim.blk.broken-chain", "vdpa_sim_blk.c:vdpasim_blk_work()", 0, "a broken chain stops the pass; it has been consumed and never completes"),
        Rule("sim.blk.sector", _REQ, 0, "a request other than IN and OUT with a sector: IOERR"),
        Rule("sim.blk.range", _RANGE, 0, "start or length beyond the capacity, or more than 131072 sectors: IOERR"),
        Rule("sim.blk.range-wrapped", _RANGE, 0, "a start beyond the capacity passed the range check by unsigned wrap", switches=("-F10",)),
        Rule("sim.blk.overrun", _REQ, 0, "a length that is no multiple of 512 reaches beyond the last sector: memory behind the disk in a real kernel"),
        Rule("sim.blk.unknown-type", _REQ, 0, "an unknown request type is IOERR, not UNSUPP"),
        Rule("sim.blk.get-id-status", _REQ, 0, "GET_ID with fewer than 21 writable bytes writes over the status byte: no status, no interrupt, the pass stops"),
        Rule("sim.blk.payload", _REQ, 0, "DISCARD or WRITE_ZEROES payload is not exactly one range of 16 bytes: IOERR"),
        Rule("sim.blk.flags", _REQ, 0, "DISCARD or WRITE_ZEROES with unknown flags: UNSUPP"),
        Rule("sim.blk.no-status", _REQ, 0, "the status byte could not be written: completed with length 0, no interrupt, the pass stops"),
        Rule("sim.blk.copy", _REQ, 0, "the data copy failed: IOERR"),
        Rule("sim.blk.budget", "vdpa_sim_blk.c:vdpasim_blk_work()", 0, "more than 4 requests in a pass: the worker re-schedules itself"),
    ]
)
