"""vdpasim: the kernel side of vhost and vhost-vdpa as a deterministic simulator.

Theory. The public names below are loaded on first use (PEP 562): ``import vdpasim`` costs nothing, and a tool that
needs only the layouts of ``vdpasim.uapi`` never imports the simulator.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vdpasim.sim import File, Process, Simulator, WouldBlock

__version__ = "0.1.0"

# Public name -> module that defines it.
_HOMES = {
    "File": "vdpasim.sim",
    "Process": "vdpasim.sim",
    "Simulator": "vdpasim.sim",
    "WouldBlock": "vdpasim.sim",
}

__all__ = ["File", "Process", "Simulator", "WouldBlock", "__version__"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
