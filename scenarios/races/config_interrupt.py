"""A config interrupt against the replacement of its eventfd (history 44).

The callback that vhost-vdpa gives a device reads the config eventfd and signals it; nothing kept SET_CONFIG_CALL or
close from putting it in between. A VMM that has closed its own descriptor, as one does that handed the eventfd to KVM,
leaves vhost with the last reference: what is signalled is freed memory. With F6 the two exclude each other.

vdpa_sim's own devices never raise a config interrupt; a card does when its link goes down.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.vhost_types import VHOST_FILE_UNBIND
from vdpasim.vmm.handles import VhostVdpa

STATUS_AT = 6
LINK_DOWN = b"\0\0"


async def link_goes_down(sim: Simulator) -> None:
    """The device interrupts while the VMM takes its eventfd away."""
    with sim.calm():
        card = sim.vdpa.dev_add("card", profile="mlx5-like")
        vmm = sim.process("vmm")
        file = await vmm.open(card.path)
        device, event = VhostVdpa(file), vmm.eventfd()
        await device.set_config_call(event.fd)
        await event.aclose()
    card.change_config(STATUS_AT, LINK_DOWN)
    await device.set_config_call(VHOST_FILE_UNBIND)
    await file.aclose()


@scenario(kernel=("tip-F6", "7.1"))
async def config_interrupt(sim: Simulator) -> None:
    """The callback looks at the eventfd when it likes."""
    await link_goes_down(sim)


@scenario()
async def config_interrupt_fixed(sim: Simulator) -> None:
    """F6."""
    await link_goes_down(sim)
