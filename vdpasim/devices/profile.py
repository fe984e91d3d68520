"""Devices as data: a TOML file says what a vDPA device is, the stock models do what it says (no kernel file).

Theory. What vhost-vdpa learns from a device, and what the device does with a map, is a handful of facts: features,
config bytes, queues and their sizes, groups and address spaces, the operations it has. :class:`DeviceProfile` holds
them, one attribute a key; :func:`loads` reads TOML into it and :func:`dumps` writes it back. A profile is checked when
it is made, key by key and then for what the keys say of each other, and every refusal is one line with the key, what it
may be, and what was probably meant.

Unsigned 64-bit values do not fit TOML's integers, so large ones are written as text, ``"0xffffffffffffffff"``; text is
read wherever an integer is.

Not modelled, so there are no keys for it: descriptor groups, statistics, a vendor id, groups that depend on features.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs

from vdpasim.devices import profile_keys as kinds
from vdpasim.devices.profile_keys import KEY, QUEUES_MAX, U64_MAX, DeviceProfileError, Kind, key
from vdpasim.uapi.virtio_ids import VIRTIO_ID_BLOCK, VIRTIO_ID_NET
from vdpasim.uapi.virtio_net import VIRTIO_NET_F_CTRL_VQ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SHIPPED = Path(__file__).parent / "profiles"


@attrs.frozen(kw_only=True)
class DeviceProfile:
    """One device. The attributes are the keys of the file.

    Raises:
        DeviceProfileError: the keys contradict each other.
    """

    name: str = key("how `dev show` calls the kind; the file's name unless given", kinds.TEXT, "")
    source: str = key("where the values come from", kinds.TEXT, "")
    device_id: int = key("virtio device id; 1 and 2 have stock models", kinds.number(1, 0xFFFF_FFFF))
    features: int = key("offered virtio features, as a mask", kinds.U64)
    backend_features: int = key(
        "backend features the device adds to those of the layer and of its operations", kinds.BACKEND, 0
    )
    tells_backend_features: bool = key("the driver has the operation that tells them", kinds.FLAG, True)
    config: bytes = key("the config space", kinds.BYTES, b"")
    config_fixed: tuple[tuple[int, int], ...] = key(
        "byte ranges `[first, last]` that every GET_CONFIG puts back to what the device says", kinds.RANGES, ()
    )
    config_interrupts: bool = key("the device interrupts when it changes its config space", kinds.FLAG, False)
    queues: int = key("number of queues", kinds.number(1, QUEUES_MAX))
    queue_size: int = key("the largest ring (GET_VRING_NUM)", kinds.POWER, 256)
    queue_sizes: tuple[int, ...] = key(
        "the size of each queue; without it the device has no GET_VRING_SIZE", kinds.POWERS, ()
    )
    groups: int = key("number of queue groups", kinds.number(1, QUEUES_MAX), 1)
    queue_groups: tuple[int, ...] = key(
        "the group of each queue; without it the device has no GET_VRING_GROUP and no SET_GROUP_ASID",
        kinds.numbers(0, QUEUES_MAX - 1),
        (),
    )
    address_spaces: int = key("number of address spaces", kinds.number(1, QUEUES_MAX), 1)
    iova_range: tuple[int, int] = key("first and last I/O address, inclusive", kinds.IOVA_RANGE, (0, U64_MAX))
    map: str = key(
        "how the device is given translations: whole maps, single entries, or not at all because the platform's IOMMU "
        "translates",
        kinds.choice("set_map", "dma_map", "platform"),
        "set_map",
    )
    addresses: str = key(
        "what entries hold: pinned physical addresses (pa), user addresses (va), or user addresses that the device has "
        "no use for, because it maps the file behind each entry itself as VDUSE does (file); old kernels: always pa",
        kinds.choice("pa", "va", "file"),
        "pa",
    )
    identity: int = key(
        "how many of the first address spaces start as the identity, until the first push",
        kinds.number(0, QUEUES_MAX),
        0,
    )
    map_persist: bool = key("the map survives a reset when IOTLB_PERSIST is acked", kinds.FLAG, False)
    suspend: bool = key("the device can be suspended", kinds.FLAG, False)
    resume: bool = key("and resumed", kinds.FLAG, False)
    notification_queues: int = key(
        "how many of the first queues have a notification area; 0: the device has none", kinds.number(0, QUEUES_MAX), 0
    )
    notification_size: int = key("bytes of each; mmap wants exactly a page", kinds.number(0, 1 << 30), 4096)
    notification_offset: int = key("where in its page it begins; mmap wants 0", kinds.number(0, 4095), 0)

    def __attrs_post_init__(self) -> None:
        for name, wrong in _contradictions(self):
            raise DeviceProfileError(f"{name}: {wrong}")


def _contradictions(p: DeviceProfile) -> Iterator[tuple[str, str]]:
    # (key, what is wrong with it beside the others)
    for name in ("queue_sizes", "queue_groups"):
        count = len(getattr(p, name))
        if count not in (0, p.queues):
            yield name, f"names {count} queues of {p.queues}; it must have one value for each queue, or be left out"
    for size in p.queue_sizes:
        if size > p.queue_size:
            yield "queue_sizes", f"{size} is more than queue_size, which is {p.queue_size}"
    for group in p.queue_groups:
        if group >= p.groups:
            yield "queue_groups", f"there is no group {group}; groups is {p.groups}, so they are 0 to {p.groups - 1}"
    if p.backend_features and not p.tells_backend_features:
        yield "backend_features", "must be empty: tells_backend_features is false, so nothing can tell them"
    for first, last in p.config_fixed:
        if last >= len(p.config):
            yield "config_fixed", f"[{first}, {last}] leaves the config space, which has {len(p.config)} bytes"
    if p.identity > p.address_spaces:
        yield "identity", f"is {p.identity}, but address_spaces is {p.address_spaces}"
    if p.notification_queues > p.queues:
        yield "notification_queues", f"is {p.notification_queues}, but the device has {p.queues} queues"
    yield from _mapping(p)
    yield from _stock(p)


def _mapping(p: DeviceProfile) -> Iterator[tuple[str, str]]:
    if p.map == "platform":
        yield from _platform(p)
    elif p.addresses == "file":
        yield from _by_file(p)


def _platform(p: DeviceProfile) -> Iterator[tuple[str, str]]:
    if p.addresses != "pa":
        yield "addresses", 'must be "pa": a platform IOMMU translates to physical addresses'
    if p.identity:
        yield "identity", "must be 0: the domain of a platform IOMMU starts empty"
    if not p.map_persist:
        yield "map_persist", "must be true: a reset of the device does not touch the platform's IOMMU"
    if p.address_spaces != 1:
        yield "address_spaces", "must be 1: there is one domain"


def _by_file(p: DeviceProfile) -> Iterator[tuple[str, str]]:
    if p.map != "set_map":
        yield "map", 'must be "set_map": a device that maps files is given whole maps'
    if p.identity:
        yield "identity", "must be 0: an I/O address is no place in a file"


def _stock(p: DeviceProfile) -> Iterator[tuple[str, str]]:
    # what the stock models need to find
    if p.device_id == VIRTIO_ID_NET and p.queues < 2:
        yield "queues", "a network device has at least 2"
    if p.device_id == VIRTIO_ID_NET and p.features >> VIRTIO_NET_F_CTRL_VQ & 1 and not p.queues % 2:
        yield "queues", f"{p.queues} leaves out the control queue, or half a pair: with CTRL_VQ the number is odd"
    if p.device_id == VIRTIO_ID_BLOCK and len(p.config) < 8:
        yield "config", "a block device begins with its capacity, 8 bytes"


# -- reading


def loads(text: str, where: str = "profile", name: str = "") -> DeviceProfile:
    """A profile from TOML; ``where`` begins the message of an error, ``name`` is for a file that gives none.

    Raises:
        DeviceProfileError: no TOML, an unknown key, a value out of range, keys that contradict each other.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeviceProfileError(f"{where}: not TOML: {error}") from None
    fields = {field.name: field for field in attrs.fields(DeviceProfile)}
    values: dict[str, Any] = {"name": name}
    try:
        for word, value in table.items():
            if word not in fields:
                raise DeviceProfileError(f"{word}: no such key; {nearest(word, fields)}")
            values[word] = _read(word, fields[word].metadata[KEY].kind, value)
        for field in fields.values():
            if field.default is attrs.NOTHING and field.name not in values:
                raise DeviceProfileError(f"{field.name}: is missing; it is {field.metadata[KEY].kind.allowed}")
        return DeviceProfile(**values)
    except DeviceProfileError as error:
        raise DeviceProfileError(f"{where}: {error}") from None


def _read(word: str, kind: Kind, value: object) -> Any:
    try:
        return kind.read(value)
    except ValueError as error:
        more = f" ({error})" if str(error) else ""
        raise DeviceProfileError(f"{word}: {value!r} is not {kind.allowed}{more}") from None


def nearest(word: str, known: Mapping[str, object] | list[str]) -> str:
    """The words that are near, or else all of them, as the end of a message."""
    near = difflib.get_close_matches(word, list(known), n=2, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else "there are " + ", ".join(known)


def shipped() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(path.name.removesuffix(".toml") for path in SHIPPED.glob("*.toml"))


def load(path_or_name: str | Path) -> DeviceProfile:
    """A profile by path, or a shipped one by name: text is a path if it has a slash or ends in ``.toml``.

    Raises:
        DeviceProfileError: no such file or name, or as :func:`loads`.
    """
    if isinstance(path_or_name, str) and "/" not in path_or_name and not path_or_name.endswith(".toml"):
        if path_or_name not in shipped():
            raise DeviceProfileError(f"{path_or_name}: no such profile; {nearest(path_or_name, shipped())}")
        path = SHIPPED / f"{path_or_name}.toml"
    else:
        path = Path(path_or_name)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DeviceProfileError(f"{path}: {reason}") from None
    return loads(text, str(path), path.name.removesuffix(".toml"))


# -- writing


def dumps(profile: DeviceProfile, unknown: Mapping[str, str] | None = None) -> str:
    """TOML of every key that is not its default.

    A key in ``unknown`` is written as a comment with the reason, so that reading gives its default.
    """
    unknown = unknown or {}
    lines: list[str] = []
    for field in attrs.fields(DeviceProfile):
        kind = cast("Kind", field.metadata[KEY].kind)
        value = getattr(profile, field.name)
        if field.name in unknown:
            lines.append(f"# {field.name} = unknown: {unknown[field.name]}")
        elif value != field.default:
            lines.append(f"{field.name} = {kind.show(value)}")
    return "\n".join(lines) + "\n"
