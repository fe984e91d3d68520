"""What vhost-vdpa and vhost-net offer and accept, on four kernels.

A VMM asks for what is there and acks what it knows of that. What it must not do is to ack first and see: a bit the
kernel does not know is refused for good, and whether it knows one has nothing to do with the version it says it is.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.handles import VhostNet, VhostVdpa

OFFERED = {"6.1": 0x1E, "6.12": 0x17E, "7.1": 0x17E, "tip": 0x17E}
"""MSG_V2, BATCH, ASID, SUSPEND; from 6.12 on RESUME, ENABLE_AFTER_DRIVER_OK and IOTLB_PERSIST, but not DESC_ASID."""
KNOWN_LAST = {"6.1": 4, "6.12": 8, "7.1": 8, "tip": 8}
DESC_ASID, NEW_OWNER, IOTLB_REMAP = 1 << 7, 1 << 9, 1 << 10
MSG_V2, ASID = 1 << 1, 1 << 3


async def vdpa(sim: Simulator) -> VhostVdpa:
    """A vDPA device, opened; nothing here needs an owner."""
    path = sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path
    return VhostVdpa(await sim.process("vmm").open(path))


@scenario(kernel=tuple(OFFERED), demo=True)
async def backend_features(sim: Simulator) -> None:
    """GET is the kernel's mask, SET takes it and any part of it; unknown bits, bit 0 and 9 and 10 are EOPNOTSUPP."""
    kernel = sim.kernel.switches.spec
    device = await vdpa(sim)
    assert await device.get_backend_features() == OFFERED[kernel]
    await device.set_backend_features(OFFERED[kernel])
    await device.set_backend_features(0)
    for bit in (0, KNOWN_LAST[kernel] + 1, 9, 10, 11, 63):
        with refused(errno.EOPNOTSUPP):
            await device.set_backend_features(1 << bit)


@scenario(kernel=("6.12", "7.1", "tip"))
async def descriptor_group(sim: Simulator) -> None:
    """DESC_ASID is known and not offered: EINVAL without the ASID bit it builds on, EOPNOTSUPP with it."""
    device = await vdpa(sim)
    with refused(errno.EINVAL):
        await device.set_backend_features(DESC_ASID)
    with refused(errno.EOPNOTSUPP):
        await device.set_backend_features(DESC_ASID | ASID)


@scenario(kernel=("6.12+live-update-v1", "6.12+live-update-v2+lu-advertise"))
async def live_update_bits(sim: Simulator) -> None:
    """With a live-update series both bits are offered in VA mode and taken; vhost-net goes on refusing them."""
    device = await vdpa(sim)
    assert await device.get_backend_features() == OFFERED["6.12"] | NEW_OWNER | IOTLB_REMAP
    await device.set_backend_features(NEW_OWNER | IOTLB_REMAP)
    net = VhostNet(await sim.process("other").open("/dev/vhost-net"))
    with refused(errno.EOPNOTSUPP):
        await net.set_backend_features(NEW_OWNER)


@scenario(kernel=tuple(OFFERED))
async def vhost_net_features(sim: Simulator) -> None:
    """vhost-net knows one bit, MSG_V2."""
    net = VhostNet(await sim.process("vmm").open("/dev/vhost-net"))
    assert await net.get_backend_features() == MSG_V2
    await net.set_backend_features(MSG_V2)
    for bit in (0, 2, 3, 9, 10):
        with refused(errno.EOPNOTSUPP):
            await net.set_backend_features(1 << bit)
