"""What vhost-vdpa offers and accepts, on four kernels."""

import errno

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.handles import VhostVdpa

OFFERED = {"6.1": 0x1E, "6.12": 0x17E, "7.1": 0x17E, "tip": 0x17E}
KNOWN_LAST = {"6.1": 4, "6.12": 8, "7.1": 8, "tip": 8}


@scenario(kernel=tuple(OFFERED))
async def backend_features(sim: Simulator) -> None:
    """GET is the kernel's mask; unknown bits, bit 0 and the live-update bits are EOPNOTSUPP everywhere."""
    kernel = sim.kernel.switches.spec
    path = sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path
    device = VhostVdpa(await sim.process("vmm").open(path))
    assert await device.get_backend_features() == OFFERED[kernel]
    await device.set_backend_features(OFFERED[kernel])
    await device.set_backend_features(0)
    for bit in (0, KNOWN_LAST[kernel] + 1, 9, 10, 63):
        assert await refused(device, 1 << bit) == errno.EOPNOTSUPP, f"bit {bit}"
    if KNOWN_LAST[kernel] >= 7:
        assert await refused(device, 1 << 7) == errno.EINVAL, "DESC_ASID without IOTLB_ASID"


async def refused(device: VhostVdpa, features: int) -> int:
    """The errno of acking a mask."""
    try:
        await device.set_backend_features(features)
    except OSError as error:
        return error.errno or 0
    return 0
