"""Ask the compiler how kernel headers come out on other machines.

libclang reads the installed headers for a named target. A foreign target's C library is not there, so the few headers
of it that kernel headers want come from ``include/``: integer types, ``uintptr_t``, and the ioctl macros. What the
installed headers are too old for is declared by hand in ``declarations.h``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SYSTEM = Path("/usr/include")

TARGETS = {
    "x86_64": "x86_64-linux-gnu",
    "i386": "i386-linux-gnu",
    "arm": "armv7-linux-gnueabihf",
    "aarch64": "aarch64-linux-gnu",
    "riscv32": "riscv32-linux-gnu",
    "riscv64": "riscv64-linux-gnu",
    "ppc64": "powerpc64-linux-gnu",
    "s390x": "s390x-linux-gnu",
}

HEADERS = ("vhost.h", "virtio_config.h", "virtio_ids.h", "virtio_ring.h", "virtio_net.h", "virtio_blk.h")
SOURCE = (
    "#define virtio_blk_config installed_virtio_blk_config\n"
    + "".join(f"#include <linux/{name}>\n" for name in reversed(HEADERS))
    + "#undef virtio_blk_config\n"
    + f'#include "{HERE / "declarations.h"}"\n'
)
FOREIGN = ("-nostdinc", f"-I{HERE / 'include'}", f"-I{SYSTEM}")
NATIVE = ("-nostdinc", f"-I{SYSTEM}", f"-I{SYSTEM / 'x86_64-linux-gnu'}")
"""The machine's own headers, asm/ioctl.h and all; x86_64 only."""

_OURS = re.compile(r"(VHOST|VIRTIO|VRING)_\w+")
_FILES = re.compile(r"(vhost|vhost_types|virtio_\w+|declarations)\.h")
# Not an interface but a bookkeeping structure of guests: it holds pointers.
_NOT_CROSSING = ("vring",)
_SCALARS = {
    "CHAR_S": "__u8", "CHAR_U": "__u8", "UCHAR": "__u8", "SCHAR": "__s8", "USHORT": "__u16", "SHORT": "__s16",
    "UINT": "__u32", "INT": "__s32", "ULONGLONG": "__u64", "LONGLONG": "__s64",
}  # fmt: skip


def missing() -> str | None:
    """Why the compiler cannot be asked here, or None."""
    try:
        from clang.cindex import Index

        Index.create()
    except Exception as error:  # noqa: BLE001, libclang raises whatever the loader does
        return f"libclang is not usable: {error}"
    absent = [name for name in HEADERS if not (SYSTEM / "linux" / name).exists()]
    return f"kernel headers are not installed: {', '.join(absent)}" if absent else None


def ask(abi: str, includes: tuple[str, ...] = FOREIGN) -> dict[str, Any]:
    """``structs``, ``requests`` and ``constants`` of the headers for one ABI."""
    unit = _parse(SOURCE, abi, includes, macros=True)
    structs = _structs(unit)
    installed = structs.pop("installed_virtio_blk_config")
    same = "virtio_blk_config" if "zoned" in installed["fields"] else "virtio_blk_config_72"
    if installed != structs[same]:
        raise ValueError(f"declarations.h and the installed header disagree about {same}")
    values = _values(_macros(unit), abi, includes)
    requests = {name: value for name, value in values.items() if value >> 8 & 0xFF == 0xAF}
    constants = {name: value for name, value in sorted(values.items()) if name not in requests}
    return {"structs": structs, "requests": requests, "constants": constants}


def _parse(text: str, abi: str, includes: tuple[str, ...], *, macros: bool = False) -> Any:
    from clang.cindex import Diagnostic, Index, TranslationUnit

    arguments = ["-target", TARGETS[abi], "-std=gnu11", *includes]
    if abi == "arm":
        arguments.append("-mfloat-abi=hard")
    options = TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD if macros else TranslationUnit.PARSE_NONE
    unit = Index.create().parse("vdpasim.c", args=arguments, unsaved_files=[("vdpasim.c", text)], options=options)
    errors = [str(one) for one in unit.diagnostics if one.severity >= Diagnostic.Error]
    if errors:
        raise ValueError("; ".join(errors))
    return unit


def _from_ours(cursor: Any) -> bool:
    return cursor.location.file is not None and bool(_FILES.fullmatch(Path(cursor.location.file.name).name))


# -- structures


def _structs(unit: Any) -> dict[str, Any]:
    from clang.cindex import CursorKind

    found: dict[str, Any] = {}
    for cursor in unit.cursor.walk_preorder():
        if cursor.kind != CursorKind.STRUCT_DECL or not cursor.is_definition() or not _from_ours(cursor):
            continue
        if cursor.spelling.isidentifier() and cursor.spelling not in _NOT_CROSSING:
            size, align = cursor.type.get_size(), cursor.type.get_align()
            found[cursor.spelling] = {"size": size, "align": align, "fields": _fields(cursor.type, 0, "")}
    return found


def _fields(type_: Any, base: int, prefix: str) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for field in type_.get_fields():
        offset = base + field.get_field_offsetof() // 8
        inner = field.type.get_canonical()
        name = prefix + field.spelling if field.spelling.isidentifier() else ""
        if name:
            rows[name] = [offset, max(inner.get_size(), 0), _spell(inner)]
        if inner.kind.name == "RECORD":
            rows |= _fields(inner, offset, name + "." if name else prefix)
    return rows


def _spell(type_: Any) -> str:
    type_ = type_.get_canonical()
    if type_.kind.name == "CONSTANTARRAY":
        return f"{_spell(type_.element_type)}[{type_.element_count}]"
    if type_.kind.name == "INCOMPLETEARRAY":
        return _spell(type_.element_type) + "[]"
    if type_.kind.name == "RECORD":
        declaration = type_.get_declaration()
        return "struct" if declaration.is_anonymous() else f"struct {declaration.spelling}"
    return _SCALARS.get(str(type_.kind.name), str(type_.kind.name))


# -- numbers


def _macros(unit: Any) -> list[str]:
    from clang.cindex import CursorKind

    return [
        cursor.spelling
        for cursor in unit.cursor.get_children()
        if cursor.kind == CursorKind.MACRO_DEFINITION
        and _from_ours(cursor)
        and _OURS.fullmatch(cursor.spelling)
        and len(list(cursor.get_tokens())) > 1
    ]


def _values(names: list[str], abi: str, includes: tuple[str, ...]) -> dict[str, int]:
    from clang.cindex import CursorKind

    members = "".join(f"  value_of_{name} = (long long)({name}),\n" for name in names)
    unit = _parse(f"{SOURCE}enum values : long long {{\n{members}}};\n", abi, includes)
    return {
        one.spelling.removeprefix("value_of_"): one.enum_value
        for cursor in unit.cursor.get_children()
        if cursor.kind == CursorKind.ENUM_DECL and cursor.spelling == "values"
        for one in cursor.get_children()
    }
