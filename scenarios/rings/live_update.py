"""Live update under packed rings (net_peer, which no kernel has): the rings go on in memory that has moved."""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.vmm.net import IOVA, RAM, NetVmm
from vdpasim.vmm.ping import echo_request, ping

FAR4 = "192.0.2.1"
NEW_ADDRESS = 0x6000_0000_0000
SERIES = ("6.12+live-update-v1", "6.12+live-update-v2+lu-advertise")


@scenario(kernel=SERIES, extensions=("net_peer",))
async def packed_rings_move(sim: Simulator, *, requests: int = 10) -> None:
    """Requests posted before exec are served after it, from the new mapping, without a state in or out."""
    device = sim.vdpa.dev_add("net", mgmtdev="net_peer", packed=True)
    vmm = await NetVmm.boot(sim.process("vmm"), device.path)
    for seq in range(5):
        assert await ping(vmm, FAR4, seq=seq)
    states = await vmm.suspend()
    far, own = device.peer.host.mac, await vmm.mac()
    for seq in range(requests):
        await vmm.send(echo_request(own, far, FAR4, seq=seq))

    await vmm.exec(NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.device.batch_begin()
    await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
    await vmm.device.batch_end()
    assert await vmm.states() == states
    await vmm.resume()
    for seq in range(requests):
        reply = await vmm.receive()
        assert reply is not None
        assert int.from_bytes(reply[40:42], "big") == seq


@scenario(kernel=SERIES, extensions=("net_peer",), expect="dma.stale-va")
async def remap_forgotten(sim: Simulator) -> None:
    """Without the REMAP the device looks for its rings where the old image had them."""
    device = sim.vdpa.dev_add("net", mgmtdev="net_peer", packed=True)
    vmm = await NetVmm.boot(sim.process("vmm"), device.path)
    await vmm.suspend()
    await vmm.exec(NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.resume()
    await sim.settle()
