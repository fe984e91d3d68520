"""The opened handles, awaited and called."""

from __future__ import annotations

import pytest

from vdpasim.pytest_plugin.handles import open_net, open_vdpa
from vdpasim.pytest_plugin.machine import Machine
from vdpasim.pytest_plugin.settings import Settings
from vdpasim.sim import File, WouldBlock
from vdpasim.uapi.mman import MAP_SHARED, PROT_WRITE
from vdpasim.vmm.transport import NowaitTransport, run_sync


def test_both_faces_talk_to_one_file() -> None:
    handle = open_vdpa(Machine(Settings()))
    handle.sync.set_owner()
    features = handle.sync.get_features()

    async def story(_: object) -> int:
        await handle.set_features(features)  # refused without an owner
        return await handle.get_features()

    assert handle.process.sim.run(story) == features


async def test_tasks_await_it() -> None:
    handle = open_net(Machine(Settings()))
    await handle.set_owner()
    assert await handle.get_features() == handle.sync.get_features()


@pytest.mark.parametrize(
    ("device", "ident"),
    [("vdpasim_net", 1), ("vdpasim_blk", 2), ({"mgmtdev": "vdpasim_blk", "name": "disk"}, 2)],
)
def test_the_device_is_what_the_settings_say(device: str, ident: int) -> None:
    handle = open_vdpa(Machine(Settings(device=device)))
    assert handle.sync.get_device_id() == ident
    assert handle.device.path == "/dev/vhost-vdpa-0"


def test_the_handle_has_the_abi_of_the_kernel() -> None:
    handle = open_vdpa(Machine(Settings(abi="ppc64")))
    assert handle.abi.byteorder == "big"
    assert handle.sync.get_device_id() == 1


def test_plain_code_does_not_wait() -> None:
    handle = open_net(Machine(Settings()))
    handle.sync.set_owner()
    handle.sync.set_features(handle.sync.get_features())  # with an IOTLB there is something to wait for
    with pytest.raises(WouldBlock):
        handle.sync.read_miss()


def test_plain_code_maps() -> None:
    handle = open_vdpa(Machine(Settings()))
    assert isinstance(handle.file, File)
    with pytest.raises(OSError, match="524") as refused:
        run_sync(NowaitTransport(handle.file).mmap(4096, PROT_WRITE, MAP_SHARED))
    assert getattr(refused.value, "rule", "") == "vdpa.mmap.unsupported"
