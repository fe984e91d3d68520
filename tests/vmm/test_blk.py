"""The small VMM that scenarios are told with."""

from __future__ import annotations

import pytest

from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.vmm.blk import IOVA, RAM, BlkVmm


def disk(sim: Simulator) -> str:
    return sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.1", "tip"])
def test_a_booted_vmm_reads_back_what_it_wrote(kernel: str) -> None:
    async def story(sim: Simulator) -> bytes:
        vmm = await BlkVmm.boot(sim.process("vmm", memlock=RAM), disk(sim))
        await vmm.write_sector(5, b"sector five".ljust(512, b"."))
        return await vmm.read_sector(5)

    assert Simulator(kernel).run(story) == b"sector five".ljust(512, b".")


def test_many_requests_go_round_the_ring() -> None:
    async def story(sim: Simulator) -> list[int]:
        vmm = await BlkVmm.boot(sim.process("vmm"), disk(sim))
        for sector in range(40):
            await vmm.write_sector(sector, bytes([sector]) * 512)
        return [(await vmm.read_sector(sector))[0] for sector in range(40)]

    assert Simulator("tip").run(story) == list(range(40))


def test_a_refused_request_tells_its_status() -> None:
    async def story(sim: Simulator) -> int:
        vmm = await BlkVmm.boot(sim.process("vmm"), disk(sim))
        status, _ = await vmm.request(blk.VIRTIO_BLK_T_IN, 1 << 40, 512)
        return status

    assert Simulator("tip").run(story) == blk.VIRTIO_BLK_S_IOERR


def test_an_error_of_the_disk_is_an_assertion_of_the_story() -> None:
    async def story(sim: Simulator) -> None:
        vmm = await BlkVmm.boot(sim.process("vmm"), disk(sim))
        await vmm.read_sector(1 << 40)

    with pytest.raises(AssertionError, match="IN answered 1"):
        Simulator("tip").run(story)


def test_after_exec_guest_memory_is_elsewhere_and_holds_the_same() -> None:
    async def story(sim: Simulator) -> tuple[int, bytes]:
        vmm = await BlkVmm.boot(sim.process("vmm"), disk(sim))
        vmm.ram.write(0xC000, b"guest")
        await vmm.exec(0x6000_0000_0000)
        return vmm.ram.addr, vmm.ram.read(0xC000, 5)

    assert Simulator("tip").run(story) == (0x6000_0000_0000, b"guest")


def test_the_device_sees_guest_memory_where_the_guest_does() -> None:
    async def story(sim: Simulator) -> tuple[int, int]:
        vmm = await BlkVmm.boot(sim.process("vmm"), disk(sim))
        return vmm.vq.iova(0), vmm.vq.last_offset

    first, last = Simulator("tip").run(story)
    assert first == IOVA
    assert last < RAM
