"""The command line: one click group whose commands are imported when they are called.

Theory. ``vdpasim NAME`` lives in ``vdpasim/cli/NAME.py`` as a click object called ``command``. A command is listed when
its module exists. Exit codes: 0 fine, 1 a violation, a difference or malformed input, 2 wrong usage, 3 our own bug.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from typing import cast

import click

COMMANDS = ("abi", "decode", "explain", "conform", "run", "dev", "mgmtdev", "trace")

EXIT_INTERNAL = 3
EXIT_INTERRUPTED = 130


class LazyGroup(click.Group):
    """A click group that imports a command's module only when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands whose modules exist, in the order of :data:`COMMANDS`."""
        return [name for name in COMMANDS if importlib.util.find_spec(f"{__name__}.{name}") is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command object, or None for a name that is not listed."""
        if cmd_name not in self.list_commands(ctx):
            return None
        return cast("click.Command", importlib.import_module(f"{__name__}.{cmd_name}").command)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vdpasim", message="%(prog)s %(version)s")
def cli() -> None:
    """The kernel side of vhost and vhost-vdpa, simulated."""


def main() -> None:
    """Run the command line and leave with its exit code; never a traceback but for our own bugs."""
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
        # The reader has gone (`| head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception:  # noqa: BLE001, the last line of defence
        traceback.print_exc()
        click.echo("vdpasim: internal error; this is a bug of vdpasim, please report it with the lines above", err=True)
        sys.exit(EXIT_INTERNAL)
    sys.exit(code if isinstance(code, int) else 0)
