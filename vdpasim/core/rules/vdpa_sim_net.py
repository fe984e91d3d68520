"""Rules of the simulated network device (``vdpa_sim_net.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register

register(
    [
        Rule("sim.net.filter", "vdpa_sim_net.c:receive_filter()", 0, "a frame for another address is dropped: its TX chain completes with length 0"),
        Rule("sim.net.overrun", "vdpa_sim_net.c:vdpasim_net_work()", 0, "no RX chain: the frame is lost and the pass stops"),
        Rule("sim.net.rx-failed", "vdpa_sim_net.c:vdpasim_net_work()", 0, "the RX copy failed: the pass stops and neither chain completes"),
        Rule("sim.net.tx-failed", "vdpa_sim_net.c:vdpasim_net_work()", 0, "the TX gather failed or was empty: completed with length 0, nothing looped back"),
        Rule("sim.net.tx-stale", "vdpa_sim_net.c:vdpasim_net_work()", 0, "the TX gather failed: stale kernel memory would be looped back; reported only", switches=("-F11",)),
        Rule("sim.net.tx-broken", "vdpa_sim_net.c:vdpasim_net_work()", 0, "a broken TX chain stops the pass"),
        Rule("sim.net.budget", "vdpa_sim_net.c:vdpasim_net_work()", 0, "more than 4 frames in a pass: the worker re-schedules itself"),
        Rule("sim.net.ctrl-short", "vdpa_sim_net.c:vdpasim_handle_cvq()", 0, "a control header below 2 bytes: consumed, never completed, control processing stops"),
        Rule("sim.net.ctrl-carry", "vdpa_sim_net.c:vdpasim_handle_cvq()", 0, "an unknown class is acked with the ack of the command before it"),
        Rule("sim.net.ctrl-partial", "vdpa_sim_net.c:vdpasim_handle_ctrl_mac()", 0, "a short MAC payload is stored as far as it goes and acked ERR"),
    ]
)
