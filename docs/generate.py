"""Writes what is a table of the code: profiles.md and rules.md, the numbers of agreement in the README, the keys of
device profiles in device-profiles.md, and the steps of a live update in live-update.md with their picture.

Run ``python -m docs.generate`` in the repository after a change of a rule, a switch, a profile, the evidence or the
agreement; ``tests/docs`` fails while a page is stale. ``--check`` writes nothing and exits 1 if one is.
"""
# ruff: noqa: INP001 - a folder of pages, not a package

from __future__ import annotations

import sys
import tomllib
from collections import Counter, defaultdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from vdpasim.checks.evidence import OWN, kind, stored
from vdpasim.cli.explain import counts_json, depending, kernels, visible
from vdpasim.conform.cases import Case, needs_data_path, read_cases
from vdpasim.core.profiles import IMPLIED, PROFILES, parse
from vdpasim.core.rules import OF_NO_KERNEL, RULES
from vdpasim.core.series import SERIES, active
from vdpasim.core.switches import SWITCHES
from vdpasim.devices.profile import DeviceProfile
from vdpasim.devices.profile_keys import KEY
from vdpasim.uapi import errno as E
from vdpasim.uapi.message import TYPE_NAMES
from vdpasim.vmm.live_update import STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vdpasim.checks.evidence import Evidence
    from vdpasim.core.rules import Rule
    from vdpasim.core.switches import Switch
    from vdpasim.vmm.live_update import Step

GENERATED = "<!-- Written by `python -m docs.generate` from the tables of the code. -->"

ROOT = Path(__file__).parent.parent

RECORDED = {
    "6.1": "6.1.192, PA mode",
    "6.12": "6.12.117, PA mode",
    "6.12-va": "6.12.117, VA mode",
    "lu-v1": "6.12.117 with the live-update series of January 2024",
    "lu-v2": "6.12.117 with the series of July 2024, vdpa_sim offering its features",
    "lu-v2pure": "6.12.117 with the series of July 2024 as posted",
}
"""Set of golden cases -> kernel and mapping mode."""

SNAPSHOTS = {
    "6.1": ("6.1.192, a distribution kernel with backported fixes", "golden traces, PA mode"),
    "6.12": ("6.12.117, a distribution kernel with backported fixes", "golden traces, PA and VA mode"),
    "7.1": ("7.1.5, a release without those backports", "source only: no trace was recorded on it"),
    "tip": ("mainline around 7.3-rc", "source only: no trace was recorded on it"),
}
"""Profile -> the source it mirrors, and what judges it."""


PROFILES_HEAD = f"""\
# Profiles and switches

{GENERATED}

A *switch* is one difference between kernels. A *profile* is the set of switches that makes one kernel. Both are chosen
by one string: a profile, then any number of `+switch` and `-switch`, applied from left to right: `6.12`, `tip-F4`,
`7.1+live-update-v1`. A driver asks for a switch, never for a version, so any mixture runs. `vdpasim explain SWITCH`
prints one of them with the rules that depend on it.

| profile | mirrors | judged by |
|---|---|---|
"""

PROFILES_TAIL = """
*since* is the first mainline kernel, as far as known; distribution kernels have fixes earlier. *until* 4.19 says of a
bug that 4.19 had it no more; [Bugs that were](history.md) tells what each did. *rules* is how many rows
of the rule table name the switch.

## Switches that change nothing

They are in the profiles because the kernels differ there, but nothing here depends on them, so `+` and `-` refuse them.

"""

RULES_HEAD = """\
# Rules

{generated}

Every check of the simulated kernel, and every quirk that is no refusal, has a stable id. Traces print it behind a `#`,
an `OSError` of the simulator carries it as `.rule`, and `vdpasim explain ID` prints the whole row with the names of the
golden cases that confirm it.

There are {rules} rules: {golden} are confirmed by golden cases, recordings of real kernels; {source} were read in the
kernel's source and no recording comes to them; {inferred} are inferred from something else; {own} are vdpasim's own and
no kernel's: its devices, injected faults, what `live-update-fixed` does otherwise. A run that comes to one of the last
two kinds says so in its [verdict](live-update.md#what-a-verdict-rests-on).

*Kernels* are the profiles a rule holds on, *all* is every one of them; `+` names switches that a profile needs first.
*Errno* is the handler's; where the caller sees another one, it stands behind the arrow. *Evidence* is *golden*,
*source*, *inferred* or *own*.
"""


def profiles() -> Iterator[str]:
    """The lines of profiles.md."""
    yield from PROFILES_HEAD.splitlines()
    for name in PROFILES:
        source, judge = SNAPSHOTS[name]
        yield f"| `{name}` | {source} | {judge} |"
    yield from ("", "## Switches", "")
    yield f"| switch | what is different when it is on | since | {' | '.join(PROFILES)} | rules |"
    yield "|---|---|---|" + "---|" * (len(PROFILES) + 1)
    for switch in SWITCHES.values():
        yield _switch_row(switch)
    yield from PROFILES_TAIL.splitlines()
    for switch in SWITCHES.values():
        if switch.unmodelled:
            yield f"* `{switch.name}`: {switch.unmodelled}."
    yield from ("", "## Switches that bring others along", "")
    for name, brought in IMPLIED.items():
        yield f"* `+{name}` also adds {', '.join(f'`{one}`' for one in sorted(brought))}."


def _switch_row(switch: Switch) -> str:
    marks = " | ".join("on" if switch.name in on else "" for on in PROFILES.values())
    rules = depending(switch.name)
    text = switch.doc + (" *(changes nothing)*" if switch.unmodelled else "")
    since = switch.since or (f"until {switch.fixed}" if switch.fixed else "")
    return f"| `{switch.name}` | {_cell(text)} | {since} | {marks} | {len(rules) or ''} |"


def rules() -> Iterator[str]:
    """The lines of rules.md."""
    counts = counts_json()
    confirmed = stored()
    yield from RULES_HEAD.format(
        generated=GENERATED,
        rules=counts["rules"],
        golden=counts["golden cases"],
        source=counts["read in source"],
        inferred=counts["inferred"],
        own=counts[OWN],
    ).splitlines()
    files: defaultdict[str, list[Rule]] = defaultdict(list)
    for name in sorted(RULES):
        files[RULES[name].where.partition(":")[0]].append(RULES[name])
    own = OF_NO_KERNEL.rstrip(":")
    for file in sorted(files, key=lambda name: (name == own, name)):
        title = "This package's own, of no kernel" if file == own else f"`{file}`"
        yield from ("", f"## {title}", "", "| id | errno | condition | kernels | evidence |", "|---|---|---|---|---|")
        for rule in files[file]:
            yield _rule_row(rule, confirmed)


def _rule_row(rule: Rule, confirmed: Mapping[str, Evidence]) -> str:
    when = rule.when + (f" ({rule.why})" if rule.why else "")
    on = kernels(rule)
    where = "all" if on == list(PROFILES) else ", ".join(on) or " ".join(f"+{one}" for one in rule.switches) or "none"
    words = {"golden cases": "golden", "read in source": "source", OWN: "own"}
    evidence = words.get(kind(rule.id, confirmed), "inferred")
    return f"| `{rule.id}` | {_errno(rule)} | {_cell(when)} | {_cell(where)} | {evidence} |"


def _errno(rule: Rule) -> str:
    if not rule.errno:
        return ""
    seen = visible(rule)
    words = {"no caller": "not seen", "ENOTTY": "ENOTTY", "EFAULT": "EFAULT"}
    return E.name(rule.errno) + "".join(f" → {short}" for word, short in words.items() if word in seen)


def _cell(text: str) -> str:
    return text.replace("|", " or ")


def agreement() -> Iterator[str]:
    """The lines of the README's table: agreeing cases as ``agreement.toml`` has them, of those that there are."""
    golden = ROOT / "tests" / "golden"
    yield "| set | recorded on | without the data path | with the data path |"
    yield "|---|---|---|---|"
    for name, row in tomllib.loads((golden / "agreement.toml").read_text("utf-8")).items():
        cases = [case for path in sorted((golden / name).glob("*.jsonl")) for case in read_cases(path)]
        total = Counter(needs_data_path(case) for case in cases if isinstance(case, Case))
        without, along = row["without_data_path"], row["with_data_path"]
        yield f"| `{name}` | {RECORDED[name]} | {without} of {total[False]} | {along} of {total[True]} |"


def profile_keys() -> Iterator[str]:
    """The lines of device-profiles.md's table: every key of a device profile."""
    yield "| key | what it is | allowed | default |"
    yield "|---|---|---|---|"
    for field in attrs.fields(DeviceProfile):
        key = field.metadata[KEY]
        default = "" if field.default is attrs.NOTHING else f"`{key.kind.show(field.default)}`"
        yield f"| `{field.name}` | {_cell(key.doc)} | {_cell(key.kind.allowed)} | {default} |"


def steps() -> Iterator[str]:
    """The lines of live-update.md's table of steps."""
    yield "| step | by | what is sent | why |"
    yield "|---|---|---|---|"
    for step in STEPS:
        only = f" *({step.variant} only)*" if step.variant else ""
        yield f"| `{step.name}` | {step.who} | {_cell(step.requests)} | {_cell(step.doc)}{only} |"


def handlers() -> Iterator[str]:
    """The lines of live-update.md's table of handlers: the steps each series answers by."""
    active(parse("tip"))
    yield "| series | request | steps, in order |"
    yield "|---|---|---|"
    for one in SERIES.values():
        rows = [(ioctl.name.removeprefix("VHOST_").removeprefix("VDPA_"), names) for ioctl, names in one.ioctls.items()]
        rows += [(TYPE_NAMES[kind].removeprefix("VHOST_IOTLB_"), names) for kind, names in one.messages.items()]
        for request, handler in rows:
            yield f"| `{one.name}` | {request} | {', '.join(f'`{name}`' for name in handler.names)} |"


def with_table(text: str, page: str, mark: str, lines: Iterator[str]) -> str:
    """A page with the table between its marks written anew."""
    head, begin, rest = text.partition(f"<!-- {mark} -->\n")
    _, finish, tail = rest.partition(f"<!-- /{mark} -->\n")
    if not begin or not finish:
        raise SystemExit(f"{page} has lost the marks of its table")
    return head + begin + "\n".join(lines) + "\n" + finish + tail


# -- the picture

OLD, KERNEL, NEW = 130, 550, 970
WIDTH, ROW, TOP = 1130, 50, 70
HAND_OVER = "hand-over"

STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1b1f24; }
.head { font-weight: 600; font-size: 15px; }
.name { font-weight: 600; }
.why { fill: #57606a; font-size: 12px; }
.life { stroke: #8c959f; }
.call { stroke: #0969da; fill: none; stroke-width: 1.5; }
.hand { stroke: #bc4c00; fill: none; stroke-width: 2; }
.part { stroke-dasharray: 5 4; }
.box { fill: #eef1f4; stroke: #8c959f; }
.back { fill: #ffffff; }
"""


def picture() -> str:
    """live-update.svg: three columns, a step with a request an arrow to the kernel, one of a single variant dashed."""
    height = TOP + ROW * len(STEPS) + 20
    steps = (line for number, step in enumerate(STEPS) for line in _step(number, step))
    return "\n".join([*_head(height), *steps, "</svg>"]) + "\n"


def _head(height: int) -> Iterator[str]:
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">'
    yield "<title>The steps of a live update</title>"
    yield f"<style>\n{STYLE}</style>"
    for name, colour in (("call", "#0969da"), ("hand", "#bc4c00")):
        yield f'<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        yield f'<path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
    yield f'<rect class="back" width="{WIDTH}" height="{height}"/>'
    for x, title in ((OLD, "old VMM"), (KERNEL, "kernel, with the device"), (NEW, "new VMM")):
        yield f'<text class="head" x="{x}" y="30" text-anchor="middle">{title}</text>'
        yield f'<line class="life" x1="{x}" y1="42" x2="{x}" y2="{height - 10}"/>'


def _step(number: int, step: Step) -> Iterator[str]:
    y = TOP + number * ROW
    start = OLD if step.who == "old" else NEW
    part = " part" if step.variant else ""
    if step.name == HAND_OVER:
        yield f'<line class="hand" x1="{OLD}" y1="{y}" x2="{NEW - 2}" y2="{y}" marker-end="url(#hand)"/>'
    elif step.requests:
        end = KERNEL - 2 if step.who == "old" else KERNEL + 2
        yield f'<line class="call{part}" x1="{start}" y1="{y}" x2="{end}" y2="{y}" marker-end="url(#call)"/>'
    else:
        yield f'<rect class="box" x="{start - 5}" y="{y - 8}" width="10" height="16"/>'
    yield from _words(y, step)


def _words(y: int, step: Step) -> Iterator[str]:
    # on the side of the process, the request over the arrow, the reason under it
    x, anchor = (OLD - 12, "end") if step.who == "old" else (NEW + 12, "start")
    yield f'<text class="name" x="{x}" y="{y + 4}" text-anchor="{anchor}">{escape(step.name)}</text>'
    if step.variant:
        yield f'<text class="why" x="{x}" y="{y + 19}" text-anchor="{anchor}">{step.variant} only</text>'
    middle = KERNEL if step.name == HAND_OVER else (OLD + KERNEL) // 2 if step.who == "old" else (KERNEL + NEW) // 2
    if step.requests:
        yield f'<text x="{middle}" y="{y - 6}" text-anchor="middle">{escape(step.requests)}</text>'
    yield f'<text class="why" x="{middle}" y="{y + 16}" text-anchor="middle">{escape(step.doc)}</text>'


def pages() -> dict[Path, str]:
    """Path -> what the page should say."""
    folder = ROOT / "docs"
    found = {folder / "profiles.md": profiles(), folder / "rules.md": rules()}
    texts = {path: "\n".join(lines) + "\n" for path, lines in found.items()}
    for page, mark, lines in (
        (ROOT / "README.md", "agreement", agreement()),
        (folder / "device-profiles.md", "keys", profile_keys()),
        (folder / "live-update.md", "steps", steps()),
        (folder / "live-update.md", "handlers", handlers()),
    ):
        texts[page] = with_table(texts.get(page) or page.read_text("utf-8"), page.name, mark, lines)
    texts[folder / "live-update.svg"] = picture()
    return texts


def main(words: list[str]) -> int:
    """Write every page, or only look; say which were stale."""
    wanted = pages()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if "--check" not in words:
            path.write_text(wanted[path], "utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}: {'stale' if '--check' in words else 'written'}\n")
    return 1 if stale and "--check" in words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
