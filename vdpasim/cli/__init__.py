"""The command line: one click group whose commands are imported when they are called.

Theory. ``vdpasim NAME`` lives in ``vdpasim/cli/NAME.py`` as a click object called ``command``. Its summary is written
here, so that asking for help imports none. Exit codes: 0 fine, 1 a violation, a difference or malformed input, 2 wrong
usage or a file that is no trace, 3 our own bug.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import NoReturn, cast

import click

COMMANDS = {
    "run": "Run scenarios and print their verdicts.",
    "matrix": "Play scenarios on many kernels, series, ABIs and mapping modes.",
    "explore": "Try many schedules of a scenario, and replay one that failed.",
    "shrink": "Make a failing schedule small, as a scenario file that runs.",
    "downtime": "Count what a live update costs while the guest stands still.",
    "faults": "List the faults a run can be given, and say what one would do.",
    "trace": "Show, compare and export recorded runs.",
    "check": "Judge a recorded run again.",
    "diagnose": "Say which known mistake of a live update a recorded run shows.",
    "replay": "Run a recorded run again, from what went into it alone.",
    "report": "Draw a recorded run as one page for a browser.",
    "conform": "Replay golden traces of real kernels and show every difference.",
    "explain": "Say where, when and why the kernel refuses something.",
    "abi": "Show struct layouts side by side for several ABIs.",
    "decode": "Name what the bytes of a message or a request number say.",
    "dev": "Write down a real device as a profile, and look at profiles.",
}
"""Every command with its summary."""

EXIT_INTERNAL = 3
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


class LazyGroup(click.Group):
    """A click group that imports a command's module only when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command object, or None for a name that is not listed."""
        if cmd_name not in COMMANDS:
            return None
        return cast("click.Command", importlib.import_module(f"{__name__}.{cmd_name}").command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vdpasim", message="%(prog)s %(version)s")
def cli() -> None:
    """The kernel side of vhost and vhost-vdpa, simulated."""


def main() -> None:
    """Run the command line and leave with its exit code; never a traceback but for our own bugs."""
    stdout = sys.stdout
    try:
        code = cli.main(prog_name="vdpasim", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        _reader_gone()
    except SystemExit:
        if sys.stdout is not stdout:  # click puts something else there when the reader has gone
            _reader_gone()
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence
        _user_file(error)
        traceback.print_exc()
        click.echo("vdpasim: internal error; this is a bug of vdpasim, please report it with the lines above", err=True)
        sys.exit(EXIT_INTERNAL)
    sys.exit(code if isinstance(code, int) else 0)


def _user_file(error: Exception) -> None:
    # a mistake in the user's series is no bug of ours
    from vdpasim.core.series.handler import SeriesError

    if isinstance(error, SeriesError):
        traceback.print_exception(error.__cause__)
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_MISTAKE)


def _reader_gone() -> NoReturn:
    # `| head` has read enough. Python would complain once more when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(0)
