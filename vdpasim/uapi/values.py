"""Between the flat values of ``struct.Struct`` and the nested named tuples users hold (no kernel header).

Theory. What a structure is called by and how its members nest does not depend on the ABI; only sizes and offsets do.
So a :class:`Shape` is made once from a field table, flattens given values into the order the format string wants, and
builds named tuples from what the format string gave.
"""

from __future__ import annotations

import keyword
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vdpasim.uapi.table import Alternatives, ArrayOf, ByteArray, Field, Scalar, Struct, Type

Plain = int | bytes


class Shape:
    """The members a structure is packed by: of a union the first, anonymous ones replaced by their own members."""

    def __init__(self, struct: Struct) -> None:
        parts = _parts(struct.fields)
        # virtio_net_ctrl_hdr has a member called class
        self.names = [name + "_" if keyword.iskeyword(name) else name for name, _ in parts]
        self.types = [type_ for _, type_ in parts]
        self.inner = [_inner(type_) for type_ in self.types]
        self.flat = all(isinstance(type_, Scalar | ByteArray) for type_ in self.types)
        named: Any = namedtuple(struct.name or "anonymous", self.names)  # type: ignore[misc]  # noqa: PYI024
        self.make: Callable[[Sequence[Any]], Any] = named._make

    def flatten(self, values: Mapping[str, Any], where: str) -> Iterator[Plain]:
        """The values in the order of the format; absent members are zero.

        Raises:
            TypeError: a member that is not there.
            ValueError: a value that does not fit.
        """
        for name in values:
            if name not in self.names:
                raise TypeError(f"struct {where} has no member {name}; it has {', '.join(self.names)}")
        for name, type_, inner in zip(self.names, self.types, self.inner, strict=True):
            yield from _flatten(type_, inner, values.get(name), f"{where}.{name}")

    def build(self, flat: Sequence[Any]) -> Any:
        """A named tuple from the values of the format."""
        return self.make(flat) if self.flat else self.take(iter(flat))

    def take(self, flat: Iterator[Any]) -> Any:
        """A named tuple from the next values."""
        return self.make([_take(type_, inner, flat) for type_, inner in zip(self.types, self.inner, strict=True)])


def _parts(fields: Sequence[Field]) -> list[tuple[str, Type]]:
    parts: list[tuple[str, Type]] = []
    for field in fields:
        if field.flexible:
            continue
        if isinstance(field.type, Alternatives) and not field.name:
            parts += _parts(field.type.members[:1])
        elif isinstance(field.type, Struct) and not field.name:
            parts += _parts(field.type.fields)
        else:
            parts.append((field.name, _first(field.type)))
    return parts


def _first(type_: Type) -> Type:
    # A union has the value of its first member.
    while isinstance(type_, Alternatives):
        type_ = type_.members[0].type
    return ArrayOf(_first(type_.type), type_.count) if isinstance(type_, ArrayOf) else type_


def _inner(type_: Type) -> Shape | None:
    while isinstance(type_, ArrayOf):
        type_ = type_.type
    return Shape(type_) if isinstance(type_, Struct) else None


def _flatten(type_: Type, inner: Shape | None, value: Any, where: str) -> Iterator[Plain]:
    if isinstance(type_, Scalar):
        yield _fit(type_, value, where)
    elif isinstance(type_, ByteArray):
        yield bytes(_fitting(value, type_.count, where))
    elif isinstance(type_, ArrayOf):
        items = list(_fitting(value, type_.count, where))
        for item in items + [None] * (type_.count - len(items)):
            yield from _flatten(type_.type, inner, item, where)
    elif inner is not None:
        yield from inner.flatten(_named(value, inner), where)


def _named(value: Any, inner: Shape) -> Mapping[str, Any]:
    if value is None or isinstance(value, Mapping):
        return value or {}  # pyright: ignore[reportUnknownVariableType]
    return dict(zip(inner.names, value, strict=True))


def _fitting(value: Any, count: int, where: str) -> Any:
    value = b"" if value is None else value
    if len(value) > count:
        raise ValueError(f"{where}: {len(value)} values do not fit {count}")
    return value


def _fit(scalar: Scalar, value: Any, where: str) -> int:
    number = 0 if value is None else int(value)
    low, high = scalar.bounds
    if not low <= number <= high:
        raise ValueError(f"{where}: {number} does not fit {scalar.name}")
    return number


def _take(type_: Type, inner: Shape | None, flat: Iterator[Any]) -> Any:
    if isinstance(type_, ArrayOf):
        return tuple(_take(type_.type, inner, flat) for _ in range(type_.count))
    return next(flat) if inner is None else inner.take(flat)
