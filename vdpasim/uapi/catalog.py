"""Every structure and request of the modelled headers, by name and by number (no kernel header).

Theory. The header modules declare them as module-level names; this reads the modules, so that a table printed for
users cannot miss one.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from vdpasim.uapi import vhost, vhost_types, virtio_blk, virtio_config, virtio_ids, virtio_net, virtio_ring
from vdpasim.uapi.abi import X86_64
from vdpasim.uapi.ioctl import Ioctl, Parts, decode
from vdpasim.uapi.table import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from vdpasim.uapi.abi import Abi

HEADERS: tuple[ModuleType, ...] = (
    vhost_types, vhost, virtio_config, virtio_ids, virtio_ring, virtio_net, virtio_blk,
)  # fmt: skip
"""The modules, in the order their names are listed."""

T = TypeVar("T")


class Near(NamedTuple):
    """A known request that a number almost is."""

    ioctl: Ioctl
    difference: str
    """In words, what the number has and what the known request has."""


def _declared(kind: type[T]) -> Iterator[T]:
    return (value for module in HEADERS for value in vars(module).values() if isinstance(value, kind))


@cache
def structs() -> Mapping[str, Struct]:
    """Every structure by its name, in the order of declaration; read-only."""
    found: dict[str, Struct] = {}
    for struct in _declared(Struct):
        found.setdefault(struct.name, struct)
    return MappingProxyType(found)


@cache
def requests() -> Mapping[str, Ioctl]:
    """Every request by its name, in the order of declaration; read-only."""
    return MappingProxyType({ioctl.name: ioctl for ioctl in _declared(Ioctl)})


def by_request(request: int, abi: Abi = X86_64) -> Ioctl | None:
    """The request of a number, or None."""
    return _numbers(abi).get(request)


@cache
def _numbers(abi: Abi) -> dict[int, Ioctl]:
    return {ioctl.request(abi): ioctl for ioctl in requests().values()}


def near(request: int, abi: Abi = X86_64) -> list[Near]:
    """Known requests with the same type and number that differ in direction or size only."""
    parts = decode(request, abi)
    return [
        Near(ioctl, _difference(parts, decode(ioctl.request(abi), abi)))
        for ioctl in requests().values()
        if (ioctl.type, ioctl.nr) == (parts.type, parts.nr) and ioctl.request(abi) != request
    ]


def _difference(have: Parts, want: Parts) -> str:
    words: list[str] = []
    if have.direction != want.direction:
        words.append(f"direction {_spell_direction(have)} instead of {_spell_direction(want)}")
    if have.size != want.size:
        words.append(f"size {have.size} instead of {want.size}")
    return ", ".join(words)


def _spell_direction(parts: Parts) -> str:
    return "invalid" if parts.direction is None else parts.direction.macro
