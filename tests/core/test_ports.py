"""Ports: what simulated and live implementations have in common.

The assignments to annotated names are judged by the type checkers, the members by the tests.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from vdpasim.attach import live, memory
from vdpasim.core import ports
from vdpasim.core.fs.eventfd import EventFdCtx
from vdpasim.core.mm.memory import Memory, PhysicalMemory
from vdpasim.core.mm.mm import AddressSpace
from vdpasim.core.mm.process import FileTable, Task
from vdpasim.core.mm.rlimit import Rlimits
from vdpasim.core.vdpa.iova_domain import IovaDomain

if TYPE_CHECKING:

    def judged_by_the_type_checkers(
        mm: AddressSpace,
        live_mm: memory.LiveMm,
        pages: PhysicalMemory,
        live_pages: memory.LivePages,
        eventfd: EventFdCtx,
        live_eventfd: live.LiveEventFd,
        task: Task,
        live_task: live.LiveTask,
        obj: Memory,
        live_obj: memory.LiveObject,
    ) -> tuple[list[ports.Mm], list[ports.Pages], list[ports.EventFd], list[ports.Caller], list[ports.MemoryObject]]:
        return (
            [mm, live_mm],
            [pages, live_pages],
            [eventfd, live_eventfd],
            [task, live_task],
            [obj, live_obj],
        )


IMPLEMENTATIONS = [
    (ports.View, AddressSpace),
    (ports.View, memory.LiveMm),
    (ports.View, IovaDomain),
    (ports.Mm, AddressSpace),
    (ports.Mm, memory.LiveMm),
    (ports.Pages, PhysicalMemory),
    (ports.Pages, memory.LivePages),
    (ports.EventFd, EventFdCtx),
    (ports.EventFd, live.LiveEventFd),
    (ports.Files, FileTable),
    (ports.Files, live.LiveFiles),
    (ports.Limits, Rlimits),
    (ports.Limits, live.LiveLimits),
    (ports.MemoryObject, Memory),
    (ports.MemoryObject, memory.LiveObject),
]


def methods(port: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(port).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


@pytest.mark.parametrize(("port", "implementation"), IMPLEMENTATIONS, ids=lambda one: one.__name__)
def test_an_implementation_has_the_methods_of_its_port_with_the_same_parameters(
    port: type, implementation: type
) -> None:
    wanted = methods(port)
    assert wanted
    for name, signature in wanted.items():
        found = inspect.signature(getattr(implementation, name))
        assert list(found.parameters) == list(signature.parameters), name


def test_pages_and_addresses_fit_each_other() -> None:
    assert ports.PAGE_SIZE == 1 << ports.PAGE_SHIFT
    assert ports.PAGE_MASK & ports.U64_MAX == ports.U64_MAX - ports.PAGE_SIZE + 1


def test_a_memory_object_is_known_by_what_it_can() -> None:
    assert isinstance(Memory("ram", 4096, PhysicalMemory()), ports.MemoryObject)
    assert isinstance(memory.LiveObject("ram", 1), ports.MemoryObject)
    assert not isinstance(b"ram", ports.MemoryObject)
