"""``vdpasim conform``: replay golden traces and show where the simulator, or a real kernel, disagrees.

Theory. The simulator is compared with the recording. With ``--live`` the cases run on this machine: what they gave is
compared with the recording, or with the simulator under ``--kernel``, and can be recorded in the same format.
"""

from __future__ import annotations

import contextlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vdpasim.checks.evidence import count_kinds
from vdpasim.conform import evidence
from vdpasim.conform.replay import Selection, replay, trace_files
from vdpasim.conform.report import (
    ReviewError,
    as_json,
    check_agreement,
    describe,
    is_clean,
    load_accepted,
    table,
    tally,
)
from vdpasim.core import profiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdpasim.conform.replay import Verdict

_PATH = click.Path(path_type=Path)
_EXISTING = click.Path(path_type=Path, exists=True)


@click.command("conform")
@click.argument("paths", nargs=-1, required=True, type=_EXISTING, metavar="PATH...")
@click.option("--json", "as_object", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--kernel", metavar="PROFILE", help="Use this profile for every case, not the one it was recorded on.")
@click.option("--no-data-path/--all", "no_data_path", help="Only cases that need no running rings (default: all).")
@click.option("--topic", "topics", multiple=True, help="Only this topic; may be repeated.")
@click.option("--case", "names", multiple=True, help="Only this case; may be repeated.")
@click.option("-v", "--verbose", is_flag=True, help="Show the steps before a difference, and why cases did not run.")
@click.option("--evidence", "evidence_file", type=_PATH, help="Write which agreeing cases hit which rule.")
@click.option("--agreement", type=_EXISTING, help="Fail if fewer cases agree than this file says.")
@click.option("--live", multiple=True, metavar="[KIND=]DEVICE", help="Run on this machine, with this device node.")
@click.option("--record", type=_PATH, help="With --live: write what happened as cases of the same format.")
@click.option("--recreate", default="", metavar="COMMAND", help="With --live: deletes and adds the device again.")
@click.option("--destructive", is_flag=True, help="With --live: also run what a production card should be spared.")
def command(paths: tuple[Path, ...], as_object: bool, kernel: str | None, **options: Any) -> None:
    """Replay golden cases and print agreement per topic and each first difference.

    A PATH is a file of cases or a directory of such files. The exit code is 1 unless every difference is listed in the
    reviewed file of accepted ones.
    """
    verdicts = _verdicts(paths, kernel, options)
    if not verdicts:
        raise click.UsageError(f"no cases in {', '.join(map(str, paths))}")
    if options["evidence_file"] is not None:
        _write_evidence(options["evidence_file"], verdicts)
    if as_object:
        click.echo(json.dumps(as_json(verdicts), indent=1))
    else:
        _print(verdicts, verbose=options["verbose"])
    code = 0 if is_clean(verdicts) else 1
    if options["agreement"] is not None:
        code = _agreement(options["agreement"], verdicts)
    click.get_current_context().exit(code)


def _write_evidence(path: Path, verdicts: Sequence[Verdict]) -> None:
    found = evidence.collect(verdicts)
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
    counts = ", ".join(f"{kind} {count}" for kind, count in count_kinds(found).items())
    click.echo(f"evidence of the rules: {counts}", err=True)


def _verdicts(paths: Sequence[Path], kernel: str | None, options: dict[str, Any]) -> list[Verdict]:
    selection = Selection(not options["no_data_path"], frozenset(options["topics"]), frozenset(options["names"]))
    try:
        if kernel is not None:
            profiles.parse(kernel)
        accepted = load_accepted(Path(str(files("vdpasim.conform") / "differences.toml")))
        if options["live"]:
            return _live(paths, selection, kernel, accepted, options)
        for name in ("record", "recreate", "destructive"):
            if options[name]:
                raise click.UsageError(f"--{name} goes with --live")
        return list(replay(paths, selection, kernel, accepted))
    except (profiles.ProfileError, ReviewError) as error:
        raise click.UsageError(str(error)) from None


def _live(
    paths: Sequence[Path],
    selection: Selection,
    kernel: str | None,
    accepted: dict[tuple[str, str], str],
    options: dict[str, Any],
) -> list[Verdict]:
    # Imported here: it needs Linux, the rest of the command does not.
    from vdpasim.conform.live_compare import compare_live, device_kind
    from vdpasim.conform.live_run import LiveOptions, hazards

    try:
        devices = dict(device_kind(word) for word in options["live"])
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from None
    how = LiveOptions(devices, options["recreate"], options["destructive"])
    for topic, harm in hazards(trace_files(paths)):
        click.echo(f"destructive on a production card: {topic}: {harm}", err=True)
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(options["record"].open("w")) if options["record"] else None
        return list(compare_live(paths, selection, how, kernel, accepted, record))


def _print(verdicts: Sequence[Verdict], *, verbose: bool) -> None:
    for verdict in verdicts:
        if verdict.outcome in ("differs", "listed", "unreadable") or (verbose and verdict.outcome == "not run"):
            for line in describe(verdict, verbose=verbose):
                click.echo(line)
    for line in table(tally(verdicts)):
        click.echo(line)
    listed = sum(verdict.outcome == "listed" for verdict in verdicts)
    click.echo(f"accepted differences: {listed}")
    reasons = sorted({verdict.reason for verdict in verdicts if verdict.outcome == "not run"})
    for reason in reasons:
        count = sum(verdict.reason == reason for verdict in verdicts)
        click.echo(f"not run: {count} cases: {reason}")


def _agreement(path: Path, verdicts: Sequence[Verdict]) -> int:
    try:
        check = check_agreement(path, tally(verdicts))
    except ReviewError as error:
        raise click.UsageError(str(error)) from None
    for line in check.fallen:
        click.echo(f"FALLEN: {line}", err=True)
    for line in check.risen:
        click.echo(f"please raise it in {path}: {line}", err=True)
    unreadable = any(verdict.outcome == "unreadable" for verdict in verdicts)
    return 1 if check.fallen or unreadable else 0
