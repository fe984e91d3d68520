"""Stories that oracles watch: a machine, every check, and what they found."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from vdpasim.checks.standard import standard, vmm_mistakes
from vdpasim.core.events import Kind
from vdpasim.scenario.judge import come_to_rest
from vdpasim.sim import Simulator
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm

if TYPE_CHECKING:
    from vdpasim.checks import Finding
    from vdpasim.core.events import Event

Story = Callable[[Simulator], Coroutine[Any, Any, Any]]
NEW_ADDRESS = 0x6000_0000_0000
SERIES = "6.12+live-update-v1"
PA: dict[str, int | bool] = {"use_va": False}


def watch(story: Story, kernel: str = "tip", **machine: Any) -> list[Finding]:
    """Play a story; what all the checks have found."""
    sim = Simulator(kernel, **machine)
    checks = standard() + vmm_mistakes()

    def sink(event: Event) -> None:
        for check in checks:
            check.event(event)

    sim.listen(sink)
    sim.run(story)
    assert come_to_rest(sim)
    for check in checks:
        check.event((sim.kernel.seq, sim.kernel.now, "-", Kind.STILL))
        check.finish()
    return [finding for check in checks for finding in check.findings]


def ids(story: Story, kernel: str = "tip", **machine: Any) -> set[str]:
    """Their ids."""
    return {finding.id for finding in watch(story, kernel, **machine)}


async def boot(sim: Simulator, name: str = "vmm") -> BlkVmm:
    """A running disk."""
    return await BlkVmm.boot(sim.process(name), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)


async def create(sim: Simulator) -> BlkVmm:
    """A disk that is owned, features negotiated, nothing mapped, no ring set."""
    vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.set_owner()
    await vmm.ack()
    await vmm.negotiate()
    return vmm


async def remap(vmm: BlkVmm, addr: int | None = None) -> None:
    """One REMAP in a batch, as it should be."""
    await vmm.device.batch_begin()
    await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr if addr is None else addr)
    await vmm.device.batch_end()


async def restart(vmm: BlkVmm, base: int = 0) -> None:
    """Reset the device and set it up again; its map is cleaned, so guest memory is mapped anew."""
    await vmm.device.set_status(0)
    await vmm.negotiate()
    await vmm.device.iotlb_invalidate(IOVA, RAM)
    await vmm.map_ram()
    await vmm.set_up_ring(base)
    await vmm.device.set_vring_enable(0)
    await vmm.device.set_status(0xF)


async def hand_over(sim: Simulator) -> None:
    """A whole live update, as it should be, with I/O before and after."""
    vmm = await boot(sim)
    await vmm.write_sector(0, b"x" * 512)
    await vmm.device.suspend()
    await vmm.exec(NEW_ADDRESS)
    await vmm.device.new_owner()
    await remap(vmm)
    await vmm.device.resume()
    assert await vmm.read_sector(0) == b"x" * 512
