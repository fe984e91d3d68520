"""Rings, events, features and the descriptor."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tests.checks.diagnosis.support import boot, numbers, read, update
from vdpasim.vmm.blk import BlkVmm
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.live_update import LiveUpdate

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


def test_the_index_is_forgotten() -> None:
    async def story(sim: Simulator) -> None:
        async def nothing(plan: LiveUpdate) -> None:
            plan.base = 0

        await update(sim, lambda plan: plan.replace("save", nothing), variant="reset")

    assert numbers(story)[0] == 41


def test_a_running_ring() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        with suppress(OSError):
            await vmm.device.set_vring_base(0, 7)

    assert numbers(story) == [42]


def test_user_addresses() -> None:
    async def story(sim: Simulator) -> None:
        async def wrong(plan: LiveUpdate) -> None:
            vmm, there = plan.vmm, plan.vmm.ram.addr
            await vmm.device.set_vring_addr(0, there, there + 0x1000, there + 0x2000)

        await update(sim, lambda plan: plan.after("rings", wrong), variant="reset")

    assert numbers(story)[0] == 43


def test_a_new_kick_eventfd() -> None:
    async def story(sim: Simulator) -> None:
        async def new(plan: LiveUpdate) -> None:
            plan.vmm.kick = plan.vmm.process.eventfd()

        await update(sim, lambda plan: plan.after("map-memory", new).skip("rings"))

    assert numbers(story)[0] == 45


def test_opened_again() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        with suppress(OSError):
            await sim.process("other").open(vmm.file.open_file.path)

    assert numbers(story) == [48]


def test_closed_by_exec() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        path = vmm.file.open_file.path
        await vmm.device.suspend()
        vmm.process.set_cloexec(vmm.file.fd, cloexec=True)
        await vmm.process.exec()
        await vmm.process.open(path)

    assert numbers(story) == [47]


def test_suspended_for_nothing() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        await vmm.device.resume()
        await vmm.device.suspend()
        await read(sim, vmm)

    assert numbers(story) == [59, 49]


def test_other_features() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        with suppress(OSError):
            await vmm.device.set_features(1 << 33)
        await VhostVdpa(vmm.file).get_status()

    assert numbers(story) == [51]


def test_an_interrupt_to_whom_nobody_listens() -> None:
    async def story(sim: Simulator) -> None:
        plan = LiveUpdate(await boot(sim), way="transfer").skip("rings")
        vmm = await plan.run(until="map-memory")
        assert plan.old is not None
        await vmm.call.aclose()
        vmm.call = vmm.process.eventfd()
        await plan.old.process.exit()
        await read(sim, await plan.run())

    assert 44 in numbers(story)[:2]


def test_a_driver_that_begins_anew_saves_nothing() -> None:
    async def story(sim: Simulator) -> None:
        plan = LiveUpdate(await boot(sim))
        vmm = await plan.run(until="events")
        await vmm.act_on("reset")
        await plan.run()
        await read(sim, vmm)

    assert numbers(story) == []


def test_suspended_before_it_runs_is_not_suspended() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        await vmm.device.set_owner()
        await vmm.negotiate()
        await vmm.device.suspend()
        await vmm.map_ram()
        await vmm.start()
        await vmm.read_sector(0)

    assert numbers(story) == [49]
