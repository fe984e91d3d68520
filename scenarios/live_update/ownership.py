"""Who the device belongs to: NEW_OWNER asked twice, asked of nobody's device, and asked by the wrong one (LU29-LU38).

The owner of a vhost-vdpa device is an address space. NEW_OWNER makes the caller's address space the owner and asks for
no other permission than the descriptor. What the former owner may still do is what needs no owner: status, features,
config, SUSPEND. Rings and messages are refused from that moment, whoever the two of them are.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.uapi.vhost import VHOST_RESET_OWNER
from vdpasim.vmm.blk import IOVA, RAM, SECTOR, BlkVmm
from vdpasim.vmm.guest import Virtqueue
from vdpasim.vmm.handles import VhostVdpa
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm
from vdpasim.vmm.vhost_net import VhostNetVmm

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
SERIES = (V1, V2, FIXED)
MAINLINE = ("6.1", "6.12", "7.1", "tip")
TEXT = b"written by the first owner".ljust(SECTOR, b".")


async def boot(sim: Simulator, *, blocks: int = 1) -> LiveVmm:
    """A VMM with a disk and a sector written."""
    vmm = await LiveVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path, blocks=blocks)
    await vmm.write_sector(0, TEXT)
    return vmm


# -- LU29: the owner asks again


@scenario(kernel=SERIES, tags="LU29", domain={"times": range(1, 4), "suspended": (False, True)})
async def lu29_owner_asks_again(sim: Simulator, *, times: int = 1, suspended: bool = False) -> None:
    """NEW_OWNER by the owner itself is EBUSY however often, and the disk goes on where it was."""
    vmm = await boot(sim)
    if suspended:
        await vmm.device.suspend()
    for _ in range(times):
        with refused(errno.EBUSY):
            await vmm.device.new_owner()
    if suspended:
        await vmm.device.resume()
    assert await vmm.read_sector(0) == TEXT
    await vmm.device.iotlb_invalidate(IOVA, RAM)  # still the owner: this needs one


@scenario(kernel=SERIES, tags="LU29:twin")
async def lu29_another_process_asks(sim: Simulator) -> None:
    """The same request of a process that is not the owner is what it is for."""
    vmm = await LiveUpdate(await boot(sim)).run()
    assert await vmm.read_sector(0) == TEXT


# -- LU30: nobody's device


@scenario(kernel=(*SERIES, "6.12+live-update-v2"), tags="LU30")
async def lu30_never_owned(sim: Simulator) -> None:
    """NEW_OWNER on a descriptor that never had an owner is EINVAL; a device that does not know it says so first."""
    process = sim.process("vmm")
    device = VhostVdpa(await process.open(sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path))
    offered = await device.get_backend_features() >> 9 & 1
    with refused(errno.EINVAL if offered else errno.EOPNOTSUPP):
        await device.new_owner()
    await device.set_owner()  # it made nobody the owner


@scenario(kernel=SERIES, tags="LU30:twin")
async def lu30_owned_before(sim: Simulator) -> None:
    """Somebody was the owner, so there is somebody to take over from, be it before anything else was set up."""
    first, second = sim.process("first"), sim.process("second")
    file = await first.open(sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await VhostVdpa(file).set_owner()
    device = VhostVdpa(second.receive(file))
    await device.new_owner()
    with refused(errno.EBUSY):
        await device.set_owner()


# -- LU35: whoever has the descriptor


@scenario(kernel=SERIES, tags=("LU35", "objection:any-holder-may-take-over", "objection:security"))
async def lu35_third_process_takes_over(sim: Simulator) -> None:
    """A helper with a copy of the descriptor takes the running disk: its owner is a stranger to it at once."""
    vmm = await boot(sim)
    helper = sim.process("helper")
    taken = VhostVdpa(helper.receive(vmm.file))
    await taken.new_owner()
    with refused(errno.EPERM):
        await vmm.device.set_vring_enable(0)
    with refused(errno.EPERM):
        await vmm.device.get_vring_base(0)
    with refused(errno.EFAULT, inside=errno.EPERM):
        await vmm.device.iotlb_invalidate(IOVA, RAM)
    with refused(errno.EFAULT, inside=errno.EPERM):
        await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
    assert await vmm.device.get_status() == 0xF  # needs no owner, as SUSPEND and a reset do not
    await vmm.device.suspend()
    await vmm.device.new_owner()  # and it is as easily taken back
    await vmm.device.resume()
    assert await vmm.read_sector(0) == TEXT


@scenario(kernel=dict.fromkeys(SERIES, "dma.stale-va"), tags=("LU35", "objection:any-holder-may-take-over"))
async def lu35_disk_works_for_the_thief(sim: Simulator) -> None:
    """After such a take-over the disk looks for the guest's memory in the helper, where there is none."""
    vmm = await boot(sim)
    helper = sim.process("helper")
    await VhostVdpa(helper.receive(vmm.file)).new_owner()
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    assert await vmm.call.poll(POLLIN, timeout_ns=1_000_000) == 0


@scenario(kernel=(*MAINLINE, *SERIES), tags="LU35:twin")
async def lu35_helper_asks_only(sim: Simulator) -> None:
    """A helper that reads the status and does not take over disturbs nobody."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    helper = VhostVdpa(sim.process("helper").receive(vmm.file))
    assert await helper.get_status() == 0xF
    await vmm.write_sector(0, TEXT)
    assert await vmm.read_sector(0) == TEXT


# -- LU37, LU38: the other requests with OWNER in their names


@scenario(kernel=(*MAINLINE, *SERIES), tags="LU37", domain={"way": ("exec", "transfer", "fork")})
async def lu37_set_owner_again(sim: Simulator, *, way: str = "exec") -> None:
    """SET_OWNER in the successor is EBUSY: the device has an owner, although that may be gone."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    file = vmm.file
    if way == "exec":
        await vmm.process.exec()
    elif way == "fork":
        file = vmm.process.fork("child").file(file.fd)
    else:
        file = sim.process("new").receive(file)
        await vmm.process.exit()
    device = VhostVdpa(file)
    with refused(errno.EBUSY):
        await device.set_owner()
    with refused(errno.EPERM):
        await device.get_vring_base(0)
    with refused(errno.EFAULT, inside=errno.EPERM):
        await device.iotlb_invalidate(IOVA, RAM)
    await file.aclose()  # what is left is a cold start


@scenario(kernel=SERIES, tags="LU37:twin", domain={"way": ("exec", "transfer")})
async def lu37_new_owner(sim: Simulator, *, way: str = "exec") -> None:
    """NEW_OWNER in its place."""
    vmm = await LiveUpdate(await boot(sim), way="exec" if way == "exec" else "transfer").run()
    assert await vmm.read_sector(0) == TEXT


@scenario(kernel=(*MAINLINE, *SERIES), tags=("LU38", "objection:reset-instead"))
async def lu38_reset_owner(sim: Simulator) -> None:
    """RESET_OWNER was never made for vhost-vdpa: ENOTTY, EFAULT without an argument, and nothing has changed."""
    vmm = await BlkVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)
    await vmm.write_sector(0, TEXT)
    with refused(errno.ENOTTY):
        await vmm.device.call(VHOST_RESET_OWNER, bytes(8))
    with refused(errno.EFAULT):
        await vmm.device.call(VHOST_RESET_OWNER)
    with refused(errno.EBUSY):
        await vmm.device.set_owner()
    assert await vmm.read_sector(0) == TEXT


@scenario(kernel=MAINLINE, tags=("LU38:twin", "objection:reset-instead"))
async def lu38_reset_owner_of_vhost_net(sim: Simulator) -> None:
    """On vhost-net it works: the device is nobody's and has no memory; a successor sets all of it up again."""
    vmm = await VhostNetVmm.boot(sim)
    assert await vmm.send(b"before") == b"before"
    await vmm.detach()
    await vmm.net.reset_owner()
    with refused(errno.EPERM):
        await vmm.set_up_ring()
    await vmm.process.exec()
    vmm.ram = vmm.process.mmap(RAM, vmm.process.memfd("ram", RAM))
    vmm.ring = Virtqueue(vmm.ram, IOVA)
    await vmm.negotiate()
    await vmm.map_ram()
    await vmm.set_up_ring()
    await vmm.attach()
    assert await vmm.send(b"after") == b"after"
