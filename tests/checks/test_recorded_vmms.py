"""What QEMU 7.2 and DPDK 22.11 were recorded to do, call by call, on a device with a network function: no ``vmm.*``.

What looks odd in it and is right: status before an owner, backend features behind FEATURES_OK, queues enabled before
anything is mapped, the device reset before the map is taken away and before the base is asked for, a mapping of I/O
addresses that are the program's own, an INVALIDATE of everything, call eventfds exchanged under a running device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from tests.checks import stories
from vdpasim.vmm.guest import Buffer, Virtqueue
from vdpasim.vmm.handles import VhostVdpa

if TYPE_CHECKING:
    from vdpasim.sim import File, Process, Region, Simulator

FEATURES = 0x3_0001_8000
QUEUE = 256
MB = 1 << 20
SHADOW_IOVA = 1 << 32
KICK = (1).to_bytes(8, "little")
REGIONS = [
    (0, 640 << 10, 3),
    (0xC0000, 64 << 10, 1),
    (0xD0000, 64 << 10, 1),
    (0xE0000, 64 << 10, 1),
    (0xF0000, 64 << 10, 1),
    (MB, 7 * MB, 3),
    (8 * MB, 4 * MB, 3),
    (12 * MB, 4 * MB, 3),
]
"""(guest physical address, size, permissions): RAM around the hole of the PC, some of it ROM."""


@attrs.define
class Program:
    """A process with the device open and one file for memory."""

    process: Process
    file: File
    device: VhostVdpa
    ram: Region

    @classmethod
    async def create(cls, sim: Simulator) -> Program:
        process = sim.process("program")
        process.limits.memlock = 1 << 40
        file = await process.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path)
        return cls(process, file, VhostVdpa(file), process.mmap(16 * MB, process.memfd("ram", 16 * MB, hugetlb=True)))

    async def status(self, *values: int) -> None:
        """Each value, read back."""
        for value in values:
            await self.device.set_status(value)
            assert await self.device.get_status() == value


async def map_guest(vm: Program) -> None:
    await vm.device.batch_begin()
    for gpa, size, perm in REGIONS:
        await vm.device.iotlb_update(gpa, size, vm.ram.addr + gpa, perm)
    await vm.device.batch_end()


async def unmap_guest(vm: Program) -> None:
    await vm.device.batch_begin()
    for gpa, size, _ in REGIONS:
        await vm.device.iotlb_invalidate(gpa, size)
    await vm.device.batch_end()


async def send(ring: Virtqueue, kick: File, at: int) -> None:
    ring.add(Buffer(at, 64))
    await kick.write(KICK)


@attrs.define
class Qemu:
    """``-netdev vhost-vdpa``: one queue pair."""

    vm: Program
    masked: list[File]
    guest: list[File]
    kicks: list[File]

    @classmethod
    async def start(cls, sim: Simulator) -> Qemu:
        vm = await Program.create(sim)
        device = vm.device
        await device.get_features()
        await device.get_iova_range()
        assert await device.get_status() == 0
        await vm.status(3)
        await device.set_owner()
        await device.get_features()
        files = [[vm.process.eventfd() for _ in range(2)] for _ in range(3)]
        qemu = cls(vm, *files)
        for queue in range(2):
            await device.set_vring_call(queue, qemu.masked[queue].fd)
        await device.get_device_id()
        await device.set_config(0, bytes.fromhex("525400123456"))
        return qemu

    async def run(self, sim: Simulator, *, shadow: bool = False) -> None:
        """The guest's driver begins, sends, and ends."""
        vm, device = self.vm, self.vm.device
        await device.get_config(0, 8)
        for queue in range(2):
            await device.set_vring_call(queue, self.guest[queue].fd)
        await device.set_features(FEATURES & await device.get_features())
        await vm.status(0xB)
        await device.get_backend_features()
        await device.set_backend_features(0x6)
        vm.ram.write(2 * MB, bytes(MB))
        rings = [await self.ring(queue, shadow=shadow) for queue in range(2)]
        for queue in range(2):
            await device.set_vring_enable(queue)
        await map_guest(vm)
        await vm.status(0xF)
        for n in range(3):
            await send(rings[1], self.kicks[1], MB + 4096 * n)
            await sim.settle()
        await device.set_vring_call(1, self.masked[1].fd)
        await send(rings[1], self.kicks[1], MB)
        await device.set_vring_call(1, self.guest[1].fd)
        await sim.settle()
        assert len(rings[1].used()) == 4

    async def ring(self, queue: int, *, shadow: bool) -> Virtqueue:
        """Of the guest, or the shadow of it: that has I/O addresses of its own, mapped before they are told."""
        device, gpa = self.vm.device, 2 * MB + 0x8000 * queue
        ring = Virtqueue(self.vm.ram, SHADOW_IOVA if shadow else 0, QUEUE, gpa)
        if shadow:
            ring.used_at = gpa + 0x4000  # the device's part has pages of its own
            for at, size, perm in ((gpa, 0x2000, 1), (ring.used_at, 0x1000, 3)):
                await device.iotlb_update(ring.iova(at), size, self.vm.ram.addr + at, perm)
        await device.set_vring_num(queue, QUEUE)
        await device.set_vring_base(queue, 0)
        await device.set_vring_addr(queue, *ring.addresses(), log=ring.addresses()[2])
        await device.set_vring_kick(queue, self.kicks[queue].fd)
        return ring

    async def power_off(self) -> None:
        """Reset first; then unmap, and ask where the queues were."""
        await self.vm.status(0, 3)
        await unmap_guest(self.vm)
        for queue in range(2):
            assert await self.vm.device.get_vring_base(queue) == 0
        for queue in range(2):
            await self.vm.device.set_vring_call(queue, self.masked[queue].fd)


async def qemu(sim: Simulator) -> None:
    """A guest that is powered off, and QEMU exits with the file open."""
    one = await Qemu.start(sim)
    await one.run(sim)
    await one.power_off()
    await one.vm.process.exit()


async def qemu_rebooted(sim: Simulator) -> None:
    """The same device started again by the guest's next life."""
    one = await Qemu.start(sim)
    await one.run(sim)
    await one.power_off()
    await one.run(sim)
    await one.power_off()


async def qemu_unbound(sim: Simulator) -> None:
    """With a queue whose call eventfd is taken away, as for a control queue."""
    one = await Qemu.start(sim)
    await one.vm.device.set_vring_call(2, -1)
    await one.run(sim)
    await one.power_off()


async def qemu_with_shadow_queues(sim: Simulator) -> None:
    """``x-svq=on``: two UPDATEs a ring, before its addresses are told; guest memory comes last."""
    one = await Qemu.start(sim)
    await one.run(sim, shadow=True)
    await one.power_off()


async def dpdk(sim: Simulator) -> None:
    """DPDK's virtio_user: I/O addresses are the program's own; stopped queue by queue, then reset and closed."""
    vm = await Program.create(sim)
    device = vm.device
    await device.get_device_id()
    await device.set_owner()
    await device.get_features()
    await device.get_backend_features()
    await device.set_backend_features(0x6)
    await device.set_config(0, bytes.fromhex("525400123456"))
    await vm.status(0, 1, 3)
    calls, kicks = ([vm.process.eventfd() for _ in range(2)] for _ in range(2))
    for queue in range(2):
        await device.set_vring_call(queue, calls[queue].fd)
    await device.set_features(FEATURES & await device.get_features())
    await vm.status(0xB)
    await device.batch_begin()
    await device.iotlb_invalidate(0, (1 << 64) - 1)
    await device.iotlb_update(vm.ram.addr, 16 * MB, vm.ram.addr)
    await device.batch_end()
    rings = [Virtqueue(vm.ram, vm.ram.addr, QUEUE, 2 * MB + 0x8000 * queue) for queue in range(2)]
    for queue, ring in enumerate(rings):
        await device.set_vring_num(queue, QUEUE)
        await device.set_vring_base(queue, 0)
        await device.set_vring_addr(queue, *ring.addresses())
        await device.set_vring_kick(queue, kicks[queue].fd)
    for queue in range(2):
        await device.set_vring_enable(queue)
    await vm.status(0xF)
    for n in range(5):
        await send(rings[1], kicks[1], vm.ram.addr + 4096 * n)
        await sim.settle()
    for queue, sent in ((0, 0), (1, 5)):
        await device.set_vring_enable(queue, False)
        assert await device.get_vring_base(queue) == sent
    await vm.status(0)
    await vm.file.aclose()


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.1", "tip"])
@pytest.mark.parametrize("story", [qemu, qemu_rebooted, qemu_unbound, qemu_with_shadow_queues, dpdk])
def test_nothing_is_said_of_programs_that_work(story: stories.Story, kernel: str) -> None:
    assert [f"{finding.id}: {finding.text}" for finding in stories.watch(story, kernel)] == []
