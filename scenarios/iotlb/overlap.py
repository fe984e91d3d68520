"""Two UPDATEs for the same addresses: vhost-vdpa refuses the second, vhost-net takes it and goes on with the first."""

import errno

from vdpasim.core.vhost.net import VhostNet as VhostNetFile
from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.handles import VhostNet, VhostVdpa

SIZE = 1 << 16
ACCESS_PLATFORM = 1 << 33


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def overlap_on_vdpa(sim: Simulator) -> None:
    """EEXIST inside, EFAULT outside, and the first mapping stands."""
    process = sim.process("vmm")
    ram = process.mmap(SIZE, process.memfd("ram", SIZE, folio_pages=16))
    device = VhostVdpa(await process.open(sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path))
    await device.set_owner()
    await device.iotlb_update(0, SIZE, ram.addr)
    try:
        await device.iotlb_update(SIZE - 1, 1, ram.addr)
    except OSError as error:
        assert error.errno == errno.EFAULT
        assert error.handler_errno == errno.EEXIST  # type: ignore[attr-defined]
    else:
        raise AssertionError("an overlap was accepted")


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def overlap_on_net(sim: Simulator) -> None:
    """Both are kept; a look-up finds the older."""
    process = sim.process("vmm")
    ram = process.mmap(2 * SIZE, process.memfd("ram", 2 * SIZE))
    file = await process.open("/dev/vhost-net")
    device = VhostNet(file)
    await device.set_features(ACCESS_PLATFORM)
    await device.iotlb_update(0, SIZE, ram.addr)
    await device.iotlb_update(0, SIZE, ram.addr + SIZE)
    inside = file.open_file.ops
    assert isinstance(inside, VhostNetFile)
    assert inside.iotlb is not None
    found = inside.iotlb.itree_first(0, 0)
    assert found is not None
    assert (len(inside.iotlb), found.addr) == (2, ram.addr)
