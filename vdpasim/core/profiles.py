"""Profiles: the sets of switches that make 6.1, 6.12, 7.1 and tip, and the string that names one.

Theory. The four profiles are source snapshots: 6.1.192 and 6.12.117 are distribution kernels with backported fixes
(both have golden traces), 7.1.5 is a release without them, tip is mainline around 7.3-rc. A profile string is a
profile name followed by ``+switch`` and ``-switch`` in any number, applied from left to right:
``6.12+live-update-v1``.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from vdpasim.core.switches import SWITCHES, Switches

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOT_MENDED = frozenset(
    {
        "bug-va-undo-wipes-all",
        "bug-get-id-status",
        "bug-rx-overrun-stops",
        "bug-ctrl-ack-carry",
        "bug-ctrl-partial-mac",
    }
)
_6_1 = _NOT_MENDED | {"F1", "F2", "F3", "F5", "F10", "F14", "F15", "F16", "F13"}
_SINCE_6_12 = _NOT_MENDED | frozenset(
    {
        "va-mode",
        "passthrough",
        "resume",
        "pending-kick",
        "iotlb-persist",
        "enable-after-driver-ok",
        "desc-asid",
        "vring-size",
        "suspend-needs-driver-ok",
        "ring-needs-suspend",
        "used-idx-read-perm",
        "net-status",
        "net-budget-frames",
        "blk-zoned",
        "vhost-ring-reset",
        "fork-owner",
    }
)
_SINCE_7_1 = _SINCE_6_12 | {
    "group-asid-needs-stopped",
    "vhost-num-buffers",
    "vhost-in-order",
    "features-array",
    "bug-features-array-zero-fill",
}

PROFILES: dict[str, frozenset[str]] = {
    "6.1": _6_1,
    "6.12": _SINCE_6_12
    | {"F1", "F2", "F3", "F4", "F5", "F6", "F8", "F9", "F10", "F11", "F13", "F14", "F15", "F16"},
    "7.1": _SINCE_7_1 | {"F14", "F15", "F16"},
    "tip": _SINCE_7_1 | {f"F{n}" for n in range(1, 17)},
}
"""Profile name -> the switches that are on."""

IMPLIED: dict[str, frozenset[str]] = {
    "live-update-v1": frozenset({"lu-advertise"}),
    "live-update-fixed": frozenset({"lu-advertise"}),
    # before 6.3 a ring that was set up, for the first time or again, began at 0
    "bug-enable-twice": frozenset({"bug-enable-base"}),
}
"""Switches that another one brings along when it is added."""


class ProfileError(ValueError):
    """The string names no profile or switch; the message says which word and what is near."""

    switch = ""
    """The switch there is not, as far as it can be told from the string."""


def parse(spec: str) -> Switches:
    """The switches of a profile string.

    Raises:
        ProfileError: unknown profile or switch, a switch without effect, or a malformed string.
    """
    base = next((name for name in sorted(PROFILES, key=len, reverse=True) if _is_prefix(name, spec)), None)
    if base is None:
        raise ProfileError(f"no kernel profile in {spec!r}: {_nearest(spec, PROFILES)}")
    names = set(PROFILES[base])
    rest = spec[len(base) :]
    while rest:
        sign, rest = rest[0], rest[1:]
        word = next((name for name in sorted(SWITCHES, key=len, reverse=True) if _is_prefix(name, rest)), None)
        if word is None or sign not in "+-":
            error = ProfileError(f"no switch at {sign + rest!r} of {spec!r}: {_nearest(rest, SWITCHES)}")
            error.switch = _unknown(rest)
            raise error
        if SWITCHES[word].unmodelled:
            raise ProfileError(f"{sign + word} would change nothing: {SWITCHES[word].unmodelled}")
        if sign == "+":
            names |= {word} | IMPLIED.get(word, frozenset())
        else:
            names -= {word}
        rest = rest[len(word) :]
    return Switches(spec, frozenset(names))


def _is_prefix(name: str, text: str) -> bool:
    # "live-update-v1" must not match "live-update-v10", nor "6.1" match "6.12"
    return text.startswith(name) and (len(text) == len(name) or text[len(name)] in "+-")


def _unknown(rest: str) -> str:
    # up to the next word; a - may be one of the name, so only what is a switch is taken off the end
    word = rest.partition("+")[0]
    while (known := next((f"-{name}" for name in SWITCHES if word.endswith(f"-{name}")), None)) is not None:
        word = word.removesuffix(known)
    return word


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word.split("+", maxsplit=1)[0], names, n=3, cutoff=0.4)
    return "did you mean " + ", ".join(near) + "?" if near else "known are " + ", ".join(names)
