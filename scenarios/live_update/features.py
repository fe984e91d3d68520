"""What was negotiated, before and after: backend bits, suspend, spaces, virtio features (LU39, LU40, LU49-LU51).

A new program may know more bits than the old one, or fewer. Some of what was acked is the device's state and goes on
working as it was; some of it says how messages are read, and changes with the next SET_BACKEND_FEATURES. Bit 10,
IOTLB_REMAP, is neither: it tells what the device needs, acked or not.
"""

import errno
from typing import Literal

import attrs

from vdpasim.devices import profile
from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.virtio_config import VIRTIO_F_RING_PACKED
from vdpasim.vmm.blk import KICK, SECTOR, BlkVmm
from vdpasim.vmm.guest import Buffer
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm
from vdpasim.vmm.net import IOVA, RAM, NetVmm
from vdpasim.vmm.ping import echo_request, ping

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
SERIES = (V1, V2, FIXED)
ASID, PERSIST, REMAP = 1 << 3, 1 << 8, 1 << 10
OFFERED = 0x17E
"""What vdpa_sim of 6.12 offers without a series."""
NEW_ADDRESS = 0x6000_0000_0000
FAR = "192.0.2.1"
MAC = b"\x52\x54\x00\x12\x34\x56"
TEXT = b"written before the update".ljust(SECTOR, b".")
Variant = Literal["resume", "reset"]


async def boot(sim: Simulator, backend_features: int | None = None) -> LiveVmm:
    """A VMM with a disk and a sector written."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    vmm = await LiveVmm.boot(sim.process("vmm"), path, backend_features=backend_features)
    await vmm.write_sector(0, TEXT)
    return vmm


async def is_silent(vmm: BlkVmm) -> bool:
    """Whether a request is not answered."""
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    return await vmm.call.poll(POLLIN, timeout_ns=1_000_000) == 0


# -- LU39: a reset, and a map that does not persist


@scenario(
    kernel=dict.fromkeys(SERIES, ("iotlb.divergence", "dma.bogus-pa", "irq.lost")),
    options={"use_va": False},
    tags=("LU39", "objection:reset-instead"),
)
async def lu39_reset_drops_the_map(sim: Simulator) -> None:
    """IOTLB_PERSIST was not acked and the device needs no REMAP: the reset took its map, and nobody gives it back."""
    vmm = await LiveUpdate(await boot(sim, OFFERED & ~PERSIST), variant="reset").run()
    assert await is_silent(vmm)


@scenario(kernel=SERIES, options={"use_va": False}, tags=("LU39:twin", "objection:reset-instead"))
async def lu39_map_persists(sim: Simulator) -> None:
    """With the bit acked before the reset the map is the device's as it was, and nothing need be sent."""
    vmm = await LiveUpdate(await boot(sim, OFFERED | PERSIST), variant="reset").run()
    assert await vmm.read_sector(0) == TEXT


@scenario(kernel=SERIES, tags="LU39:twin", domain={"batched": (True,)})
async def lu39_remap_restores_the_map(sim: Simulator, *, batched: bool = True) -> None:
    """Where REMAP is needed anyway it gives the whole map back, persistent or not."""
    vmm = await LiveUpdate(await boot(sim, OFFERED & ~PERSIST), variant="reset", batched=batched).run()
    assert await vmm.read_sector(0) == TEXT


# -- LU40: bit 10 masked out


async def mask_remap(update: LiveUpdate) -> None:
    """The program does not know bit 10, so it does not ack it."""
    device = update.vmm.device
    await device.set_backend_features(await device.get_backend_features() & ~REMAP)


@scenario(kernel=dict.fromkeys(SERIES, "dma.stale-va"), tags="LU40", domain={"variant": ("resume", "reset")})
async def lu40_remap_masked_out(sim: Simulator, *, variant: Variant = "resume") -> None:
    """A bit that is not acked does not mean that the device can do without: it works with the old addresses."""
    update = LiveUpdate(await boot(sim), variant=variant).replace("backend-features", mask_remap).skip("remap")
    assert await is_silent(await update.run())


@scenario(kernel=SERIES, tags="LU40:twin", domain={"variant": ("resume", "reset")})
async def lu40_remapped_all_the_same(sim: Simulator, *, variant: Variant = "resume") -> None:
    """REMAP is not tied to the ack either: sent without, it does what it does."""
    vmm = await LiveUpdate(await boot(sim), variant=variant).replace("backend-features", mask_remap).run()
    assert await vmm.read_sector(0) == TEXT


# -- LU49: suspend where there is none


def without(sim: Simulator, what: str) -> str:
    """A disk whose device lacks an operation."""
    stock = profile.load("vdpasim_blk-6.12")
    lacking = attrs.evolve(stock, suspend=what != "suspend", resume=False)
    return sim.vdpa.dev_add("disk", profile=lacking).path


@scenario(kernel=("6.12", "7.1", "tip", *SERIES), tags=("LU49", "objection:resume"))
async def lu49_no_suspend(sim: Simulator) -> None:
    """A device without the operation: SUSPEND and RESUME are EOPNOTSUPP, and it works on."""
    vmm = await BlkVmm.boot(sim.process("vmm"), without(sim, "suspend"))
    with refused(errno.EOPNOTSUPP):
        await vmm.device.suspend()
    with refused(errno.EOPNOTSUPP):
        await vmm.device.resume()
    await vmm.write_sector(0, TEXT)
    assert await vmm.read_sector(0) == TEXT


@scenario(kernel=("6.1", "6.12", "7.1", "tip", *SERIES), tags="LU49")
async def lu49_suspended_before_driver_ok(sim: Simulator) -> None:
    """Before DRIVER_OK SUSPEND succeeds on every kernel, and none of them keeps the disk from starting."""
    vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.set_owner()
    await vmm.negotiate()
    await vmm.device.suspend()
    await vmm.map_ram()
    await vmm.start()
    await vmm.write_sector(0, TEXT)


@scenario(kernel=("6.12", "7.1", "tip", *SERIES), tags=("LU49", "objection:resume"))
async def lu49_resumed_without_suspend(sim: Simulator) -> None:
    """RESUME of a disk that runs, or has not begun to, is a success that changes nothing."""
    vmm = await BlkVmm.create(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.device.set_owner()
    await vmm.device.resume()
    await vmm.negotiate()
    await vmm.map_ram()
    await vmm.start()
    await vmm.device.resume()
    await vmm.write_sector(0, TEXT)


@scenario(kernel=("6.12", "7.1", "tip", *SERIES), tags=("LU49:twin", "objection:resume"))
async def lu49_asked_first(sim: Simulator) -> None:
    """Bits 4 and 5 tell beforehand what the device can do; who looks there asks for nothing it lacks."""
    process = sim.process("vmm")
    vmm = await BlkVmm.boot(process, without(sim, "resume"))
    offered = await vmm.device.get_backend_features()
    assert (offered >> 4 & 1, offered >> 5 & 1) == (1, 0)
    await vmm.write_sector(0, TEXT)


# -- LU50: the address space in the header


async def control_queue_apart(sim: Simulator) -> NetVmm:
    """A network device whose control queue works in address space 1."""
    vmm = await NetVmm.create(sim.process("vmm"), sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path)
    await vmm.device.set_owner()
    await vmm.device.set_backend_features(await vmm.device.get_backend_features())
    await vmm.negotiate()
    await vmm.device.set_group_asid(1, 1)
    for asid in (0, 1):
        await vmm.device.iotlb_update(IOVA, RAM, vmm.ram.addr, asid=asid)
    await vmm.start()
    return vmm


async def take_net_over(vmm: NetVmm, backend_features: int) -> None:
    """Exec, NEW_OWNER, these bits, both address spaces remapped, RESUME."""
    await vmm.suspend()
    await vmm.exec(NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.device.set_backend_features(backend_features)
    for asid in (0, 1):
        await vmm.device.batch_begin(asid=asid)
        await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr, asid=asid)
        await vmm.device.batch_end(asid=asid)
    await vmm.resume()


@scenario(kernel=dict.fromkeys(SERIES, "dma.stale-va"), tags="LU50")
async def lu50_address_spaces_not_acked(sim: Simulator) -> None:
    """The new program does not ack IOTLB_ASID: both REMAPs hit space 0, and the control queue keeps the old address."""
    vmm = await control_queue_apart(sim)
    await take_net_over(vmm, await vmm.device.get_backend_features() & ~ASID)
    control = vmm.control
    assert control is not None
    await vmm.queues[control].kick.write(KICK)
    await sim.settle()


@scenario(kernel=SERIES, tags="LU50:twin")
async def lu50_address_spaces_acked(sim: Simulator) -> None:
    """With the bit each message reaches the space it names, and the control queue answers."""
    vmm = await control_queue_apart(sim)
    await take_net_over(vmm, await vmm.device.get_backend_features())
    assert await vmm.set_mac(MAC)
    assert await vmm.mac() == MAC


# -- LU51: other virtio features


@scenario(kernel=("6.12", "7.1", "tip", *SERIES), tags="LU51", domain={"add": (28, 29, 6)})
async def lu51_features_of_a_running_device(sim: Simulator, *, add: int = 28) -> None:
    """SET_FEATURES while FEATURES_OK stands is EBUSY, the same features included, and the old ones stay."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, TEXT)
    await vmm.device.suspend()
    with refused(errno.EBUSY):
        await vmm.device.set_features(1 << 33 | 1 << 32 | 1 << add)
    with refused(errno.EBUSY):
        await vmm.device.set_features(1 << 33 | 1 << 32)
    await vmm.device.resume()
    assert await vmm.read_sector(0) == TEXT


async def upgraded(sim: Simulator, *, packed: bool) -> bool:
    """A guest with split rings; the new program resets the device and says packed, or what was said before.

    Whether a frame the guest then sends comes out.
    """
    device = sim.vdpa.dev_add("net", mgmtdev="net_peer", packed=True)
    vmm = await NetVmm.boot(sim.process("vmm"), device.path, without=(VIRTIO_F_RING_PACKED,))
    for seq in range(5):
        assert await ping(vmm, FAR, seq=seq)
    states = await vmm.suspend()
    before = vmm.features
    await vmm.device.set_status(0)
    await vmm.exec(NEW_ADDRESS)
    await vmm.device.new_owner()
    await vmm.device.set_status(3)
    await vmm.accept(before | 1 << VIRTIO_F_RING_PACKED if packed else before)
    vmm.features = before
    await vmm.device.batch_begin()
    await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
    await vmm.device.batch_end()
    await vmm.set_up(states)
    await vmm.set_driver_ok()
    frames = len(device.peer.pcap())
    frame = vmm.ram.size - 0x1000
    vmm.ram.write(frame, bytes(12) + echo_request(await vmm.mac(), device.peer.host.mac, FAR))
    vmm.queues[1].ring.add(Buffer(IOVA + frame, 200))
    await vmm.queues[1].kick.write(KICK)
    await sim.settle()
    return len(device.peer.pcap()) > frames


@scenario(kernel=dict.fromkeys(SERIES, "guest.ring-misread"), extensions=("net_peer",), tags="LU51")
async def lu51_other_ring_format(sim: Simulator) -> None:
    """After a reset more features are taken; with PACKED among them the saved index means something else."""
    if not await upgraded(sim, packed=True):
        sim.violation("guest.ring-misread", "the device reads packed rings where the guest has split ones")


@scenario(kernel=SERIES, extensions=("net_peer",), tags="LU51:twin")
async def lu51_same_features(sim: Simulator) -> None:
    """The features the guest negotiated, whatever the new program could offer beyond them."""
    assert await upgraded(sim, packed=False)
