"""Pinging the far end of net_peer, which no kernel has: split and packed rings, link, suspend, handover."""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.virtio_config import VIRTIO_F_RING_PACKED
from vdpasim.vmm.net import NetVmm
from vdpasim.vmm.ping import echo_request, ping

FAR4, FAR6 = "192.0.2.1", "2001:db8::1"
SECOND = 10**9
KERNELS = ("6.1", "6.12", "7.1", "tip")


@scenario(kernel=KERNELS, extensions=("net_peer",))
async def both_formats(sim: Simulator, *, pairs: int = 2) -> None:
    """The same pings over split and packed rings, on every queue pair, in both families."""
    for packed in (False, True):
        device = sim.vdpa.dev_add(f"packed-{packed}", mgmtdev="net_peer", packed=packed, max_vqp=pairs)
        guest = await NetVmm.boot(sim.process("vmm"), device.path, pairs=pairs)
        assert guest.has(VIRTIO_F_RING_PACKED) is packed
        for seq in range(40):  # several times around each ring
            assert await ping(guest, (FAR4, FAR6)[seq % 2], seq=seq, pair=seq % pairs)
        assert device.peer.counts.rx == 80


@scenario(kernel=KERNELS, extensions=("net_peer",))
async def cable_pulled(sim: Simulator) -> None:
    """The link goes down and up again: a config interrupt each time, and no answers in between."""
    device = sim.vdpa.dev_add("net", mgmtdev="net_peer")
    guest = await NetVmm.boot(sim.process("vmm"), device.path)
    assert await guest.link_up()

    device.set_link(False)
    assert await guest.config_change()
    assert not await guest.link_up()
    before = sim.kernel.now
    assert not await ping(guest, FAR4, timeout_ns=SECOND)
    assert sim.kernel.now == before + SECOND

    device.set_link(True)
    assert await guest.config_change()
    assert await guest.link_up()
    assert await ping(guest, FAR4)


@scenario(kernel=("6.12", "7.1", "tip"), extensions=("net_peer",))
async def handed_over_in_flight(sim: Simulator, *, packed: bool = True, requests: int = 12) -> None:
    """Requests posted to a suspended device reach it through the next VMM, which goes on from the state it is given."""
    device = sim.vdpa.dev_add("net", mgmtdev="net_peer", packed=packed)
    old = await NetVmm.boot(sim.process("old"), device.path)
    for seq in range(7):
        assert await ping(old, FAR4, seq=seq)

    states = await old.suspend()
    far, own = device.peer.host.mac, await old.mac()
    for seq in range(requests):
        await old.send(echo_request(own, far, FAR4, seq=seq))
    await sim.settle()
    assert await old.states() == states, "a suspended device takes nothing"
    assert device.peer.counts.tx == 14
    await old.file.aclose()

    new = await NetVmm.take_over(old, sim.process("new"), device.path, states)
    for seq in range(requests):
        reply = await new.receive()
        assert reply is not None
        assert int.from_bytes(reply[40:42], "big") == seq
    assert await new.receive(SECOND) is None
    assert await ping(new, FAR6)


@scenario(kernel=("6.12", "7.1", "tip"), extensions=("net_peer",))
async def handed_over_in_flight_split(sim: Simulator) -> None:
    """The same with split rings, whose state is one index."""
    await handed_over_in_flight.body(sim, packed=False)


@scenario(kernel=("6.12", "7.1", "tip"), extensions=("net_peer",))
async def pulled_while_suspended(sim: Simulator) -> None:
    """A suspended device must not change its configuration: the pulled cable is seen, and told, after RESUME."""
    device = sim.vdpa.dev_add("net", mgmtdev="net_peer")
    guest = await NetVmm.boot(sim.process("vmm"), device.path)
    await guest.suspend()
    device.set_link(False)
    assert not await guest.config_change(SECOND)
    assert await guest.link_up()
    await guest.resume()
    assert await guest.config_change()
    assert not await guest.link_up()
