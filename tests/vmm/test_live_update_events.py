"""A live update takes along what the guest did to its machine."""

from typing import Literal

import pytest

from vdpasim.sim import Simulator
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm, SystemEvent

Variant = Literal["resume", "reset"]
Way = Literal["exec", "transfer"]


def update(event: SystemEvent, variant: Variant, way: Way) -> LiveVmm:
    """The VMM after an update during which the guest did this."""

    async def main(sim: Simulator) -> LiveVmm:
        vmm = await LiveVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        await vmm.write_sector(0, bytes(512))
        vmm.events.append(event)
        new = await LiveUpdate(vmm, variant=variant, way=way).run()
        assert (await new.device.get_status() == 0xF) is (event == "reset")
        if event == "reset":
            assert await new.read_sector(0) == bytes(512)
        return new

    sim = Simulator("6.12+live-update-v1")
    vmm = sim.run(main)
    assert isinstance(vmm, LiveVmm)
    return vmm


@pytest.mark.parametrize("way", ["exec", "transfer"])
@pytest.mark.parametrize("variant", ["resume", "reset"])
def test_a_guest_that_was_reset_boots(variant: Variant, way: Way) -> None:
    """Its rings are dropped, its driver starts at 0, and I/O works."""
    assert update("reset", variant, way).guest == "runs"


@pytest.mark.parametrize("event", ["crash", "shutdown"])
@pytest.mark.parametrize("variant", ["resume", "reset"])
def test_a_guest_that_ended_stays_so(event: SystemEvent, variant: Variant) -> None:
    """The device is reset, and nothing kicks it."""
    assert update(event, variant, "exec").guest == "stopped"
