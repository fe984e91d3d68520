"""A vhost-vdpa device is opened once at a time, by anybody; vhost-net as often as one likes."""

import errno

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator


@scenario(kernel=("6.1", "6.12", "7.1", "tip"))
async def second_opener(sim: Simulator) -> None:
    """EBUSY until the last descriptor of the first open is closed, wherever it is."""
    first, second = sim.process("first"), sim.process("second")
    path = sim.vdpa.dev_add("net", mgmtdev="vdpasim_net").path
    file = await first.open(path)
    keeper = sim.process("keeper").receive(file)
    for holder in (file, keeper):
        try:
            await second.open(path)
        except OSError as error:
            assert error.errno == errno.EBUSY
        else:
            raise AssertionError("the device was opened twice")
        await holder.aclose()
    await (await second.open(path)).aclose()
    await first.open("/dev/vhost-net")
    await second.open("/dev/vhost-net")
