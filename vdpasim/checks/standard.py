"""The sets of checks a run is judged by.

Theory. :func:`standard` is what must hold whatever the program does. :func:`vmm_mistakes` are warnings: the program was
wrong, though nothing broke; they count where somebody asks for them, by name or by ``--strict``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.checks.accounting import Accounting
from vdpasim.checks.dma_handover import DmaHandover
from vdpasim.checks.dma_place import DmaPlace
from vdpasim.checks.iotlb_divergence import IotlbDivergence
from vdpasim.checks.irq import Irq
from vdpasim.checks.kernel_report import KernelReport
from vdpasim.checks.miss_unanswered import MissUnanswered
from vdpasim.checks.queue_stalled import QueueStalled
from vdpasim.checks.ring_replay import RingReplay
from vdpasim.checks.set_map import SetMap
from vdpasim.checks.suspended import Suspended
from vdpasim.checks.unpin_frame import UnpinFrame
from vdpasim.checks.vmm_base import VmmBase
from vdpasim.checks.vmm_call import VmmCall
from vdpasim.checks.vmm_features import VmmFeatures
from vdpasim.checks.vmm_removal import VmmRemoval
from vdpasim.checks.vmm_request import VmmRequest
from vdpasim.checks.vmm_resume import VmmResume
from vdpasim.checks.vmm_ring_address import VmmRingAddress
from vdpasim.checks.vmm_ring_base import VmmRingBase
from vdpasim.checks.vmm_suspended import VmmSuspended
from vdpasim.checks.vmm_unmapped_queue import VmmUnmappedQueue
from vdpasim.checks.vmm_update import VmmUpdate
from vdpasim.uapi.abi import X86_64

if TYPE_CHECKING:
    from vdpasim.checks import Check
    from vdpasim.uapi.abi import Abi


def standard() -> list[Check]:
    """A fresh set of the checks whose findings count."""
    return [
        IotlbDivergence(),
        DmaPlace(),
        DmaHandover(),
        SetMap(),
        Accounting(),
        UnpinFrame(),
        Irq(),
        MissUnanswered(),
        QueueStalled(),
        RingReplay(),
        Suspended(),
        KernelReport(),
    ]


def vmm_mistakes(abi: Abi = X86_64) -> list[Check]:
    """A fresh set of those that warn of the program's own mistakes, on a kernel of this ABI."""
    return [
        VmmRingAddress(),
        VmmUnmappedQueue(),
        VmmRingBase(),
        VmmRequest(abi),
        VmmResume(),
        VmmUpdate(),
        VmmFeatures(),
        VmmCall(),
        VmmBase(),
        VmmSuspended(abi),
        VmmRemoval(),
    ]
