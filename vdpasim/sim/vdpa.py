"""The bus as an administrator sees it: iproute2's ``vdpa`` grammar.

Theory. ``dev add name foo mgmtdev vdpasim_net mac 02:00:00:00:00:01`` makes /dev/vhost-vdpa-N, ``dev del foo`` removes
it, ``dev show`` and ``mgmtdev show`` list. The same objects can be used from Python. Module options (``use_va``,
``batch_mapping``, ``max_iotlb_entries``) are taken per device, and ``advertise``, the backend features of a live-update
series that the device offers (``"NEW_OWNER,IOTLB_REMAP"``, or a mask); iproute2 has no words for them, so they are an
extension. So are ``profile NAME`` in place of ``mgmtdev`` (a device as data, ``devices/profile.py``) and ``model FILE``
(a device of one's own, ``devices/model.py``); both together are a model of what the profile says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdpasim.core.vdpa import vdpa_sim_blk, vdpa_sim_net
from vdpasim.core.vdpa.vdpa import MgmtDev, VdpaBus, VdpaDevice
from vdpasim.core.vdpa.vdpa_sim import VdpaSim
from vdpasim.devices import model as models
from vdpasim.devices import model_loader, net_peer, profile, stock, vdpa_miss
from vdpasim.devices.model_loader import DeviceModelError
from vdpasim.devices.peer_device import NetPeer
from vdpasim.devices.profile import DeviceProfile
from vdpasim.devices.profile_keys import DeviceProfileError
from vdpasim.sim import hosts
from vdpasim.sim.errors import UsageError, os_errors
from vdpasim.sim.journal import Recorder, journaled
from vdpasim.sim.storage import storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike

    from vdpasim.core.fs.file import CharDev
    from vdpasim.core.kernel import Kernel
    from vdpasim.core.ports import Pages
    from vdpasim.core.vhost.vdpa import VhostVdpaNode
    from vdpasim.devices.model import DeviceModel

EXTENSIONS: dict[str, Callable[[], list[MgmtDev]]] = {
    vdpa_miss.EXTENSION: vdpa_miss.mgmtdevs,
    net_peer.EXTENSION: net_peer.mgmtdevs,
}
"""What no kernel has, by the name a simulator is asked for it -> its management devices."""


class Device:
    """A vDPA device that was added."""

    def __init__(self, name: str, node: VhostVdpaNode) -> None:
        self.name = name
        self.node = node

    @property
    def recorder(self) -> Recorder | None:
        """Who writes the journal."""
        journal = self.node.kernel.journal
        return journal if isinstance(journal, Recorder) else None

    @property
    def key(self) -> list[Any]:
        """What a journal calls it."""
        return ["device", self.name]

    @property
    def path(self) -> str:
        """The vhost-vdpa node, ``/dev/vhost-vdpa-0``."""
        return self.node.path

    @property
    def device(self) -> VdpaDevice:
        """The device itself, for looking inside."""
        return self.node.device

    @property
    def peer(self) -> NetPeer:
        """The device as ``net_peer``.

        Raises:
            UsageError: it is of another kind.
        """
        device = self.node.device
        if not isinstance(device, NetPeer):
            raise UsageError(f"{self.name} is no net_peer: it has no far end")
        return device

    def set_link(self, up: bool) -> None:
        """``net_peer``: plug the cable in or pull it, at run time.

        Raises:
            UsageError: the device is of another kind.
        """
        self.link(up)
        hosts.run_idle(self.node.kernel)

    def inject(self, frame: bytes, pair: int = 0) -> None:
        """``net_peer``: a frame comes in from the wire, on a queue pair.

        Raises:
            UsageError: the device is of another kind.
        """
        self.arrived(frame, pair)
        hosts.run_idle(self.node.kernel)

    @journaled
    def link(self, up: bool) -> None:
        """:meth:`set_link`, without running what becomes ready. Raises as that."""
        self.peer.set_link(up)

    @journaled
    def arrived(self, frame: bytes, pair: int) -> None:
        """:meth:`inject`, without running what becomes ready. Raises as that."""
        self.peer.inject(frame, pair)

    @journaled
    def change_config(self, offset: int, data: bytes) -> None:
        """The device itself changes some bytes of its config space, and interrupts if its kind does."""
        self._own().change_config(offset, data)

    @journaled
    def config_changed(self) -> None:
        """The device interrupts for its config space, whatever its kind."""
        self._own().notify_config()

    def _own(self) -> VdpaSim:
        device = self.node.device
        assert isinstance(device, VdpaSim)  # every device here is one
        return device

    def write_pcap(self, path: str | PathLike[str]) -> None:
        """``net_peer``: write the frames that passed, with virtual time in nanoseconds.

        Raises:
            UsageError: the device is of another kind.
        """
        Path(path).write_bytes(self.peer.pcap())


class Vdpa:
    """Management of one bus."""

    def __init__(
        self,
        kernel: Kernel,
        pages: Pages,
        nodes: dict[str, CharDev],
        options: dict[str, int | bool],
        extensions: Iterable[str] = (),
    ) -> None:
        self.kernel = kernel
        self.bus = VdpaBus(kernel, pages, nodes)
        self.options = options
        self._provide((vdpa_sim_net.MGMTDEV, vdpa_sim_blk.MGMTDEV))
        for extension in extensions:
            if extension not in EXTENSIONS:
                known = ", ".join(repr(name) for name in EXTENSIONS)
                raise UsageError(f"unknown extension {extension!r}; there is {known}")
            self._provide(EXTENSIONS[extension]())
        self._check_options()

    @property
    def recorder(self) -> Recorder | None:
        """Who writes the journal."""
        journal = self.kernel.journal
        return journal if isinstance(journal, Recorder) else None

    @property
    def key(self) -> list[Any]:
        """What a journal calls it."""
        return ["vdpa"]

    def _check_options(self) -> None:
        known = sorted({name for mgmtdev in self.bus.mgmtdevs.values() for name in mgmtdev.options})
        for name in self.options:
            if name not in known:
                raise UsageError(f"no device here has an option {name!r}; there is {', '.join(known)}")

    def _provide(self, mgmtdevs: Iterable[MgmtDev]) -> None:
        for mgmtdev in mgmtdevs:
            self.bus.mgmtdevs[mgmtdev.name] = mgmtdev

    @journaled
    def dev_add(
        self,
        /,
        name: str,
        *,
        mgmtdev: str | None = None,
        profile: str | Path | DeviceProfile | None = None,
        model: str | Path | type[DeviceModel] | None = None,
        **attributes: Any,
    ) -> Device:
        """``vdpa dev add``: attributes are iproute2's keywords, module options, or a model's own options.

        Instead of a management device a profile (by name, path or object), a model (by path, module or class), or both.
        ``backing`` of a disk is what :func:`vdpasim.sim.storage.storage` takes.

        Raises:
            UsageError: none of the three, or mgmtdev beside another; a profile or model that cannot be used.
            OSError: EEXIST, ENODEV, EOPNOTSUPP unknown attribute, EINVAL malformed value.
        """
        if (mgmtdev is None) == (profile is None and model is None):
            raise UsageError("a device is made of a mgmtdev, or else of a profile, a model, or both")
        known = self.bus.mgmtdevs.get(mgmtdev) if mgmtdev is not None else _own(profile, model)
        given: dict[str, Any] = {key: value for key, value in self.options.items() if known and key in known.options}
        given.update({key: value for key, value in attributes.items() if value is not None})
        if "backing" in given:
            given["backing"] = storage(given["backing"], writable=bool(given.get("write_through")))
        with os_errors():
            if mgmtdev is None and known is not None:
                return Device(name, self.bus.add(name, known, given))
            return Device(name, self.bus.dev_add(name, mgmtdev or "", given))

    @journaled
    def dev_del(self, name: str) -> None:
        """``vdpa dev del``.

        Raises:
            OSError: ENODEV, EBUSY while the device is open.
        """
        with os_errors():
            self.bus.dev_del(name)

    def dev_show(self) -> dict[str, dict[str, Any]]:
        """``vdpa -j dev show``: name -> what iproute2 prints."""
        return {
            name: {
                "type": {1: "network", 2: "block"}.get(device.device_id, str(device.device_id)),
                "mgmtdev": getattr(getattr(device, "attr", None), "kind", ""),
                "vendor_id": 0,
                "max_vqs": device.nvqs,
                "max_vq_size": device.get_vq_num_max(),
            }
            for name, device in self.bus.devices.items()
        }

    def mgmtdev_show(self) -> dict[str, dict[str, Any]]:
        """``vdpa -j mgmtdev show``."""
        return {
            name: {"supported_classes": [{1: "net", 2: "block"}[mgmt.device_id]], "attributes": sorted(mgmt.attributes)}
            for name, mgmt in self.bus.mgmtdevs.items()
        }

    def command(self, line: str) -> Any:
        """One line of iproute2's grammar, without the leading ``vdpa``.

        Raises:
            UsageError: not in the grammar; the message shows it.
            OSError: as the calls.
        """
        match line.split():
            case ["dev", "add", *pairs] if len(pairs) % 2 == 0:
                words = dict(zip(pairs[::2], pairs[1::2], strict=True))
                name = words.pop("name", None)
                kind: dict[str, Any] = {k: words.pop(k) for k in ("mgmtdev", "profile", "model") if k in words}
                given: dict[str, Any] = {**kind, **{k: _value(v) for k, v in words.items()}}
                if name and kind:
                    return self.dev_add(name, **given)
            case ["dev", "del", name]:
                return self.dev_del(name)
            case ["dev", "show"]:
                return self.dev_show()
            case ["mgmtdev", "show"]:
                return self.mgmtdev_show()
            case _:
                pass
        raise UsageError(
            f"not understood: {line!r}; it is dev add name NAME mgmtdev MGMTDEV [mac M] [mtu N] [KEY VALUE]…, or with "
            "profile NAME or model FILE for mgmtdev MGMTDEV, dev del NAME, dev show, mgmtdev show"
        )


def _own(given: str | Path | DeviceProfile | None, model: str | Path | type[DeviceModel] | None) -> MgmtDev:
    # a management device of a profile, a model, or both
    try:
        what = given if given is None or isinstance(given, DeviceProfile) else profile.load(given)
        if model is not None:
            return models.mgmtdev(model if isinstance(model, type) else model_loader.load(model), what)
        assert what is not None
        return stock.mgmtdev(what)
    except (DeviceProfileError, DeviceModelError) as error:
        raise UsageError(str(error)) from error


def _value(word: str) -> str | int:
    try:
        return int(word, 0)
    except ValueError:
        return word
