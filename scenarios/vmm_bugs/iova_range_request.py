"""GET_IOVA_RANGE sent under the number of another request.

Source: rust-vmm/vhost #106. The function that asks for the range of I/O addresses sent GET_VRING_NUM, and no test
called it. A request carries a size, not the meaning of its argument: a kernel that knows the number does what it says.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.vhost import VHOST_VDPA_GET_VRING_NUM
from vdpasim.vmm.blk import IOVA, RAM
from vdpasim.vmm.handles import VhostVdpa

KERNELS = ("6.1", "6.12", "7.1", "tip")


async def device(sim: Simulator) -> VhostVdpa:
    """A disk that was opened."""
    return VhostVdpa(await sim.process("vmm").open(sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path))


def fits(first: int, last: int) -> bool:
    """Whether guest memory lies in a range."""
    return first <= IOVA and last >= IOVA + RAM - 1


@scenario(kernel=dict.fromkeys(KERNELS, "vmm.wrong-request"))
async def iova_range_request(sim: Simulator) -> None:
    """GET_VRING_NUM succeeds and stores its two bytes where the first address is expected: a range nothing fits in."""
    out = await (await device(sim)).call(VHOST_VDPA_GET_VRING_NUM, bytes(16))
    first, last = int.from_bytes(out[:8], "little"), int.from_bytes(out[8:], "little")
    assert not fits(first, last), "the range of I/O addresses looks right"


@scenario(kernel=KERNELS)
async def iova_range_request_fixed(sim: Simulator) -> None:
    """The request itself."""
    assert fits(*await (await device(sim)).get_iova_range())
