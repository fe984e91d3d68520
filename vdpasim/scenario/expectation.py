"""Which of the kernels a story names stands for one that it does not name.

Theory. A story says of some kernels what must be found there, and may be played on any other. What decides a story is
the patch series and its options, seldom the kernel below. So an expectation is looked for in this order:

1. the kernel itself, by its switches: the order in which a string names them makes no difference;
2. a kernel with the same series. It must not have an option of it (``lu-guard-resume``, ``lu-advertise``) that the
   asked one lacks; of those that are left, the ones with the most options, and of these the nearest, by switches;
3. a series of which the story says nothing and which is not shipped is a user's own, and is written to be right: it is
   expected to do what ``live-update-fixed`` does. Where that says "clean", what is found is a defect of the series. It
   is guarded only if it has the step that guards (:data:`GUARDS`): the switch alone does nothing;
4. the same kernel without its series: where the story names no series for it, none is expected to make a difference.

Nothing is guessed about a kernel without a series: whether it has a bug is what its switches say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdpasim.core import series
from vdpasim.core.profiles import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vdpasim.core.switches import Switches

MENDED = "live-update-fixed"
"""The shipped series that a user's own is measured by."""
GUARDS = {"lu-guard-resume": "guard_resume", "lu-guard-same-object": "same_object"}
"""Option -> the step of a handler that looks at it."""
OPTION = "lu-"
"""How switches begin that change a series."""


def stands_for(kernel: str, named: Iterable[str]) -> str | None:
    """The profile string among those that are named whose expectation holds on a kernel, if there is one.

    Raises:
        ProfileError: one of the strings is no profile string.
    """
    profiles = {name: parse(name) for name in named}
    if kernel in profiles:
        return kernel
    asked = parse(kernel)
    same = [name for name, one in profiles.items() if one.names == asked.names]
    spoken = _series(asked)
    if same or not spoken:
        return same[0] if same else None
    found = _nearest(asked, spoken, _options(asked), profiles)
    if found is None and not spoken & series.SHIPPED:
        found = _nearest(asked, frozenset({MENDED}), _options(asked) - _without_effect(asked), profiles)
    return found or _without(asked, profiles)


def _series(switches: Switches) -> frozenset[str]:
    return frozenset(one.name for one in series.active(switches))


def _options(switches: Switches) -> frozenset[str]:
    own = {switch.name for one in series.active(switches) for switch in one.switches}
    return frozenset(name for name in switches if name.startswith(OPTION) or name in own)


def _without_effect(switches: Switches) -> frozenset[str]:
    steps: set[str] = set()
    for one in series.active(switches):
        steps |= {name for handler in one.ioctls.values() for name in handler.names}
        steps |= {name for handler in one.messages.values() for name in handler.names}
    return frozenset(option for option, step in GUARDS.items() if step not in steps)


def _nearest(
    asked: Switches, spoken: frozenset[str], have: frozenset[str], profiles: Mapping[str, Switches]
) -> str | None:
    fit = [name for name, one in profiles.items() if _series(one) == spoken and _options(one) <= have]

    def distance(name: str) -> tuple[int, int]:
        return -len(_options(profiles[name])), len(profiles[name].names ^ asked.names)

    return min(fit, key=distance, default=None)


def _without(asked: Switches, profiles: Mapping[str, Switches]) -> str | None:
    bare = asked.names - _series(asked) - _options(asked)
    return next((name for name, one in profiles.items() if one.names == bare), None)
