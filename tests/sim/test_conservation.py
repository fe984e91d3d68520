"""No request is lost, duplicated or answered twice, whatever strikes: only a DMA that failed may cost one.

A guest posts requests it can tell apart while kicks, interrupts, misses and maps are dropped, delayed or refused at
random. When the faults are over it kicks once more, as every driver does that has waited long enough, and counts.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.rings import BUFFERS, IOVA, Board
from tests.core.support import KICK
from tests.core.vhost.test_net_handlers import Net
from vdpasim.core.vhost.net import TX
from vdpasim.sim import WouldBlock
from vdpasim.uapi.message import decode_message
from vdpasim.vmm.guest import Buffer
from vdpasim.vmm.transport import run_sync

if TYPE_CHECKING:
    from vdpasim.sim import Simulator

REQUESTS, BATCH = 24, 3
SECTOR = 512

counts = st.one_of(st.just(":every"), st.integers(1, 12).map(lambda n: f":{n}"), st.just(":2-5"))
harmless = st.tuples(st.sampled_from(["kick", "call"]), counts, st.sampled_from([":drop", ":delay=5us"]))
harmful = st.tuples(
    st.sampled_from(["dma", "dma.read", "dma.write"]), counts.filter(lambda c: c != ":every"), st.just("")
)
settings_ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def inject(sim: Simulator, plan: list[tuple[str, str, str]]) -> list[Any]:
    return [sim.inject("".join(words)) for words in plan]


def over(sim: Simulator, faults: list[Any]) -> int:
    """Nothing strikes any more and what was delayed has come; how many DMAs had failed."""
    struck = sum(int(fault.fired) for fault in faults if "dma" in str(fault))
    for fault in faults:
        fault.lift()
    sim.advance(1_000_000)
    return struck


@pytest.mark.parametrize("use_va", [True, False])
@given(plan=st.lists(st.one_of(harmless, harmful), max_size=4))
@settings_
def test_a_disk_answers_each_request_once(use_va: bool, plan: list[tuple[str, str, str]]) -> None:
    disk = Board("vdpasim_blk", num=128, use_va=use_va)
    queue = disk.queues[0]
    faults = inject(disk.sim, plan)
    heads: list[int] = []
    for n in range(REQUESTS):
        at = BUFFERS + 0x100 * n
        disk.ram.write(at, struct.pack("<IIQ", 8, 0, 0))
        disk.ram.write(at + 0x40, b"\xff")
        parts = Buffer(IOVA + at, 16), Buffer(IOVA + at + 0x20, 20, True), Buffer(IOVA + at + 0x40, 1, True)
        heads.append(queue.post(*parts))
        if n % BATCH == BATCH - 1:
            queue.kick()
    failed = over(disk.sim, faults)
    for _ in range(REQUESTS):
        queue.kick_fd.write_nowait(KICK)
    used = queue.used()
    answered = Counter(one.head for one in used)
    assert not answered.keys() - set(heads)
    assert max(answered.values(), default=0) <= 1, "answered twice"
    assert len(heads) - len(answered) <= failed, "lost without a failed DMA"
    for n, head in enumerate(heads):
        status = disk.ram.read(BUFFERS + 0x100 * n + 0x40, 1)
        if head in answered and not failed:
            assert status == b"\0"


@given(plan=st.lists(st.one_of(harmless, harmful), max_size=4))
@settings_
def test_vhost_net_sends_each_frame_once_and_in_order(plan: list[tuple[str, str, str]]) -> None:
    net = Net()
    net.map(0, 1 << 20)
    net.backend(TX)
    faults = inject(net.sim, plan)
    for n in range(12):
        at = 0x8000 + 0x100 * n
        net.ram.write(at, bytes(10) + bytes([n]) * 60)
        net.rings[TX].add(Buffer(net.base + at, 70))
        if n % BATCH == BATCH - 1:
            net.kicked(TX)
    over(net.sim, faults)
    net.kicked(TX)
    sent = [frame[0] for frame in net.far.frames]
    used = Counter(one.head for one in net.rings[TX].used())
    assert max(used.values(), default=0) <= 1
    if not any("dma" in words[0] for words in plan):
        assert sent == list(range(12))
        assert len(used) == 12
    else:
        assert set(sent) <= set(range(12))


@given(
    drops=st.lists(st.integers(1, 30), max_size=5, unique=True),
    too_soon=st.booleans(),
    again=st.booleans(),
)
@settings_
def test_misses_that_get_lost_are_asked_again_at_the_next_kick(drops: list[int], too_soon: bool, again: bool) -> None:
    net = Net()
    net.map(net.rings[TX].used_at & -4096, 4096)
    net.backend(TX)
    faults = [net.sim.inject(f"MISS:{n}") for n in drops]
    for n in range(8):
        at = 0x8000 + 0x1000 * n
        net.ram.write(at, bytes(10) + bytes([n]) * 60)
        net.rings[TX].add(Buffer(net.base + at, 70))
    if too_soon:
        net.map(0x9000, 0x1000)
    for _ in range(200):
        if len(net.far.frames) == 8:
            break
        net.kicked(TX)
        try:
            miss = decode_message(net.handle.abi, net.file.read_nowait(72))
        except WouldBlock:
            continue
        page = (miss.iova - IOVA) & -4096
        for _ in range(1 + again):
            run_sync(net.handle.iotlb_update(IOVA + page, 4096, net.ram.addr + page))
    for fault in faults:
        fault.lift()
    net.kicked(TX)
    assert [frame[0] for frame in net.far.frames] == list(range(8))
    assert len(net.rings[TX].used()) == 8
