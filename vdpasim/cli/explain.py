"""``vdpasim explain``: what the rows of the rule registry and of the switch table say (no kernel file).

Theory. A word is a rule, a switch, or the beginning of a family of rules (``vdpa.iotlb``). A rule is printed with the
function it stands in, its condition, what the handler answers and what the caller sees of it, the kernels it holds on,
and what it rests on. Which kernels follows from the row's switches and the profiles; nothing is written down twice.
``--series FILE`` brings the rules and switches of a series of one's own, which no kernel has as it is. An unknown word
is answered with the nearest known ones and exit code 2.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import re
from typing import TYPE_CHECKING, Any

import click

from vdpasim.checks.evidence import OWN, count_kinds, kind, stored
from vdpasim.core.profiles import IMPLIED, PROFILES
from vdpasim.core.rules import RULES
from vdpasim.core.series import SERIES, SHIPPED
from vdpasim.core.switches import SWITCHES, Switch
from vdpasim.scenario.loader import ScenarioError
from vdpasim.scenario.series_file import series_name
from vdpasim.uapi import errno as E

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vdpasim.checks.evidence import Evidence
    from vdpasim.core.rules import Rule

for _module in (
    "vdpasim.devices.model",
    "vdpasim.devices.peer_rules",
    "vdpasim.devices.vdpa_miss",
    "vdpasim.attach.live",
):
    # importing them registers their rules; the last one needs Linux
    with contextlib.suppress(ImportError):
        importlib.import_module(_module)

HIDDEN = f"write() answers EFAULT ({E.EFAULT}), as to every refusal of a message's handler"

SEEN = {
    "vhost_process_iotlb_msg": HIDDEN,
    "vhost_iotlb_add_range_ctx": HIDDEN,
    "vhost_vdpa_process_iotlb_msg": HIDDEN,
    "vhost_vdpa_process_iotlb_update": HIDDEN,
    "vhost_vdpa_process_iotlb_remap": HIDDEN,
    "vhost_vdpa_va_map": HIDDEN,
    "vhost_vdpa_pa_map": HIDDEN,
    "vhost_vdpa_map": HIDDEN,
    "translate_desc": f"met while a ring is walked; NET_SET_BACKEND answers EFAULT ({E.EFAULT})",
}
"""Kernel function -> what becomes of its errno on the way to the caller."""

UNSEEN = "no caller sees it: the device works through its rings by itself"

_FUNCTION = re.compile(r":(\w+)\(\)")


# --------------------------------------------------------------------------------------------------------------- facts


def visible(rule: Rule) -> str:
    """What the caller sees of the errno, where it is not the errno itself; else empty."""
    if not rule.errno:
        return ""
    if rule.errno == E.ENOIOCTLCMD:
        return f"ioctl() answers ENOTTY ({E.ENOTTY})"
    if rule.where.startswith("vringh.c:"):
        return UNSEEN
    function = _FUNCTION.search(rule.where)
    return SEEN.get(function[1], "") if function else ""


def kernels(rule: Rule) -> list[str]:
    """The profiles a rule holds on."""
    if rule.own or series_of(rule):
        return []
    return [name for name, on in PROFILES.items() if rule.holds(on)]


def series_of(rule: Rule) -> str:
    """The series that brings a rule itself, a user's own as a rule; else empty."""
    return next((one.name for one in SERIES.values() if rule in one.rules), "")


def depending(switch: str) -> list[str]:
    """The rules whose rows name a switch."""
    return [rule.id for rule in RULES.values() if switch in rule.switch_names()]


# ---------------------------------------------------------------------------------------------------------------- JSON


def rule_json(rule: Rule, confirmed: Mapping[str, Evidence]) -> dict[str, Any]:
    """A rule as an object."""
    found = confirmed.get(rule.id)
    return {
        "id": rule.id,
        "where": rule.where,
        "when": rule.when,
        "why": rule.why,
        "errno": rule.errno,
        "name": E.name(rule.errno) if rule.errno else None,
        "seen": visible(rule),
        "kernels": kernels(rule),
        "series": series_of(rule),
        "switches": list(rule.switches),
        "evidence": kind(rule.id, confirmed),
        "cases": found.count if found else 0,
        "first_cases": list(found.cases) if found else [],
    }


def switch_json(switch: Switch) -> dict[str, Any]:
    """A switch as an object."""
    return {
        "switch": switch.name,
        "doc": switch.doc,
        "since": switch.since,
        "fixed": switch.fixed,
        "kernels": [name for name, on in PROFILES.items() if switch.name in on],
        "implies": sorted(IMPLIED.get(switch.name, ())),
        "rules": depending(switch.name),
        "unmodelled": switch.unmodelled,
    }


def counts_json() -> dict[str, int]:
    """The number of rules, and of those resting on each kind of evidence."""
    return {"rules": len(RULES), **count_kinds(stored())}


# ---------------------------------------------------------------------------------------------------------------- text


def rule_text(rule: Rule, confirmed: Mapping[str, Evidence]) -> Iterator[str]:
    """The lines about a rule."""
    seen = visible(rule)
    error = f"{E.name(rule.errno)} ({rule.errno})" if rule.errno < E.ERESTARTSYS else E.name(rule.errno)
    yield rule.id
    yield _line("where", rule.where)
    yield _line("when", rule.when)
    yield _line("errno", (error if rule.errno else "none: a quirk, not a refusal") + (f"; {seen}" if seen else ""))
    if rule.why:
        yield _line("why", rule.why)
    if series_of(rule):
        yield _line("series", series_of(rule))
    yield _line("kernels", _kernels_text(rule))
    for one in rule.switches:
        words = [word.removeprefix("-") + (" off" if word[0] == "-" else "") for word in one.split("|")]
        docs = "; ".join(SWITCHES[word.removeprefix("-")].doc for word in one.split("|"))
        yield _line("switch", f"{' or '.join(words)}: {docs}")
    yield _line("evidence", _evidence_text(rule, confirmed))


def _line(label: str, text: str) -> str:
    return f"  {label:8}  {text}"


def _kernels_text(rule: Rule) -> str:
    if rule.own:
        return "none: this is not a kernel's behaviour"
    if series_of(rule):
        return "none as it is; a profile with the series added"
    return ", ".join(kernels(rule)) or "none as it is; a profile with the switch added"


def _evidence_text(rule: Rule, confirmed: Mapping[str, Evidence]) -> str:
    found = confirmed.get(rule.id)
    if found is None:
        what = kind(rule.id, confirmed)
        return f"{what}; no kernel has it" if what == OWN else f"{what}; no golden case comes to it"
    more = ", ..." if found.count > len(found.cases) else ""
    plural = "s" if found.count > 1 else ""
    return f"{found.count} golden case{plural}: {', '.join(found.cases)}{more}"


def switch_text(switch: Switch) -> Iterator[str]:
    """The lines about a switch."""
    row = switch_json(switch)
    off = [name for name in PROFILES if name not in row["kernels"]]
    yield f"{switch.name} (a switch)"
    yield _line("on", switch.doc)
    if switch.since:
        yield _line("since", switch.since)
    if switch.fixed:
        yield _line("fixed", switch.fixed)
    yield _line("kernels", f"on in {', '.join(row['kernels']) or 'none'}; off in {', '.join(off) or 'none'}")
    if switch.unmodelled:
        yield _line("effect", f"none in this simulator: {switch.unmodelled}")
    else:
        example = f"{off[-1]}+{switch.name}" if off else f"{next(iter(PROFILES))}-{switch.name}"
        own = switch.name in SERIES and switch.name not in SHIPPED
        yield _line("use", "--series FILE" if own else f"--kernel {example}")
    if row["implies"]:
        yield _line("brings", ", ".join(row["implies"]))
    for rule in row["rules"]:
        yield _line("rule", f"{rule}: {RULES[rule].when}")


def list_text(rules: Iterable[Rule]) -> Iterator[str]:
    """One line a rule."""
    rules = list(rules)
    width = max(len(rule.id) for rule in rules)
    for rule in rules:
        yield f"{rule.id:{width}}  {E.name(rule.errno) if rule.errno else '-':16}  {rule.when}"


# ------------------------------------------------------------------------------------------------------------- command


@click.command("explain")
@click.argument("words", metavar="[ID]...", nargs=-1)
@click.option("--series", multiple=True, metavar="FILE", help="A patch series of your own, with its rules.")
@click.option("--counts", is_flag=True, help="Print how many rules there are and what they rest on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(words: tuple[str, ...], series: tuple[str, ...], counts: bool, as_json: bool) -> None:
    """Explain rules and switches; a family (vdpa.iotlb) is listed, and without ID every rule.

    IDs are what traces print behind a "#", and what an OSError of the simulator carries as .rule.
    """
    try:
        for one in series:
            series_name(one)
    except ScenarioError as error:
        raise click.UsageError(str(error)) from None
    if counts:
        _print_counts(as_json=as_json)
        return
    confirmed = stored()
    found = [_find(word) for word in words] if words else [_family("")]
    if as_json:
        rows = [_as_json(one, confirmed) for one in found]
        click.echo(json.dumps([row for part in rows for row in part], indent=2))
    else:
        click.echo("\n\n".join("\n".join(_as_text(one, confirmed)) for one in found))


def _find(word: str) -> Rule | Switch | list[Rule]:
    if word in RULES:
        return RULES[word]
    if word in SWITCHES:
        return SWITCHES[word]
    family = _family(word.rstrip(".") + ".")
    if family:
        return family
    near = difflib.get_close_matches(word, [*RULES, *SWITCHES], n=5, cutoff=0.4)
    hint = f"nearest: {', '.join(near)}" if near else "`vdpasim explain` lists them"
    hint += "; those of a series of your own need --series FILE"
    raise click.UsageError(f"no rule or switch {word}; {hint}")


def _family(prefix: str) -> list[Rule]:
    return [RULES[name] for name in sorted(RULES) if name.startswith(prefix)]


def _as_json(one: Rule | Switch | list[Rule], confirmed: Mapping[str, Evidence]) -> list[dict[str, Any]]:
    if isinstance(one, list):
        return [rule_json(rule, confirmed) for rule in one]
    return [switch_json(one) if isinstance(one, Switch) else rule_json(one, confirmed)]


def _as_text(one: Rule | Switch | list[Rule], confirmed: Mapping[str, Evidence]) -> Iterator[str]:
    if isinstance(one, list):
        return list_text(one)
    return switch_text(one) if isinstance(one, Switch) else rule_text(one, confirmed)


def _print_counts(*, as_json: bool) -> None:
    counts = counts_json()
    if as_json:
        click.echo(json.dumps(counts))
        return
    for name, count in counts.items():
        click.echo(f"{name:14}  {count}")
