"""An UPDATE that comes while a read() is between the two lists finds no miss to answer.

A read() takes the miss off the list of unread ones, copies it to the reader, and only then puts it where UPDATE looks
(vhost_chr_read_iter). A VMM whose mapping thread maps a page and then asks poll() whether the question is still unread,
to kick the queue itself if it is, has thought of everything but this: the miss is in neither list, and the queue sleeps
for ever. Where calls are atomic nobody can see it.
"""

from vdpasim.scenario import scenario
from vdpasim.sim import Simulator
from vdpasim.uapi.fcntl import POLLIN
from vdpasim.vmm.blk import IOVA
from vdpasim.vmm.vhost_net import ACCESS_PLATFORM, FRAME_AT, VhostNetVmm

PAGE = 4096
FRAME = b"a frame on a page that nobody has mapped yet"
MSG_V2 = 1 << 1


async def boot(sim: Simulator) -> VhostNetVmm:
    """Ring mapped, frame not: the first kick stumbles."""
    with sim.calm():
        vmm = await VhostNetVmm.create(sim)
        await vmm.negotiate(ACCESS_PLATFORM)
        await vmm.net.set_backend_features(MSG_V2)
        await vmm.set_up_ring()
        ring = vmm.ring.addresses()[2] & -PAGE
        await vmm.net.iotlb_update(ring, PAGE, vmm.ram.addr + ring - IOVA)
        await vmm.attach()
        vmm.post(FRAME)
        await vmm.kick_device()
        await sim.settle()
    return vmm


async def map_frame(vmm: VhostNetVmm) -> None:
    """The page the device asks for."""
    await vmm.net.iotlb_update(IOVA + FRAME_AT, PAGE, vmm.ram.addr + FRAME_AT)


async def rest(sim: Simulator) -> None:
    """Everybody has done their work; a queue that sleeps now sleeps for ever, on a page that is mapped."""
    with sim.calm():
        await sim.settle()


@scenario()
async def read_update(sim: Simulator) -> None:
    """The reader leaves the answer to the mapper, which looks whether the question is still unread."""
    vmm = await boot(sim)

    async def mapper() -> None:
        await map_frame(vmm)
        if await vmm.file.poll(POLLIN, 0):
            await vmm.kick_device()

    reader = sim.spawn(vmm.net.read_miss, name="reader")
    mapping = sim.spawn(mapper)
    await reader.join()
    await mapping.join()
    await rest(sim)


@scenario()
async def read_update_fixed(sim: Simulator) -> None:
    """Each miss that was read is answered with an UPDATE of its own, whatever was mapped before."""
    vmm = await boot(sim)

    async def reader() -> None:
        await vmm.net.read_miss()
        await map_frame(vmm)

    reading = sim.spawn(reader)
    await map_frame(vmm)
    await reading.join()
    await rest(sim)
