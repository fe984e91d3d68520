"""Rules of the device simulator (``drivers/vdpa/vdpa_sim/vdpa_sim.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

register(
    [
        Rule("sim.features.platform", "vdpa_sim.c:vdpasim_set_driver_features()", E.EINVAL, "VIRTIO_F_ACCESS_PLATFORM is not among the features"),
        Rule("sim.dev.features", "vdpa_sim.c:vdpasim_create()", E.EINVAL, "the features asked for are not a subset of the device's"),
        Rule("sim.kick.remembered", "vdpa_sim.c:vdpasim_kick_vq()", 0, "a kick while suspended is remembered, as one flag", switches=("pending-kick",)),
        Rule("sim.kick.ignored", "vdpa_sim.c:vdpasim_kick_vq()", 0, "a kick of a queue that is not enabled is lost"),
        Rule("sim.worker.dead-mm", "vdpa_sim.c:vdpasim_work_fn()", 0, "the bound address space has died: the worker does nothing, and nobody is told",
             switches=("va-mode",)),
        Rule("sim.worker.not-running", "vdpa_sim.c:vdpasim_work_fn()", 0, "the worker ran without DRIVER_OK or while suspended and did nothing"),
        Rule("sim.enable.no-size", "vdpa_sim.c:vdpasim_queue_ready()", 0, "a queue whose size was never set is enabled with the reset ring at address 0"),
        Rule("sim.used.lost", "vringh.c:vringh_complete_iotlb()", 0, "the used ring could not be written: the completion is lost, and the device does not look"),
        Rule("sim.map.passthrough-left", "vdpa_sim.c:vdpasim_set_map()", 0, "the first map pushed, even an empty one, ends passthrough",
             switches=("passthrough",)),
        Rule("sim.map.passthrough-restored", "vdpa_sim.c:vdpasim_do_reset()", 0, "a map-cleaning reset brings passthrough back",
             "the vhost-vdpa table stays: the same range cannot be UPDATEd, any other push restores it", switches=("passthrough",)),
    ]
)
