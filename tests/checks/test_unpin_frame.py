"""``unpin.wrong-frame``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checks import stories
from tests.checks.support import feed
from vdpasim.checks.unpin_frame import UnpinFrame
from vdpasim.core.events import Kind
from vdpasim.core.vhost.vdpa import VhostVdpaNode
from vdpasim.vmm.blk import IOVA, RAM

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


@pytest.mark.parametrize(("addr", "wanted"), [(0x5000, []), (0x7000, ["unpin.wrong-frame"])])
def test_what_is_given_back_is_what_was_pinned(addr: int, wanted: list[str]) -> None:
    check = UnpinFrame()
    feed(check, Kind.MAP, device="d", asid=0, serial=1, start=0, last=0xFFF, addr=0x5000, perm=3, promise=())
    feed(check, Kind.REMAP, device="d", asid=0, serial=1, start=0, last=0xFFF, old=0x5000, new=addr)
    feed(check, Kind.UNPIN, device="d", serial=1, addr=addr, pages=1)
    assert [finding.id for finding in check.findings] == wanted


async def unmapped(sim: Simulator, *, scribble: bool = False) -> None:
    vmm = await stories.boot(sim)
    node = sim.nodes["/dev/vhost-vdpa-0"]
    assert isinstance(node, VhostVdpaNode)
    assert node.opened is not None
    if scribble:
        table = node.opened.spaces.tables[0]
        entry = table.itree_first(IOVA, IOVA)
        assert entry is not None
        table.set_addr(entry, vmm.ram.addr)
    await vmm.device.iotlb_invalidate(IOVA, RAM)


async def unmapped_by_a_user_address(sim: Simulator) -> None:
    await unmapped(sim, scribble=True)


def test_an_entry_whose_address_was_exchanged_is_caught() -> None:
    assert "unpin.wrong-frame" not in stories.ids(unmapped, options=stories.PA)
    assert "unpin.wrong-frame" in stories.ids(unmapped_by_a_user_address, options=stories.PA)
