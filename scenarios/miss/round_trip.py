"""A miss and its answer, in both message formats, on the device kind that maps on demand (no kernel has it)."""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.vhost_types import VHOST_IOTLB_MISS
from vdpasim.vmm.blk import IOVA, BlkVmm

PAGE = 4096


async def on_demand(sim: Simulator, backend_features: int) -> list[int]:
    """Serve every miss by its page; the formats of the messages that came."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk+miss").path
    vmm = await BlkVmm.create(sim.process("vmm"), path)
    await vmm.device.set_owner()
    await vmm.device.set_backend_features(backend_features)
    await vmm.negotiate()
    await vmm.start()
    formats: list[int] = []

    async def answer_misses() -> None:
        while True:
            miss = await vmm.device.read_miss()
            assert miss.type == VHOST_IOTLB_MISS
            assert (miss.size, miss.uaddr) == (0, 0)
            formats.append(miss.version)
            page = miss.iova & -PAGE
            await vmm.device.iotlb_update(page, PAGE, vmm.ram.addr + page - IOVA, perm=3)
            if len(formats) == 4:
                return

    server = sim.spawn(answer_misses)
    await vmm.write_sector(7, b"on demand".ljust(512, b"\0"))
    await server.join()
    assert (await vmm.read_sector(7))[:9] == b"on demand"
    return formats


@scenario(kernel="6.12", extensions=("vhost-vdpa+miss",), demo=True)
async def round_trip_v2(sim: Simulator) -> None:
    """MSG_V2 acked: ring, header, data and status are asked for one after the other, in v2."""
    assert await on_demand(sim, 0x2) == [2, 2, 2, 2]


@scenario(kernel="6.12", extensions=("vhost-vdpa+miss",))
async def round_trip_v1(sim: Simulator) -> None:
    """MSG_V2 not acked: the same questions, in v1."""
    assert await on_demand(sim, 0) == [1, 1, 1, 1]
