"""One-line messages on stderr."""

from __future__ import annotations

import click

from stfcodec.batch import Failure
from stfcodec.files import STANDARD_STREAM


def warn(path: str, message: str) -> None:
    """Something that the user should know of a file that was coded."""
    click.echo(_line("warning", path, message), err=True)


def note(message: str) -> None:
    """Something that concerns no single file."""
    click.echo(f"stfcodec: note: {message}", err=True)


def fail(path: str, failure: Failure) -> None:
    """Why a file was not coded, below the traceback if there is one."""
    click.echo(failure.trace + _line("error", path, failure.message), err=True)


def _line(kind: str, path: str, message: str) -> str:
    """`stfcodec: KIND: PATH: MESSAGE`, one line whatever is in the path; it is named once."""
    name = click.format_filename(path)  # one that cannot be printed must not stop the message
    if path == STANDARD_STREAM:
        return printable(f"stfcodec: {kind}: {message}")
    for named in (path, name):
        message = message.replace(f" {named}: ", ": ", 1)
    return printable(f"stfcodec: {kind}: {name}: {message}")


def printable(text: str) -> str:
    """Line breaks and other control characters escaped: what a terminal would act on."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
