"""A vhost-vdpa device is open once at a time, whoever asks; vhost-net as often as one likes.

Close counts when the last descriptor goes: one that was passed on keeps the device busy for everybody else.
"""

import errno

from vdpasim.scenario import refused, scenario
from vdpasim.sim import Simulator


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def second_opener(sim: Simulator) -> None:
    """EBUSY until the last descriptor of the first open is closed, wherever it is."""
    first, second = sim.process("first"), sim.process("second")
    path = sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path
    file = await first.open(path)
    keeper = sim.process("keeper").receive(file)
    for holder in (file, keeper):
        with refused(errno.EBUSY):
            await second.open(path)
        await holder.aclose()
    await (await second.open(path)).aclose()
    await first.open("/dev/vhost-net")
    await second.open("/dev/vhost-net")
