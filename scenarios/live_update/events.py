"""Interrupts after a live update: the eventfds the device was told of, and those somebody waits at (LU44, LU46).

The device holds the eventfds it was given, whoever owns it. A new image that takes its old ones along need not say
anything; one that makes new ones must, or the used ring moves, the config space changes, and nobody looks.
"""

from typing import Literal

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi import virtio_blk as blk
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import KICK, SECTOR
from vdpasim.vmm.live_update import LiveUpdate, LiveVmm
from vdpasim.vmm.net import IOVA, RAM, NetVmm

V1, V2, FIXED = "6.12+live-update-v1", "6.12+live-update-v2+lu-advertise", "6.12+live-update-fixed"
SERIES = (V1, V2, FIXED)
NEW_ADDRESS = 0x6000_0000_0000
Variant = Literal["resume", "reset"]


async def boot(sim: Simulator) -> LiveVmm:
    """A VMM with a running disk."""
    return await LiveVmm.boot(sim.process("vmm"), sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path)


# -- LU44: the call eventfd


async def new_call(update: LiveUpdate) -> None:
    """The new image makes its own eventfd and lets the old one go."""
    vmm = update.vmm
    await vmm.call.aclose()
    vmm.call = vmm.process.eventfd(flags=0)


async def is_told(sim: Simulator, vmm: LiveVmm) -> bool:
    """A request; whether there was an interrupt, or None of the used ring moved."""
    vmm.post(blk.VIRTIO_BLK_T_IN, 0, SECTOR)
    await vmm.kick_device()
    told = await vmm.call.poll(POLLIN, timeout_ns=1_000_000)
    await sim.settle()
    assert len(vmm.vq.used()) == 1
    return bool(told)


async def all_but_call(update: LiveUpdate) -> None:
    """The ring as it was, and where kicks come from, but not where interrupts go."""
    vmm = update.vmm
    await vmm.device.set_vring_num(0, vmm.vq.num)
    await vmm.device.set_vring_addr(0, *vmm.vq.addresses())
    await vmm.device.set_vring_base(0, update.base)
    await vmm.device.set_vring_kick(0, vmm.kick.fd)


@scenario(
    kernel=dict.fromkeys(SERIES, ("irq.lost", "vmm.call-lost")),
    tags="LU44",
    domain={"way": ("exec", "transfer")},
)
async def lu44_call_not_set_again(sim: Simulator, *, way: str = "exec") -> None:
    """A reset, a new eventfd, and no SET_VRING_CALL: the request is done, and the guest is not told."""
    update = LiveUpdate(await boot(sim), variant="reset", way="exec" if way == "exec" else "transfer")
    vmm = await update.after("map-memory", new_call).replace("rings", all_but_call).run()
    if update.old is not None:
        await update.old.process.exit()
    assert not await is_told(sim, vmm)


@scenario(
    kernel=SERIES, tags="LU44:twin", domain={"way": ("exec", "transfer"), "variant": ("reset", "resume")}
)
async def lu44_call_set_again(sim: Simulator, *, way: str = "exec", variant: str = "reset") -> None:
    """The same with SET_VRING_CALL."""
    how: Variant = "reset" if variant == "reset" else "resume"
    update = LiveUpdate(await boot(sim), variant=how, way="exec" if way == "exec" else "transfer")
    assert await is_told(sim, await update.after("map-memory", new_call).run())


@scenario(kernel=SERIES, tags="LU44:twin", domain={"way": ("exec", "transfer")})
async def lu44_call_taken_along(sim: Simulator, *, way: str = "exec") -> None:
    """An eventfd that came along with the device needs no request at all."""
    update = LiveUpdate(await boot(sim), way="exec" if way == "exec" else "transfer")
    assert await is_told(sim, await update.skip("rings", "config-call").run())


# -- LU46: the config eventfd


async def move_net(sim: Simulator, *, tell: bool, cable_out_at: str) -> NetVmm:
    """A network device taken over by exec with a new config eventfd; its cable is pulled out at some moment."""
    device = sim.vdpa.dev_add("net", mgmtdev="net_peer")
    vmm = await NetVmm.boot(sim.process("vmm"), device.path)
    if cable_out_at == "start":
        device.set_link(up=False)
    await vmm.suspend()
    await vmm.exec(NEW_ADDRESS)
    if cable_out_at == "exec":
        device.set_link(up=False)
    await vmm.device.new_owner()
    await vmm.config_call.aclose()
    vmm.config_call = vmm.process.eventfd()
    if tell:
        await vmm.device.set_config_call(vmm.config_call.fd)
    await vmm.device.batch_begin()
    await vmm.device.iotlb_remap(IOVA, RAM, vmm.ram.addr)
    await vmm.device.batch_end()
    await vmm.resume()
    if cable_out_at == "end":
        device.set_link(up=False)
    return vmm


@scenario(kernel=dict.fromkeys(SERIES, "guest.interrupt-lost"), extensions=("net_peer",), tags="LU46")
async def lu46_config_call_not_set_again(sim: Simulator) -> None:
    """The link goes down after the update, and the guest goes on believing in it."""
    vmm = await move_net(sim, tell=False, cable_out_at="end")
    told = await vmm.config_change(timeout_ns=1_000_000)
    if not told and not await vmm.link_up():
        sim.violation("guest.interrupt-lost", "the link is down, the interrupt went to an eventfd that nobody has")


@scenario(kernel=SERIES, extensions=("net_peer",), tags="LU46:twin")
async def lu46_config_call_set_again(sim: Simulator) -> None:
    """With SET_CONFIG_CALL the guest hears of it."""
    vmm = await move_net(sim, tell=True, cable_out_at="end")
    assert await vmm.config_change(timeout_ns=1_000_000)
    assert not await vmm.link_up()


@scenario(kernel=dict.fromkeys(SERIES, "guest.interrupt-lost"), extensions=("net_peer",), tags="LU46")
async def lu46_interrupt_not_read(sim: Simulator) -> None:
    """The link goes down just before the update: the interrupt is in the old eventfd, which the new image drops."""
    vmm = await move_net(sim, tell=True, cable_out_at="start")
    told = await vmm.config_change(timeout_ns=1_000_000)
    if not told and not await vmm.link_up():
        sim.violation("guest.interrupt-lost", "the interrupt was in an eventfd that was closed unread")


@scenario(kernel=SERIES, extensions=("net_peer",), tags="LU46:twin", domain={"cable": ("start", "exec", "end")})
async def lu46_guest_interrupted_once(sim: Simulator, *, cable: str = "start") -> None:
    """A VMM that interrupts its guest once itself, after the update, makes up for whatever was missed."""
    vmm = await move_net(sim, tell=True, cable_out_at=cable)
    await vmm.config_call.write(KICK)
    assert await vmm.config_change(timeout_ns=1_000_000)
    assert not await vmm.link_up()


@scenario(kernel=SERIES, extensions=("net_peer",), tags="LU46:twin")
async def lu46_changed_while_suspended(sim: Simulator) -> None:
    """The link goes down while the device stands still: it says so when it goes on, to the eventfd of then."""
    vmm = await move_net(sim, tell=True, cable_out_at="exec")
    assert await vmm.config_change(timeout_ns=1_000_000)
    assert not await vmm.link_up()
