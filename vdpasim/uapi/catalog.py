"""Every structure and constant of the modelled headers, by name (no kernel header).

Theory. The header modules declare them as module-level names; this reads the modules, so that a table printed for
users cannot miss one.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from vdpasim.uapi import vhost, vhost_types, virtio_blk, virtio_config, virtio_ids, virtio_net, virtio_ring
from vdpasim.uapi.table import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

HEADERS: tuple[ModuleType, ...] = (
    vhost_types, vhost, virtio_config, virtio_ids, virtio_ring, virtio_net, virtio_blk,
)  # fmt: skip
"""The modules, in the order their names are listed."""


@cache
def structs() -> Mapping[str, Struct]:
    """Every structure by its name, in the order of declaration; read-only."""
    found: dict[str, Struct] = {}
    for module in HEADERS:
        for value in vars(module).values():
            if isinstance(value, Struct):
                found.setdefault(value.name, value)
    return MappingProxyType(found)


@cache
def constants(module: ModuleType) -> Mapping[str, int]:
    """The integer constants of a header module, by name; read-only."""
    return MappingProxyType(
        {name: value for name, value in vars(module).items() if name[0].isupper() and isinstance(value, int)}
    )
