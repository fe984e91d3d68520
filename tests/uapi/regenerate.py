"""Ask the compiler again and store its answers: ``python -m tests.uapi.regenerate``.

Wants libclang and installed kernel headers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.uapi import compiler

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    """Write ``golden/ABI.json`` for every target, and ``golden/constants.json``."""
    reason = compiler.missing()
    if reason is not None:
        sys.exit(reason)
    answers = {abi: compiler.ask(abi) for abi in compiler.TARGETS}
    for abi, answer in answers.items():
        (GOLDEN / f"{abi}.json").write_text(_lines({"structs": answer["structs"], "requests": answer["requests"]}))
    if len({json.dumps(answer["constants"]) for answer in answers.values()}) != 1:
        sys.exit("a constant depends on the target")
    (GOLDEN / "constants.json").write_text(_lines({"constants": answers["x86_64"]["constants"]}))


def _lines(groups: dict[str, dict[str, Any]]) -> str:
    # One line a structure or number, so that a change is one line of a diff.
    text = []
    for name, group in groups.items():
        rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in group.items())
        text.append(f" {json.dumps(name)}: {{\n{rows}\n }}")
    return "{\n" + ",\n".join(text) + "\n}\n"


if __name__ == "__main__":
    main()
