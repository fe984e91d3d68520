"""``vdpasim dev``: device profiles: capture one from a real device, look at the shipped ones (no kernel file).

Theory. A capture opens the device and reads; the open alone makes vhost-vdpa reset the device, so it has to be agreed
to with ``--yes``. Nothing is written to the device. With ``--owner`` the capture becomes the device's owner until it
ends, because vhost-vdpa tells groups and sizes of queues to nobody else.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import click

from vdpasim.devices.profile import dumps, load, shipped
from vdpasim.devices.profile_keys import DeviceProfileError
from vdpasim.vmm.capture import Captured, CaptureError, capture
from vdpasim.vmm.transport import FdTransport, run_sync

WARNING = (
    "opening {path} RESETS the device: whoever used it through another way loses its state. "
    "Nothing else is changed. Say --yes to go on."
)
SYSFS = Path("/sys/dev/char")
"""Where the kernel lists its character devices."""
OPEN_ERRORS = {
    errno.ENOENT: "there is no such device; is vhost_vdpa loaded, and a vDPA device bound to it?",
    errno.EBUSY: "somebody has it open; a vhost-vdpa device is opened by one at a time",
    errno.EACCES: "you may not open it; vhost-vdpa nodes usually belong to root",
    errno.EPERM: "you may not open it",
    errno.ENXIO: "the node is there, the device is not",
    errno.ENODEV: "the node is there, the device is not",
}


@click.group("dev")
def command() -> None:
    """Device profiles: see docs/device-profiles.md."""


@command.command("capture")
@click.argument("path")
@click.option("-o", "--output", metavar="FILE", help="Write the profile there, not to standard output.")
@click.option("--owner", is_flag=True, help="Also SET_OWNER, without which nobody is told groups and sizes of queues.")
@click.option("--yes", is_flag=True, help="Agree that the device is reset by being opened.")
def capture_command(path: str, output: str | None, owner: bool, yes: bool) -> int:
    """Write a profile from the vhost-vdpa device at PATH, by requests that only read."""
    _check_node(path)
    if not yes:
        raise click.UsageError(WARNING.format(path=path))
    click.echo(f"vdpasim: {path} is being reset by this open", err=True)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise click.ClickException(f"{path}: {OPEN_ERRORS.get(error.errno or 0, error.strerror)}") from None
    try:
        found = run_sync(capture(FdTransport(fd), source=f"captured from {path}", owner=owner))
    except CaptureError as error:
        raise click.ClickException(f"{path}: {error}") from None
    finally:
        os.close(fd)
    return _write(found, output)


def _check_node(path: str) -> None:
    try:
        found = Path(path).stat()
    except OSError as error:
        raise click.ClickException(f"{path}: {OPEN_ERRORS.get(error.errno or 0, error.strerror)}") from None
    if not stat.S_ISCHR(found.st_mode):
        raise click.ClickException(f"{path}: not a character device; it should be something like /dev/vhost-vdpa-0")
    # to open some devices is to do something, so what the kernel calls it is looked at first
    known = SYSFS / f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    if known.exists() and not known.resolve().name.startswith("vhost-vdpa"):
        raise click.ClickException(f"{path}: no vhost-vdpa device; the kernel calls it {known.resolve().name}")


def _write(found: Captured, output: str | None) -> int:
    text = found.toml()
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        Path(output).write_text(text, "utf-8")
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror}") from None
    click.echo(f"{output}: written; {len(found.unknown)} keys are unknown and stand there as comments", err=True)
    return 0


@command.command("profiles")
@click.argument("name", required=False)
def profiles_command(name: str | None) -> int:
    """List the shipped profiles, or print one: by NAME, or a file by its path, which also checks it."""
    if name is None:
        for one in shipped():
            click.echo(f"{one:18} {load(one).source}")
        return 0
    try:
        click.echo(dumps(load(name)), nl=False)
    except DeviceProfileError as error:
        raise click.ClickException(str(error)) from None
    return 0
