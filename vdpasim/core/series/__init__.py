"""Patch series: changes to the drivers that are chosen by a switch (the live-update series, or your own).

Theory. A series is one value: the backend feature bits it makes known, handlers of ioctls and of IOTLB message types as
lists of named steps (:mod:`.handler`), switches that are options of it, and rules it refuses by. It may begin with the
handlers of another (:meth:`Series.derive`). The drivers know only this module: when a vhost-vdpa file is opened, the
handlers of the series that are switched on go over the tables of that file. Registering a series makes its name a
switch, so it can stand in a profile string, ``6.12+my-v3``; nothing else in ``core`` hears of it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from vdpasim.core import rules as rule_registry
from vdpasim.core.profiles import IMPLIED, ProfileError
from vdpasim.core.series.handler import Handler, IotlbMessage, Request, SeriesError
from vdpasim.core.switches import SWITCHES, Switch
from vdpasim.uapi.ioctl import Ioctl

if TYPE_CHECKING:
    from collections.abc import Generator

    from vdpasim.core.kernel import Call
    from vdpasim.core.ports import Caller
    from vdpasim.core.rules import Rule
    from vdpasim.core.switches import Switches
    from vdpasim.core.uaccess import UserBuffer
    from vdpasim.core.vhost.vdpa import VhostVdpa
    from vdpasim.core.vhost.vhost_msg import IotlbMsg

Ioctls = Mapping[Ioctl, Handler[Request]]
Messages = Mapping[int, Handler[IotlbMessage]]


@attrs.frozen(eq=False)
class Series:
    """One patch series."""

    name: str
    """The switch that turns it on."""
    doc: str
    backend_features: int = 0
    """Mask of bits SET_BACKEND_FEATURES accepts beyond the kernel's own."""
    offers: int = 0
    """Mask of bits GET_BACKEND_FEATURES answers for every device; what a device says itself comes to it."""
    ioctls: Ioctls = attrs.Factory(dict[Ioctl, Handler[Request]])
    messages: Messages = attrs.Factory(dict[int, Handler[IotlbMessage]])
    implies: frozenset[str] = frozenset()
    """Switches that come on with it."""
    switches: tuple[Switch, ...] = ()
    """Switches of its own, which a profile string may add."""
    rules: tuple[Rule, ...] = ()
    """What its steps refuse by (``raise fail("my.rule")``)."""

    def derive(
        self,
        name: str,
        doc: str,
        *,
        backend_features: int = 0,
        offers: int = 0,
        ioctls: Ioctls | None = None,
        messages: Messages | None = None,
        implies: frozenset[str] = frozenset(),
        switches: tuple[Switch, ...] = (),
        rules: tuple[Rule, ...] = (),
    ) -> Series:
        """A series that is this one, but for what is given; masks and switches come to this one's."""
        return Series(
            name,
            doc,
            self.backend_features | backend_features,
            self.offers | offers,
            {**self.ioctls, **(ioctls or {})},
            {**self.messages, **(messages or {})},
            self.implies | implies,
            switches,
            rules,
        )

    def apply(self, v: VhostVdpa) -> None:
        """Change the tables of a file that was just opened; a request of its own waits for the device's pass."""
        kept: dict[str, Any] = {}
        for ioctl, handler in self.ioctls.items():
            request = ioctl.request(v.kernel.abi)
            if request not in v.ioctls and "mainline" in handler.names:
                continue  # this kernel is older than the request, so there is nothing to build on: it stays unknown
            if request not in v.ioctls:
                v.quiescing.add(request)
            v.ioctls[request] = partial(_answer_ioctl, self.name, handler, v.ioctls.get(request), kept)
        for kind, one in self.messages.items():
            v.messages[kind] = partial(_answer_message, self.name, one, v.messages.get(kind), kept)


def _answer_ioctl(
    name: str, handler: Handler[Request], mainline: Any, kept: dict[str, Any], v: VhostVdpa, call: Call, arg: UserBuffer
) -> None:
    with _blamed(name):
        handler(Request(v, call, arg, mainline, kept))


def _answer_message(
    name: str,
    handler: Handler[IotlbMessage],
    mainline: Any,
    kept: dict[str, Any],
    v: VhostVdpa,
    task: Caller,
    asid: int,
    msg: IotlbMsg,
) -> None:
    with _blamed(name):
        handler(IotlbMessage(v, task, asid, msg, mainline, kept))


@contextmanager
def _blamed(name: str) -> Generator[None]:
    try:
        yield
    except SeriesError as error:
        raise SeriesError(f"series {name}: {error}") from error.__cause__


SHIPPED = frozenset({"live-update-v1", "live-update-v2", "live-update-fixed"})
"""Series whose switches stand in the tables of ``switches.py`` and ``profiles.py``."""

FILES = ("live_update", "live_update_fixed")
"""Modules of this folder that register a series when they are imported."""

SERIES: dict[str, Series] = {}


def register(one: Series) -> None:
    """Make a series known, and its name a switch.

    Raises:
        ValueError: the name, a switch or a rule of it is there already, or is none; nothing was registered then.
    """
    if one.name in SERIES:
        raise ValueError(f"series {one.name!r} is registered twice")
    own = [] if one.name in SHIPPED else [*one.switches, Switch(one.name, one.doc)]
    taken = [switch.name for switch in own if switch.name in SWITCHES]
    if taken:
        raise ValueError(f"series {one.name!r}: switch {taken[0]!r} is there already")
    _check(one)
    rule_registry.register(one.rules)
    SWITCHES.update({switch.name: switch for switch in own})
    if one.implies:
        IMPLIED[one.name] = IMPLIED.get(one.name, frozenset()) | one.implies
    SERIES[one.name] = one


def _check(one: Series) -> None:
    # what a type checker would say of a user's file, and what none can
    names = [one.name, *(switch.name for switch in one.switches)]
    if bad := [name for name in names if not re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", name)]:
        raise ValueError(f"{bad[0]!r} cannot stand in a profile string: lower-case letters, digits and - make a name")
    handlers: list[object] = [*one.ioctls.values(), *one.messages.values()]
    keys_fit = all(isinstance(key, Ioctl) for key in one.ioctls) and all(isinstance(key, int) for key in one.messages)
    if not keys_fit or not all(isinstance(handler, Handler) for handler in handlers):
        raise ValueError(f"series {one.name!r}: ioctls are {{Ioctl: Handler}} and messages {{number: Handler}}")
    if unknown := one.implies - set(SWITCHES) - set(names):
        raise ValueError(f"series {one.name!r} implies {min(unknown)!r}, which is no switch")
    if taken := [rule.id for rule in one.rules if rule.id in rule_registry.RULES]:
        raise ValueError(f"series {one.name!r}: rule id {taken[0]!r} is used twice")


def load() -> None:
    """Import the shipped series."""
    for module in FILES:
        importlib.import_module(f"{__name__}.{module}")  # late: a series imports the drivers, which import this


def check(switches: Switches) -> None:
    """See that no two series answer the same request: the one registered last would hide the other.

    Raises:
        ProfileError: two do.
    """
    answered: dict[object, str] = {}
    for one in active(switches):
        for what in (*one.ioctls, *(f"message type {kind}" for kind in one.messages)):
            if what in answered:
                name = what.name if isinstance(what, Ioctl) else what
                raise ProfileError(f"{answered[what]} and {one.name} both answer {name}: a kernel has one of them")
            answered[what] = one.name


def active(switches: Switches) -> list[Series]:
    """The series that are switched on, in the order they were registered."""
    load()
    return [one for name, one in SERIES.items() if name in switches]


def backend_features(switches: Switches) -> int:
    """The backend feature bits that the active series make known."""
    mask = 0
    for one in active(switches):
        mask |= one.backend_features
    return mask


def offered(switches: Switches) -> int:
    """The backend feature bits that the active series offer for every device."""
    mask = 0
    for one in active(switches):
        mask |= one.offers
    return mask
