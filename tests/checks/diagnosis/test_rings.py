"""Rings, events, features and the descriptor."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.checks.diagnosis.support import boot, numbers, read, told, update
from vdpasim.vmm.blk import BlkVmm
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.live_update import LiveUpdate
from vdpasim.vmm.net import IOVA, KICK, RAM, NetVmm

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
            await vmm.device.set_features(1 << 33 | 1 << 32 | 1 << 6)
        await VhostVdpa(vmm.file).get_status()

    assert numbers(story) == [51]


def test_fewer_features_are_none_of_an_update() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        await vmm.device.suspend()
        with suppress(OSError):
            await vmm.device.set_features(0)
        await vmm.device.resume()
        await vmm.read_sector(0)

    assert numbers(story) == []


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


def test_paused_before_the_driver_begins() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
        await vmm.device.set_owner()
        await vmm.device.suspend()
        await vmm.device.resume()
        await vmm.negotiate()
        await vmm.map_ram()
        await vmm.start()
        await vmm.read_sector(0)

    assert numbers(story) == []


async def ring_without_call(plan: LiveUpdate) -> None:
    vmm, device = plan.vmm, plan.vmm.device
    await device.set_vring_num(0, vmm.vq.num)
    await device.set_vring_addr(0, *vmm.vq.addresses())
    await device.set_vring_base(0, plan.base)
    await device.set_vring_kick(0, vmm.kick.fd)


@pytest.mark.parametrize("way", ["exec", "transfer"])
def test_a_reset_takes_the_call_eventfd(way: str) -> None:
    async def story(sim: Simulator) -> None:
        await update(sim, lambda plan: plan.replace("rings", ring_without_call), variant="reset", way=way)

    (one,) = told(story)
    assert (one.number, one.score) == (44, 93)
    assert "queue 0" in one.why


def test_a_reset_without_a_handover_takes_it_too() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        plan = LiveUpdate(vmm)
        await plan.run(until="save")
        await vmm.device.set_status(0)
        await vmm.negotiate()
        await ring_without_call(plan)
        await vmm.device.set_vring_enable(0)
        await vmm.device.set_status(0xF)
        await read(sim, vmm)

    assert [(one.number, one.score) for one in told(story)] == [(44, 80)]


def test_the_new_image_waits_at_another_eventfd() -> None:
    async def story(sim: Simulator) -> None:
        async def new(plan: LiveUpdate) -> None:
            plan.vmm.call = plan.vmm.process.eventfd(flags=0)

        await update(sim, lambda plan: plan.skip("rings").after("config-call", new))

    assert numbers(story) == [44]


def test_another_queue_has_a_new_kick_eventfd() -> None:
    async def story(sim: Simulator) -> None:
        net = await NetVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path)
        await net.suspend()
        await net.exec(0x6000_0000_0000)
        await net.device.new_owner()
        await net.device.batch_begin()
        await net.device.iotlb_remap(IOVA, RAM, net.ram.addr)
        await net.device.batch_end()
        await net.resume()
        await net.queues[1].kick.write(KICK)
        await sim.settle()
        await net.process.eventfd().write(KICK)

    assert numbers(story) == [45]


def test_kicks_of_another_device_are_heard() -> None:
    async def story(sim: Simulator) -> None:
        plan = LiveUpdate(await boot(sim, 1))
        path = sim.vdpa.dev_add("other", mgmtdev="vdpasim_blk").path
        other = await BlkVmm.boot(plan.vmm.process, path)
        await plan.run(until="run")
        await other.kick_device()

    assert numbers(story) == [33, 2], "the other one was forgotten, and no kick was lost"


def test_rings_by_user_addresses_of_a_device_that_pins() -> None:
    async def story(sim: Simulator) -> None:
        async def wrong(plan: LiveUpdate) -> None:
            there = plan.vmm.ram.addr
            await plan.vmm.device.set_vring_addr(0, there, there + 0x1000, there + 0x2000)

        await update(sim, lambda plan: plan.after("rings", wrong), variant="reset")

    assert numbers(story, use_va=False) == [43]


@pytest.mark.parametrize("message", [False, True])
def test_goes_on_with_what_the_exec_has_closed(message: bool) -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        await vmm.device.suspend()
        vmm.process.set_cloexec(vmm.file.fd, cloexec=True)
        await vmm.process.exec()
        with suppress(OSError):
            await (vmm.device.iotlb_remap(0, 4096, 0) if message else vmm.device.new_owner())

    assert [(one.number, one.score) for one in told(story)] == [(47, 93)]


def test_what_another_process_holds_was_closed_all_the_same() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        await vmm.device.suspend()
        sim.process("helper").receive(vmm.file)
        vmm.process.set_cloexec(vmm.file.fd, cloexec=True)
        await vmm.process.exec()
        with suppress(OSError):
            await vmm.device.get_status()

    assert [(one.number, one.score) for one in told(story)] == [(47, 88)]


def test_closed_by_the_program_and_used() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        await vmm.process.exec()
        await vmm.file.aclose()
        with suppress(OSError):
            await vmm.device.get_status()

    assert numbers(story) == []


def test_a_cold_start_resets_first() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        path = vmm.file.open_file.path
        await vmm.device.set_status(0)
        vmm.process.set_cloexec(vmm.file.fd, cloexec=True)
        await vmm.process.exec()
        await BlkVmm.boot(vmm.process, path)

    assert numbers(story) == []


def test_given_up_after_a_refusal() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await boot(sim)
        with suppress(OSError):
            await LiveUpdate(vmm, way="transfer", memlock=4096).run()
        await read(sim, vmm)

    assert numbers(story, use_va=False) == [31, 59], "the refusal is what is to be mended first"


def test_the_guest_boots_again_after_the_update() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await update(sim, lambda plan: plan)
        await vmm.act_on("reset")
        await vmm.boot_guest()
        await read(sim, vmm)

    assert numbers(story) == []
