"""``vdpasim trace``: show, compare and export recorded runs."""

from __future__ import annotations

import re
import sys
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from vdpasim import __version__
from vdpasim.trace import diff as differ
from vdpasim.trace import export_chrome, export_jsonl, export_pcapng, export_strace, import_qemu
from vdpasim.trace.file import TraceFormatError, reading
from vdpasim.trace.text import inert

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from vdpasim.trace.file import Reader

FORMATS = ("chrome", "pcapng", "jsonl", "strace")
READABLE = click.Path(exists=True, dir_okay=False, path_type=Path)


class NoTraceError(click.ClickException):
    """A file is no trace or cannot be read or written; 1 would be a verdict."""

    exit_code = 2


@contextmanager
def opened(path: Path) -> Generator[Reader]:
    """A reader; a file that is no trace ends the command in one line."""
    try:
        with reading(path) as reader:
            yield reader
    except BrokenPipeError:
        raise
    except (TraceFormatError, OSError) as error:
        raise NoTraceError(inert(str(error))) from None


@click.group()
def command() -> None:
    """Show, compare and export traces that `vdpasim run --trace` recorded."""


@command.command()
@click.argument("file", type=READABLE)
@click.option("--grep", metavar="REGEX", help="Only lines in which this is found.")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the last N of them.")
def show(file: Path, grep: str | None, last: int | None) -> None:
    """Print FILE, one line an event, calls as strace shows them."""
    try:
        wanted = re.compile(grep or "")
    except re.error as error:
        raise click.UsageError(f"--grep {grep!r}: {error}") from None
    with opened(file) as reader:
        found: Iterator[str] = (line for line in export_strace.lines(reader) if wanted.search(line))
        if last is not None:
            found = iter(deque(found, maxlen=last))
        for line in found:
            click.echo(line)


@command.command("diff")
@click.argument("a", type=READABLE)
@click.argument("b", type=READABLE)
@click.option("--exact", is_flag=True, help="Numbers and times of events count too.")
def diff_command(a: Path, b: Path, exact: bool) -> None:
    """Compare the traces A and B; exit 1 if their events or findings differ."""
    with opened(a) as ours, opened(b) as theirs:
        found = differ.compare(ours, theirs, exact=exact)
    for line in found.headers:
        click.echo(f"header: {line}")
    if found.same:
        click.echo("the events are the same")
        return
    click.echo(f"first difference in line {found.at}:")
    for name, line in zip("ab", found.first, strict=True):
        click.echo(f"  {name}: {line or '(has ended)'}")
    for line in found.diff:
        click.echo(line)
    if found.cut:
        click.echo(f"... the diff shows {differ.LINES_MAX} lines of each side; there are more")
    raise SystemExit(1)


@command.command("import")
@click.argument("file", type=READABLE)
@click.option("--from", "kind", type=click.Choice(["qemu-trace"]), required=True, help="What FILE is.")
@click.option("-o", "--output", default="-", type=click.Path(dir_okay=False, allow_dash=True), help="Default: stdout.")
def import_command(file: Path, kind: str, output: str) -> None:
    """Make a trace of FILE, a log of another program.

    qemu-trace: QEMU's vhost_vdpa_* trace events, with the log backend. What the log lacks is marked unknown; lines that
    could not be read are counted. Exit 1 if there was no event in it.
    """
    if output != "-" and Path(output).exists() and Path(output).samefile(file):
        raise click.UsageError("-o is the log itself")
    try:
        with (
            file.open(encoding="utf-8", errors="replace") as lines,
            click.open_file(output, "w", encoding="ascii") as stream,
        ):
            count = import_qemu.convert(lines, stream, f"vdpasim {__version__}", file.name)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NoTraceError(inert(str(error))) from None
    for line in count.told():
        click.echo(inert(line), err=output == "-")
    if not count.requests:
        raise SystemExit(1)


@command.command()
@click.argument("file", type=READABLE)
@click.option("--to", "kind", type=click.Choice(FORMATS), required=True, help="The format.")
@click.option("-o", "--output", default="-", type=click.Path(dir_okay=False, allow_dash=True), help="Default: stdout.")
@click.option(
    "--clock",
    type=click.Choice(["sequence", "time"]),
    default="sequence",
    show_default=True,
    help="The axis of chrome: a microsecond an event, or virtual time.",
)
def export(file: Path, kind: str, output: str, clock: str) -> None:
    """Write FILE in another format.

    chrome: for ui.perfetto.dev and chrome://tracing. pcapng: vhost messages and tap frames, for Wireshark. jsonl: the
    trace itself, checked, with its text. strace: what `show` prints.
    """
    if output == "-" and kind == "pcapng" and sys.stdout.isatty():
        raise click.UsageError("pcapng is binary: say where with -o FILE")
    if output != "-" and Path(output).exists() and Path(output).samefile(file):
        raise click.UsageError("-o is the trace itself")
    with opened(file) as reader:
        if kind == "pcapng":
            with click.open_file(output, "wb") as binary:
                count = export_pcapng.export(reader, binary)
            click.echo(_told(count), err=True)
            return
        with click.open_file(output, "w", encoding="utf-8") as stream:
            if kind == "chrome":
                export_chrome.export(reader, stream, cast("export_chrome.Clock", clock))
            elif kind == "jsonl":
                export_jsonl.export(reader, stream)
            else:
                export_strace.export(reader, stream)


def _told(count: export_pcapng.Count) -> str:
    text = f"{count.messages} messages, {count.frames} Ethernet frames"
    if not count.frames:
        text += " (only the far end of a tap has frames)"
    if count.unknown:
        text += f"; {count.unknown} messages lay in a process's memory, the trace has no bytes of them"
    return text
