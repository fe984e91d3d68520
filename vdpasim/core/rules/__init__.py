"""The rule registry: every check of the modelled kernel, by a stable dotted id.

Theory. A driver refuses by ``raise fail("vhost.vring.addr-align")``; the errno comes from the rule's row, never from the
call site, so the table cannot disagree with the code. A quirk that is not an error is marked by ``hit(id)``. Each row
names the kernel function, the condition, the errno, the switches it holds for and where the knowledge comes from.
Which golden cases confirm a row is measured by replaying them, and stored beside the rows.

The rows live in one file per driver file (``rules/vhost.py`` for ``vhost.c`` and so on); :func:`load`, called when the
package is imported, reads them all.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

Source = Literal["read in source", "inferred"]

OF_NO_KERNEL = "vdpasim:"
"""How ``Rule.where`` begins for what no kernel does: this package's own devices, faults and designs."""


@attrs.frozen
class Rule:
    """One check or quirk of the modelled kernel."""

    id: str
    """Stable dotted id, ``<driver>.<place>.<what>``."""
    where: str
    """The kernel function that holds it, ``vhost.c:vhost_vring_set_addr()``."""
    errno: int
    """The errno it answers with; 0 for a quirk that is no error."""
    when: str
    """The condition, one sentence."""
    why: str = ""
    """Why the kernel does so, or what a caller gets wrong; may be empty where the condition says it all."""
    switches: tuple[str, ...] = ()
    """Switches that must all be on (``-name``: off, ``one|other``: either) for the rule to hold; empty for every kernel."""
    source: Source = "read in source"
    """Where the knowledge comes from when no golden case confirms it; of a rule that no kernel has, nothing."""

    def holds(self, on: Container[str]) -> bool:
        """Whether a kernel with these switches on has the rule."""
        return all(any((word[0] != "-") == (word.removeprefix("-") in on) for word in one.split("|")) for one in self.switches)

    @property
    def own(self) -> bool:
        """Whether it is this package's own, and no kernel's."""
        return self.where.startswith(OF_NO_KERNEL)

    def switch_names(self) -> tuple[str, ...]:
        """The switches it depends on, without signs."""
        return tuple(word.removeprefix("-") for one in self.switches for word in one.split("|"))


class KernelError(Exception):
    """A refusal inside the kernel; turned into a negative return value at the end of the call, never seen by users."""

    __slots__ = ("errno", "handler_errno", "rule")

    def __init__(self, errno: int, rule: str, handler_errno: int = 0) -> None:
        self.errno = errno
        self.rule = rule
        self.handler_errno = handler_errno or errno
        """What the handler said, where the caller is told something else."""
        super().__init__(errno, rule)


RULES: dict[str, Rule] = {}
_observers: list[Callable[[str], None]] = []


def register(rows: Iterable[Rule]) -> None:
    """Add rows to the registry; an id may be used once."""
    for row in rows:
        if row.id in RULES:
            raise ValueError(f"rule id {row.id!r} is used twice")
        RULES[row.id] = row


def fail(rule_id: str) -> KernelError:
    """The error to raise for a rule; the errno is the rule's own."""
    rule = RULES[rule_id]
    hit(rule_id)
    return KernelError(rule.errno, rule_id)


def hit(rule_id: str) -> None:
    """Mark a rule as exercised (coverage of behaviour, read by tests and ``conform``)."""
    for observer in _observers:
        observer(rule_id)


def observe(callback: Callable[[str], None]) -> Callable[[], None]:
    """Call ``callback`` with every rule id that is hit; returns the function that stops it."""
    _observers.append(callback)
    return lambda: _observers.remove(callback)


def load() -> None:
    """Import every file of rows beside this one."""
    for module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
